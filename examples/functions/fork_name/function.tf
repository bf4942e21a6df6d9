output "name" {
  value = provider::btar::fork_name("orders", "2026-11-23T07:40:00Z") # orders-20261123-074000
}
