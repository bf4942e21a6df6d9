//! The spellings of a restore time that are accepted, and the one that is sent.

use crate::domain::violation::Violation;
use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

/// Longest accepted spelling, in bytes (Aiven's schema of `recovery_target_time`).
pub const TARGET_TIME_LENGTH_MAX: usize = 32;

/// Reads a restore time: a date and a time with a `T` or a space between them, an optional
/// fraction of a second, and `Z`, an offset, or nothing for UTC.
///
/// # Errors
/// [`Violation::NotATime`], with an example.
pub fn parse(text: &str) -> Result<DateTime<Utc>, Violation> {
    let bad = || Violation::NotATime { text: text.to_owned() };
    if text.len() > TARGET_TIME_LENGTH_MAX || !text.is_ascii() {
        return Err(bad());
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(&text.replacen(' ', "T", 1)) {
        return Ok(time.with_timezone(&Utc));
    }
    NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M:%S%.f")
        .map(|time| time.and_utc())
        .map_err(|_| bad())
}

/// RFC 3339 in UTC with as many digits as needed, at most 27 bytes: `2026-11-23T07:41:12.5Z`.
#[must_use]
pub fn format(time: DateTime<Utc>) -> String {
    if time.timestamp_subsec_micros() == 0 {
        time.to_rfc3339_opts(SecondsFormat::Secs, true)
    } else {
        time.to_rfc3339_opts(SecondsFormat::Micros, true)
    }
}

/// Like [`format`], and always with six digits: what Aiven's API prints.
#[must_use]
pub fn format_micros(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_spelling_is_read() {
        for text in [
            "2026-11-23 07:41:12",
            "2026-11-23T07:41:12Z",
            "2026-11-23T07:41:12",
            "2026-11-23T08:41:12+01:00",
            "2026-11-23 07:41:12.000000+00:00",
        ] {
            assert_eq!(format(parse(text).unwrap()), "2026-11-23T07:41:12Z", "{text}");
        }
        assert_eq!(format(parse("2026-11-23 07:41:12.25").unwrap()), "2026-11-23T07:41:12.250000Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2026-11-23", "2026-13-01T00:00:00Z", "2026-11-23T07:41:12ß"]
        {
            assert_eq!(parse(text).unwrap_err().code(), "not_a_time", "{text}");
        }
    }
}
