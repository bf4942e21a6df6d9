# The regions of one provider that could hold the copies of a service in aws-eu-west-1.
data "aiven_clouds" "aws" {
  provider = btar

  project        = "shop"
  cloud_provider = "aws"
}

output "candidates" {
  value = [for cloud in data.aiven_clouds.aws.clouds : cloud.name if cloud.name != "aws-eu-west-1"]
}
