//! How long a restore may take: a range from what can be expected of disks and networks.

/// Bytes of a base backup that are restored in a second, slow and fast.
pub const BASE_BYTES_PER_SECOND: (u64, u64) = (20_000_000, 200_000_000);
/// Bytes of the log, as stored, that are replayed in a second, slow and fast.
pub const LOG_BYTES_PER_SECOND: (u64, u64) = (5_000_000, 100_000_000);
/// Seconds for everything else, slow and fast: a machine, the start of the server, promotion.
pub const REST_SECONDS: (u64, u64) = (180, 5);

/// The shortest and the longest time that a restore is likely to take, in seconds. It is a guide for
/// people and decides nothing.
#[must_use]
pub fn estimate(base_bytes: u64, log_bytes: u64) -> (u64, u64) {
    let seconds = |base_rate: u64, log_rate: u64, rest: u64| {
        base_bytes.div_ceil(base_rate) + log_bytes.div_ceil(log_rate) + rest
    };
    let fast = seconds(BASE_BYTES_PER_SECOND.1, LOG_BYTES_PER_SECOND.1, REST_SECONDS.1);
    let slow = seconds(BASE_BYTES_PER_SECOND.0, LOG_BYTES_PER_SECOND.0, REST_SECONDS.0);
    (fast, slow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bytes_take_longer_and_nothing_takes_no_time() {
        assert_eq!(estimate(0, 0), (5, 180));
        assert_eq!(estimate(200_000_000, 100_000_000), (7, 210));
        let (low, high) = estimate(u64::MAX / 4, u64::MAX / 4);
        assert!(low < high);
    }
}
