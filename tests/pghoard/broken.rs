//! Damaged, incomplete and wrong objects: each is refused with its name, and nothing passes for whole.

use crate::site::{CHUNKS, CHUNKS_LATER, DELTA, SITE, Site, chain};
use btar::{
    layout::pghoard::metadata::{MetadataError, SegmentCoding},
    restore::error::RestoreError,
    sealed::{SealedError, keys::Keys, segment::open_segment},
};
use std::{fs, path::Path, process::Command};

const SHARED: &str =
    "basebackup_delta/670b251295e8255d3abe2eab100b10f35d5b15d8dd1fbe8e7dbf86aedcc2d5ec";

fn sidecar(site: &Site, key: &str) -> std::path::PathBuf {
    site.path(SITE).join(format!("{key}.metadata"))
}

fn flip(site: &Site, key: &str, at: usize) {
    let path = site.path(SITE).join(key);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

/// Takes from a sidecar what the local store alone records, as other stores do not.
fn forget_hash(site: &Site, key: &str) {
    let path = sidecar(site, key);
    let mut json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    json.remove("_hash").unwrap();
    fs::write(path, serde_json::to_string(&json).unwrap()).unwrap();
}

/// The restore fails, says so with these words, and leaves no directory that PostgreSQL starts in.
fn fails(site: &Site, backup: &str, target: &Path, words: &[&str]) -> RestoreError {
    let error = site.restore(backup, target).unwrap_err();
    let text = chain(&error);
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!target.join("global/pg_control").exists(), "{text}");
    error
}

fn chunk(backup: &str, number: u32) -> String {
    format!("basebackup_chunk/{backup}/{backup}.{number:08}.pghoard")
}

#[test]
fn a_missing_chunk_fails_and_the_restore_may_be_repeated() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let target = dir.path().join("data");
    let key = chunk(CHUNKS_LATER, 2);
    let (from, to) = (site.path(SITE).join(&key), site.path("aside"));
    fs::rename(&from, &to).unwrap();
    let error = fails(&site, CHUNKS_LATER, &target, &[&key, "missing"]);
    assert!(matches!(error, RestoreError::MissingObject(_)));
    assert!(target.join(".btar-restore").exists());
    fs::write(target.join("left-over"), "of the first attempt").unwrap();
    fs::rename(&to, &from).unwrap();
    site.restore(CHUNKS_LATER, &target).unwrap();
    assert!(!target.join("left-over").exists() && target.join("global/pg_control").exists());
    // A finished one is nobody's to empty.
    let again = site.restore(CHUNKS_LATER, &target).unwrap_err();
    assert!(matches!(again, RestoreError::TargetInUse(_)), "{again}");
    assert!(target.join("global/pg_control").exists());
}

#[test]
fn a_missing_shared_file_fails() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    fs::remove_file(site.path(SITE).join(SHARED)).unwrap();
    let error = fails(&site, DELTA, &dir.path().join("data"), &[SHARED]);
    assert!(matches!(error, RestoreError::MissingObject(_)));
}

#[test]
fn a_shared_file_with_other_contents_fails() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    // Another sound object of the same key pair, with its own sidecar, under this name.
    let bundle = format!("basebackup_delta_chunk/{DELTA}/{DELTA}.00000001.pghoard");
    let shared = site.path(SITE).join(SHARED);
    fs::copy(site.path(SITE).join(&bundle), &shared).unwrap();
    let other = fs::read_to_string(sidecar(&site, &bundle)).unwrap();
    fs::write(sidecar(&site, SHARED), &other).unwrap();
    fails(&site, DELTA, &dir.path().join("data"), &[SHARED, "27146240", "13434880"]);
    // Even when the sizes agree.
    let lie = other.replace("27146240", "13434880");
    fs::write(sidecar(&site, SHARED), lie).unwrap();
    fails(&site, DELTA, &dir.path().join("data"), &[SHARED, "decompressed"]);
}

#[test]
fn metadata_that_were_lost_are_noticed() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let target = dir.path().join("data");
    for key in [format!("basebackup/{CHUNKS_LATER}.00000000.pghoard"), chunk(CHUNKS_LATER, 3)] {
        let text = fs::read(sidecar(&site, &key)).unwrap();
        fs::remove_file(sidecar(&site, &key)).unwrap();
        fails(&site, CHUNKS_LATER, &target, &[&key, "user metadata"]);
        fs::write(sidecar(&site, &key), text).unwrap();
    }
    fs::remove_file(sidecar(&site, "xlog/000000010000000000000006")).unwrap();
    let raw = site.raw(&format!("{SITE}/xlog/000000010000000000000006"));
    assert!(matches!(SegmentCoding::of(&raw), Err(MetadataError::Missing(_))));
}

#[test]
fn damaged_objects_of_a_base_backup_fail_with_their_names() {
    let bundle = format!("basebackup_delta_chunk/{DELTA}/{DELTA}.00000001.pghoard");
    let index = format!("basebackup/{DELTA}.00000000.pghoard");
    for (backup, key) in [
        (CHUNKS, chunk(CHUNKS, 1)),
        (DELTA, bundle),
        (DELTA, SHARED.to_owned()),
        (DELTA, index),
        (CHUNKS, format!("basebackup/{CHUNKS}.00000000.pghoard")),
    ] {
        let size = fs::metadata(Site::new().path(SITE).join(&key)).unwrap().len();
        let size = usize::try_from(size).unwrap();
        for at in [0, 9, size / 2, size - 40, size - 1] {
            let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
            flip(&site, &key, at);
            fails(&site, backup, &dir.path().join("data"), &[&key]);
            if backup == DELTA {
                // The checksum of the encryption alone says it, too.
                forget_hash(&site, &key);
                fails(&site, backup, &dir.path().join("other"), &[&key]);
            }
        }
        let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
        let path = site.path(SITE).join(&key);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..size / 2]).unwrap();
        fails(&site, backup, &dir.path().join("data"), &[&key]);
    }
}

#[test]
fn damaged_segments_never_open() {
    let site = Site::new();
    // The two that VARIANTS.md names, and one of snappy.
    flip(&site, "xlog/000000010000000000000007", 635);
    assert!(site.open("xlog/000000010000000000000007").is_err());
    let path = site.path(SITE).join("xlog/000000010000000000000013");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..811]).unwrap();
    assert!(site.open("xlog/000000010000000000000013").is_err());
    flip(&site, "xlog/00000001000000000000000D", 100_000);
    assert!(site.open("xlog/00000001000000000000000D").is_err());
}

/// Without any hash in the metadata, as after a store that keeps none, the encryption's checksum
/// must catch every change of every part.
#[test]
fn no_byte_of_an_encrypted_segment_can_be_changed() {
    let site = Site::new();
    let key = format!("{SITE}/xlog/000000010000000000000014");
    let object = fs::read(site.path(&key)).unwrap();
    let mut coding = SegmentCoding::of(&site.raw(&key)).unwrap();
    coding.coding.stored_bytes = None;
    coding.coding.stored_sha256 = None;
    coding.plain_hash = None;
    let keys = site.keys();
    let whole = open_segment(&object, &coding, &keys).unwrap();
    assert_eq!(whole.len(), 16 << 20);
    let positions =
        (0..16).chain((16..object.len()).step_by(61)).chain(object.len() - 34..object.len());
    for at in positions {
        let mut changed = object.clone();
        changed[at] ^= 1;
        let error = open_segment(&changed, &coding, &keys).unwrap_err();
        let expected = match at {
            0..6 => matches!(error, SealedError::NotEncrypted),
            6..8 => matches!(error, SealedError::WrongKey(_) | SealedError::NotEncrypted),
            8..392 => matches!(error, SealedError::WrongKey(_)),
            _ => matches!(error, SealedError::Authentication),
        };
        assert!(expected, "{at}: {error}");
    }
    for length in [0, 5, 8, 100, 392, 400, 424, object.len() - 1] {
        assert!(open_segment(&object[..length], &coding, &keys).is_err(), "{length}");
    }
    let longer = [object.as_slice(), b"x"].concat();
    assert!(matches!(open_segment(&longer, &coding, &keys), Err(SealedError::Authentication)));
}

#[test]
fn keys_that_are_missing_or_wrong_are_named() {
    let (site, dir) = (Site::new(), tempfile::tempdir().unwrap());
    let target = dir.path().join("data");
    let none = site.restore_with(DELTA, &target, &Keys::none()).unwrap_err();
    assert!(chain(&none).contains("`k1`") && chain(&none).contains("encryption_keys"), "{none:?}");
    let out = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"])
        .output()
        .unwrap();
    let mut other = Keys::none();
    other.add("k1", std::str::from_utf8(&out.stdout).unwrap()).unwrap();
    let wrong = site.restore_with(DELTA, &target, &other).unwrap_err();
    assert!(chain(&wrong).contains("not for the private key"), "{}", chain(&wrong));
    assert!(!format!("{other:?}").contains("MII"));
    // What is not encrypted needs none. The failed ones left nothing behind.
    site.restore_with(CHUNKS, &target, &Keys::none()).unwrap();
    let unknown = site.restore("2026-01-01_00-00_0", &dir.path().join("x")).unwrap_err();
    assert!(matches!(unknown, RestoreError::NoBackup(_)));
}
