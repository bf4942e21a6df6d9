//! Compares a copy with what its manifests record.

use crate::{
    engine::{
        catalog::{repository::Repository, segment::Found},
        manifest::{self, Manifest},
        replicate::keep::has_tag,
        state::records::Record,
        verify::{Copy, CopyReport, report::TOLD_MAX, resume::Resume, tap::Sum, tap::Tap},
    },
    layout::BackupPlace,
    store::{BlobStore, StoreError, key::Key},
};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use std::collections::BTreeMap;

/// What the manifests of a copy record, by key, and when the manifest of each was written.
#[derive(Debug, Default)]
pub(super) struct Recorded(BTreeMap<String, (Record, DateTime<Utc>)>);

impl Recorded {
    /// Reads the manifests; one that is damaged is a fault of the copy.
    pub(super) async fn find(
        store: &dyn BlobStore,
        place: &BackupPlace,
        report: &mut CopyReport,
    ) -> Result<Self, StoreError> {
        let (manifests, faults) = manifest::find(store, &place.prefix).await?;
        report.faults.extend(faults);
        let entries = |manifest: &Manifest| {
            let at = manifest.written_at;
            let entry = move |record: Record| (record.key.clone(), (record, at));
            manifest.records().into_iter().map(entry).collect::<Vec<_>>()
        };
        Ok(Self(manifests.iter().flat_map(entries).collect()))
    }

    /// Compares with a listing.
    pub(super) async fn compare(
        &self,
        copy: &Copy,
        listed: &Repository,
        report: &mut CopyReport,
    ) -> Result<(), StoreError> {
        // Tags of a directory change with every copy of it; elsewhere they change with the contents.
        let tags_tell = copy.store.local_root().is_none();
        let (mut missing, mut replaced) = (Vec::new(), Vec::new());
        for (key, (record, at)) in &self.0 {
            let Some(there) = listed.get(key) else {
                missing.push(key);
                continue;
            };
            if there.size_bytes != record.size_bytes && !is_newer(copy, key, &there, *at) {
                let (is, not) = (there.size_bytes, record.size_bytes);
                report.faults.push(format!("{key} has {is} bytes, not {not} as recorded"));
            } else if tags_tell && !has_tag(&there, record) {
                replaced.push(key);
            }
        }
        report.recorded = (self.0.len() - missing.len()) as u64;
        report.unrecorded = listed.extent().0.saturating_sub(report.recorded);
        if !missing.is_empty() {
            // What an engine has removed in the course of things is not recorded any more.
            let now = Self::find(&*copy.store, &copy.place, &mut CopyReport::default()).await?;
            missing.retain(|key| now.0.contains_key(*key));
        }
        for key in missing {
            let told = format!("{key} is missing");
            if !report.faults.iter().any(|fault| fault.contains(&told)) {
                report.faults.push(format!("{told}, and was recorded"));
            }
        }
        if report.recorded > 0 && report.unrecorded > 0 {
            let count = report.unrecorded;
            report.notes.push(format!("{count} objects are recorded in no manifest yet"));
        }
        let told = replaced.iter().take(TOLD_MAX).map(|key| {
            format!(
                "{key} has been replaced since it was recorded; a deep verification tells \
                     whether its contents are equal"
            )
        });
        // A deep one has told already.
        if report.window.is_none() {
            report.notes.extend(told);
            if let Some(more) = replaced.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
                report.notes.push(format!("and {more} more"));
            }
        }
        Ok(())
    }

    /// Reads the recorded objects that have not been read yet, and compares the checksums of all.
    pub(super) async fn read(
        &self,
        copy: &Copy,
        listed: &Repository,
        tap: &Tap,
        resume: Option<&Resume>,
        proven: &mut BTreeMap<String, u64>,
        report: &mut CopyReport,
    ) -> Result<(), StoreError> {
        for (key, (record, at)) in &self.0 {
            let there = listed.get(key);
            let (Some(there), Ok(full)) = (there, copy.place.prefix.join(key)) else { continue };
            let is_proven = |resume: &Resume| resume.is_proven(copy, key, Some(there));
            let known = tap.sum(&full).is_none()
                && (proven.contains_key(key) || resume.is_some_and(is_proven));
            if known {
                proven.entry(key.clone()).or_insert(record.size_bytes);
                continue;
            }
            if tap.sum(&full).is_none() && !drain(tap, &full).await? {
                continue;
            }
            let Some(sum) = tap.sum(&full) else { continue };
            if agrees(record, sum) {
                proven.entry(key.clone()).or_insert(record.size_bytes);
                if let Some(resume) = resume.filter(|_| !report.is_faulty(key)) {
                    resume.note(copy, key, &there);
                }
            } else if is_newer(copy, key, &there, *at) {
                report.notes.push(format!("{key} has been written since it was recorded"));
            } else if !report.is_faulty(key) {
                let (is, not) = (sum.crc64, record.crc64);
                report.faults.push(format!(
                    "{key} is damaged: its CRC-64 is {is:016x}, not {not:016x} as recorded"
                ));
            }
        }
        Ok(())
    }

    /// Whether nothing that is recorded of an object contradicts what was read of it.
    pub(super) fn allows(&self, key: &str, sum: Option<Sum>) -> bool {
        let record = self.0.get(key).map(|(record, _)| record);
        record.zip(sum).is_none_or(|(record, sum)| agrees(record, sum))
    }
}

/// Whether an object that is replaced in the course of things was so after its record.
fn is_newer(copy: &Copy, key: &str, there: &Found, at: DateTime<Utc>) -> bool {
    manifest::is_mutable(&copy.place.format, key) && there.modified_at >= at
}

fn agrees(record: &Record, sum: Sum) -> bool {
    (sum.size_bytes, sum.crc64) == (record.size_bytes, record.crc64)
}

/// Reads an object to its end; says whether it was there.
async fn drain(tap: &Tap, key: &Key) -> Result<bool, StoreError> {
    match tap.get(key).await {
        Ok(object) => {
            let mut body = object.body;
            while body.try_next().await?.is_some() {}
            Ok(true)
        }
        Err(StoreError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
