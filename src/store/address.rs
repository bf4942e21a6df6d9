//! Addresses of stores as people write them.

use crate::store::key::Key;
use std::path::PathBuf;
use url::Url;

/// A store's address, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `file:///absolute/directory`.
    Directory(PathBuf),
    /// A bucket or container of a cloud.
    Bucket {
        /// Whose.
        cloud: Cloud,
        /// Name of the bucket or container.
        bucket: String,
        /// Below which all keys lie; empty for the whole bucket.
        prefix: Key,
        /// The storage account, where the address of an Azure container names it.
        account: Option<String>,
    },
}

/// Whose protocol a bucket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3 and what is compatible with it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

/// How an address is written, for messages.
const FORMS: &str = "write file:///absolute/directory, s3://bucket/prefix, gs://bucket/prefix or \
                     az://container/prefix";

/// A store's address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("`{0}` is not a URL; {forms}", forms = FORMS)]
    NotAUrl(String),
    /// A kind of store that does not exist.
    #[error("stores of kind `{0}` are not supported; {forms}", forms = FORMS)]
    Unsupported(String),
    /// A `file` URL without an absolute directory.
    #[error("`{0}` does not name an absolute directory; write file:///absolute/directory")]
    NotADirectory(String),
    /// A URL without a bucket or container.
    #[error("the address names no bucket or container; {forms}", forms = FORMS)]
    NoBucket,
    /// A URL with a user, a password or a query, where secrets would be seen.
    #[error(
        "the address of a store holds no user, password or query; name the environment variables \
         that hold credentials in store_options"
    )]
    Credentials,
    /// A prefix that is no key.
    #[error("the prefix of the address cannot be used: {0}")]
    Prefix(String),
}

impl Address {
    /// Takes an address apart.
    ///
    /// # Errors
    /// [`AddressError`], with how to write it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::NotAUrl(text.to_owned()))?;
        let azure_user = matches!(url.scheme(), "abfs" | "abfss");
        let user = !url.username().is_empty() && !azure_user;
        if user || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Credentials);
        }
        match url.scheme() {
            "file" => url
                .to_file_path()
                .map(Self::Directory)
                .map_err(|()| AddressError::NotADirectory(text.to_owned())),
            "s3" | "s3a" => Self::bucket(Cloud::S3, &url),
            "gs" | "gcs" => Self::bucket(Cloud::Gcs, &url),
            "az" | "azure" => Self::bucket(Cloud::Azure, &url),
            "abfs" | "abfss" => Self::data_lake(&url),
            "https" => Self::blob_endpoint(&url),
            other => Err(AddressError::Unsupported(other.to_owned())),
        }
    }

    fn bucket(cloud: Cloud, url: &Url) -> Result<Self, AddressError> {
        // A port is no part of a bucket's name: somebody has written a host.
        let Some(bucket) = url.host_str().filter(|_| url.port().is_none()) else {
            return Err(AddressError::NoBucket);
        };
        let prefix = prefix(url.path())?;
        Ok(Self::Bucket { cloud, bucket: bucket.to_owned(), prefix, account: None })
    }

    /// `abfss://container@account.dfs.core.windows.net/prefix`.
    fn data_lake(url: &Url) -> Result<Self, AddressError> {
        let account = url.host_str().and_then(|host| host.split('.').next());
        match account {
            Some(account) if !url.username().is_empty() => Ok(Self::Bucket {
                cloud: Cloud::Azure,
                bucket: url.username().to_owned(),
                prefix: prefix(url.path())?,
                account: Some(account.to_owned()),
            }),
            Some(_) | None => Err(AddressError::NoBucket),
        }
    }

    /// `https://account.blob.core.windows.net/container/prefix`, as Azure's portal shows it.
    fn blob_endpoint(url: &Url) -> Result<Self, AddressError> {
        let host = url.host_str().unwrap_or_default();
        let Some((account, _)) = host.split_once(".blob.") else {
            return Err(AddressError::Unsupported("https".to_owned()));
        };
        let path = url.path().trim_start_matches('/');
        let (container, rest) = path.split_once('/').unwrap_or((path, ""));
        if container.is_empty() {
            return Err(AddressError::NoBucket);
        }
        Ok(Self::Bucket {
            cloud: Cloud::Azure,
            bucket: container.to_owned(),
            prefix: prefix(rest)?,
            account: Some(account.to_owned()),
        })
    }
}

/// A path of a URL as a prefix. What people write is taken as it is but for percent signs.
fn prefix(path: &str) -> Result<Key, AddressError> {
    let path = path.trim_matches('/');
    let bytes = percent_decoded(path);
    let text = String::from_utf8(bytes).map_err(|_| AddressError::Prefix(path.to_owned()))?;
    Key::parse(&text).map_err(|error| AddressError::Prefix(error.to_string()))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let said = match Address::parse(text) {
            Ok(Address::Directory(dir)) => format!("dir {}", dir.display()),
            Ok(Address::Bucket { cloud, bucket, prefix, account }) => {
                format!("{cloud:?} {bucket} {prefix} {}", account.unwrap_or_default())
            }
            Err(error) => format!("{error}"),
        };
        assert!(said.contains(expect), "{text}: {said}");
    }

    #[test]
    fn what_people_write() {
        check("file:///srv/eu", "dir /srv/eu");
        check("s3://backups", "S3 backups  ");
        check("s3://backups/pg/main/", "S3 backups pg/main ");
        check("gs://backups/a%20b", "Gcs backups a b ");
        check("az://backups/pg", "Azure backups pg ");
        check("https://acct.blob.core.windows.net/backups/pg", "Azure backups pg acct");
        check("abfss://backups@acct.dfs.core.windows.net/pg", "Azure backups pg acct");
    }

    #[test]
    fn what_cannot_be_used_says_how_to_write_it() {
        check("backups", "not a URL; write file:///");
        check("ftp://x", "kind `ftp` are not supported; write file:///");
        check("https://example.org/x", "kind `https` are not supported");
        check("file://host/x", "absolute directory");
        check("s3:///x", "no bucket");
        check("s3://localhost:9000/x", "no bucket");
        check("s3://key:secret@bucket/x", "store_options");
        check("https://acct.blob.core.windows.net/b?sig=secret", "store_options");
        check("s3://bucket/a//b", "prefix");
        for secret in ["s3://key:secret@bucket/x", "https://a.blob.x/b?sig=secret"] {
            let text = Address::parse(secret).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
