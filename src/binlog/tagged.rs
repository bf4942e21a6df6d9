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
    if version != Some(0) || last.is_none_or(|last| last > LAST) {
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
        let more = first.trailing_ones() as usize;
        let mut wide = [0; 8];
        wide[..more].copy_from_slice(self.take(more)?);
        let wide = u64::from_le_bytes(wide);
        let low = u64::from(first).checked_shr(more as u32 + 1).unwrap_or(0);
        // With 8 more bytes the first one holds nothing of the number.
        let low_bits = 7_u32.saturating_sub(more as u32);
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
