variable "primary" {
  type    = string
  default = "aws-eu-west-1"
}

variable "secondary" {
  type    = string
  default = "aws-eu-central-1"

  validation {
    condition     = provider::btar::is_valid_backup_pair(var.primary, var.secondary)
    error_message = "Backups go to another region of the same cloud provider."
  }
}
