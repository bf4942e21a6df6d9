//! `backup.manifest`: the objects that a backup needs.

use crate::layout::pgbackrest::info_file::{self, InfoFileError};
use serde_json::Value;
use std::collections::BTreeMap;

/// The objects of a backup by their key below the repository's prefix, and how large each must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Key and what is known of its size.
    pub objects: BTreeMap<String, ExpectedSize>,
}

/// What a manifest says about an object's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedSize {
    /// Exactly so many bytes.
    Exactly(u64),
    /// At least so many bytes: a bundle of which this backup needs a part.
    AtLeast(u64),
}

impl ExpectedSize {
    /// Whether an object of `size_bytes` fits.
    #[must_use]
    pub fn fits(self, size_bytes: u64) -> bool {
        match self {
            Self::Exactly(size) => size_bytes == size,
            Self::AtLeast(size) => size_bytes >= size,
        }
    }
}

impl Manifest {
    /// Reads the manifest of the backup `label` of `stanza`.
    ///
    /// # Errors
    /// [`InfoFileError`].
    pub fn read(stanza: &str, label: &str, bytes: &[u8]) -> Result<Self, InfoFileError> {
        let file = format!("{label}/backup.manifest");
        let mut extension = "";
        let mut files: Vec<(String, Value)> = Vec::new();
        info_file::read(&file, bytes, |entry| {
            match (entry.section, entry.key) {
                ("backup:option", "option-compress-type") => {
                    extension = match entry.value.as_str() {
                        Some("gz") => ".gz",
                        Some("lz4") => ".lz4",
                        Some("zst") => ".zst",
                        Some("bz2") => ".bz2",
                        _ => "",
                    };
                }
                ("target:file", name) => files.push((name.to_owned(), entry.value)),
                _ => {}
            }
            Ok(())
        })?;
        let mut manifest = Self::default();
        for (name, value) in &files {
            let missing = || InfoFileError::Missing { file: file.clone(), key: name.clone() };
            manifest.take(stanza, label, extension, name, value).ok_or_else(missing)?;
        }
        Ok(manifest)
    }

    fn take(
        &mut self,
        stanza: &str,
        label: &str,
        extension: &str,
        name: &str,
        value: &Value,
    ) -> Option<()> {
        let size = value["size"].as_u64()?;
        if size == 0 {
            return Some(()); // Made anew on restore, never read (`restoreFile` in file.c).
        }
        let stored = value["repo-size"].as_u64().unwrap_or(size);
        let of = value["reference"].as_str().unwrap_or(label);
        let Some(bundle) = value["bni"].as_u64() else {
            // Block-incremental files have an extension of their own.
            let extension = if value["bims"].is_null() { extension } else { ".pgbi" };
            let key = format!("backup/{stanza}/{of}/{name}{extension}");
            self.objects.insert(key, ExpectedSize::Exactly(stored));
            return Some(());
        };
        let end = value["bno"].as_u64().unwrap_or(0).checked_add(stored)?;
        let key = format!("backup/{stanza}/{of}/bundle/{bundle}");
        let known = self.objects.entry(key).or_insert(ExpectedSize::AtLeast(0));
        if let ExpectedSize::AtLeast(size) = known {
            *size = end.max(*size);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::pgbackrest::info_file::tests::sealed;

    #[test]
    fn plain_referenced_and_bundled_files() {
        let text = sealed(
            "[backrest]\nbackrest-format=5\n\n[backup:option]\noption-compress-type=\"zst\"\n\n\
             [target:file]\n\
             pg_data/PG_VERSION={\"reference\":\"20261125-223158F\",\"repo-size\":12,\"size\":3}\n\
             pg_data/a=b={\"size\":7}\n\
             pg_data/empty={\"repo-size\":9,\"size\":0}\n\
             pg_data/one={\"bni\":1,\"bno\":22,\"repo-size\":17,\"size\":8}\n\
             pg_data/two={\"bni\":1,\"repo-size\":22,\"size\":8192}\n",
        );
        let manifest = Manifest::read("m", "20261125-223158F_X", text.as_bytes()).unwrap();
        let expect = [
            ("backup/m/20261125-223158F/pg_data/PG_VERSION.zst", ExpectedSize::Exactly(12)),
            ("backup/m/20261125-223158F_X/bundle/1", ExpectedSize::AtLeast(39)),
            ("backup/m/20261125-223158F_X/pg_data/a=b.zst", ExpectedSize::Exactly(7)),
        ];
        let found: Vec<_> =
            manifest.objects.iter().map(|(key, size)| (key.as_str(), *size)).collect();
        assert_eq!(found, expect);
        assert!(ExpectedSize::AtLeast(39).fits(40) && !ExpectedSize::Exactly(7).fits(8));
    }
}
