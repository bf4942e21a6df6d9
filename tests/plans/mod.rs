//! Recovery plans worked out from a pgBackRest repository, for tests of what carries them out.

use btar::{
    domain::{
        lsn::{Segment, SegmentSize, Timeline},
        recovery::{Codec, HistoryObject, LogObject, RecoveryPlan, StopPoint},
        target_time,
    },
    wal::{
        decode,
        record::Record,
        scan::{Scanner, SegmentIndex},
        stop::{StopFinder, Sum},
        timeline::TimelinePath,
    },
};
use chrono::DateTime;
use std::{collections::BTreeMap, fs, path::Path};

const SIZE: SegmentSize = SegmentSize::DEFAULT;

/// The backups of a repository, oldest first.
pub(crate) fn labels(repository: &Path) -> Vec<String> {
    let found = fs::read_dir(repository.join("backup/orders")).unwrap();
    let mut labels: Vec<String> = found
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            entry.path().join("backup.manifest").is_file() && !entry.path().is_symlink()
        })
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    labels.sort();
    labels
}

/// The contents at a moment.
pub(crate) fn at(store: &Path, prefix: &str, label: &str, time: &str) -> RecoveryPlan {
    let target = target_time::parse(time).unwrap();
    let read = Reading::of(store, prefix, label);
    let at = read.run.iter().position(|index| Sum::from(index).stops(target));
    let at = at.expect("a commit behind the moment");
    let mut finder = StopFinder::new(target, &Sum::of(&read.run[..at]));
    let mut scanner = Scanner::new();
    for object in &read.log[..=at] {
        let bytes = bytes(store, object);
        let here = object.segment == read.log[at].segment;
        let mut see = |record: &Record| {
            if here {
                finder.see(record);
            }
        };
        scanner.segment(object.segment, &bytes, &mut see).unwrap();
    }
    read.plan(finder.found().expect("the stop"), at)
}

/// Everything.
pub(crate) fn latest(store: &Path, prefix: &str, label: &str) -> RecoveryPlan {
    let read = Reading::of(store, prefix, label);
    let at = read.run.iter().rposition(|index| index.last_record.is_some()).unwrap();
    let stop = Sum::of(&read.run).at_end().unwrap();
    read.plan(stop, at)
}

/// The log behind a backup.
struct Reading {
    label: String,
    restored_bytes: u64,
    timeline: Timeline,
    log: Vec<LogObject>,
    run: Vec<SegmentIndex>,
    histories: Vec<HistoryObject>,
}

impl Reading {
    fn of(store: &Path, prefix: &str, label: &str) -> Self {
        let info =
            fs::read_to_string(store.join(prefix).join("backup/orders/backup.info")).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("{label}="))).unwrap();
        let facts: serde_json::Value = serde_json::from_str(line).unwrap();
        let start = facts["backup-archive-start"].as_str().unwrap();
        let start = Segment::parse(start, SIZE).unwrap();
        let (objects, histories) = archive(store, prefix);
        let timeline = histories.keys().max().copied().unwrap_or(start.timeline);
        let path = match histories.get(&timeline) {
            None => TimelinePath::first(timeline),
            Some(object) => {
                let text = fs::read_to_string(store.join(&object.key)).unwrap();
                TimelinePath::parse(timeline, &text).unwrap()
            }
        };
        let (mut log, mut run, mut scanner) = (Vec::new(), Vec::new(), Scanner::new());
        for number in start.number.. {
            let candidates = path.candidates(number, SIZE);
            let Some(object) = candidates.iter().find_map(|segment| objects.get(segment)) else {
                break;
            };
            let index = scanner.segment(object.segment, &bytes(store, object), &mut |_| {});
            run.push(index.unwrap());
            log.push(object.clone());
        }
        Self {
            label: label.to_owned(),
            restored_bytes: facts["backup-info-size"].as_u64().unwrap(),
            timeline,
            log,
            run,
            histories: histories.into_values().collect(),
        }
    }

    fn plan(self, stop: StopPoint, last: usize) -> RecoveryPlan {
        RecoveryPlan {
            backup_name: self.label,
            backup_finished_at: DateTime::UNIX_EPOCH,
            restored_bytes: self.restored_bytes,
            system_identifier: self.run[0].system_identifier,
            postgres_major: self.run[0].postgres_major,
            timeline: self.timeline,
            segment_size: SIZE,
            stop,
            recovered_to: DateTime::UNIX_EPOCH,
            log: self.log[..=last].to_vec(),
            histories: self.histories,
            parameter_floor: Sum::of(&self.run[..=last]).parameter_floor,
        }
    }
}

type Archive = (BTreeMap<Segment, LogObject>, BTreeMap<Timeline, HistoryObject>);

/// Segments and history files of a repository.
fn archive(store: &Path, prefix: &str) -> Archive {
    let (mut segments, mut histories) = (BTreeMap::new(), BTreeMap::new());
    let mut open = vec![store.join(prefix).join("archive/orders")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            let key = path.strip_prefix(store).unwrap().to_str().unwrap().to_owned();
            let size_bytes = fs::metadata(&path).unwrap().len();
            if let Some(timeline) = name.strip_suffix(".history") {
                let timeline = Timeline(u32::from_str_radix(timeline, 16).unwrap());
                histories.insert(
                    timeline,
                    HistoryObject { timeline, key, size_bytes, codec: Codec::None, key_id: None },
                );
            } else if let Some((name, sha1)) =
                name.strip_suffix(".zst").and_then(|name| name.split_once('-'))
            {
                let Ok(segment) = Segment::parse(name, SIZE) else { continue }; // A partial one.
                let sha1 = Some(sha1.to_owned());
                let object =
                    LogObject { segment, key, size_bytes, sha1, codec: Codec::Zst, key_id: None };
                segments.insert(segment, object);
            }
        }
    }
    (segments, histories)
}

fn bytes(store: &Path, object: &LogObject) -> Vec<u8> {
    decode::decode(object.codec, &fs::read(store.join(&object.key)).unwrap()).unwrap()
}
