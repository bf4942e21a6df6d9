//! S3 behind TLS with a certificate that only the settings trust.

use crate::{
    server::{ACCESS_KEY, Dialect, Manners, SECRET_KEY, Server},
    support::{get, open_with, write},
};
use btar::store::{
    Condition, StoreError,
    proof::{Checksum, Proof},
};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer},
};

/// Takes TLS off in front of a server. Gives its port and its certificate.
async fn tls(server: &Server) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (acceptor, plain) = (TlsAcceptor::from(Arc::new(config)), server.url.clone());
    tokio::spawn(async move {
        loop {
            let (outer, _) = listener.accept().await.unwrap();
            let (acceptor, plain) = (acceptor.clone(), plain.clone());
            tokio::spawn(async move {
                let Ok(mut outer) = acceptor.accept(outer).await else { return };
                let host = plain.strip_prefix("http://").unwrap();
                let mut inner = TcpStream::connect(host).await.unwrap();
                // How a connection ends is no concern of a proxy.
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await.ok();
            });
        }
    });
    (port, made.cert.pem())
}

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
