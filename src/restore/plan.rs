//! What a restore does: which objects are read, and what each becomes.

use crate::{
    layout::pghoard::{
        keys,
        manifest::Contents,
        metadata::{BackupFormat, BackupMetadata},
    },
    restore::{
        index_object::IndexObject,
        place::{Naming, Place, Why, place},
    },
};
use std::{collections::BTreeMap, path::PathBuf};

/// The index asks for something that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file would be where a data directory has none.
    #[error("its index has the file `{path}`, {why}")]
    Refused {
        /// The file.
        path: String,
        /// Why it is refused.
        why: Why,
    },
    /// The metadata say that the backup is in delta mode, its index says nothing of it, or the
    /// other way round.
    #[error("the metadata of its index and the index itself speak of different formats")]
    Format,
    /// The index is of other log than its metadata say.
    #[error(
        "its index says that it begins in the segment {index}, and the metadata of the index \
         {metadata}: they are of different base backups"
    )]
    Segment {
        /// By the index.
        index: String,
        /// By the metadata.
        metadata: String,
    },
}

/// What is known when nothing has been written yet.
#[derive(Debug)]
pub enum Index {
    /// The base backup is one tar file.
    Whole {
        /// Its key, relative to the site's prefix.
        key: String,
        /// What its metadata say.
        metadata: BackupMetadata,
        /// Its size, in bytes.
        stored_bytes: u64,
    },
    /// The base backup has an index.
    Read {
        /// What the metadata of the index say.
        metadata: BackupMetadata,
        /// Its contents.
        object: IndexObject,
    },
}

impl Index {
    /// Objects that are read in all, the index included.
    #[must_use]
    pub fn objects(&self) -> usize {
        match self {
            Self::Whole { .. } => 1,
            Self::Read { object, .. } => {
                1 + crate::layout::pghoard::needs::by_index(&object.metadata).len()
            }
        }
    }
}

/// An object to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its key, relative to the site's prefix.
    pub key: String,
    /// Its size in bytes, where the index tells it and it may be relied on.
    pub stored_bytes: Option<u64>,
    /// About how large it is, in bytes, to tell how far a restore is.
    pub about_bytes: u64,
    /// Size of its plain contents in bytes, where the index tells it.
    pub plain_bytes: Option<u64>,
    /// What it becomes.
    pub becomes: Becomes,
}

/// What an object becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// The files of a tar file.
    Files(Naming),
    /// One file, or several with the same contents.
    Copies {
        /// BLAKE2s of the contents.
        digest: String,
        /// Where they go. At least one.
        places: Vec<Place>,
    },
}

/// A whole restore.
#[derive(Debug)]
pub struct Plan {
    /// Objects.
    pub jobs: Vec<Job>,
    /// Directories that must be there, empty or not.
    pub dirs: Vec<Place>,
    /// Files whose contents are known already.
    pub files: Vec<(Place, Vec<u8>)>,
    /// Files below the data directory that must be there in the end.
    pub required: Vec<PathBuf>,
    /// Tablespaces: name, number, and where they were.
    pub tablespaces: Vec<(String, u32, String)>,
    /// `global/pg_control`, when the index has it.
    pub control: Option<Vec<u8>>,
}

impl Plan {
    /// Works it out.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(index: Index) -> Result<Self, PlanError> {
        match index {
            Index::Whole { key, metadata, stored_bytes } => {
                Ok(Self::whole(key, &metadata, stored_bytes))
            }
            Index::Read { metadata, object } => Self::parts(&metadata, object),
        }
    }

    fn whole(key: String, metadata: &BackupMetadata, stored_bytes: u64) -> Self {
        let naming = match metadata.format {
            BackupFormat::Raw => Naming::Relative,
            BackupFormat::WholeTar | BackupFormat::Chunks | BackupFormat::Delta => Naming::Prefixed,
        };
        let job = Job {
            key,
            stored_bytes: Some(stored_bytes),
            about_bytes: stored_bytes,
            plain_bytes: None,
            becomes: Becomes::Files(naming),
        };
        let spaces = metadata.tablespaces.iter();
        Self {
            jobs: vec![job],
            dirs: vec![],
            files: vec![],
            required: required(),
            tablespaces: spaces.map(|s| (s.name.clone(), s.oid, "unknown".into())).collect(),
            control: None,
        }
    }

    fn parts(metadata: &BackupMetadata, object: IndexObject) -> Result<Self, PlanError> {
        let index = object.metadata;
        if let Some(start) = index.start_segment.filter(|start| *start != metadata.start_segment) {
            let metadata = metadata.start_segment.clone();
            return Err(PlanError::Segment { index: start, metadata });
        }
        let delta = metadata.format == BackupFormat::Delta;
        if delta != index.manifest.is_some() {
            return Err(PlanError::Format);
        }
        // Bundles of small files are named as their files are, chunks have prefixes.
        let (prefix, naming) = if delta {
            ("basebackup_delta_chunk", Naming::Relative)
        } else {
            ("basebackup_chunk", Naming::Prefixed)
        };
        let chunks = index.chunks.into_iter().map(|chunk| Job {
            key: format!("{prefix}/{}", chunk.file),
            stored_bytes: Some(chunk.stored_bytes),
            about_bytes: chunk.stored_bytes,
            plain_bytes: Some(chunk.plain_bytes),
            becomes: Becomes::Files(naming),
        });
        let tablespaces = index.tablespaces.into_iter();
        let mut plan = Self {
            jobs: chunks.collect(),
            dirs: object.dirs,
            files: object.files,
            required: required(),
            tablespaces: tablespaces.map(|(name, space)| (name, space.oid, space.path)).collect(),
            control: Some(object.control),
        };
        plan.add_manifest(index.manifest)?;
        // The largest first, so that no core idles in the end.
        plan.jobs.sort_by_key(|job| std::cmp::Reverse(job.plain_bytes));
        Ok(plan)
    }

    fn add_manifest(
        &mut self,
        manifest: Option<crate::layout::pghoard::manifest::Manifest>,
    ) -> Result<(), PlanError> {
        let Some(manifest) = manifest else { return Ok(()) };
        let at = |path: &str| {
            place(Naming::Relative, path.as_bytes())
                .map_err(|why| PlanError::Refused { path: path.to_owned(), why })
        };
        for dir in &manifest.dirs {
            self.dirs.push(at(dir)?);
        }
        let mut shared: BTreeMap<String, ([u64; 2], Vec<Place>)> = BTreeMap::new();
        for file in manifest.files {
            let place = at(&file.path)?;
            match file.contents {
                Contents::Embedded(bytes) => self.files.push((place, bytes)),
                Contents::Shared { digest, stored_bytes } => {
                    let sizes = [file.size_bytes, stored_bytes];
                    shared.entry(digest).or_insert((sizes, vec![])).1.push(place);
                }
                Contents::Bundled { may_be_missing: true } => {}
                Contents::Bundled { may_be_missing: false } => {
                    if let Place::Data(path) = place {
                        self.required.push(path);
                    }
                }
            }
        }
        self.jobs.extend(shared.into_iter().map(
            |(digest, ([plain_bytes, about_bytes], places))| Job {
                key: keys::delta_file(&digest),
                // The size that the manifest has may be of an earlier upload of the same contents.
                stored_bytes: None,
                about_bytes,
                plain_bytes: Some(plain_bytes),
                becomes: Becomes::Copies { digest, places },
            },
        ));
        Ok(())
    }
}

/// What PostgreSQL does not start without.
fn required() -> Vec<PathBuf> {
    vec!["PG_VERSION".into(), "backup_label".into()]
}
