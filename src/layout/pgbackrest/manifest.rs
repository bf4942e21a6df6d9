//! `backup.manifest`: the objects that a backup needs.

use crate::{
    domain::hex,
    layout::{
        backup::{ExpectedSize, LogPlace, Needs, PartSum},
        pgbackrest::info_file::{self, InfoFileError},
    },
};
use serde_json::Value;
use std::collections::BTreeMap;

/// A file of a backup as its repository stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Key of the object below the repository's prefix.
    pub key: String,
    /// Whether the object is a bundle of several files.
    pub bundled: bool,
    /// Where the file begins in the object, in bytes.
    pub offset: u64,
    /// How long it is there, in bytes.
    pub size_bytes: u64,
    /// SHA-1 of these bytes in lower-case hexadecimal digits. pgBackRest keeps it since 2.44.
    pub sha1: Option<String>,
}

/// What the backup `label` of `stanza` needs, by its manifest.
///
/// # Errors
/// [`InfoFileError`].
pub fn needs(stanza: &str, label: &str, bytes: &[u8]) -> Result<Needs, InfoFileError> {
    let parsed = parse(stanza, label, bytes)?;
    let mut needs = Needs { log: parsed.log, ..Needs::default() };
    let mut sums: BTreeMap<String, Vec<PartSum>> = BTreeMap::new();
    for file in parsed.files {
        if let Some(sha1) = file.sha1.as_deref().and_then(hex::bytes) {
            let sum = PartSum { offset: file.offset, size_bytes: file.size_bytes, sha1 };
            sums.entry(file.key.clone()).or_default().push(sum);
        }
        if !file.bundled {
            needs.objects.insert(file.key, ExpectedSize::Exactly(file.size_bytes));
            continue;
        }
        let end = file.offset.saturating_add(file.size_bytes);
        let known = needs.objects.entry(file.key).or_insert(ExpectedSize::AtLeast(0));
        if let ExpectedSize::AtLeast(size) = known {
            *size = end.max(*size);
        }
    }
    for (key, mut parts) in sums {
        parts.sort_by_key(|part| part.offset);
        needs.sums.insert(key, parts.into());
    }
    Ok(needs)
}

/// The files that the backup `label` of `stanza` stores, its own and those of earlier backups.
///
/// # Errors
/// [`InfoFileError`].
pub fn stored_files(
    stanza: &str,
    label: &str,
    bytes: &[u8],
) -> Result<Vec<StoredFile>, InfoFileError> {
    parse(stanza, label, bytes).map(|parsed| parsed.files)
}

struct Parsed {
    files: Vec<StoredFile>,
    log: Option<LogPlace>,
}

fn parse(stanza: &str, label: &str, bytes: &[u8]) -> Result<Parsed, InfoFileError> {
    let file = format!("{label}/backup.manifest");
    let mut extension = "";
    let mut files: Vec<(&str, Value)> = Vec::new();
    let (mut start, mut db_id, mut version) = (None, None, None);
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
            ("backup", "backup-archive-start") => start = entry.value.as_str().map(str::to_owned),
            ("backup:db", "db-id") => db_id = entry.value.as_u64(),
            ("backup:db", "db-version") => version = entry.value.as_str().map(str::to_owned),
            ("target:file", name) => files.push((name, entry.value)),
            _ => {}
        }
        Ok(())
    })?;
    let mut stored = Vec::with_capacity(files.len());
    for (name, value) in &files {
        let missing = || InfoFileError::Missing { file: file.clone(), key: (*name).to_owned() };
        let size = value["size"].as_u64().ok_or_else(missing)?;
        // Empty files are made anew on restore and never read (`restoreFile` in file.c).
        if size > 0 {
            stored.push(stored_file(stanza, label, extension, name, value, size));
        }
    }
    let log = start
        .zip(version.zip(db_id))
        .map(|(start, (version, db_id))| LogPlace { archive: format!("{version}-{db_id}"), start });
    Ok(Parsed { files: stored, log })
}

fn stored_file(
    stanza: &str,
    label: &str,
    extension: &str,
    name: &str,
    value: &Value,
    size: u64,
) -> StoredFile {
    let of = value["reference"].as_str().unwrap_or(label);
    let bundle = value["bni"].as_u64();
    // Block-incremental files have an extension of their own.
    let extension = if value["bims"].is_null() { extension } else { ".pgbi" };
    let key = match bundle {
        Some(bundle) => format!("backup/{stanza}/{of}/bundle/{bundle}"),
        None => format!("backup/{stanza}/{of}/{name}{extension}"),
    };
    StoredFile {
        key,
        bundled: bundle.is_some(),
        offset: value["bno"].as_u64().unwrap_or(0),
        size_bytes: value["repo-size"].as_u64().unwrap_or(size),
        sha1: value["rck"].as_str().map(str::to_owned),
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
        let needs = needs("m", "20261125-223158F_X", text.as_bytes()).unwrap();
        let expect = [
            ("backup/m/20261125-223158F/pg_data/PG_VERSION.zst", ExpectedSize::Exactly(12)),
            ("backup/m/20261125-223158F_X/bundle/1", ExpectedSize::AtLeast(39)),
            ("backup/m/20261125-223158F_X/pg_data/a=b.zst", ExpectedSize::Exactly(7)),
        ];
        let found: Vec<_> = needs.objects.iter().map(|(key, size)| (key.as_str(), *size)).collect();
        assert_eq!(found, expect);
        assert!(ExpectedSize::AtLeast(39).fits(40) && !ExpectedSize::Exactly(7).fits(8));
    }
}
