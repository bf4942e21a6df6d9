//! The seeds of the fuzzer, changed at random: nothing panics, nothing leads out, nothing is forged.

use btar::{
    domain::lsn::{Segment, Timeline},
    layout::pghoard::{
        index::TarMetadata,
        keys::{Role, role},
        metadata::{Coding, Compression},
        needs::by_index,
    },
    restore::{index_object, place::Place},
    sealed::{keys::Keys, small::open_bytes},
    wal::scan::Scanner,
};
use proptest::prelude::*;
use std::{
    fs,
    path::{Component, Path},
};

fn seeds(kind: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(kind);
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut sorted: Vec<_> = files.collect();
    sorted.sort();
    sorted.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A seed with a few bytes replaced, and perhaps cut.
fn changed(kind: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(seeds(kind)), changes, prop::option::of(any::<prop::sample::Index>()))
        .prop_map(|(mut bytes, changes, cut)| {
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            if let Some(cut) = cut.filter(|_| !bytes.is_empty()) {
                bytes.truncate(cut.index(bytes.len()));
            }
            bytes
        })
}

const ID: &str = "2026-11-23_09-01_1";

fn names_only_its_own(index: &TarMetadata) {
    for needed in by_index(index) {
        let own = match role(&needed.key) {
            Role::Chunk { backup, .. } | Role::DeltaChunk { backup, .. } => backup == ID,
            Role::DeltaFile { .. } => true,
            Role::Index { .. }
            | Role::Segment { .. }
            | Role::History { .. }
            | Role::PreservationRequest
            | Role::Other => false,
        };
        assert!(own, "{}", needed.key);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn an_index_stays_within_the_directory(bytes in changed("tar_index")) {
        if let Ok(index) = index_object::read("basebackup/x", ID, &bytes) {
            for place in index.files.iter().map(|(place, _)| place).chain(&index.dirs) {
                if let Place::Data(path) | Place::Tablespace(_, path) = place {
                    assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                }
            }
            names_only_its_own(&index.metadata);
        }
    }

    #[test]
    fn a_manifest_names_only_its_own(bytes in changed("tar_metadata")) {
        if let Ok(index) = TarMetadata::parse(ID, &bytes) {
            names_only_its_own(&index);
        }
    }

    #[test]
    fn no_encrypted_object_is_forged(bytes in changed("sealed")) {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pghoard/rohmu");
        let mut keys = Keys::none();
        keys.add("k", &fs::read_to_string(fixture.join("key.pem")).unwrap()).unwrap();
        let sealed = fs::read(fixture.join("text-zstd-sealed")).unwrap();
        let object = [&sealed[..264], bytes.get(1..).unwrap_or(&[])].concat();
        let coding = Coding {
            compression: Compression::Zstd,
            key_id: Some("k".to_owned()),
            ..Coding::default()
        };
        let opened = open_bytes(&object, &coding, &keys, 1 << 20);
        assert!(opened.is_err() || object == sealed);
        for compression in [Compression::Zstd, Compression::Snappy, Compression::Lzma] {
            let coding = Coding { compression, ..Coding::default() };
            drop(open_bytes(&bytes, &coding, &keys, 1 << 20));
        }
    }

    #[test]
    fn the_log_is_read_without_a_panic(bytes in changed("wal")) {
        let mut segment = vec![0; 1 << 20];
        segment[..bytes.len()].copy_from_slice(&bytes);
        let name = Segment { timeline: Timeline(1), number: 48 };
        let mut records = 0;
        if let Ok(index) = Scanner::new().segment(name, &segment, &mut |_| records += 1) {
            assert_eq!(index.records, records);
        }
    }
}
