output "utc" {
  value = provider::btar::normalize_time("2026-11-23T09:40:00+02:00") # 2026-11-23T07:40:00Z
}
