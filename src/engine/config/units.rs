//! Periods, sizes and port ranges as people write them.

use std::time::Duration;

/// `200ms`, `10s`, `5m`, `1h`, `7d`.
pub(super) fn period(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let milliseconds = match &text[digits..] {
        "ms" => number,
        "s" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// `512MiB`, `2GiB`, `900TiB`, or bytes without a unit.
pub(super) fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match &text[digits..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// `55000-55099`, both included.
pub(super) fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        assert_eq!(period("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(period("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(period("5m"), Some(Duration::from_secs(300)));
        for bad in ["", "5", "s", "0s", "-1s", "1 s", "99999999999999999999s"] {
            assert_eq!(period(bad), None, "{bad}");
        }
        assert_eq!(size_bytes("16MiB"), Some(16 << 20));
        assert_eq!(size_bytes("900TiB"), Some(900 << 40));
        assert_eq!(size_bytes("16MB"), None);
        assert_eq!(ports("55000-55009"), Some((55000, 55009)));
        for bad in ["", "55000", "2-1", "0-5", "1-70000"] {
            assert_eq!(ports(bad), None, "{bad}");
        }
    }
}
