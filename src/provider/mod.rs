//! The Terraform provider: provider block, resources.
