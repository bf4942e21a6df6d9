//! Names of projects and services, with Aiven's patterns.

use crate::domain::violation::Violation;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest project name, in bytes.
pub const PROJECT_NAME_LENGTH_MAX: usize = 63;
/// Longest service name, in bytes.
pub const SERVICE_NAME_LENGTH_MAX: usize = 64;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against Aiven's pattern `^[a-z][-a-z0-9]*$` and the length limit.
            ///
            /// # Errors
            /// [`Violation::InvalidName`], which says what the pattern is.
            pub fn parse(text: &str) -> Result<Self, Violation> {
                let good = text.len() <= $max
                    && text.starts_with(|c: char| c.is_ascii_lowercase())
                    && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if good {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Violation::InvalidName { what: $what, name: text.to_owned(), length_max: $max })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Violation;
            fn try_from(text: String) -> Result<Self, Violation> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// A project, which holds services.
    ProjectName,
    "project",
    PROJECT_NAME_LENGTH_MAX
);
name!(
    /// A service (a database) in a project.
    ServiceName,
    "service",
    SERVICE_NAME_LENGTH_MAX
);

/// A service with its project: `project/service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceId {
    /// The project.
    pub project: ProjectName,
    /// The service.
    pub service: ServiceName,
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        for good in ["a", "orders", "orders-2"] {
            assert_eq!(ServiceName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "2orders", "Orders", "or/ders", "..", "a_b", &"a".repeat(65)] {
            let error = ServiceName::parse(bad).unwrap_err();
            assert!(error.to_string().contains("service name"), "{error}");
        }
        assert!(ProjectName::parse(&"p".repeat(64)).is_err());
    }
}
