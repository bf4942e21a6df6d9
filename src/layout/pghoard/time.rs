//! Moments as PGHoard writes them: ISO 8601 with an offset, a `T` or a space in the middle.

use chrono::{DateTime, Utc};

/// Reads a moment; `None` when it is none or says nothing of its offset.
#[must_use]
pub fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim().replacen(' ', "T", 1);
    DateTime::parse_from_rfc3339(&text).ok().map(|time| time.with_timezone(&Utc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_that_are_written() {
        for (text, micros) in [
            ("2026-11-23T09:00:55+00:00", 1_795_424_455_000_000),
            ("2026-11-23 09:00:57.094175+00:00", 1_795_424_457_094_175),
            ("2026-11-23T10:00:57.094175+01:00", 1_795_424_457_094_175),
            ("2026-11-23T09:00:57.094175Z", 1_795_424_457_094_175),
        ] {
            assert_eq!(parse(text).unwrap().timestamp_micros(), micros, "{text}");
        }
        for text in ["", "2026-11-23T09:00:55", "yesterday"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
