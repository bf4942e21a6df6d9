//! Why the engine does not do what was asked.

use crate::{
    domain::violation::Violation,
    engine::{catalog::recover::RecoverError, state::StateError},
    store::StoreError,
};

/// A request is refused or failed. Each variant is another answer of the API.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A rule of the domain is broken.
    #[error("{}", .0.explain())]
    Violation(#[from] Violation),
    /// The request cannot be understood or done; the text says how to put it right.
    #[error("{text}")]
    Refused {
        /// A stable word for programs.
        code: &'static str,
        /// What is wrong and the remedy.
        text: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken.
    #[error("Service name is already in use in this project")]
    NameTaken,
    /// The service is protected.
    #[error(
        "Service is protected against termination and shutdown. Remove termination protection first."
    )]
    Protected,
    /// The token is missing or wrong.
    #[error("Invalid token")]
    InvalidToken,
    /// A store cannot be read now.
    #[error("the backups cannot be read now; try again when the store answers")]
    Store(#[from] StoreError),
    /// The state cannot be read or written.
    #[error("the engine cannot keep its state; its log says why")]
    State(#[from] StateError),
}

impl AppError {
    /// A refusal with a stable word.
    #[must_use]
    pub fn refused(code: &'static str, text: impl Into<String>) -> Self {
        Self::Refused { code, text: text.into() }
    }
}

impl From<RecoverError> for AppError {
    fn from(error: RecoverError) -> Self {
        match error {
            RecoverError::Violation(violation) => Self::Violation(violation),
            RecoverError::Store(error) => Self::Store(error),
            RecoverError::NoKey { .. } => Self::refused("private_key_missing", error.to_string()),
            RecoverError::WrongKey { .. } => Self::refused("private_key_wrong", error.to_string()),
            RecoverError::UnknownTimeline(_) => {
                Self::refused("timeline_unknown", error.to_string())
            }
            RecoverError::Changed(_) | RecoverError::ClockJump(_) => {
                Self::refused("not_restorable", error.to_string())
            }
        }
    }
}

/// An error with its causes in one line, for logs and for people.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
