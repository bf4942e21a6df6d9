//! Reads the objects of each copy again, slowly and in turn, so that damage is found while the primary
//! can still repair it.
//!
//! 1. What looks different from its record, or is known to be damaged, comes first and at full speed.
//! 2. Then the other objects by key, at the rate of the settings. The place is kept over restarts.
//! 3. What nobody has recorded is recorded once the tool's own checksum or the primary proves it.

use crate::{
    domain::cloud::CloudName,
    engine::{
        config::ScrubSettings,
        error::chain,
        manifest,
        replicate::{
            examine::{Check, Finding, KnownSums, Seen, judge, mismatch, read},
            pass::Replicator,
            record::{Ledger, Primary, lock},
        },
        state::{
            StateError,
            damage::{Damage, ScrubPlace},
            records::Record,
        },
    },
    store::{StoreError, key::Key, wrap::bandwidth::Bandwidth},
};
use chrono::TimeDelta;
use futures_util::{TryStreamExt, future::join_all};
use tracing::{info, warn};

/// Objects that are listed at a time, and after which the place is kept.
const CHUNK: usize = 64;
/// An object costs a request, however small it is: it counts as so many bytes at least.
const OBJECT_BYTES_MIN: u64 = 64 << 10;

/// An object could not be proven.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProveError {
    /// A store failed.
    #[error("an object of a copy cannot be read again")]
    Store(#[from] StoreError),
    /// The state failed.
    #[error("the records of a copy cannot be used")]
    State(#[from] StateError),
}

impl Replicator {
    /// Reads a little of every enabled copy again. Says whether more is waiting.
    pub async fn prove(&self, enabled: &[CloudName]) -> bool {
        let ledgers = self.ledgers.0.iter().filter(|(cloud, _)| enabled.contains(cloud));
        let turns = ledgers.map(|(cloud, ledger)| async move {
            let turn = ledger.prove(self.primary.as_ref(), self.shared.scrub.as_ref());
            turn.await.unwrap_or_else(|error| {
                warn!(service = %self.service.id, region = %cloud, error = %chain(&error),
                    "a copy is not being read again for now");
                false
            })
        });
        join_all(turns).await.contains(&true)
    }
}

impl Ledger {
    /// Takes one turn; says whether another should follow at once.
    pub(super) async fn prove(
        &self,
        primary: Option<&Primary>,
        scrub: Option<&ScrubSettings>,
    ) -> Result<bool, ProveError> {
        // What an earlier engine recorded counts, so it is read first.
        if !self.is_recalled() {
            return Ok(false);
        }
        let mut sums = KnownSums::default();
        let mut suspects = self.take_suspects();
        while let Some(key) = suspects.pop_first() {
            if let Err(error) = self.examine(&key, primary, &mut sums, None).await {
                suspects.insert(key);
                self.put_back(suspects);
                return Err(error);
            }
        }
        self.repair_all(primary).await?;
        match scrub {
            Some(scrub) => self.scrub(primary, scrub).await,
            None => Ok(false),
        }
    }

    async fn repair_all(&self, primary: Option<&Primary>) -> Result<(), ProveError> {
        let damaged = self.state.damaged(self.number()?)?;
        let now = self.clock.monotonic();
        let again = lock(&self.waits).repairs <= now;
        for (key, damage) in damaged.iter().filter(|(_, d)| again || d.unrepaired.is_none()) {
            self.repair(key, damage, primary).await?;
        }
        if again {
            lock(&self.waits).repairs = now + self.repair_every;
        }
        Ok(())
    }

    /// Reads the next few objects in turn; says whether there are more.
    async fn scrub(
        &self,
        primary: Option<&Primary>,
        settings: &ScrubSettings,
    ) -> Result<bool, ProveError> {
        let (copy, now) = (self.number()?, self.clock.now());
        let every = TimeDelta::from_std(settings.every).unwrap_or(TimeDelta::MAX);
        let (mut place, after) = match self.state.scrub_place(copy)? {
            Some(ScrubPlace { cursor: Some(cursor), started_at }) => {
                (ScrubPlace { cursor: None, started_at }, cursor)
            }
            // A clock that was set back begins anew rather than wait.
            Some(ScrubPlace { cursor: None, started_at }) if (now - started_at).abs() < every => {
                return Ok(false);
            }
            Some(ScrubPlace { .. }) | None => {
                (ScrubPlace { cursor: None, started_at: now }, String::new())
            }
        };
        let keys = self.keys_after(&after).await?;
        let line = Bandwidth::new(settings.rate_bytes, self.clock.clone());
        let mut sums = KnownSums::default();
        for key in &keys {
            let record = self.recorded(key)?;
            // What was written since it would have been read last is proven by that.
            if record.as_ref().is_some_and(|r| (now - r.written_at).abs() < every) {
                continue;
            }
            self.examine(key, primary, &mut sums, Some(&line)).await?;
        }
        place.cursor = keys.last().cloned();
        if keys.is_empty() {
            info!(service = %self.id, region = %self.region, began = %place.started_at,
                "every object of the copy has been read again");
        }
        self.state.keep_scrub_place(copy, &place)?;
        Ok(!keys.is_empty())
    }

    /// The keys of the next objects behind one.
    async fn keys_after(&self, after: &str) -> Result<Vec<String>, StoreError> {
        for part in self.place.format.parts().in_order() {
            // Behind all of this part, or still before it.
            if !part.is_empty() && after > format!("{part}0").as_str() {
                continue;
            }
            let Some(prefix) = self.place.part(&part) else { continue };
            let from = after.starts_with(&part).then(|| self.place.prefix.join(after).ok());
            let mut listing = self.store.list(&prefix, from.flatten().as_ref());
            let mut keys = Vec::new();
            while keys.len() < CHUNK
                && let Some(meta) = listing.try_next().await?
            {
                keys.extend(meta.key.below(&self.place.prefix).map(str::to_owned));
            }
            if !keys.is_empty() {
                return Ok(keys);
            }
        }
        Ok(Vec::new())
    }

    /// Reads one object, and notes what it is found to be.
    pub(super) async fn examine(
        &self,
        key: &str,
        primary: Option<&Primary>,
        sums: &mut KnownSums,
        line: Option<&Bandwidth>,
    ) -> Result<(), ProveError> {
        let Ok(full) = self.place.prefix.join(key) else { return Ok(()) };
        let copy = self.number()?;
        let record = self.recorded(key)?;
        let check = match &record {
            // The checksum of the record is enough as long as it fits.
            Some(_) => Check::Nothing,
            None => sums.check(&*self.store, &self.place, key).await?,
        };
        let mut seen = match self.read(&full, &check, line).await? {
            Ok(Some(seen)) => seen,
            Ok(None) => return Ok(self.state.forget_damage(copy, key)?),
            Err(what) => return self.damaged_now(key, what, primary).await,
        };
        let is_bare =
            |seen: &Seen| !seen.has_user_metadata && self.place.format.needs_user_metadata(key);
        let mut finding = judge(record.as_ref(), &seen);
        let mut record = record;
        if is_bare(&seen) || !matches!(finding, Finding::Good | Finding::Record) {
            // Somebody may have written it meanwhile, or it was read wrong: it is read once more,
            // with all that the layout knows.
            record = self.recorded(key)?;
            sums.forget();
            let check = sums.check(&*self.store, &self.place, key).await?;
            seen = match self.read(&full, &check, line).await? {
                Ok(Some(seen)) => seen,
                Ok(None) => return Ok(self.state.forget_damage(copy, key)?),
                Err(what) => return self.damaged_now(key, what, primary).await,
            };
            if is_bare(&seen) {
                let what = "its user metadata are gone".to_owned();
                return self.damaged_now(key, what, primary).await;
            }
            finding = judge(record.as_ref(), &seen);
        }
        if let Some(line) = line {
            let rest = OBJECT_BYTES_MIN.saturating_sub(seen.size_bytes);
            line.take(usize::try_from(rest).unwrap_or(0)).await;
        }
        if finding == Finding::AskPrimary {
            finding = self.ask(key, record.as_ref(), &seen, primary, line).await?;
        }
        self.note(key, finding, record, &seen, primary).await
    }

    /// Reads an object. The inner error says why it cannot be read although its store answers: a
    /// sector of a disk has gone bad.
    async fn read(
        &self,
        full: &Key,
        check: &Check,
        line: Option<&Bandwidth>,
    ) -> Result<Result<Option<Seen>, String>, StoreError> {
        match read(&*self.store, full, check, line).await {
            Ok(seen) => return Ok(Ok(seen)),
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error),
        }
        self.store.head(full).await?;
        match read(&*self.store, full, check, line).await {
            Ok(seen) => Ok(Ok(seen)),
            Err(error) => match self.store.head(full).await {
                Ok(_) => Ok(Err(format!("it cannot be read: {}", chain(&error)))),
                Err(_) => Err(error),
            },
        }
    }

    /// Compares with the primary's object what nothing else proves.
    async fn ask(
        &self,
        key: &str,
        record: Option<&Record>,
        seen: &Seen,
        primary: Option<&Primary>,
        line: Option<&Bandwidth>,
    ) -> Result<Finding, ProveError> {
        let there = match primary.and_then(|p| Some((p, p.prefix.join(key).ok()?))) {
            None => None,
            Some((primary, from)) => {
                let there = read(&*primary.store, &from, &Check::Nothing, line).await;
                there.unwrap_or_default()
            }
        };
        Ok(match (record, there) {
            (_, Some(there))
                if (there.size_bytes, there.crc64) == (seen.size_bytes, seen.crc64) =>
            {
                Finding::Record
            }
            (Some(record), _) => Finding::Damaged(mismatch(record, seen)),
            // Nobody knows which of two is right: it stays without a record.
            (None, _) => Finding::Good,
        })
    }

    async fn note(
        &self,
        key: &str,
        finding: Finding,
        record: Option<Record>,
        seen: &Seen,
        primary: Option<&Primary>,
    ) -> Result<(), ProveError> {
        let (copy, now) = (self.number()?, self.clock.now());
        if !matches!(finding, Finding::Damaged(_)) && self.state.damaged(copy)?.contains_key(key) {
            self.state.forget_damage(copy, key)?;
            self.judge.notify_one();
        }
        match finding {
            Finding::Good | Finding::AskPrimary => {}
            Finding::Record => {
                let record = Record {
                    part: manifest::part_of(&self.place.format, key),
                    key: key.to_owned(),
                    size_bytes: seen.size_bytes,
                    crc64: seen.crc64,
                    etag: seen.etag.clone(),
                    source_version: record.and_then(|record| record.source_version),
                    written_at: now,
                };
                self.state.record(copy, &[record], now)?;
            }
            Finding::Damaged(what) => self.damaged_now(key, what, primary).await?,
        }
        Ok(())
    }

    /// Notes that an object is damaged, and tries to repair it.
    async fn damaged_now(
        &self,
        key: &str,
        what: String,
        primary: Option<&Primary>,
    ) -> Result<(), ProveError> {
        warn!(service = %self.id, region = %self.region, key, what,
            "an object of the copy is damaged");
        let damage = Damage { what, unrepaired: None };
        self.state.note_damage(self.number()?, key, &damage, self.clock.now())?;
        // The window shrinks before anything else is done.
        self.judge.notify_one();
        self.repair(key, &damage, primary).await
    }
}
