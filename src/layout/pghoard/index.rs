//! `.pghoard_tar_metadata.json`, the first file of an index object: what a base backup consists of.

use crate::layout::pghoard::{
    keys,
    manifest::{self, Manifest, ManifestError},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Name of the file in the index object.
pub const FILE: &str = ".pghoard_tar_metadata.json";

/// An index is not what PGHoard writes.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Not the JSON that it should be.
    #[error("reading {FILE} failed")]
    Json(#[source] serde_json::Error),
    /// A chunk lies where no chunk of this backup lies.
    #[error("{FILE} names the chunk `{0}`, which is none of this base backup")]
    StrangeChunk(String),
    /// The same chunk twice.
    #[error("{FILE} names the chunk `{0}` twice")]
    ChunkTwice(String),
    /// The manifest of delta mode cannot be used.
    #[error("reading the manifest in {FILE} failed")]
    Manifest(#[from] ManifestError),
}

/// The contents, as far as a restore needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarMetadata {
    /// The first segment that a restore needs.
    pub start_segment: Option<String>,
    /// The last segment that a restore needs to be consistent.
    pub end_segment: Option<String>,
    /// Chunks in their order.
    pub chunks: Vec<Chunk>,
    /// Tablespaces by their names.
    pub tablespaces: BTreeMap<String, Tablespace>,
    /// The files, in delta mode.
    pub manifest: Option<Manifest>,
}

/// One tar file of a base backup.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Chunk {
    /// `<backup>/<backup>.0000000N.pghoard`.
    #[serde(rename = "chunk_filename")]
    pub file: String,
    /// Size of the tar file, in bytes.
    #[serde(rename = "input_size")]
    pub plain_bytes: u64,
    /// Size of the object, in bytes.
    #[serde(rename = "result_size")]
    pub stored_bytes: u64,
}

/// Where a tablespace was.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tablespace {
    /// Its number, which names the link in `pg_tblspc`.
    pub oid: u32,
    /// Its directory on the machine that was backed up. Never used for a restore by itself.
    #[serde(default)]
    pub path: String,
}

#[derive(Deserialize)]
struct Stored {
    backup_start_wal_segment: Option<String>,
    backup_end_wal_segment: Option<String>,
    #[serde(default)]
    chunks: Vec<Chunk>,
    #[serde(default)]
    tablespaces: BTreeMap<String, Tablespace>,
    manifest: Option<manifest::Stored>,
}

impl TarMetadata {
    /// Reads the contents of the file in the index of `backup`.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn parse(backup: &str, json: &[u8]) -> Result<Self, IndexError> {
        let stored: Stored = serde_json::from_slice(json).map_err(IndexError::Json)?;
        let mut numbers = std::collections::BTreeSet::new();
        for chunk in &stored.chunks {
            let number = chunk
                .file
                .split_once('/')
                .filter(|(of, _)| *of == backup)
                .and_then(|(_, file)| keys::chunk_number(backup, file))
                .ok_or_else(|| IndexError::StrangeChunk(chunk.file.clone()))?;
            if !numbers.insert(number) {
                return Err(IndexError::ChunkTwice(chunk.file.clone()));
            }
        }
        Ok(Self {
            start_segment: stored.backup_start_wal_segment,
            end_segment: stored.backup_end_wal_segment,
            chunks: stored.chunks,
            tablespaces: stored.tablespaces,
            manifest: stored.manifest.map(Manifest::try_from).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::pghoard::manifest::Contents;

    const ID: &str = "2026-11-23_09-01_1";

    fn index(chunk: &str, file: &str) -> String {
        format!(
            r#"{{"backup_start_wal_segment":"000000010000000000000010","backup_end_wal_segment":"000000010000000000000011",
            "pgdata":"/data","tablespaces":{{"fast":{{"oid":16384,"path":"/mnt/fast"}}}},
            "chunks":[{{"chunk_filename":"{chunk}","input_size":10240,"result_size":99,"files":["base/1/1"]}}],
            "manifest":{{"start":"x","end":"y","upload_result":{{"total_size":1,"total_stored_size":1}},
            "snapshot_result":{{"files":1,"hashes":[],"state":{{"root_globs":["**/*"],"empty_dirs":[".","base"],"files":[{file}]}}}}}}}}"#
        )
    }

    fn file(fields: &str) -> String {
        format!(r#"{{"relative_path":"base/1/1","file_size":3,"mtime_ns":1,{fields}}}"#)
    }

    #[test]
    fn a_manifest_says_where_each_file_is() {
        let digest = "670b251295e8255d3abe2eab100b10f35d5b15d8dd1fbe8e7dbf86aedcc2d5ec";
        let good = format!("{ID}/{ID}.00000001.pghoard");
        for (fields, expect) in [
            (r#""hexdigest":"","content_b64":"MTUK""#.into(), Contents::Embedded(b"15\n".into())),
            (
                format!(r#""hexdigest":"{digest}","stored_file_size":7,"content_b64":null"#),
                Contents::Shared { digest: digest.into(), stored_bytes: 7 },
            ),
            (r#""should_be_bundled":true"#.into(), Contents::Bundled { may_be_missing: true }),
            (
                r#""hexdigest":null,"should_be_bundled":true,"missing_ok":false"#.into(),
                Contents::Bundled { may_be_missing: false },
            ),
        ] {
            let parsed = TarMetadata::parse(ID, index(&good, &file(&fields)).as_bytes()).unwrap();
            assert_eq!(parsed.chunks[0].stored_bytes, 99);
            assert_eq!(parsed.tablespaces["fast"].oid, 16384);
            let manifest = parsed.manifest.unwrap();
            assert_eq!(manifest.dirs, [".", "base"]);
            assert_eq!(manifest.files[0].contents, expect);
        }
    }

    #[test]
    fn what_would_lead_elsewhere_is_refused() {
        let bundled = file(r#""should_be_bundled":true"#);
        for chunk in ["../x", "x", "2026-11-23_09-01_1/../../xlog/1", "2026-11-23_09-01_1/a"] {
            let error = TarMetadata::parse(ID, index(chunk, &bundled).as_bytes()).unwrap_err();
            assert!(matches!(error, IndexError::StrangeChunk(_)), "{chunk}: {error}");
        }
        let good = format!("{ID}/{ID}.00000001.pghoard");
        for fields in [
            r#""hexdigest":"../../etc/passwd""#,
            r#""hexdigest":"""#,
            r#""content_b64":"%%%""#,
            r#""content_b64":"MTUKMTUK""#,
        ] {
            let error = TarMetadata::parse(ID, index(&good, &file(fields)).as_bytes()).unwrap_err();
            assert!(matches!(error, IndexError::Manifest(_)), "{fields}: {error}");
        }
        assert!(matches!(TarMetadata::parse(ID, b"{}x"), Err(IndexError::Json(_))));
    }
}
