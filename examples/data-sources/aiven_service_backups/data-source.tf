data "aiven_service_backups" "orders" {
  provider = btar

  project      = "shop"
  service_name = "orders"
  location     = "secondary"
}

# A copy that is older than a day is worth a warning in every plan.
check "orders_has_a_recent_copy" {
  assert {
    condition = anytrue([
      for backup in data.aiven_service_backups.orders.backups :
      timecmp(backup.time, timeadd(plantimestamp(), "-24h")) > 0
    ])
    error_message = "No copy of a backup of orders is younger than 24 hours."
  }
}
