//! S3, against moto, which others wrote. It checks neither signatures nor checksums.

use crate::{
    foreign::Foreign,
    suite::{Traits, keeps_its_promises},
    support::open_with,
};
use btar::store::BlobStore;
use std::sync::Arc;

async fn moto() -> (Foreign, Arc<dyn BlobStore>) {
    let args = |port: u16, _: &str| vec!["-p".to_owned(), port.to_string()];
    let moto = Foreign::start("moto_server", "moto[server] from PyPI", args).await;
    let url = format!("http://127.0.0.1:{}", moto.port);
    // The store makes no buckets: nobody wants one in a wrong region by a slip of the pen.
    let made = Foreign::put(&format!("{url}/backups")).await;
    assert!(made.contains(" 200 "), "{made}");
    let toml = format!(
        "endpoint = \"{url}\"\nallow_http = true\naccess_key_id_env = \"A\"\n\
         secret_access_key_env = \"A\""
    );
    let store = open_with("s3://backups/pre fix/x", &toml, &[("A", "any")]);
    (moto, store)
}

#[tokio::test]
async fn keeps_promises() {
    let (_moto, store) = moto().await;
    keeps_its_promises(&*store, Traits::ALL).await;
}
