# Asks the fork one question with psql, and fails when the answer is less than expected.
variable "fork" {
  type = object({
    service_host     = string
    service_port     = string
    service_username = string
    service_password = string
  })
  sensitive = true
}

variable "database" {
  type    = string
  default = "defaultdb"
}

variable "query" {
  type        = string
  description = "A query that gives one number."
  default     = "select count(*) from orders"
}

variable "at_least" {
  type    = number
  default = 1
}

resource "terraform_data" "query" {
  provisioner "local-exec" {
    # PostgreSQL's own variables: the password is on no command line.
    environment = {
      PGHOST     = var.fork.service_host
      PGPORT     = var.fork.service_port
      PGUSER     = var.fork.service_username
      PGPASSWORD = var.fork.service_password
      PGDATABASE = var.database
      QUERY      = var.query
      AT_LEAST   = var.at_least
    }
    command = <<-EOT
      found=$(psql -XAtq -v ON_ERROR_STOP=1 -c "$QUERY") || exit 1
      echo "the drill found $found, expected at least $AT_LEAST"
      [ "$found" -ge "$AT_LEAST" ]
    EOT
  }
}
