# The fork keeps its password out of the state; whoever needs it in a run reads it here.
resource "fork_from_secondary_backup" "orders" {
  provider = btar

  project             = "shop"
  service_name        = "orders-dr"
  source_service_name = "orders"
  region              = "aws-eu-central-1"
  expose_credentials  = false
}

ephemeral "fork_credentials" "orders" {
  provider = btar

  project = fork_from_secondary_backup.orders.project
  # From the id, which is known only when the fork exists.
  service_name = split("/", fork_from_secondary_backup.orders.id)[1]
}

# An ephemeral value may configure another provider, or go into a write-only argument:
#
# provider "postgresql" {
#   host     = ephemeral.fork_credentials.orders.host
#   port     = ephemeral.fork_credentials.orders.port
#   username = ephemeral.fork_credentials.orders.username
#   password = ephemeral.fork_credentials.orders.password
# }
