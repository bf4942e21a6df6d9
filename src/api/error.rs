//! The error body of every failed request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a failed request answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The first error's text.
    pub message: String,
    /// All errors.
    #[serde(default)]
    pub errors: Vec<ErrorItem>,
}

/// One error of a failed request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorItem {
    /// What is wrong and how to put it right.
    pub message: String,
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_info: Option<String>,
}

impl ErrorBody {
    /// A body with one error.
    #[must_use]
    pub fn new(status: u16, error_code: Option<&str>, message: &str) -> Self {
        let item = ErrorItem {
            message: message.to_owned(),
            status,
            error_code: error_code.map(str::to_owned),
            more_info: None,
        };
        Self { message: message.to_owned(), errors: vec![item] }
    }

    /// The first error's stable word.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.errors.first().and_then(|item| item.error_code.as_deref())
    }
}
