//! Full scans: now and then everything is listed, beside the passes, which go on meanwhile.
//!
//! 1. When a scan is due, the source and each copy get a task of their own, which lists everything. The
//!    pass waits for them for a moment, which is enough where there is little, and goes on.
//! 2. What such a task has found it gives to the reader, whose next look begins with it. A scan that
//!    fails leaves nothing, and is begun anew by the next pass.
//! 3. One that is still going on when the next is due goes on, and the next begins behind it: what asked
//!    for it may lie where the first one has been already.

use crate::{
    domain::cloud::CloudName,
    engine::{
        catalog::{listing::Whole, observe::Reader},
        error::chain,
        replicate::{
            pass::{Replicator, Target},
            record::Ledger,
        },
    },
    store::StoreError,
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A pass waits so long for the scans that it begins.
const PATIENCE: Duration = Duration::from_millis(500);

/// The full scans of the source or of one copy.
#[derive(Debug, Default)]
pub(super) struct FullScan {
    /// One is to begin.
    is_owed: bool,
    running: Option<JoinHandle<Result<(), StoreError>>>,
    /// Why the last one failed, for people.
    failure: Option<String>,
    /// Everything was listed, and retention was not carried out since.
    is_prune_due: bool,
}

impl FullScan {
    /// Waits for the end of the one that is going on.
    async fn ended(&mut self) {
        let Some(running) = &mut self.running else { return };
        let result = running.await;
        self.running = None;
        self.failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(error) => Some(chain(&error)),
        };
        self.is_owed |= self.failure.is_some();
    }

    /// Whether one is to begin or going on.
    pub(super) fn is_open(&self) -> bool {
        self.is_owed || self.running.is_some()
    }

    /// What is going on counts for nothing: it may show what is gone. Another one is begun.
    pub(super) fn begin_anew(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
            self.is_owed = true;
        }
    }

    /// The region is disabled. Whenever it is enabled again, everything is listed.
    pub(super) fn forget(&mut self) {
        self.begin_anew();
        *self = Self { is_owed: true, ..Self::default() };
    }
}

impl Replicator {
    /// Begins the scans that are due, and sees to those that have ended.
    pub(super) async fn scan(&self, enabled: &[CloudName]) {
        let due = self.is_full_scan_due().await;
        let targets = enabled.iter().filter_map(|cloud| self.targets.get(cloud));
        let targets = targets.map(|to| (&to.scan, &to.reader, Some(to.ledger.clone())));
        let source = self.source.iter().map(|source| (&source.scan, &source.reader, None));
        let mut begun = Vec::new();
        for (scan, reader, ledger) in source.chain(targets) {
            let mut scan = scan.lock().await;
            if scan.running.as_ref().is_some_and(JoinHandle::is_finished) {
                scan.ended().await;
            }
            scan.is_owed |= due;
            if scan.running.is_none() && std::mem::take(&mut scan.is_owed) {
                let (reader, stop) = (reader.clone(), self.shared.stop.clone());
                scan.running = Some(tokio::spawn(list(reader, ledger, stop)));
                begun.push(scan);
            }
        }
        let ended = join_all(begun.iter_mut().map(|scan| scan.ended()));
        tokio::select! {
            biased;
            _ = ended => {}
            () = self.shared.clock.sleep(PATIENCE) => {}
        }
    }

    /// Whether scans are to begin now.
    async fn is_full_scan_due(&self) -> bool {
        let now = self.shared.clock.monotonic();
        let mut last = self.last_full_scan.lock().await;
        let due =
            last.is_none_or(|last| now.saturating_sub(last) >= self.shared.full_scan_interval);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Why the last scans of the source and of a copy failed, for people.
    pub(super) async fn scan_failures(&self, target: &Target) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(source) = &self.source
            && let Some(why) = &source.scan.lock().await.failure
        {
            failures.push(format!("in the primary region, not everything can be listed: {why}"));
        }
        let of_target = target.scan.lock().await;
        let why = of_target.failure.iter();
        failures.extend(why.map(|why| format!("not everything can be listed: {why}")));
        failures
    }

    /// Whether retention is to be carried out: everything was listed since it was last, there and here.
    pub(super) async fn is_prune_due(&self, target: &Target, shown: Option<Whole>) -> bool {
        let mut of_target = target.scan.lock().await;
        of_target.is_prune_due |= shown.is_some();
        let Some(source) = &self.source else { return false };
        !source.scan.lock().await.is_open() && std::mem::take(&mut of_target.is_prune_due)
    }

    /// Objects of a copy were removed: what a scan of it has seen before counts for nothing.
    pub(super) async fn scan_anew(&self, target: &Target) {
        target.scan.lock().await.begin_anew();
        target.reader.lock().await.give_up_scan();
    }

    /// Whether full scans are going on.
    pub async fn is_scanning(&self) -> bool {
        let source = self.source.iter().map(|source| &source.scan);
        for scan in source.chain(self.targets.values().map(|target| &target.scan)) {
            let scan = scan.lock().await;
            if scan.running.as_ref().is_some_and(|running| !running.is_finished()) {
                return true;
            }
        }
        false
    }
}

/// Lists everything for a reader, without being in the way of its looks, and compares what is found with
/// what is recorded.
async fn list(
    reader: Arc<Mutex<Reader>>,
    ledger: Option<Arc<Ledger>>,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let work = async {
        let (scan, store, place) = {
            let mut reader = reader.lock().await;
            (reader.scan(), reader.store().clone(), reader.place().clone())
        };
        // The first look lists everything itself: there is nothing to go on with before.
        let Some(scan) = scan else { return Ok(()) };
        let scanned = scan.list(&*store, &place).await?;
        if let Some(ledger) = ledger {
            ledger.compare(&scanned.repository).await;
        }
        reader.lock().await.take_in(scanned);
        Ok(())
    };
    tokio::select! {
        done = work => done,
        () = stop.cancelled() => Ok(()),
    }
}
