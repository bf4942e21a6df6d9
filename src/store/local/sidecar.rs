//! User metadata of a file, in a JSON file beside it, as the local store of PGHoard and MyHoard
//! keeps it.

use crate::store::UserMetadata;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// How the names of sidecars end.
pub(super) const ENDING: &str = ".metadata";
/// Largest sidecar that is read, in bytes.
const SIDECAR_BYTES_MAX: u64 = 1 << 20;

/// Whether a file is a sidecar, or one that is just being written.
pub(super) fn hides(name: &str, ending: &str) -> bool {
    name.strip_suffix("_tmp").unwrap_or(name).ends_with(ending)
}

/// Where the sidecar of a file lies.
pub(super) fn path(object: &Path) -> PathBuf {
    let mut path = object.as_os_str().to_owned();
    path.push(ENDING);
    path.into()
}

/// The user metadata of a file; empty without a sidecar.
pub(super) fn read(object: &Path) -> io::Result<UserMetadata> {
    let path = path(object);
    let text = match fs::metadata(&path) {
        Ok(meta) if meta.len() > SIDECAR_BYTES_MAX => {
            return Err(io::Error::other(format!("{} is too large", path.display())));
        }
        Ok(_) => fs::read_to_string(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(UserMetadata::new()),
        Err(error) => return Err(error),
    };
    let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text)
        .map_err(|error| io::Error::other(format!("{} is damaged: {error}", path.display())))?;
    let plain = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        serde_json::Value::Null
        | serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => value.to_string(),
    };
    Ok(values.into_iter().map(|(name, value)| (name, plain(value))).collect())
}

/// The text of a sidecar.
pub(super) fn text(user_metadata: &UserMetadata) -> Vec<u8> {
    serde_json::to_vec(user_metadata).expect("texts can be written as JSON")
}
