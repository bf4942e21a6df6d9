output "same" {
  value = provider::btar::same_cloud("aws-eu-west-1", "aws-eu-central-1") # true
}
