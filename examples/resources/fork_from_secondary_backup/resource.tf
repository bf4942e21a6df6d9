# Everything that has reached the secondary region.
resource "fork_from_secondary_backup" "latest" {
  provider = btar

  project             = "shop"
  service_name        = "orders-dr"
  source_service_name = "orders"
  region              = "aws-eu-central-1"

  # The plan fails when more than this would be lost.
  max_rpo = "15m"
}

# The moment before a mistake.
resource "fork_from_secondary_backup" "before_the_mistake" {
  provider = btar

  project              = "shop"
  service_name         = "orders-0740"
  source_service_name  = "orders"
  region               = "aws-eu-central-1"
  recovery_target      = "point_in_time"
  recovery_target_time = "2026-11-23T07:40:00Z"

  # Password and URI stay out of the state.
  expose_credentials = false

  timeouts {
    create = "8h"
  }
}
