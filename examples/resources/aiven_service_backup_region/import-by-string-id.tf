import {
  to       = aiven_service_backup_region.orders
  id       = "shop/orders/aws-eu-central-1"
  provider = btar
}
