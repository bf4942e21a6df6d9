//! What a listing of the site proves, with the private key and without.

use crate::site::{CHUNKS, CHUNKS_LATER, DELTA, SITE, Site};
use btar::{
    layout::pghoard::{
        index::TarMetadata,
        keys::{CopyStage, Role, role},
        metadata::BackupMetadata,
        needs::{Completeness, Fault, by_index, by_listing, check},
        removal::{KeptReferences, removal},
    },
    restore::index_object,
    sealed::small::open_bytes,
};
use std::{collections::BTreeMap, fs};

fn metadata(site: &Site, backup: &str) -> BackupMetadata {
    let key = format!("{SITE}/basebackup/{backup}.00000000.pghoard");
    BackupMetadata::of(&site.raw(&key)).unwrap()
}

fn index(site: &Site, backup: &str) -> TarMetadata {
    let key = format!("{SITE}/basebackup/{backup}.00000000.pghoard");
    let object = fs::read(site.path(&key)).unwrap();
    let coding = metadata(site, backup).coding;
    let tar = open_bytes(&object, &coding, &site.keys(), 1 << 24).unwrap();
    index_object::read(&key, backup, &tar).unwrap().metadata
}

#[test]
fn every_key_has_a_role_and_stages_order_them() {
    let site = Site::new();
    let mut stages: BTreeMap<CopyStage, u32> = BTreeMap::new();
    for key in site.listing().keys() {
        assert_ne!(role(key), Role::Other, "{key}");
        *stages.entry(role(key).stage().unwrap()).or_default() += 1;
    }
    let found: Vec<_> = stages.into_iter().collect();
    let expect = [
        (CopyStage::History, 1),
        (CopyStage::Segments, 21),
        (CopyStage::Data, 14),
        (CopyStage::Index, 3),
    ];
    assert_eq!(found, expect);
}

#[test]
fn an_index_names_what_truth_names() {
    let site = Site::new();
    let truth = site.truth();
    for backup in truth["base_backups"].as_array().unwrap() {
        let id = backup["id"].as_str().unwrap();
        let mut expect: Vec<&str> = ["chunk_objects", "delta_objects"]
            .iter()
            .flat_map(|field| backup[field].as_array().into_iter().flatten())
            .map(|key| key.as_str().unwrap())
            .collect();
        expect.sort_unstable();
        let needed = by_index(&index(&site, id));
        let found: Vec<String> = needed.iter().map(|n| format!("{SITE}/{}", n.key)).collect();
        assert_eq!(found, expect);
        assert_eq!(check(&needed, &site.listing()), Completeness::Complete, "{id}");
        let meta = metadata(&site, id);
        let micros = meta.finished_at.unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        assert_eq!(micros, backup["end_time"].as_str().unwrap());
        assert_eq!(meta.start_segment, backup["start_wal_segment"].as_str().unwrap());
        assert_eq!(meta.end_segment.unwrap(), backup["end_wal_segment"].as_str().unwrap());
        assert_eq!(meta.total_stored_bytes, backup["total_size_enc"].as_u64());
    }
}

#[test]
fn without_a_key_chunks_are_proven_and_delta_mode_is_not() {
    let site = Site::new();
    let mut listing = site.listing();
    let proof = |backup, listing: &_| by_listing(backup, &metadata(&site, backup), listing);
    assert_eq!(proof(CHUNKS, &listing), Completeness::Complete);
    assert_eq!(proof(CHUNKS_LATER, &listing), Completeness::Complete);
    assert_eq!(proof(DELTA, &listing), Completeness::NeedsKey);
    let gone = format!("basebackup_chunk/{CHUNKS_LATER}/{CHUNKS_LATER}.00000002.pghoard");
    listing.remove(&gone).unwrap();
    assert!(matches!(proof(CHUNKS_LATER, &listing), Completeness::Incomplete(_)));
    assert_eq!(proof(CHUNKS, &listing), Completeness::Complete);
    let needed = by_index(&index(&site, CHUNKS_LATER));
    assert_eq!(check(&needed, &listing), Completeness::Incomplete(vec![Fault::Missing(gone)]));
}

#[test]
fn with_the_key_a_missing_shared_file_is_seen() {
    let site = Site::new();
    let mut listing = site.listing();
    let shared: Vec<String> =
        listing.keys().filter(|key| key.starts_with("basebackup_delta/")).cloned().collect();
    listing.remove(&shared[0]);
    let needed = by_index(&index(&site, DELTA));
    assert_eq!(
        check(&needed, &listing),
        Completeness::Incomplete(vec![Fault::Missing(shared[0].clone())])
    );
}

#[test]
fn what_goes_with_a_base_backup() {
    let site = Site::new();
    let listing = site.listing();
    let own = index(&site, DELTA).manifest.unwrap();
    let own = own.digests().into_iter().map(str::to_owned).collect();
    let kept = KeptReferences::Known([].into());
    let gone = removal(DELTA, &listing, Some(&own), &kept);
    assert_eq!((gone.index.len(), gone.data.len(), gone.shared.len()), (1, 1, 1));
    let kept = KeptReferences::Known(own.clone());
    assert_eq!(removal(DELTA, &listing, Some(&own), &kept).shared.len(), 0);
    assert_eq!(removal(CHUNKS, &listing, None, &kept).data.len(), 6);
}
