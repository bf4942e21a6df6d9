//! Carries out the stages of a plan. Has no choices left.

use crate::{
    engine::{
        catalog::index::{SEGMENT_OBJECT_BYTES_MAX, prove},
        replicate::{
            plan::{Proof, Stage, Step},
            record::{NoRecorder, Recorder},
        },
    },
    store::{BlobStore, Condition, Contents, StoreError, Stored, body_of, key::Key, read_all},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// Segments that are copied at the same time: each is held in memory to be proven.
pub const SEGMENTS_AT_ONCE: usize = 4;
/// Files that are copied at the same time: most are small, and the store's answer is waited for.
pub const FILES_AT_ONCE: usize = 16;

/// The two sides of a copy.
#[derive(Clone, Debug)]
pub struct Sides {
    /// Read from.
    pub source: Arc<dyn BlobStore>,
    /// The repository's prefix there.
    pub source_prefix: Key,
    /// Written to.
    pub target: Arc<dyn BlobStore>,
    /// The repository's prefix there.
    pub target_prefix: Key,
}

/// How far a lane is, for status.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the steps of this run.
    pub total_bytes: AtomicU64,
    /// Bytes of those that are done.
    pub done_bytes: AtomicU64,
}

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the stores failed.
    #[error("copying {key} failed")]
    Store {
        /// Key below the repository's prefix.
        key: String,
        /// What the store said.
        #[source]
        source: StoreError,
    },
    /// The source's object is not what its name promises.
    #[error("{key} in the primary region is damaged: {what}")]
    Damaged {
        /// Key below the repository's prefix.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// The source's object changed between the listing and the copy.
    #[error("{key} in the primary region changed while it was copied")]
    Changed {
        /// Key below the repository's prefix.
        key: String,
    },
    /// The engine is being stopped.
    #[error("the engine is being stopped")]
    Stopped,
}

impl CopyError {
    /// Whether further steps of the lane are pointless for now.
    fn ends_lane(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Store { source, .. } => match source {
                StoreError::NoSpace { .. }
                | StoreError::Denied { .. }
                | StoreError::Unavailable { .. } => true,
                StoreError::NotFound(_)
                | StoreError::AlreadyExists(_)
                | StoreError::Changed(_)
                | StoreError::Refused { .. } => false,
            },
            Self::Damaged { .. } | Self::Changed { .. } => false,
        }
    }
}

/// Executes stages one after the other, `at_once` steps of a stage at the same time. A stage with a failed step is finished as far as it can be;
/// the stages after it are left to a later pass.
pub async fn execute(
    sides: &Sides,
    stages: &[Stage],
    at_once: usize,
    progress: &Progress,
    stop: &CancellationToken,
) -> Vec<CopyError> {
    let told = Told { recorder: &NoRecorder, lane: "" };
    execute_and_tell(sides, stages, at_once, progress, stop, told).await
}

/// Who is told of every object that was written, and by which name of the lane.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Who.
    pub recorder: &'a dyn Recorder,
    /// The lane.
    pub lane: &'a str,
}

/// Like [`execute`], and tells of every object that was written.
pub async fn execute_and_tell(
    sides: &Sides,
    stages: &[Stage],
    at_once: usize,
    progress: &Progress,
    stop: &CancellationToken,
    told: Told<'_>,
) -> Vec<CopyError> {
    let steps = stages.iter().flat_map(|stage| &stage.steps);
    progress.total_bytes.store(steps.map(Step::size_bytes).sum(), Ordering::Relaxed);
    progress.done_bytes.store(0, Ordering::Relaxed);
    for stage in stages {
        let mut errors = Vec::new();
        let mut waiting = stage.steps.iter();
        let mut running = FuturesUnordered::new();
        loop {
            let free = at_once - running.len();
            running.extend(
                waiting.by_ref().take(free).map(|step| run(sides, step, progress, stop, told)),
            );
            let Some(done) = running.next().await else { break };
            if let Err(error) = done {
                let end = error.ends_lane();
                errors.push(error);
                if end {
                    return errors;
                }
            }
        }
        if !errors.is_empty() {
            return errors;
        }
    }
    Vec::new()
}

async fn run(
    sides: &Sides,
    step: &Step,
    progress: &Progress,
    stop: &CancellationToken,
    told: Told<'_>,
) -> Result<(), CopyError> {
    if stop.is_cancelled() {
        return Err(CopyError::Stopped);
    }
    if let Some(stored) = take(sides, step).await? {
        told.recorder.wrote(told.lane, step.key(), &stored);
    }
    progress.done_bytes.fetch_add(step.size_bytes(), Ordering::Relaxed);
    Ok(())
}

async fn take(sides: &Sides, step: &Step) -> Result<Option<Stored>, CopyError> {
    let key = step.key();
    let fault = |source| CopyError::Store { key: key.to_owned(), source };
    let damaged = |what: String| CopyError::Damaged { key: key.to_owned(), what };
    let from = sides.source_prefix.join(key).map_err(|error| damaged(error.to_string()))?;
    let to = sides.target_prefix.join(key).map_err(|error| damaged(error.to_string()))?;
    let no_metadata = BTreeMap::new();
    match step {
        Step::Write { bytes, .. } => {
            let contents = Contents::of(bytes.clone());
            sides.target.write(&to, contents, &Condition::None).await.map(Some).map_err(fault)
        }
        Step::Copy { size_bytes, proof, replace, .. } => {
            let condition = if *replace { Condition::None } else { Condition::IfAbsent };
            let (size, user_metadata, body) = match proof {
                Proof::Size => {
                    let object = sides.source.get(&from).await.map_err(fault)?;
                    (object.meta.size_bytes, object.user_metadata, object.body)
                }
                Proof::Sha1 { sha1, codec } => {
                    // Proven before it is written: a damaged segment never replaces a good one.
                    let read = read_all(&*sides.source, &from, SEGMENT_OBJECT_BYTES_MAX).await;
                    let (meta, bytes) = read.map_err(fault)?;
                    let (codec, sha1, object) = (*codec, sha1.clone(), bytes.clone());
                    let proven =
                        tokio::task::spawn_blocking(move || prove(codec, &object, &sha1).map(drop));
                    proven.await.expect("the decoder does not panic").map_err(damaged)?;
                    (meta.size_bytes, no_metadata, body_of(bytes))
                }
            };
            if size != *size_bytes {
                return Err(CopyError::Changed { key: key.to_owned() });
            }
            let contents = Contents { size_bytes: size, user_metadata, body };
            match sides.target.write(&to, contents, &condition).await {
                Ok(stored) => Ok(Some(stored)),
                // Somebody else was faster. The next pass looks at what is there now.
                Err(StoreError::AlreadyExists(_)) => Ok(None),
                Err(error) => Err(fault(error)),
            }
        }
    }
}
