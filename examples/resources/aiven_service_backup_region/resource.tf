resource "aiven_service_backup_region" "orders" {
  provider = btar

  project      = "shop"
  service_name = "orders"
  region       = "aws-eu-central-1"
}

# The pipeline waits until the region can be forked from, and the region can be destroyed.
resource "aiven_service_backup_region" "reports" {
  provider = btar

  project               = "shop"
  service_name          = "reports"
  region                = "aws-eu-central-1"
  wait_for_first_backup = true
  deletion_protection   = false

  timeouts {
    create = "2h"
  }
}
