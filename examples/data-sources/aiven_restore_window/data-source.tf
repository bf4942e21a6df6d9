data "aiven_restore_window" "orders" {
  provider = btar

  project      = "shop"
  service_name = "orders"
  region       = "aws-eu-central-1"
  at           = "2026-11-23T07:40:00Z"

  # A plan goes on when the API is down.
  fail_on_unreachable = false
}

check "the_moment_can_be_restored" {
  assert {
    condition = data.aiven_restore_window.orders.in_window == true
    error_message = format(
      "The copy can be restored from %s to %s.",
      coalesce(data.aiven_restore_window.orders.earliest, "?"),
      coalesce(data.aiven_restore_window.orders.latest, "?"),
    )
  }
}
