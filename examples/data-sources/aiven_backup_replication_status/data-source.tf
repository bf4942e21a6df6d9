data "aiven_backup_replication_status" "orders" {
  provider = btar

  project      = "shop"
  service_name = "orders"
  objective    = "15m"

  # A plan goes on when the API is down.
  fail_on_unreachable = false
}

check "replication_keeps_up" {
  assert {
    condition     = data.aiven_backup_replication_status.orders.within_objective == true
    error_message = "The copy of orders lags more than 15 minutes behind, or nobody can tell."
  }
}
