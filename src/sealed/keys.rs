//! Private keys, by the names that the objects give them.

use crate::sealed::SealedError;
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// A text is no private key that can be used. It is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no PEM block with a private key.
    #[error(
        "the private key `{0}` is not in PEM format: a line `-----BEGIN PRIVATE KEY-----` or \
         `-----BEGIN RSA PRIVATE KEY-----` is expected"
    )]
    NotPem(String),
    /// It is a public key.
    #[error("`{0}` is a public key: decrypting needs the private one")]
    Public(String),
    /// It is protected by a passphrase.
    #[error(
        "the private key `{0}` is protected by a passphrase, which PGHoard's never are; remove it \
         with `openssl pkey`"
    )]
    Passphrase(String),
    /// It is damaged, or no RSA key of 2048 to 8192 bits.
    #[error("the private key `{0}` is damaged, or is no RSA key of 2048 to 8192 bits")]
    Rejected(String),
}

/// Private keys by their names. Cloning shares them.
#[derive(Clone, Default)]
pub struct Keys {
    by_id: BTreeMap<String, Arc<OaepPrivateDecryptingKey>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_id.keys()).finish()
    }
}

impl Keys {
    /// No key: only what is not encrypted can be opened.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the private key `id`, as PKCS#8 or PKCS#1 in PEM format.
    ///
    /// # Errors
    /// [`KeyError`], which does not show the key.
    pub fn add(&mut self, id: &str, pem: &str) -> Result<(), KeyError> {
        let rejected = || KeyError::Rejected(id.to_owned());
        let pkcs8 = pkcs8_of(id, pem)?;
        let key = PrivateDecryptingKey::from_pkcs8(&pkcs8).map_err(|_| rejected())?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(|_| rejected())?;
        self.by_id.insert(id.to_owned(), Arc::new(key));
        Ok(())
    }

    /// Whether there is a key of this name.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// The secret in a block that was encrypted for the key `id`, given as hexadecimal digits.
    ///
    /// # Errors
    /// [`SealedError::NoKey`], [`SealedError::WrongKey`].
    pub fn unwrap(&self, id: &str, digits: &str) -> Result<Vec<u8>, SealedError> {
        let wrong = || SealedError::WrongKey(id.to_owned());
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let block: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        let block = block.ok_or_else(wrong)?;
        let plain = self.decrypt(id, &block).ok_or_else(|| SealedError::NoKey(id.to_owned()))?;
        plain.ok_or_else(wrong)
    }

    /// Decrypts a block with the key `id`. The outer `None`: there is none; the inner: it does not
    /// fit.
    pub(super) fn decrypt(&self, id: &str, block: &[u8]) -> Option<Option<Vec<u8>>> {
        let key = self.by_id.get(id)?;
        let mut plain = vec![0; key.min_output_size()];
        let length =
            key.decrypt(&OAEP_SHA1_MGF1SHA1, block, &mut plain, None).ok().map(|p| p.len());
        Some(length.map(|length| {
            plain.truncate(length);
            plain
        }))
    }
}

/// The key as PKCS#8, whichever of the two forms it is in.
fn pkcs8_of(id: &str, pem: &str) -> Result<Vec<u8>, KeyError> {
    let block = |label: &str| -> Option<Vec<u8>> {
        let (_, rest) = pem.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let digits: String = body.split_whitespace().collect();
        STANDARD.decode(digits).ok()
    };
    let has = |label: &str| pem.contains(&format!("-----BEGIN {label}-----"));
    if has("ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Passphrase(id.to_owned()));
    }
    if has("PRIVATE KEY") {
        return block("PRIVATE KEY").ok_or_else(|| KeyError::Rejected(id.to_owned()));
    }
    if has("RSA PRIVATE KEY") {
        let pkcs1 = block("RSA PRIVATE KEY").ok_or_else(|| KeyError::Rejected(id.to_owned()))?;
        return Ok(wrap_pkcs1(&pkcs1));
    }
    if has("PUBLIC KEY") || has("RSA PUBLIC KEY") {
        return Err(KeyError::Public(id.to_owned()));
    }
    Err(KeyError::NotPem(id.to_owned()))
}

/// `PrivateKeyInfo` of PKCS#8 (RFC 5208, section 5) around an `RSAPrivateKey` of PKCS#1.
fn wrap_pkcs1(pkcs1: &[u8]) -> Vec<u8> {
    /// Version 0, and the algorithm `rsaEncryption` with its NULL.
    const HEAD: &[u8] = &[
        0x02, 0x01, 0x00, 0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01,
        0x01, 0x05, 0x00,
    ];
    der(0x30, &[HEAD, &der(0x04, pkcs1)].concat())
}

/// A tag, the length and the contents, in ASN.1's distinguished encoding.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|b| **b == 0).count()..];
    let mut out = vec![tag];
    match (digits, u8::try_from(digits.len())) {
        ([], _) => out.push(0),
        ([short], _) if *short < 0x80 => out.push(*short),
        (_, count) => {
            out.push(0x80 | count.expect("a length has at most eight bytes"));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(contents);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_asn1_wants_them() {
        assert_eq!(der(4, &[]), [4, 0]);
        assert_eq!(der(4, &[7; 127])[..3], [4, 127, 7]);
        assert_eq!(der(4, &[7; 128])[..4], [4, 0x81, 128, 7]);
        assert_eq!(der(4, &[7; 300])[..5], [4, 0x82, 1, 44, 7]);
    }

    #[test]
    fn what_is_no_private_key_is_named_and_not_shown() {
        let begin =
            |label: &str| format!("-----BEGIN {label}-----\nc2VjcmV0\n-----END {label}-----");
        for (pem, expect) in [
            ("secret".to_owned(), KeyError::NotPem("k".into())),
            (begin("PUBLIC KEY"), KeyError::Public("k".into())),
            (begin("ENCRYPTED PRIVATE KEY"), KeyError::Passphrase("k".into())),
            (begin("PRIVATE KEY"), KeyError::Rejected("k".into())),
            (begin("RSA PRIVATE KEY"), KeyError::Rejected("k".into())),
            ("-----BEGIN PRIVATE KEY-----\n%\n".into(), KeyError::Rejected("k".into())),
        ] {
            let mut keys = Keys::none();
            let error = keys.add("k", &pem).unwrap_err();
            assert_eq!(error, expect);
            assert!(!error.to_string().contains("c2VjcmV0") && !keys.has("k"));
        }
    }
}
