variable "project" {
  type        = string
  description = "Project of the services and of their forks."
}

variable "forks" {
  type = map(object({
    source_service_name  = string
    region               = optional(string) # Needed only where a service has several secondary regions.
    plan                 = optional(string) # That of the source by default.
    max_rpo              = optional(string) # The plan fails when more than this would be lost.
    recovery_target_time = optional(string)
  }))
  description = "The services to bring back, by the names of their forks."
}

variable "recovery_target_time" {
  type        = string
  description = "The moment to restore, RFC 3339, the same for all forks. Null means everything that each copy has."
  default     = null
}

variable "deletion_protection" {
  type        = bool
  description = "Whether Terraform refuses to destroy the forks."
  default     = true
}
