//! Azure Blob, against Azurite, which Microsoft wrote.

use crate::{
    foreign::Foreign,
    suite::{Traits, keeps_its_promises},
    support::{key, large_contents, open_with, write},
};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use btar::{
    store::{
        BlobStore, Condition, StoreError,
        proof::{Checksum, Proof},
    },
    sys::clock::{Clock, SystemClock},
};
use std::sync::Arc;

/// Azurite's well-known account.
const ACCOUNT: &str = "devstoreaccount1";
const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

async fn azurite() -> (Foreign, String) {
    let args = |port: u16, dir: &str| {
        ["--silent", "--blobPort", &port.to_string(), "--location", dir, "--skipApiVersionCheck"]
            .map(str::to_owned)
            .to_vec()
    };
    let azurite = Foreign::start("azurite-blob", "azurite from npm", args).await;
    let url = format!("http://127.0.0.1:{}/{ACCOUNT}", azurite.port);
    let sas = sas();
    let made = Foreign::put(&format!("{url}/backups?restype=container&{sas}")).await;
    assert!(made.contains(" 201 "), "{made}");
    let toml = format!("endpoint = \"{url}\"\nallow_http = true\naccount = \"{ACCOUNT}\"\n");
    (azurite, toml)
}

/// A signature for the whole account that is valid for an hour, as the documentation of "Create an
/// account SAS" says.
fn sas() -> String {
    let until = SystemClock::new().now() + chrono::TimeDelta::hours(1);
    let until = until.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let to_sign = format!("{ACCOUNT}\nrwdlac\nb\nsco\n\n{until}\n\nhttps,http\n2020-08-04\n");
    // Version 2020-12-06 and later have one more field: the encryption scope.
    let key = hmac::Key::new(hmac::HMAC_SHA256, &BASE64.decode(ACCOUNT_KEY).unwrap());
    let signature = BASE64.encode(hmac::sign(&key, to_sign.as_bytes()));
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let until = until.replace(':', "%3A");
    format!("sv=2020-08-04&ss=b&srt=sco&sp=rwdlac&se={until}&spr=https,http&sig={signature}")
}

fn with_key(toml: &str) -> Arc<dyn BlobStore> {
    let toml = format!("{toml}account_key_env = \"KEY\"");
    open_with("az://backups/some/prefix", &toml, &[("KEY", ACCOUNT_KEY)])
}

#[tokio::test]
async fn keeps_promises_with_a_shared_key() {
    let (_azurite, toml) = azurite().await;
    keeps_its_promises(&*with_key(&toml), Traits::ALL).await;
}

#[tokio::test]
async fn keeps_promises_with_a_shared_access_signature() {
    let (_azurite, toml) = azurite().await;
    let toml = format!("{toml}sas_env = \"SAS\"");
    let sas = sas();
    let store = open_with("az://backups", &toml, &[("SAS", &sas)]);
    keeps_its_promises(&*store, Traits::ALL).await;

    let wrong = sas.replace("sig=", "sig=AAAA");
    let store = open_with("az://backups", &toml, &[("SAS", &wrong)]);
    let denied = write(&*store, "a", "x", &Condition::None).await.unwrap_err();
    assert!(matches!(denied, StoreError::Denied { .. }), "{denied:?}");
    let said = format!("{denied} {denied:?} {store:?}");
    assert!(!said.contains("sig=") && !said.contains("AAAA"), "{said}");
}

#[tokio::test]
async fn proves_writes_by_md5_or_by_reading_back() {
    let (_azurite, toml) = azurite().await;
    let store = with_key(&toml);
    let small = write(&*store, "small", "x", &Condition::IfAbsent).await.unwrap();
    assert_eq!(small.proof, Proof::Checksum(Checksum::Md5));
    let (_, contents) = large_contents(17 << 20);
    let large = store.write(&key("large"), contents, &Condition::IfAbsent).await.unwrap();
    // Azurite checks the MD5 of a block, but does not tell it, as Azure does.
    assert_eq!(large.proof, Proof::ReadBack);
}
