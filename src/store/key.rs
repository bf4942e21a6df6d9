//! Keys of objects: parts with slashes between them, never empty, never `.` or `..`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A key, or a prefix of keys. The empty key is the prefix of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an object key: it must not begin or end with a slash nor hold empty parts, `.`, `..` or control characters"
)]
pub struct NotAKey(String);

impl Key {
    /// Checks that every part is a plain name.
    ///
    /// # Errors
    /// [`NotAKey`].
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let plain =
            |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        if text.is_empty() || text.split('/').all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAKey(text.to_owned()))
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This key with more parts behind it.
    ///
    /// # Errors
    /// [`NotAKey`] when `rest` is none.
    pub fn join(&self, rest: &str) -> Result<Self, NotAKey> {
        if self.0.is_empty() {
            Self::parse(rest)
        } else {
            Self::parse(&format!("{}/{rest}", self.0))
        }
    }

    /// What follows `prefix`, when this key lies below it.
    #[must_use]
    pub fn below(&self, prefix: &Self) -> Option<&str> {
        if prefix.0.is_empty() {
            return Some(&self.0);
        }
        self.0.strip_prefix(prefix.as_str())?.strip_prefix('/')
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = NotAKey;
    fn try_from(text: String) -> Result<Self, NotAKey> {
        Self::parse(&text)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_their_prefix() {
        for bad in ["/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\nb"] {
            assert!(Key::parse(bad).is_err(), "{bad}");
        }
        let prefix = Key::parse("a/b").unwrap();
        assert_eq!(prefix.join("c").unwrap().below(&prefix), Some("c"));
        assert_eq!(Key::parse("a/bc").unwrap().below(&prefix), None);
    }
}
