//! AWS's signature, version 4, checked from its specification and not with the client's code.

use crate::server::{ACCESS_KEY, SECRET_KEY};
use aws_lc_rs::{digest, hmac};
use http::{StatusCode, request::Parts};
use std::fmt::Write as _;

/// Why a request is not taken: status and code.
pub(crate) type Refused = (StatusCode, String);

/// Checks the signature of a request, and the hash of its body where that is signed.
pub(crate) fn check(head: &Parts, body: &[u8]) -> Result<(), Refused> {
    let denied = |code: &str| (StatusCode::FORBIDDEN, code.to_owned());
    let header = |name: &str| {
        let value = head.headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| denied("AccessDenied"))
    };
    let fields = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ");
    let fields = fields.ok_or_else(|| denied("AccessDenied"))?;
    let field = |name: &str| {
        // Some clients put a space behind the comma and others do not.
        let found = fields.split(',').find_map(|field| field.trim().strip_prefix(name));
        found.ok_or_else(|| denied("AuthorizationHeaderMalformed"))
    };
    let (credential, signed, given) =
        (field("Credential=")?, field("SignedHeaders=")?, field("Signature=")?);
    let (id, scope) = credential.split_once('/').ok_or_else(|| denied("AccessDenied"))?;
    if id != ACCESS_KEY {
        return Err(denied("InvalidAccessKeyId"));
    }
    let names: Vec<&str> = signed.split(';').collect();
    let unsigned = head
        .headers
        .keys()
        .map(|name| name.as_str())
        .find(|name| (name.starts_with("x-amz-") || *name == "host") && !names.contains(name));
    if let Some(name) = unsigned {
        return Err(denied(&format!("HeadersNotSigned-{name}")));
    }
    let payload = header("x-amz-content-sha256")?;
    if payload != "UNSIGNED-PAYLOAD" && payload != hex(digest::digest(&digest::SHA256, body)) {
        return Err((StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch".to_owned()));
    }
    let canonical = canonical(head, &names, signed, payload);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        header("x-amz-date")?,
        hex(digest::digest(&digest::SHA256, canonical.as_bytes()))
    );
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part.as_bytes());
    }
    if given == hex(mac(&key, to_sign.as_bytes())) {
        Ok(())
    } else {
        Err(denied("SignatureDoesNotMatch"))
    }
}

fn canonical(head: &Parts, names: &[&str], signed: &str, payload: &str) -> String {
    let mut pairs: Vec<_> = pairs(head.uri.query().unwrap_or_default())
        .into_iter()
        .map(|(name, value)| (encoded(&name), encoded(&value)))
        .collect();
    pairs.sort();
    let query: Vec<_> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut headers = String::new();
    for name in names {
        let values = head.headers.get_all(*name).iter().map(|value| value.to_str().unwrap());
        // "Trim" of the specification: outer spaces go, inner ones become one.
        let values: Vec<_> = values
            .map(|v| v.split(' ').filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" "))
            .collect();
        writeln!(headers, "{name}:{}", values.join(",")).unwrap();
    }
    let (method, path) = (&head.method, head.uri.path());
    format!("{method}\n{path}\n{}\n{headers}\n{signed}\n{payload}", query.join("&"))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The pairs of a query, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
    };
    parts.map(pair).collect()
}

pub(crate) fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap();
        }
    }
    out
}
