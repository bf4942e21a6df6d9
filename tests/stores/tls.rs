//! S3 behind TLS with a certificate that only the settings trust.

use crate::{
    server::{ACCESS_KEY, Dialect, Manners, SECRET_KEY, Server, tls::tls},
    support::{get, open_with, write},
};
use btar::store::{
    Condition, StoreError,
    proof::{Checksum, Proof},
};

#[tokio::test]
async fn only_a_trusted_certificate_is_taken() {
    let server = Server::start(Manners::of(Dialect::S3)).await;
    let (port, pem) = tls(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, pem).unwrap();
    let toml = format!(
        "endpoint = \"https://localhost:{port}\"\naccess_key_id_env = \"ID\"\n\
         secret_access_key_env = \"KEY\"\n"
    );
    let keys = [("ID", ACCESS_KEY), ("KEY", SECRET_KEY)];

    let trusting = format!("{toml}ca_file = \"{}\"", file.display());
    let store = open_with("s3://backups", &trusting, &keys);
    let stored = write(&*store, "a", "x", &Condition::IfAbsent).await.unwrap();
    assert_eq!(stored.proof, Proof::Checksum(Checksum::Crc64Nvme));
    assert_eq!(get(&*store, "a").await.unwrap(), "x");

    let store = open_with("s3://backups", &toml, &keys);
    let error = get(&*store, "a").await.unwrap_err();
    let StoreError::Unavailable { source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().to_lowercase().contains("certificate"), "{source}");
}
