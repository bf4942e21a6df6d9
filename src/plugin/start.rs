//! What `main` must ask before anything else.

use crate::plugin::environment;

/// Whether Terraform started this process. If not, `main` should print its help: a plugin without
/// Terraform would only wait.
#[must_use]
pub fn run_by_terraform() -> bool {
    environment::by_terraform()
}
