//! GTID events whose id has a tag: MySQL's own serialization format.
//!
//! A message is its version, its length, the number of the last field that must be understood, and
//! the fields in rising order, each behind its number. Fields have no length of their own, so reading
//! ends with the last one that is of interest here.
//!
//! Source: `libs/mysql/serialization/readme.md` and `Gtid_event::define_fields` in
//! `libs/mysql/binlog/event/control_events.h`.

use crate::binlog::{
    fault::Damage,
    gtids::{self, Id},
};

/// Version of the format, in every release until 9.7.
const VERSION: u64 = 1;
const UUID: u64 = 1;
const NUMBER: u64 = 2;
const TAG: u64 = 3;
const IMMEDIATE_COMMIT: u64 = 6;
/// Last field that MySQL 9 knows: the ticket of the commit group.
const LAST: u64 = 11;

/// The id, and the commit time of this server in microseconds.
pub(super) fn read(body: &[u8]) -> Result<(Id, u64), Damage> {
    let broken = Damage::Content("a tagged transaction id does not fit into its event");
    let mut bytes = Bytes(body);
    let version = bytes.unsigned();
    let (_, last) = (bytes.unsigned(), bytes.unsigned());
    if version != Some(VERSION) || last.is_none_or(|last| last > LAST) {
        return Err(match last {
            Some(last) => Damage::Unsupported(format!(
                "it has tagged transaction ids of a newer format ({version:?}, {last})"
            )),
            None => broken,
        });
    }
    fields(&mut bytes).ok_or(broken)
}

fn fields(bytes: &mut Bytes<'_>) -> Option<(Id, u64)> {
    let (mut uuid, mut number, mut tag) = (None, None, None);
    loop {
        match bytes.unsigned()? {
            UUID => {
                let mut read = [0; 16];
                for byte in &mut read {
                    *byte = u8::try_from(bytes.unsigned()?).ok()?;
                }
                uuid = Some(read);
            }
            NUMBER => number = Some(u64::try_from(bytes.signed()?).ok()?),
            TAG => {
                let length = usize::try_from(bytes.unsigned()?).ok()?;
                tag = Some(gtids::tag(bytes.take(length)?)?);
            }
            IMMEDIATE_COMMIT => {
                let time = bytes.unsigned()?;
                return Some((Id::MySql { uuid: uuid?, tag: tag?, number: number? }, time));
            }
            // Flags and the logical clock.
            0 | 4 | 5 => {
                bytes.unsigned()?;
            }
            _ => return None,
        }
    }
}

/// What is left of a message.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of 1 to 9 bytes: as many ones as there are more bytes stand at the low end of the
    /// first one, and the number behind them, lowest bits first.
    pub(super) fn unsigned(&mut self) -> Option<u64> {
        let first = self.take(1)?[0];
        let more_bytes = first.trailing_ones();
        let more = more_bytes as usize;
        let mut wide = [0; 8];
        wide[..more].copy_from_slice(self.take(more)?);
        let wide = u64::from_le_bytes(wide);
        let low = u64::from(first).checked_shr(more_bytes + 1).unwrap_or(0);
        // With 8 more bytes the first one holds nothing of the number.
        let low_bits = 7_u32.saturating_sub(more_bytes);
        let high = wide.checked_shl(low_bits)?;
        (high >> low_bits == wide).then_some(high | low)
    }

    /// The lowest bit is the sign.
    fn signed(&mut self) -> Option<i64> {
        let number = self.unsigned()?;
        let size = i64::try_from(number >> 1).ok()?;
        Some(if number & 1 == 0 { size } else { !size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As `write_varlen_bytes_unsigned` does it.
    fn encode(number: u64) -> Vec<u8> {
        let bits = 64 - number.leading_zeros();
        let length = ((bits * 575) >> 12) + 1;
        let mut wide = u128::from(number) << length.min(8) | ((1 << (length - 1)) - 1);
        if length == 9 {
            wide = u128::from(number) << 8 | 0xFF;
        }
        wide.to_le_bytes()[..length as usize].to_vec()
    }

    proptest! {
        #[test]
        fn numbers_of_any_length_are_read(shift in 0_u32..64, number: u64) {
            let number = number >> shift;
            let bytes = encode(number);
            let mut left = Bytes(&bytes);
            prop_assert_eq!(left.unsigned(), Some(number));
            prop_assert!(left.0.is_empty());
            prop_assert_eq!(Bytes(&bytes[..bytes.len() - 1]).unsigned(), None);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn numbers_have_the_lengths_that_the_documentation_shows() {
        assert_eq!(encode(65_535), [0b1111_1011, 0xFF, 0b111]);
        let signed = |bytes: &[u8]| Bytes(bytes).signed();
        assert_eq!(signed(&[0b1111_0011, 0xFF, 0b1111]), Some(65_535));
        assert_eq!(signed(&[0b1111_1011, 0xFF, 0b1111]), Some(-65_536));
    }

    #[test]
    fn what_is_newer_is_refused() {
        let message = |version: u8, last: u8| read(&[version << 1, 20, last << 1, 0, 0]);
        assert!(matches!(message(2, 0), Err(Damage::Unsupported(_))));
        assert!(matches!(message(1, 12), Err(Damage::Unsupported(_))));
        assert!(matches!(message(1, 11), Err(Damage::Content(_))));
    }
}
