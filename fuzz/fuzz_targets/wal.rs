//! A segment of the smallest size, whose first bytes are the input and whose others are zero.
#![no_main]

use btar::{
    domain::lsn::{Segment, Timeline},
    wal::scan::Scanner,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut segment = vec![0; 1 << 20];
    let length = bytes.len().min(segment.len());
    segment[..length].copy_from_slice(&bytes[..length]);
    let name = Segment { timeline: Timeline(1), number: 48 };
    let scan = || {
        let (mut scanner, mut records) = (Scanner::new(), 0_u64);
        let result = scanner.segment(name, &segment, &mut |_| records += 1);
        (result.map(|index| index.records).ok(), records, scanner)
    };
    let (first, shown, mut scanner) = scan();
    let (second, shown_again, _) = scan();
    assert_eq!((first, shown), (second, shown_again));
    if let Some(counted) = first {
        assert_eq!(counted, shown);
    }
    // The one after it, which is the same again and cannot follow.
    drop(scanner.segment(name.next(), &segment, &mut |_| {}));
});
