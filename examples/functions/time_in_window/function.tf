variable "restore_time" {
  type    = string
  default = "2026-11-23T07:40:00Z"

  validation {
    condition = provider::btar::time_in_window(
      var.restore_time, "2026-11-20T00:00:00Z", "2026-11-23T08:00:00Z"
    )
    error_message = "The moment lies outside the restore window."
  }
}
