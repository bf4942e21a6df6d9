//! Periods as Terraform users write them: `30m`, `1h30m`, `250ms`.

use std::{fmt::Write as _, time::Duration};

const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// A text that is no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a period; write it like 90s, 30m or 1h30m")]
pub struct NotADuration {
    text: String,
}

/// Reads a period: whole numbers, each with `h`, `m`, `s` or `ms`.
///
/// # Errors
/// [`NotADuration`], with examples.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let bad = || NotADuration { text: text.to_owned() };
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let (_, size) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
        let part = number.checked_mul(*size).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    if text.is_empty() { Err(bad()) } else { Ok(Duration::from_millis(total)) }
}

/// Writes a period in its two largest units: `3m12s`, `1d4h`.
#[must_use]
pub fn format(period: Duration) -> String {
    let seconds = period.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let mut text = String::new();
    for (number, unit) in parts.iter().skip_while(|(number, _)| *number == 0).take(2) {
        if *number > 0 {
            write!(text, "{number}{unit}").expect("writing to a string cannot fail");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read() {
        for (text, ms) in [("30m", 1_800_000), ("1h30m", 5_400_000), ("90s", 90_000), ("5ms", 5)] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in ["", "5", "m", "5 m", "-5m", "5d", "99999999999999999999h", "ä"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn periods_are_written() {
        for (seconds, text) in [(0, "0s"), (192, "3m12s"), (3600, "1h"), (100_800, "1d4h")] {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
    }
}
