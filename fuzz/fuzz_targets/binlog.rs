//! A binary log: as it is, and with the places and checksums of its events put right, so that what is
//! behind them is reached.
#![no_main]

use btar::binlog::{
    groups::Group,
    stop::find_stop,
    summary::{Summary, each_group, follows, summarize},
};
use libfuzzer_sys::fuzz_target;
use std::io::{self, Read};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut repaired = bytes.to_vec();
    repair(&mut repaired);
    check(&repaired);
});

fn check(bytes: &[u8]) {
    let mut groups = vec![];
    let result = each_group(bytes, &mut |group| groups.push(group));
    let dripping = summarize(Dripping(bytes));
    match &result {
        Ok(summary) => {
            assert_eq!(summary.bytes, bytes.len() as u64);
            assert_eq!(Some(summary), dripping.as_ref().ok());
            sound(summary, &groups);
            drop(follows(summary, "bin.000001", summary, "bin.000002"));
            stops(bytes, summary, &groups);
        }
        Err(fault) => {
            assert_eq!(fault.to_string(), dripping.unwrap_err().to_string());
            if let Some(summary) = &fault.so_far {
                assert!(summary.bytes <= fault.offset && fault.offset <= bytes.len() as u64);
                sound(summary, &groups);
                // Up to the last whole group it is a sound file of its own.
                let end = usize::try_from(summary.groups_end).expect("it is in memory");
                let part = summarize(&bytes[..end]).expect("the beginning was sound");
                assert_eq!((part.groups, &part.after), (summary.groups, &summary.after));
            }
        }
    }
}

fn sound(summary: &Summary, groups: &[Group]) {
    assert_eq!(summary.groups, groups.len() as u64);
    let mut end = summary.first_group_start;
    for group in groups {
        assert!(group.start >= end && group.end > group.start);
        end = group.end;
    }
    assert_eq!(summary.groups_end, end);
    assert!(end <= summary.bytes);
    assert_eq!(summary.max_commit, groups.iter().map(|group| group.committed_at).max());
    let none = groups.iter().filter(|group| group.gtid.is_none()).count();
    assert_eq!(summary.anonymous, none as u64);
}

fn stops(bytes: &[u8], summary: &Summary, groups: &[Group]) {
    for group in groups.iter().take(4) {
        let cut = find_stop(bytes, summary.first_group_start, group.committed_at);
        let cut = cut.expect("the file is sound");
        let later = groups.iter().position(|other| other.committed_at > group.committed_at);
        assert_eq!(cut.stop, later.map(|later| groups[later].start));
        assert_eq!(cut.groups, later.unwrap_or(groups.len()) as u64);
    }
}

/// Follows the lengths of events as far as they make sense.
fn repair(bytes: &mut [u8]) {
    let (mut start, mut checksums) = (4, true);
    while let Some(head) = bytes.get(start..start + 19) {
        let length = u32::from_le_bytes([head[9], head[10], head[11], head[12]]);
        let end = start.saturating_add(length as usize);
        if length < 23 || end > bytes.len() {
            return;
        }
        let place = u32::try_from(end).unwrap_or(0);
        bytes[start + 13..start + 17].copy_from_slice(&place.to_le_bytes());
        if checksums {
            let in_use = bytes[start + 17];
            if start == 4 {
                bytes[start + 17] &= !1;
            }
            let crc = crc_fast::crc32_iso_hdlc(&bytes[start..end - 4]);
            bytes[start + 17] = in_use;
            bytes[end - 4..end].copy_from_slice(&crc.to_le_bytes());
        }
        if start == 4 {
            checksums = bytes[end - 5] == 1;
        }
        start = end;
    }
}

/// Gives a byte at a time.
struct Dripping<'a>(&'a [u8]);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1);
        self.0.read(&mut buffer[..length])
    }
}
