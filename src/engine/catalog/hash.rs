//! Hashes that stay the same over restarts, to compare what is too large to keep.

/// Scatters the bits of a number.
#[must_use]
pub fn scatter(mut bits: u64) -> u64 {
    // The finalizer of MurmurHash3.
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// One number of two, whose order counts.
#[must_use]
pub fn mix(first: u64, second: u64) -> u64 {
    scatter(first.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ scatter(second).rotate_left(29))
}

/// Of bytes: FNV-1a, scattered.
#[must_use]
pub fn bytes(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    scatter(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_kept_in_the_state_keeps_its_hash() {
        assert_eq!(bytes(b""), scatter(0xcbf2_9ce4_8422_2325));
        assert_eq!(scatter(1), 0xb456_bcfc_34c2_cb2c);
        assert_ne!(mix(1, 2), mix(2, 1));
    }

    #[test]
    fn tags_that_are_much_alike_differ() {
        let tags = (0..100_000).map(|n| bytes(format!("\"0x8DB{n:08X}\"").as_bytes()));
        assert_eq!(tags.collect::<BTreeSet<_>>().len(), 100_000);
    }
}
