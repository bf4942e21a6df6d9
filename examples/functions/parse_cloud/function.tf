output "provider" {
  value = provider::btar::parse_cloud("aws-eu-central-1").provider
}
