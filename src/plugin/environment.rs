//! What Terraform tells a plugin through the environment; nothing else here reads it.

use std::{env, path::PathBuf};
use tracing::level_filters::LevelFilter;

/// The proof, for the sake of users and not of security, that Terraform started this process.
const COOKIE: &str = "TF_PLUGIN_MAGIC_COOKIE";
const COOKIE_VALUE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// What the handshake needs to know.
pub(super) struct Environment {
    pub(super) by_terraform: bool,
    /// The major versions of the protocol that Terraform speaks; empty when it does not say.
    pub(super) protocol_versions: Vec<String>,
    /// The one certificate, as PEM, that a client may show. Missing with `TF_DISABLE_PLUGIN_TLS`.
    pub(super) client_certificate: Option<String>,
    /// Where to make the directory of the socket.
    pub(super) socket_parent: PathBuf,
}

impl Environment {
    pub(super) fn read() -> Self {
        let versions = text("PLUGIN_PROTOCOL_VERSIONS").unwrap_or_default();
        Self {
            by_terraform: by_terraform(),
            protocol_versions: versions
                .split(',')
                .filter(|version| !version.is_empty())
                .map(str::to_owned)
                .collect(),
            client_certificate: text("PLUGIN_CLIENT_CERT").filter(|pem| !pem.is_empty()),
            socket_parent: env::var_os("PLUGIN_UNIX_SOCKET_DIR")
                .filter(|dir| !dir.is_empty())
                .map_or_else(env::temp_dir, PathBuf::from),
        }
    }
}

pub(super) fn by_terraform() -> bool {
    text(COOKIE).is_some_and(|value| value == COOKIE_VALUE)
}

/// The level that Terraform's user asked for: of providers, or else of everything.
pub(super) fn log_level() -> LevelFilter {
    let asked = |name| text(name).filter(|level| !level.is_empty());
    asked("TF_LOG_PROVIDER")
        .or_else(|| asked("TF_LOG"))
        .map_or(LevelFilter::OFF, |level| parse_level(&level))
}

/// Like Terraform: `JSON` is everything as JSON, and so is what it does not know.
fn parse_level(level: &str) -> LevelFilter {
    match level.to_ascii_uppercase().as_str() {
        "OFF" => LevelFilter::OFF,
        "ERROR" => LevelFilter::ERROR,
        "WARN" => LevelFilter::WARN,
        "INFO" => LevelFilter::INFO,
        "DEBUG" => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

fn text(name: &str) -> Option<String> {
    env::var_os(name).and_then(|value| value.into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        for (given, expect) in [
            ("off", LevelFilter::OFF),
            ("ERROR", LevelFilter::ERROR),
            ("Warn", LevelFilter::WARN),
            ("info", LevelFilter::INFO),
            ("DEBUG", LevelFilter::DEBUG),
            ("JSON", LevelFilter::TRACE),
            ("1", LevelFilter::TRACE),
        ] {
            assert_eq!(parse_level(given), expect, "{given}");
        }
    }
}
