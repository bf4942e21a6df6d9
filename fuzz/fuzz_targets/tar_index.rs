//! The tar file of an index object.
#![no_main]

use btar::restore::{index_object, place::Place};
use libfuzzer_sys::fuzz_target;
use std::path::Component;

fuzz_target!(|bytes: &[u8]| {
    let Ok(index) = index_object::read("basebackup/x", "2026-11-23_09-01_1", bytes) else { return };
    for place in index.files.iter().map(|(place, _)| place).chain(&index.dirs) {
        match place {
            Place::Data(path) | Place::Tablespace(_, path) => {
                assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
            }
            Place::Control | Place::LeftOut => {}
        }
    }
});
