//! Objects in every coding. The first byte chooses it; the rest is the object.
#![no_main]

use btar::{
    layout::pghoard::metadata::{Coding, Compression},
    sealed::{keys::Keys, open::Opened, small::open_bytes},
};
use libfuzzer_sys::fuzz_target;
use std::{io::Read, sync::LazyLock};

/// Of the test objects, made for nothing else.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut keys = Keys::none();
    let pem = include_str!("../../tests/fixtures/pghoard/rohmu/key.pem");
    keys.add("k", pem).expect("the key of the fixture is sound");
    keys
});
/// An encrypted object. Its beginning, which only the key's owner could make, is put before every
/// input, so that what comes after it is reached.
static SEALED: &[u8] = include_bytes!("../../tests/fixtures/pghoard/rohmu/text-zstd-sealed");
const LIMIT: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let compression = match choice & 3 {
        0 => Compression::None,
        1 => Compression::Zstd,
        2 => Compression::Snappy,
        _ => Compression::Lzma,
    };
    let sealed = choice & 4 != 0;
    let object = if sealed { [&SEALED[..264], rest].concat() } else { rest.to_vec() };
    let coding = Coding {
        compression,
        key_id: sealed.then(|| "k".to_owned()),
        plain_bytes: (choice & 8 != 0).then_some(u64::from(*choice)),
        stored_bytes: None,
        stored_sha256: None,
    };
    let small = open_bytes(&object, &coding, &KEYS, LIMIT);
    assert!(!sealed || small.is_err() || object == SEALED, "forged");
    let Ok(mut opened) = Opened::begin(&*object, &coding, &KEYS) else {
        assert!(small.is_err());
        return;
    };
    let mut streamed = Vec::new();
    let read = (&mut opened).take(LIMIT + 1).read_to_end(&mut streamed);
    if let Ok(small) = small {
        assert!(read.is_ok() && streamed == small && opened.finish().is_ok());
    }
});
