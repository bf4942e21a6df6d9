//! Our decryption and unpacking against openssl, zstd, tar, and rohmu's own objects.

use crate::site::{CHUNKS, DELTA, SITE, Site};
use btar::{
    layout::pghoard::metadata::{Coding, Compression},
    sealed::{SealedError, keys::Keys, open::Opened, small::open_bytes},
};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Runs a program with `input` and gives what it says.
pub(crate) fn pipe(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let bytes = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(out.status.success(), "{program} {args:?} failed");
    out.stdout
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decrypts with openssl, and checks the HMAC with openssl.
fn decrypted_by_openssl(object: &[u8], key: &Path) -> Vec<u8> {
    assert_eq!(&object[..6], b"pghoa1");
    let length = usize::from(object[6]) << 8 | usize::from(object[7]);
    let (block, rest) = object[8..].split_at(length);
    let (data, footer) = rest.split_at(rest.len() - 32);
    let oaep = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha1", "rsa_mgf1_md:sha1"];
    let mut args = vec!["pkeyutl", "-decrypt", "-inkey", key.to_str().unwrap()];
    args.extend(oaep.iter().flat_map(|option| ["-pkeyopt", *option]));
    let secrets = pipe("openssl", &args, block);
    assert_eq!(secrets.len(), 64);
    let mac_key = format!("hexkey:{}", hex(&secrets[32..]));
    let args = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &mac_key, "-binary"];
    assert_eq!(pipe("openssl", &args, data), footer);
    let (aes, counter) = (hex(&secrets[..16]), hex(&secrets[16..32]));
    pipe("openssl", &["enc", "-d", "-aes-128-ctr", "-K", &aes, "-iv", &counter], data)
}

fn keys_of(path: &Path, id: &str) -> Keys {
    let mut keys = Keys::none();
    keys.add(id, &fs::read_to_string(path).unwrap()).unwrap();
    keys
}

#[test]
fn decryption_is_that_of_openssl() {
    let site = Site::new();
    let mut compared = 0;
    for key in site.listing().keys() {
        let key = format!("{SITE}/{key}");
        let coding = Coding::of(&site.raw(&key)).unwrap();
        if coding.key_id.is_none() {
            continue;
        }
        let object = fs::read(site.path(&key)).unwrap();
        let only = Coding { compression: Compression::None, plain_bytes: None, ..coding };
        let mut opened = Opened::begin(&*object, &only, &site.keys()).unwrap();
        let mut ours = Vec::new();
        opened.read_to_end(&mut ours).unwrap();
        assert_eq!(opened.finish().unwrap().stored_bytes, object.len() as u64);
        assert!(ours == decrypted_by_openssl(&object, &site.path("keys/k1.pem")), "{key}");
        compared += 1;
    }
    assert_eq!(compared, 13, "encrypted objects of the fixture");
}

#[test]
fn every_segment_is_the_servers_own() {
    let site = Site::new();
    let truth = site.truth();
    let segments = truth["wal_objects"].as_array().unwrap();
    assert_eq!(segments.len(), 21);
    for segment in segments {
        let name = segment["segment"].as_str().unwrap();
        let plain = site.open(&format!("xlog/{name}")).unwrap();
        assert_eq!(plain.len(), 16 << 20);
        let sha1 = pipe("sha1sum", &[], &plain);
        let expect = segment["sha1_plain"].as_str().unwrap();
        assert_eq!(std::str::from_utf8(&sha1[..40]).unwrap(), expect, "{name}");
    }
    let history = site.open("timeline/00000002.history").unwrap();
    assert_eq!(
        String::from_utf8(history).unwrap(),
        truth["timelines"][1]["history_text"].as_str().unwrap()
    );
}

/// The files below a directory with their contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    crate::targets::walk(dir, &mut |path, meta| {
        if meta.is_file() {
            let path = path.strip_prefix(dir).unwrap().to_owned();
            found.push((path.clone(), fs::read(dir.join(path)).unwrap()));
        }
    });
    found.sort();
    found
}

#[test]
fn chunks_become_what_zstd_and_tar_make_of_them() {
    let site = Site::new();
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    site.restore(CHUNKS, &ours.path().join("data")).unwrap();
    for key in site.listing().keys().filter(|key| key.contains(CHUNKS)) {
        let object = site.path(SITE).join(key);
        let tar = pipe("zstd", &["-dcq", object.to_str().unwrap()], &[]);
        pipe("tar", &["-x", "-C", theirs.path().to_str().unwrap()], &tar);
    }
    let (ours, theirs) = (files(&ours.path().join("data")), files(&theirs.path().join("pgdata")));
    assert!(ours.len() > 900);
    assert!(ours == theirs, "{} files and {} files", ours.len(), theirs.len());
}

#[test]
fn delta_mode_becomes_what_openssl_zstd_and_tar_make_of_it() {
    let site = Site::new();
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = ours.path().join("data");
    site.restore(DELTA, &ours).unwrap();
    let key = site.path("keys/k1.pem");
    let plain = |name: &str| {
        let object = fs::read(site.path(SITE).join(name)).unwrap();
        pipe("zstd", &["-dcq"], &decrypted_by_openssl(&object, &key))
    };
    let bundle = format!("basebackup_delta_chunk/{DELTA}/{DELTA}.00000001.pghoard");
    pipe("tar", &["-x", "-C", theirs.path().to_str().unwrap()], &plain(&bundle));
    let bundled = files(theirs.path());
    assert_eq!(bundled.len(), 812);
    for (path, contents) in bundled {
        assert!(fs::read(ours.join(&path)).unwrap() == contents, "{}", path.display());
    }
    let shared =
        plain("basebackup_delta/670b251295e8255d3abe2eab100b10f35d5b15d8dd1fbe8e7dbf86aedcc2d5ec");
    assert!(fs::read(ours.join("base/5/16396")).unwrap() == shared);
    assert_eq!(fs::read(ours.join("PG_VERSION")).unwrap(), b"15\n");
}

fn rohmu(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pghoard/rohmu").join(name)
}

#[test]
fn rohmus_own_objects_in_every_coding() {
    let expect = fs::read_to_string(rohmu("plain.sha256")).unwrap();
    let mut opened = 0;
    for key in ["key.pem", "key.pkcs1.pem"] {
        let keys = keys_of(&rohmu(key), "k");
        for (compression, word) in [
            (Compression::None, "none"),
            (Compression::Zstd, "zstd"),
            (Compression::Snappy, "snappy"),
            (Compression::Lzma, "lzma"),
        ] {
            for (key_id, sealed) in [(None, "plain"), (Some("k".to_owned()), "sealed")] {
                for contents in ["text", "empty"] {
                    let path = rohmu(&format!("{contents}-{word}-{sealed}"));
                    let Ok(object) = fs::read(&path) else {
                        assert_eq!((contents, word, sealed), ("empty", "none", "plain"));
                        continue;
                    };
                    let coding = Coding {
                        compression,
                        key_id: key_id.clone(),
                        plain_bytes: (contents == "empty").then_some(0),
                        stored_bytes: None, // As on stores that do not record it.
                        stored_sha256: None,
                    };
                    let plain = whole(&object, &coding, &keys);
                    let plain =
                        plain.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
                    if contents == "text" {
                        assert_eq!(
                            hex(&Sha256::digest(&plain)),
                            expect.trim(),
                            "{}",
                            path.display()
                        );
                    }
                    opened += 1;
                }
            }
        }
    }
    assert_eq!(opened, 30);
}

/// Both ways to open must agree.
fn whole(object: &[u8], coding: &Coding, keys: &Keys) -> Result<Vec<u8>, SealedError> {
    let small = open_bytes(object, coding, keys, 1 << 20)?;
    let mut opened = Opened::begin(object, coding, keys)?;
    let mut streamed = Vec::new();
    opened.read_to_end(&mut streamed).unwrap();
    opened.finish()?;
    assert!(small == streamed);
    Ok(small)
}
