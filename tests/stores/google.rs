//! Google Cloud Storage, against our own server.

use crate::{
    server::{Dialect, Manners, Server, TOKEN, fault::Fault},
    suite::{Traits, keeps_its_promises},
    support::{get, key, large_contents, names, open_with, write},
};
use btar::store::{
    BlobStore, Condition, StoreError,
    proof::{Checksum, Proof},
};
use http::StatusCode;
use std::sync::Arc;

fn open(server: &Server) -> Arc<dyn BlobStore> {
    let toml =
        format!("endpoint = \"{}\"\nallow_http = true\naccess_token_env = \"TOKEN\"", server.url);
    open_with("gs://backups/some/prefix", &toml, &[("TOKEN", TOKEN)])
}

#[tokio::test]
async fn keeps_promises() {
    let server = Server::start(Manners::of(Dialect::Google)).await;
    keeps_its_promises(&*open(&server), Traits::ALL).await;
    assert_eq!(server.objects().uploads(), 0, "failed uploads are ended");
}

#[tokio::test]
async fn proves_writes_by_its_checksum_or_by_reading_back() {
    for tells_checksums in [true, false] {
        let manners = Manners { tells_checksums, ..Manners::of(Dialect::Google) };
        let server = Server::start(manners).await;
        let store = open(&server);
        let expect =
            if tells_checksums { Proof::Checksum(Checksum::Crc32c) } else { Proof::ReadBack };
        let small = write(&*store, "small", "x", &Condition::None).await.unwrap();
        assert_eq!(small.proof, expect);
        let (_, contents) = large_contents(17 << 20);
        let large = store.write(&key("large"), contents, &Condition::IfAbsent).await.unwrap();
        assert_eq!(large.proof, expect);
    }
}

#[tokio::test]
async fn tries_again_and_knows_its_own_writes() {
    let server = Server::start(Manners::of(Dialect::Google)).await;
    let store = open(&server);
    server.faults(|seen| match seen.number {
        0..3 => Fault::Status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        3..5 => Fault::Lost,
        _ => Fault::None,
    });
    write(&*store, "a", "x", &Condition::IfAbsent).await.unwrap();
    assert_eq!(get(&*store, "a").await.unwrap(), "x");
    assert_eq!(names(&*store, "", None).await, ["a"]);
    let other = write(&*store, "a", "y", &Condition::IfAbsent).await;
    assert!(matches!(other, Err(StoreError::AlreadyExists(_))), "{other:?}");
}

#[tokio::test]
async fn a_wrong_token_is_told_without_it() {
    let server = Server::start(Manners::of(Dialect::Google)).await;
    let toml =
        format!("endpoint = \"{}\"\nallow_http = true\naccess_token_env = \"TOKEN\"", server.url);
    let store = open_with("gs://backups", &toml, &[("TOKEN", "wrong-secret")]);
    let denied = write(&*store, "a", "x", &Condition::None).await.unwrap_err();
    assert!(matches!(denied, StoreError::Denied { .. }), "{denied:?}");
    let said = format!("{denied} {denied:?} {store:?}");
    assert!(said.contains("AuthenticationRequired") && !said.contains("wrong-secret"), "{said}");
}
