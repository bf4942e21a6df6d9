# A restore drill: forks a service from its secondary region, looks into the fork, and destroys it.
# Run it with `terraform test`; docs/guides/restore-drills.md explains it.
terraform {
  required_version = ">= 1.6"

  required_providers {
    btar = {
      source  = "btar/btar"
      version = "~> 0.1"
    }
  }
}

variable "project" {
  type    = string
  default = "shop"
}

variable "source_service_name" {
  type    = string
  default = "orders"
}

variable "region" {
  type    = string
  default = "aws-eu-central-1"
}

variable "recovery_target_time" {
  type        = string
  description = "The moment to restore; null means everything that the copy has."
  default     = null
}

variable "max_rpo" {
  type        = string
  description = "The drill fails when more than this would be lost."
  default     = "1h"
}

# AIVEN_TOKEN and, for `btar serve`, AIVEN_WEB_URL come from the environment.
provider "btar" {}

resource "fork_from_secondary_backup" "drill" {
  provider = btar

  project              = var.project
  service_name         = "${var.source_service_name}-drill"
  source_service_name  = var.source_service_name
  region               = var.region
  recovery_target      = var.recovery_target_time == null ? "latest_transaction" : "point_in_time"
  recovery_target_time = var.recovery_target_time
  max_rpo              = var.max_rpo

  # The drill destroys what it has made.
  deletion_protection = false
}

output "fork" {
  value = fork_from_secondary_backup.drill
  # It has the password.
  sensitive = true
}
