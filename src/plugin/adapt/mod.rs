//! Handlers without type parameters, each driving one of tf-provider's typed traits.
//!
//! tf-provider has such handlers itself, but their argument type is private and they cannot upgrade a
//! state. A handler's `None` always comes with an error: [`required`] adds one where it is missing.

pub(super) mod resource;

pub(super) mod data_source;

pub(super) mod ephemeral;

pub(super) mod function;

pub(super) mod provider;

use tf_provider::Diagnostics;

/// Adds an error when the provider gave neither a value nor an error, which must not pass silently.
fn required<T>(diagnostics: &mut Diagnostics, value: Option<T>, doing: &str) -> Option<T> {
    if value.is_none() && diagnostics.errors.is_empty() {
        diagnostics.root_error(
            "The provider gave no answer and no error",
            format!("It was {doing}. This is a bug in the provider."),
        );
    }
    value
}
