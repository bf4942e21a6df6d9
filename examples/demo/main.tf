# The demo's configuration: one backup region, and a fork that is made when it is asked for.
terraform {
  required_providers {
    btar = {
      source  = "btar/btar"
      version = "~> 0.1"
    }
  }
}

variable "api_url" {
  type = string
}

variable "secondary_region" {
  type    = string
  default = "aws-eu-central-1"
}

variable "fork" {
  type        = bool
  description = "Whether to fork the service in the secondary region."
  default     = false
}

variable "restore_time" {
  type        = string
  description = "The moment to restore; null means the latest transaction."
  default     = null
}

provider "btar" {
  api_url = var.api_url
}

resource "aiven_service_backup_region" "orders" {
  provider = btar

  project      = "demo"
  service_name = "orders"
  region       = var.secondary_region

  wait_for_first_backup = true
  deletion_protection   = false
}

resource "fork_from_secondary_backup" "orders" {
  provider = btar
  count    = var.fork ? 1 : 0

  project              = "demo"
  service_name         = "orders-dr"
  source_service_name  = "orders"
  region               = aiven_service_backup_region.orders.region
  recovery_target      = var.restore_time == null ? "latest_transaction" : "point_in_time"
  recovery_target_time = var.restore_time
  deletion_protection  = false
}

output "fork_uri" {
  value     = one(fork_from_secondary_backup.orders[*].service_uri)
  sensitive = true
}
