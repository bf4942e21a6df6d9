import {
  to       = fork_from_secondary_backup.latest
  id       = "shop/orders-dr"
  provider = btar
}
