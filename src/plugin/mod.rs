//! Terraform's plugin protocol 6 over the traits of tf-provider. Knows nothing about backups.

pub mod extra;
