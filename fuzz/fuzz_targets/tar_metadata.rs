//! The JSON that says what a base backup consists of.
#![no_main]

use btar::layout::pghoard::{
    index::TarMetadata,
    keys::{Role, role},
    needs::by_index,
};
use libfuzzer_sys::fuzz_target;

const ID: &str = "2026-11-23_09-01_1";

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = TarMetadata::parse(ID, bytes) else { return };
    for needed in by_index(&index) {
        match role(&needed.key) {
            Role::Chunk { backup, .. } | Role::DeltaChunk { backup, .. } => assert_eq!(backup, ID),
            Role::DeltaFile { .. } => {}
            other => panic!("{} is {other:?}", needed.key),
        }
    }
});
