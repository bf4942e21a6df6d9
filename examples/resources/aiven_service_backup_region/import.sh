# PROJECT/SERVICE_NAME/REGION, or PROJECT/SERVICE_NAME where the service has exactly one region.
terraform import aiven_service_backup_region.orders shop/orders/aws-eu-central-1
