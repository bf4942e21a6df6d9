//! Names of entries, and targets of links.
#![no_main]

use btar::restore::place::{Naming, Place, link, place};
use libfuzzer_sys::fuzz_target;
use std::path::{Component, Path};

fn within(path: &Path) {
    assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
}

fuzz_target!(|parts: (&[u8], &[u8])| {
    let (name, target) = parts;
    for naming in [Naming::Relative, Naming::Prefixed] {
        match place(naming, name) {
            Ok(Place::Data(path)) => {
                within(&path);
                if let Ok(end) = link(&path, target) {
                    within(&end);
                }
            }
            Ok(Place::Tablespace(_, path)) => within(&path),
            Ok(Place::Control | Place::LeftOut) | Err(_) => {}
        }
    }
});
