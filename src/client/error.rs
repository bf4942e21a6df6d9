//! What can go wrong when the API is called, and what to do about each.

use std::fmt;

/// Why a call failed. It can be shared by several callers, so it can be cloned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The client could not be set up.
    #[error("preparing the client for {url}: {reason}")]
    Setup {
        /// Base URL.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// No answer came.
    #[error("cannot reach {url}: {reason}")]
    Unreachable {
        /// Base URL.
        url: String,
        /// What the network said.
        reason: String,
        /// Whether the request may have been carried out all the same.
        maybe_done: bool,
    },
    /// 401.
    #[error("{url} does not accept the API token: {message}")]
    Unauthorized {
        /// Base URL.
        url: String,
        /// The API's words.
        message: String,
    },
    /// 403.
    #[error("{doing}: not allowed: {message}")]
    Forbidden {
        /// What was asked.
        doing: String,
        /// The API's words.
        message: String,
    },
    /// 404.
    #[error("{doing}: not found: {message}")]
    NotFound {
        /// What was asked.
        doing: String,
        /// The API's words.
        message: String,
    },
    /// 409.
    #[error("{doing}: conflict: {message}")]
    Conflict {
        /// What was asked.
        doing: String,
        /// The API's words.
        message: String,
    },
    /// Another 4xx: the request breaks a rule.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The rule's stable code, where the API names one.
        code: Option<String>,
        /// The API's words.
        message: String,
    },
    /// 429 or 5xx, after all repetitions.
    #[error("{doing}: the API answered {status}: {message}")]
    Server {
        /// What was asked.
        doing: String,
        /// HTTP status.
        status: u16,
        /// The API's words.
        message: String,
    },
    /// The answer makes no sense.
    #[error("{doing}: the answer cannot be read: {reason}")]
    Undecodable {
        /// What was asked.
        doing: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// A headline of few words.
    #[must_use]
    pub fn headline(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "Cannot prepare the API client",
            Self::Unreachable { .. } => "API cannot be reached",
            Self::Unauthorized { .. } => "API token is not accepted",
            Self::Forbidden { .. } => "Not allowed by the API",
            Self::NotFound { .. } => "Not found",
            Self::Conflict { .. } => "Conflict with what is there",
            Self::Refused { .. } => "Refused by the API",
            Self::Server { .. } => "The API failed",
            Self::Undecodable { .. } => "The API's answer cannot be read",
        }
    }

    /// How to put it right, as sentences.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Setup { .. } => "Check api_url and ca_certificate of the provider.",
            Self::Unreachable { reason, .. } if reason.contains("certificate") => {
                "If the certificate is to be trusted, name its authority in ca_certificate (or \
                 AIVEN_CA_CERT) of the provider."
            }
            Self::Unreachable { .. } => {
                "Is the engine running (btar serve)? Is api_url (or AIVEN_WEB_URL) right?"
            }
            Self::Unauthorized { .. } => {
                "Set a valid token in the environment variable AIVEN_TOKEN or in api_token of the \
                 provider."
            }
            Self::Forbidden { .. } => "Check what the token's owner is permitted in this project.",
            Self::NotFound { .. } => "Check the project and the service name.",
            Self::Conflict { .. } => "Look at what is there, then apply again.",
            Self::Refused { .. } => "Correct the configuration.",
            Self::Server { .. } => "Look at the engine's log or the API's status, then try again.",
            Self::Undecodable { .. } => {
                "Check that api_url leads to Aiven's API or to a btar engine, and not to a proxy."
            }
        }
    }

    /// What is wrong and how to put it right, in one text.
    #[must_use]
    pub fn explain(&self) -> String {
        // A refusal of the engine carries its remedy already.
        if let Self::Refused { message, .. } = self {
            return message.clone();
        }
        Explained(self).to_string()
    }

    /// Whether the request may have been carried out although it failed.
    #[must_use]
    pub fn maybe_done(&self) -> bool {
        match self {
            Self::Unreachable { maybe_done, .. } => *maybe_done,
            Self::Server { .. } | Self::Undecodable { .. } => true,
            Self::Setup { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. } => false,
        }
    }
}

struct Explained<'a>(&'a ClientError);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let stop = if text.ends_with('.') { "" } else { "." };
        write!(f, "{text}{stop} {}", self.0.remedy())
    }
}
