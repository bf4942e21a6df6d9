output "objective" {
  value = provider::btar::duration_seconds("15m") # 900
}
