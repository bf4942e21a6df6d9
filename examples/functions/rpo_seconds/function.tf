output "lost" {
  # What would be lost by a fork at 07:41:12 of a copy that reaches to 07:38:00: 192 seconds.
  value = provider::btar::rpo_seconds("2026-11-23T07:38:00Z", "2026-11-23T07:41:12Z")
}
