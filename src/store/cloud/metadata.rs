//! User metadata as HTTP headers: what they carry byte for byte, and nothing else.

use crate::store::{StoreError, UserMetadata, address::Cloud, key::Key};
use object_store::{Attribute, Attributes};

/// Most bytes of names and values together.
fn bytes_max(cloud: Cloud) -> usize {
    match cloud {
        // "User-defined metadata … is limited to 2 KB in size", S3's user guide.
        Cloud::S3 => 2 << 10,
        Cloud::Gcs | Cloud::Azure => 8 << 10,
    }
}

/// Checks that the metadata will come back as it is, and gives it to the store's client.
///
/// # Errors
/// [`StoreError::Refused`] with what cannot be carried.
pub(super) fn to_attributes(
    cloud: Cloud,
    store: &str,
    key: &Key,
    user_metadata: &UserMetadata,
) -> Result<Attributes, StoreError> {
    let refused = |what: String| Err(StoreError::refused(store, key, what));
    let mut attributes = Attributes::new();
    let mut bytes = 0;
    for (name, value) in user_metadata {
        if let Some(what) = fault_of_name(cloud, name).or_else(|| fault_of_value(value)) {
            return refused(format!("the user metadata `{name}` {what}"));
        }
        bytes += name.len() + value.len();
        let name = match cloud {
            Cloud::S3 | Cloud::Gcs => name.clone(),
            // Azure's names are those of C#: no dashes. Aiven's tools write them like this too.
            Cloud::Azure => name.replace('-', "_"),
        };
        attributes.insert(Attribute::Metadata(name.into()), value.clone().into());
    }
    if bytes > bytes_max(cloud) {
        let most = bytes_max(cloud);
        return refused(format!("its user metadata has {bytes} bytes, and {most} are the most"));
    }
    Ok(attributes)
}

/// The metadata of an object that was read.
pub(super) fn from_attributes(cloud: Cloud, attributes: &Attributes) -> UserMetadata {
    let mut user_metadata = UserMetadata::new();
    for (attribute, value) in attributes {
        let Attribute::Metadata(name) = attribute else { continue };
        let name = match cloud {
            Cloud::S3 | Cloud::Gcs => name.to_string(),
            Cloud::Azure => name.replace('_', "-"),
        };
        user_metadata.insert(name, value.to_string());
    }
    user_metadata
}

fn fault_of_name(cloud: Cloud, name: &str) -> Option<&'static str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some("would come back in lower case, since stores keep it as a header's name");
    }
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let allowed = |byte: u8| plain(byte) || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(allowed) {
        return Some("has a name that a header cannot have");
    }
    match cloud {
        Cloud::S3 | Cloud::Gcs => None,
        Cloud::Azure if name.contains('_') => Some("would come back with dashes from Azure"),
        Cloud::Azure if name.contains('.') => Some("has a dot in its name, which Azure refuses"),
        Cloud::Azure if name.starts_with(|first: char| first.is_ascii_digit()) => {
            Some("begins with a digit, which Azure refuses")
        }
        Cloud::Azure => None,
    }
}

fn fault_of_value(value: &str) -> Option<&'static str> {
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Some("has a value with characters that a header cannot carry");
    }
    let outer = value.starts_with(' ') || value.ends_with(' ');
    outer.then_some("has a value with spaces at its ends, which a header loses")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(cloud: Cloud, name: &str, value: &str) -> Result<UserMetadata, StoreError> {
        let metadata = UserMetadata::from([(name.to_owned(), value.to_owned())]);
        to_attributes(cloud, "s", &Key::default(), &metadata)
            .map(|attributes| from_attributes(cloud, &attributes))
    }

    #[test]
    fn what_is_taken_comes_back_as_it_was() {
        for cloud in [Cloud::S3, Cloud::Gcs, Cloud::Azure] {
            let value = "{\"a\": [1, 2]}  x/+=~";
            let back = carry(cloud, "start-wal-segment", value).unwrap();
            assert_eq!(back.get("start-wal-segment").map(String::as_str), Some(value));
            for (name, value) in
                [("Hash", "x"), ("a b", "x"), ("", "x"), ("a", "é"), ("a", " x"), ("a", "x\ny")]
            {
                assert!(carry(cloud, name, value).is_err(), "{cloud:?} {name} {value}");
            }
            assert!(carry(cloud, "a", &"x".repeat(8192)).is_err());
        }
        assert!(carry(Cloud::S3, "_hash", "x").is_ok());
        assert!(carry(Cloud::Azure, "_hash", "x").is_err());
    }
}
