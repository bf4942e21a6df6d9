//! Finds in the log when base backups ended that do not say it themselves, as those in one file.
//!
//! PostgreSQL writes a record of a base backup's end, which names where it began. What is later than
//! every time in the log up to the next record with a time behind it cannot lie before that end, and
//! is the first moment that is offered: late by a segment at most, never early.

use crate::{
    domain::lsn::{Lsn, Segment},
    engine::catalog::{
        archive::Archive,
        index::IndexedRun,
        observe::{Look, Reader},
        reading::scan_with,
        segment::Place,
    },
    layout::backup::ListedBackup,
    store::StoreError,
    wal::record::{Event, Record},
};
use std::sync::{Arc, Mutex, PoisonError};

/// Segments with ends of base backups that are read for the end of one. Others that go on at the same
/// time are few.
const READ_MAX: usize = 16;

/// The end of a base backup that was found, and holds as long as these segments are the same.
#[derive(Debug)]
pub(super) struct KnownEnd {
    proofs: Vec<(Place, u64)>,
    backup: ListedBackup,
}

impl KnownEnd {
    fn holds(&self, archive: &Archive) -> bool {
        let same = |(place, proof): &(Place, u64)| {
            archive.at(*place).is_some_and(|segment| segment.proof() == *proof)
        };
        self.proofs.iter().all(same)
    }
}

impl Reader {
    /// Lists the base backups of which the log says when they ended. The others stay where they are,
    /// and a problem says why.
    pub(super) async fn find_ends(&mut self, look: &mut Look) -> Result<(), StoreError> {
        let endless = std::mem::take(&mut look.endless);
        self.ends.retain(|label, _| endless.iter().any(|backup| backup.label == *label));
        for backup in endless {
            match self.with_end(look, &backup).await? {
                Ok(ended) => look.backups.push(ended),
                Err(why) => {
                    look.problems.push(format!(
                        "base backup {} is not offered: it does not say when it ended, and {why}",
                        backup.label
                    ));
                    look.endless.push(backup);
                }
            }
        }
        look.sort_backups();
        Ok(())
    }

    /// A base backup with its end; or why that is not known.
    async fn with_end(
        &mut self,
        look: &Look,
        backup: &ListedBackup,
    ) -> Result<Result<ListedBackup, String>, StoreError> {
        let no_key = |key_id: &str| {
            format!("it is encrypted for the key `{key_id}`, whose private key is not configured")
        };
        if let Some(key_id) = &backup.lacks_key {
            return Ok(Err(no_key(key_id)));
        }
        let Some(archive) = look.archive_of(backup) else {
            return Ok(Err("there is no log that would".to_owned()));
        };
        if let Some(known) = self.ends.get(&backup.label).filter(|known| known.holds(archive)) {
            let size = (backup.size_bytes, backup.stored_bytes);
            let (size_bytes, stored_bytes) = size;
            return Ok(Ok(ListedBackup { size_bytes, stored_bytes, ..known.backup.clone() }));
        }
        // By its log alone, as if it had ended where it began.
        let begun = ListedBackup { ends_in_log: false, lsn_stop: Lsn(0), ..backup.clone() };
        let Some(run) = self.follow(look, &begun).await? else {
            return Ok(Err("its log cannot be followed".to_owned()));
        };
        if let Some(key_id) = run.lacks_key() {
            return Ok(Err(format!("its log: {}", no_key(&key_id))));
        }
        let Some(end) = self.end_in(backup, &run).await? else {
            return Ok(Err("its log does not say it (yet)".to_owned()));
        };
        let Some(next) = (end + 1..run.len()).find(|at| run.latest_time(*at..at + 1).is_some())
        else {
            return Ok(Err("its log has no later time than its end yet".to_owned()));
        };
        let (Some(finished_at), Some((place, _))) =
            (run.latest_time(0..next + 1), run.run.packed(end))
        else {
            return Ok(Err("its log has changed".to_owned()));
        };
        let seen = [0, end, next].into_iter().filter_map(|at| run.run.packed(at));
        let proofs = seen.map(|(place, segment)| (place, segment.proof())).collect();
        let ended = ListedBackup { archive_stop: place.name(), finished_at, ..backup.clone() };
        let known = KnownEnd { proofs, backup: ended.clone() };
        self.ends.insert(backup.label.clone(), known);
        Ok(Ok(ended))
    }

    /// The segment of a run, as a place in it, that has the record of the end of a backup.
    async fn end_in(
        &self,
        backup: &ListedBackup,
        run: &IndexedRun,
    ) -> Result<Option<usize>, StoreError> {
        let archive = backup.archive.as_deref().unwrap_or_default();
        let (Some(log), Some(first)) = (self.log(archive), run.run.segment(0)) else {
            return Ok(None);
        };
        let candidates = (0..run.len()).filter(|at| run.has_backup_end(*at)).take(READ_MAX);
        for at in candidates {
            let source = self.log_source();
            // What cannot be read any more ends the run in the next look.
            let Ok(scanner) = log.scanner_before(source, &run.run, at).await? else { break };
            let found = Arc::new(Mutex::new(false));
            let (seen, size) = (found.clone(), run.run.size());
            // A base backup begins in a segment of its own: PostgreSQL switches to the next before.
            let see = move |record: &Record| {
                if let Event::BackupEnd { start } = record.event
                    && Segment::holding(first.timeline, start, size).number == first.number
                {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = true;
                }
            };
            if scan_with(source, &run.run, at, scanner, see).await?.is_err() {
                break;
            }
            if *found.lock().unwrap_or_else(PoisonError::into_inner) {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }
}
