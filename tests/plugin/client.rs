//! Clients that are not Terraform, and a plugin whose Terraform is gone.

use crate::workspace::{is_empty, signal, wait_for};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P521_SHA512};
use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::UnixStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, SignatureScheme,
        client::ResolvesClientCert,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
        sign::CertifiedKey,
    },
};

const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// A certificate and a key that need not belong together.
#[derive(Clone)]
struct Identity {
    certificate: rcgen::Certificate,
    key: Arc<KeyPair>,
}

impl Identity {
    /// Like Terraform's own: P-521.
    fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), key: Arc::new(key) }
    }
}

/// Shows a certificate without asking whether the key fits, as a thief would.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// This executable, started as Terraform would.
struct Plugin {
    child: Child,
    sockets: TempDir,
    socket: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Plugin {
    fn start(client: &Identity) -> Self {
        let sockets = TempDir::new().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .env("TF_PLUGIN_MAGIC_COOKIE", COOKIE)
            .env("PLUGIN_PROTOCOL_VERSIONS", "5,6")
            .env("PLUGIN_CLIENT_CERT", client.certificate.pem())
            .env("PLUGIN_UNIX_SOCKET_DIR", sockets.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let fields: Vec<_> = line.trim_end().split('|').collect();
        assert_eq!((&fields[..3], fields[4]), (&["1", "6", "unix"][..], "grpc"), "{line}");
        let certificate = STANDARD_NO_PAD.decode(fields[5]).unwrap().into();
        Self { child, sockets, socket: PathBuf::from(fields[3]), certificate }
    }

    /// The first bytes of the server after the handshake, or why there were none.
    async fn connect(&self, shown: Option<&Identity>) -> std::io::Result<[u8; 9]> {
        let provider = aws_lc_rs::default_provider();
        let shown = shown.map(|identity| {
            let key = PrivateKeyDer::Pkcs8(identity.key.serialize_der().into());
            let key = provider.key_provider.load_private_key(key).unwrap();
            Arc::new(CertifiedKey::new(vec![identity.certificate.der().clone()], key))
        });
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Shows(shown)));
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = UnixStream::connect(&self.socket).await?;
        let name = ServerName::try_from("localhost").unwrap();
        // With TLS 1.3 the client is done before the server has judged it: only a byte is proof.
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await?;
        Ok(frame)
    }

    fn end(mut self) {
        let id = self.child.id().to_string();
        signal("TERM", &id);
        assert!(self.child.try_wait().unwrap().is_none(), "survives the first SIGTERM");
        wait_for("the plugin to end", || {
            // Two signals at once may be delivered as one.
            let ended = self.child.try_wait().unwrap().is_some();
            if !ended {
                signal("TERM", &id);
            }
            ended
        });
        assert!(self.child.wait().unwrap().success());
        assert!(is_empty(self.sockets.path()));
    }
}

pub(crate) fn only_terraforms_certificate_connects() {
    let (terraform, other) = (Identity::new(), Identity::new());
    let plugin = Plugin::start(&terraform);
    // Terraform's certificate with another key: the environment of a process is no secret.
    let thief = Identity { key: Arc::clone(&other.key), ..terraform.clone() };
    crate::runtime().block_on(async {
        for (who, shown) in [("nobody", None), ("other", Some(&other)), ("thief", Some(&thief))] {
            let refused = plugin.connect(shown).await.expect_err(who);
            assert!(refused.to_string().contains("alert"), "{who}: {refused}");
        }
        let frame = plugin.connect(Some(&terraform)).await.unwrap();
        assert_eq!(frame[3], 4, "HTTP/2 begins with SETTINGS");
    });
    plugin.end();
}

pub(crate) fn a_second_sigterm_ends_the_plugin() {
    let plugin = Plugin::start(&Identity::new());
    signal("INT", &plugin.child.id().to_string());
    plugin.end();
}

/// A shell starts the plugin and ends; the plugin's output is a pipe that closes when it ends, too.
pub(crate) fn ends_when_its_parent_is_gone() {
    let sockets = TempDir::new().unwrap();
    let mut shell = Command::new("sh")
        .args(["-c", "\"$0\" & read line"])
        .arg(env::current_exe().unwrap())
        .env("TF_PLUGIN_MAGIC_COOKIE", COOKIE)
        .env("PLUGIN_UNIX_SOCKET_DIR", sockets.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("1|6|unix|") && !is_empty(sockets.path()), "{line}");
    shell.kill().unwrap();
    shell.wait().unwrap();
    wait_for("the plugin to see that its parent is gone", || is_empty(sockets.path()));
    line.clear();
    assert_eq!(stdout.read_line(&mut line).unwrap(), 0, "the plugin has ended");
}
