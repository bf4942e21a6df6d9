# One apply forks every service that matters in its secondary region. A root module of its own, with
# a state of its own: nothing in it needs the primary region, or the configuration that made it.
terraform {
  required_version = ">= 1.5"

  required_providers {
    btar = {
      source  = "btar/btar"
      version = "~> 0.1"
    }
  }

  # Keep the state where the disaster does not reach, such as a bucket in the secondary region.
}

# AIVEN_TOKEN and, for `btar serve`, AIVEN_WEB_URL come from the environment.
provider "btar" {
  # A plan goes on with what the state says when the API cannot be read for a moment.
  on_read_error = "keep_state"
}

resource "fork_from_secondary_backup" "this" {
  provider = btar
  for_each = var.forks

  project              = var.project
  service_name         = each.key
  source_service_name  = each.value.source_service_name
  region               = each.value.region
  plan                 = each.value.plan
  recovery_target      = local.recovery_target_time[each.key] == null ? "latest_transaction" : "point_in_time"
  recovery_target_time = local.recovery_target_time[each.key]
  max_rpo              = each.value.max_rpo
  deletion_protection  = var.deletion_protection
}

locals {
  # The service's own moment before the one for all.
  recovery_target_time = {
    for name, fork in var.forks :
    name => fork.recovery_target_time == null ? var.recovery_target_time : fork.recovery_target_time
  }
}
