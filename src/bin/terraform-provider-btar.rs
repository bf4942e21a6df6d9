//! The Terraform provider, started by Terraform.

fn main() {}
