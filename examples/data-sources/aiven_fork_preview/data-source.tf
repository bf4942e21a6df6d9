# What a fork would have, without making one.
data "aiven_fork_preview" "orders" {
  provider = btar

  project              = "shop"
  service_name         = "orders-dr"
  source_service_name  = "orders"
  region               = "aws-eu-central-1"
  recovery_target      = "point_in_time"
  recovery_target_time = "2026-11-23T07:40:00Z"
}

check "orders_can_be_forked" {
  assert {
    condition     = data.aiven_fork_preview.orders.ok
    error_message = join(" ", data.aiven_fork_preview.orders.problems)
  }
}
