//! What may be removed from a copy of MySQL's or MariaDB's backups, whose catalogue is their markers: base
//! backups whose marker the primary has removed, and the binary logs before all others.
//!
//! What the primary still has is never removed, since the next pass would copy it again.

use crate::{
    engine::catalog::{RegionCatalog, observe::Look},
    engine::replicate::prune::{Expired, PrunePlan, Retention, too_few_stay},
    layout::{BackupFormat, Role, myhoard},
};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of backups of which the copy has something and the primary has no marker any more, nor any object
/// that could still be on its way.
#[must_use]
pub fn gone(format: &BackupFormat, source: &Look, target: &Look) -> BTreeSet<String> {
    let there = labels(format, source);
    labels(format, target).into_iter().filter(|label| !there.contains(label)).collect()
}

fn labels(format: &BackupFormat, look: &Look) -> BTreeSet<String> {
    look.repository.others().filter_map(|(key, _)| label_of(format, key)).collect()
}

/// The backup that an object belongs to, its small notes included.
fn label_of(format: &BackupFormat, key: &str) -> Option<String> {
    match format.role(key) {
        Role::Marker { label } | Role::Data { label } => Some(label),
        // What MyHoard writes anew in the course of things belongs to a stream all the same.
        Role::Other if matches!(format, BackupFormat::MyHoard { .. }) => {
            myhoard::keys::stream_of(key)
        }
        Role::History { .. }
        | Role::Segment { .. }
        | Role::NamedSegment { .. }
        | Role::Binlog { .. }
        | Role::Shared
        | Role::Other => None,
    }
}

/// Plans what to remove. `expired` is everything of [`gone`].
#[must_use]
pub fn plan(
    format: &BackupFormat,
    [source, target]: [&Look; 2],
    catalog: &RegionCatalog,
    expired: &[Expired],
    retention: &Retention,
    now: DateTime<Utc>,
) -> PrunePlan {
    let over = expired.iter().filter(|gone| now - gone.since >= retention.keep_expired_for);
    let mut over: BTreeSet<&str> = over.map(|gone| gone.label.as_str()).collect();
    let kept = kept(target, &over, &retention.held);
    over.retain(|label| !kept.contains(label));
    let restorable = catalog.backups.iter().filter(|backup| backup.range.is_some());
    let staying: Vec<_> =
        restorable.filter(|backup| !over.contains(backup.name.as_str())).collect();
    if let Some(nothing) = too_few_stay(retention, staying.len(), over.is_empty()) {
        return nothing;
    }
    // What is newer than all that can be restored is not given up.
    let newest = staying.iter().map(|backup| backup.started_at).max();
    over.retain(|label| target.backup(label).is_none_or(|backup| Some(backup.started_at) < newest));
    let mut plan = PrunePlan::default();
    for (key, _) in target.repository.others().filter(|(key, _)| !source.repository.contains(key)) {
        let label = label_of(format, key);
        if !label.is_some_and(|label| over.contains(label.as_str())) {
            continue;
        }
        match format.role(key) {
            Role::Marker { .. } => plan.markers.push(key.clone()),
            Role::Data { .. }
            | Role::History { .. }
            | Role::Segment { .. }
            | Role::NamedSegment { .. }
            | Role::Binlog { .. }
            | Role::Shared
            | Role::Other => plan.files.push(key.clone()),
        }
    }
    plan.log = unneeded_log(format, [source, target], &over);
    plan
}

/// Backups that are held, and those that what stays refers to.
fn kept<'a>(
    target: &'a Look,
    over: &BTreeSet<&str>,
    held: &'a BTreeSet<String>,
) -> BTreeSet<&'a str> {
    let mut kept: BTreeSet<&str> = held.iter().map(String::as_str).collect();
    loop {
        let stays = target.backups.iter().filter(|backup| {
            kept.contains(backup.label.as_str()) || !over.contains(backup.label.as_str())
        });
        let needed: BTreeSet<&str> =
            stays.flat_map(|backup| &backup.references).map(String::as_str).collect();
        if needed.is_subset(&kept) {
            return kept;
        }
        kept.extend(needed);
    }
}

/// Binary logs before the first one of every backup that stays, the oldest first. Only those of a series in
/// which a backup that stays begins: of any other, nobody knows whether it is needed.
fn unneeded_log(
    format: &BackupFormat,
    [source, target]: [&Look; 2],
    over: &BTreeSet<&str>,
) -> Vec<String> {
    let mut first: BTreeMap<String, u64> = BTreeMap::new();
    for look in [source, target] {
        for backup in &look.backups {
            if over.contains(backup.label.as_str()) {
                continue;
            }
            let chain = look.chains.get(&backup.label).and_then(|chain| chain.objects.first());
            // Where its log begins is not known: everything may be needed.
            let Some(start) = chain else { return Vec::new() };
            let Role::Binlog { series, sequence, .. } = format.role(&start.key) else {
                return Vec::new();
            };
            let known = first.entry(series).or_insert(sequence);
            *known = sequence.min(*known);
        }
    }
    let mut unneeded: Vec<(String, u64, String)> = Vec::new();
    for (key, _) in target.repository.others() {
        if source.repository.contains(key) {
            continue;
        }
        if let Role::Binlog { series, sequence, .. } = format.role(key)
            && first.get(&series).is_some_and(|first| sequence < *first)
        {
            unneeded.push((series, sequence, key.clone()));
        }
    }
    unneeded.sort();
    unneeded.into_iter().map(|(_, _, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            binlog::Flavour,
            recovery::{BaseTool, Codec},
            window::RestoreRange,
        },
        engine::catalog::{CatalogBackup, learned::NoMemory, listing::Extent, observe::Reader},
        layout::{
            BackupPlace,
            stream::{
                keys::{self, BinlogKey},
                manifest::{LogEnd, LogStart, Manifest, Part},
                series::Series,
            },
        },
        store::{BlobStore as _, PutMode, UserMetadata, body_of, key::Key, memory::MemoryStore},
        wal::decode::sha1_hex,
    };
    use chrono::TimeDelta;
    use std::sync::Arc;

    const SERIES: &str = "16-20261126T000000";
    const LABELS: [&str; 3] = ["20261126-000000", "20261127-000000", "20261128-000000"];

    fn store() -> (MemoryStore, Reader) {
        let store = MemoryStore::new();
        let place = BackupPlace { format: BackupFormat::Stream, prefix: Key::parse("p").unwrap() };
        let reader = Reader::new(Arc::new(store.clone()), place, String::new(), Arc::new(NoMemory));
        (store, reader)
    }

    async fn put(store: &MemoryStore, key: &str, bytes: Vec<u8>) {
        let key = Key::parse(&format!("p/{key}")).unwrap();
        let (size, none) = (bytes.len() as u64, UserMetadata::new());
        store.put(&key, size, &none, body_of(bytes.into()), PutMode::Replace).await.unwrap();
    }

    fn binlog(sequence: u64) -> String {
        let name = format!("bin.{sequence:06}");
        let sha1 = sha1_hex(name.as_bytes());
        let series = SERIES.to_owned();
        BinlogKey { series, sequence, name, sha1, codec: Codec::None }.key()
    }

    /// Three base backups, each with two binary logs, and the log of all.
    async fn fill(store: &MemoryStore) {
        let begun = keys::label_time(LABELS[0]).unwrap();
        let server = (Flavour::MariaDb, "16".to_owned());
        let first = ("bin.000001".to_owned(), begun);
        let series = Series::new(SERIES.to_owned(), server, first, None, None);
        put(store, &keys::series(SERIES), serde_json::to_vec(&series).unwrap()).await;
        for sequence in 1..=7 {
            put(store, &binlog(sequence), format!("bin.{sequence:06}").into_bytes()).await;
        }
        for (at, label) in (0_u64..).zip(LABELS) {
            put(store, &keys::part(label, 1), b"base".to_vec()).await;
            let sequence = 1 + 2 * at;
            let name = format!("bin.{sequence:06}");
            let started_at = keys::label_time(label).unwrap();
            let manifest = Manifest {
                label: label.to_owned(),
                tool: BaseTool::MariaDbBackup,
                flavour: Flavour::MariaDb,
                server_version: "10.11.19-MariaDB".to_owned(),
                server_uuid: None,
                server_id: 16,
                started_at,
                finished_at: started_at + TimeDelta::seconds(5),
                codec: Codec::None,
                parts: vec![Part { size_bytes: 4, sha1: [7; 20] }],
                restored_bytes: 4,
                executed: None,
                log: LogStart {
                    series: SERIES.to_owned(),
                    sequence,
                    name: name.clone(),
                    start_offset: Some(4),
                },
                log_end: LogEnd { sequence, name, offset: 4 },
            };
            put(store, &keys::manifest(label), manifest.to_json()).await;
        }
    }

    /// What the next turn removes when the primary lists the last backup only, since so many days.
    async fn removed(days: i64, keep: usize, held: &[&str], restorable: &[&str]) -> PrunePlan {
        let ((source, mut of_source), (target, mut of_target)) = (store(), store());
        fill(&source).await;
        fill(&target).await;
        for label in &LABELS[..2] {
            for key in [keys::manifest(label), keys::part(label, 1)] {
                source.delete(&Key::parse(&format!("p/{key}")).unwrap()).await.unwrap();
            }
        }
        for sequence in 1..=4 {
            let key = Key::parse(&format!("p/{}", binlog(sequence))).unwrap();
            source.delete(&key).await.unwrap();
        }
        let source = of_source.look(Extent::Everything).await.unwrap();
        let target = of_target.look(Extent::Everything).await.unwrap();
        assert_eq!(target.backups.len(), 3, "{:?}", target.problems);
        let format = BackupFormat::Stream;
        let gone = gone(&format, &source, &target);
        assert_eq!(gone, LABELS[..2].iter().map(|label| (*label).to_owned()).collect());
        let now = keys::label_time("20261220-000000").unwrap();
        let since = now - TimeDelta::days(days);
        let expired: Vec<_> =
            gone.into_iter().map(|label| Expired { label, since, needs: None }).collect();
        let backup = |label: &&str| CatalogBackup {
            name: (*label).to_owned(),
            started_at: keys::label_time(label).unwrap(),
            finished_at: now,
            size_bytes: 4,
            stored_bytes: 4,
            log_segments: 1,
            log_bytes: 4,
            incremental: false,
            missing: Vec::new(),
            range: Some(RestoreRange { earliest: now, latest: now, exact: true }),
        };
        let backups = restorable.iter().map(backup).collect();
        let catalog = RegionCatalog { backups, ..RegionCatalog::default() };
        let retention = Retention {
            keep_expired_for: TimeDelta::days(7),
            keep_restorable: keep,
            held: held.iter().map(|label| (*label).to_owned()).collect(),
        };
        plan(&format, [&source, &target], &catalog, &expired, &retention, now)
    }

    fn sequences(plan: &PrunePlan) -> Vec<&str> {
        plan.log.iter().map(|key| key.split('/').next_back().unwrap()).map(|n| &n[9..10]).collect()
    }

    #[tokio::test]
    async fn what_the_primary_has_expired_goes_after_its_time_marker_first() {
        assert!(removed(6, 1, &[], &LABELS).await.is_empty(), "within the grace time");
        let plan = removed(7, 1, &[], &LABELS).await;
        assert_eq!(plan.markers, LABELS[..2].iter().map(|l| keys::manifest(l)).collect::<Vec<_>>());
        assert_eq!(plan.files, LABELS[..2].iter().map(|l| keys::part(l, 1)).collect::<Vec<_>>());
        assert_eq!(sequences(&plan), ["1", "2", "3", "4"]);
        let plan = removed(7, 1, &LABELS[1..2], &LABELS).await;
        assert_eq!(plan.markers, [keys::manifest(LABELS[0])]);
        assert_eq!(sequences(&plan), ["1", "2"], "the held backup keeps its log");
    }

    #[tokio::test]
    async fn nothing_goes_while_too_little_that_stays_can_be_restored() {
        let plan = removed(700, 2, &[], &LABELS).await;
        assert!(plan.is_empty() && plan.held.unwrap().contains("1 of the backups that stay"));
        let plan = removed(700, 1, &[], &LABELS[..2]).await;
        assert!(plan.is_empty() && plan.held.unwrap().contains("0 of the backups that stay"));
    }
}
