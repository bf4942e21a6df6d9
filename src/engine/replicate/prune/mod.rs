//! What may be removed from a copy: backups that its catalogue does not list any more, and the log
//! that nothing needs.
//!
//! Only asked for explicitly, only after a grace time, never below a number of restorable backups, and
//! never because something is missing in the primary: what counts is the catalogue that the copy itself
//! has published. The marker goes first, then files that no kept backup refers to, the log last.
//!
//! A site of PGHoard has no catalogue besides its markers, nor have backups of MySQL and MariaDB: [`pghoard`]
//! and [`mysql`] say what is different there.

pub mod mysql;
pub mod pghoard;

use crate::{
    engine::catalog::{RegionCatalog, observe::Look, repository::Repository, segment::Place},
    layout::{BackupFormat, Role, backup::Needs, pgbackrest::keys::position},
};
use chrono::{DateTime, TimeDelta, Utc};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How long expired backups stay in a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How long a backup is kept after it has left the copy's catalogue.
    pub keep_expired_for: TimeDelta,
    /// Restorable backups that the catalogue must list before anything is removed.
    pub keep_restorable: usize,
    /// Labels of backups that are never removed, nor what they need.
    pub held: BTreeSet<String>,
}

/// A backup in the copy that its catalogue does not list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Label.
    pub label: String,
    /// When it was first seen so.
    pub since: DateTime<Utc>,
    /// What it needs, where that can still be read.
    pub needs: Option<Arc<Needs>>,
}

/// What is removed, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Without them nobody takes the backup for one.
    pub markers: Vec<String>,
    /// Files of those backups that nothing else needs.
    pub files: Vec<String>,
    /// Segments before everything that is kept, oldest first.
    pub log: Vec<String>,
    /// Why nothing is removed although something has expired, for people.
    pub held: Option<String>,
}

impl PrunePlan {
    /// Whether there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.markers.is_empty() && self.files.is_empty() && self.log.is_empty()
    }

    /// Every key, in the order of removal.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.markers.iter().chain(&self.files).chain(&self.log)
    }
}

/// The labels of backups that lie in the copy without being listed, neither by its own catalogue nor
/// by the primary's, whose files may be on their way. Of a site of PGHoard, see [`pghoard::gone`].
#[must_use]
pub fn unlisted(format: &BackupFormat, source: &Look, target: &Look) -> BTreeSet<String> {
    match format {
        BackupFormat::PgBackRest { .. } => {}
        BackupFormat::PgHoard => return pghoard::gone(source, target),
        BackupFormat::MyHoard { .. } | BackupFormat::Stream => {
            return mysql::gone(format, source, target);
        }
    }
    let labels = target.repository.others().filter_map(|(key, _)| match format.role(key) {
        Role::Data { label } | Role::Marker { label } => Some(label),
        Role::History { .. }
        | Role::Segment { .. }
        | Role::NamedSegment { .. }
        | Role::Binlog { .. }
        | Role::Shared
        | Role::Other => None,
    });
    labels
        .filter(|label| target.backup(label).is_none() && source.backup(label).is_none())
        .collect()
}

/// Plans what to remove. `expired` are all backups of [`unlisted`].
#[must_use]
pub fn plan(
    format: &BackupFormat,
    target: &Look,
    catalog: &RegionCatalog,
    expired: &[Expired],
    retention: &Retention,
    now: DateTime<Utc>,
) -> PrunePlan {
    let held = |why: String| PrunePlan { held: Some(why), ..PrunePlan::default() };
    let kept = match kept_labels(format, expired, &retention.held) {
        Ok(kept) => kept,
        Err(why) => return held(why),
    };
    let (over, kept): (Vec<&Expired>, Vec<&Expired>) = expired.iter().partition(|backup| {
        now - backup.since >= retention.keep_expired_for && !kept.contains(&backup.label)
    });
    let restorable = catalog.backups.iter().filter(|backup| backup.range.is_some()).count();
    let wanted = retention.keep_restorable.max(1);
    if restorable < wanted {
        if over.is_empty() {
            return PrunePlan::default();
        }
        return held(format!(
            "nothing is removed: {restorable} backups are restorable, {wanted} are to be kept"
        ));
    }
    // What is needed must be known wholly before anything is taken for unneeded.
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    for backup in &target.backups {
        match target.needs.get(&backup.label) {
            Some(Ok(needs)) => needed.extend(needs.objects.keys().map(String::as_str)),
            Some(Err(_)) | None => {
                let label = &backup.label;
                return held(format!("nothing is removed: the manifest of {label} cannot be read"));
            }
        }
    }
    let known = kept.iter().filter_map(|backup| backup.needs.as_ref());
    needed.extend(known.flat_map(|needs| needs.objects.keys().map(String::as_str)));
    let mut plan = PrunePlan::default();
    let labels: BTreeSet<&str> = over.iter().map(|backup| backup.label.as_str()).collect();
    for (key, _) in target.repository.others() {
        match format.role(key) {
            Role::Marker { label } if labels.contains(label.as_str()) => {
                plan.markers.push(key.clone());
            }
            Role::Data { label }
                if labels.contains(label.as_str()) && !needed.contains(key.as_str()) =>
            {
                plan.files.push(key.clone());
            }
            Role::Marker { .. }
            | Role::Data { .. }
            | Role::History { .. }
            | Role::Segment { .. }
            | Role::NamedSegment { .. }
            | Role::Binlog { .. }
            | Role::Shared
            | Role::Other => {}
        }
    }
    plan.log = unneeded_log(&target.repository, target, &kept);
    plan
}

/// The plan to remove nothing, when fewer restorable backups would stay than are to be kept. It says why,
/// unless nothing is over its time anyway.
fn too_few_stay(retention: &Retention, staying: usize, is_idle: bool) -> Option<PrunePlan> {
    let wanted = retention.keep_restorable.max(1);
    if staying >= wanted {
        return None;
    }
    let why = format!(
        "nothing is removed: {staying} of the backups that stay are restorable, {wanted} are to be kept"
    );
    Some(PrunePlan { held: (!is_idle).then_some(why), ..PrunePlan::default() })
}

/// The expired backups that are held, and those that they refer to.
fn kept_labels(
    format: &BackupFormat,
    expired: &[Expired],
    held: &BTreeSet<String>,
) -> Result<BTreeSet<String>, String> {
    let mut kept = BTreeSet::new();
    for backup in expired.iter().filter(|backup| held.contains(&backup.label)) {
        let label = &backup.label;
        let needs = backup.needs.as_ref().ok_or_else(|| {
            format!("nothing is removed: the manifest of {label}, which is held, cannot be read")
        })?;
        kept.insert(label.clone());
        kept.extend(needs.objects.keys().filter_map(|key| match format.role(key) {
            Role::Data { label } | Role::Marker { label } => Some(label),
            Role::History { .. }
            | Role::Segment { .. }
            | Role::NamedSegment { .. }
            | Role::Binlog { .. }
            | Role::Shared
            | Role::Other => None,
        }));
    }
    Ok(kept)
}

/// Segments before the start of every kept backup of their cluster. None where a start is not known.
fn unneeded_log(repository: &Repository, target: &Look, kept: &[&Expired]) -> Vec<String> {
    let mut first: BTreeMap<String, &str> = BTreeMap::new();
    let mut keep_from = |archive: String, start| {
        let known = first.entry(archive).or_insert(start);
        if position(start) < position(known) {
            *known = start;
        }
    };
    for backup in &target.backups {
        let Some(archive) = backup.archive.clone() else { return Vec::new() };
        keep_from(archive, backup.archive_start.as_str());
    }
    for backup in kept {
        let place = backup.needs.as_ref().and_then(|needs| needs.log.as_ref());
        // Without it nobody knows how far back its log is needed.
        let Some(log) = place else { return Vec::new() };
        keep_from(log.archive.clone(), log.start.as_str());
    }
    let mut unneeded = Vec::new();
    for (name, start) in first {
        let Some(archive) = repository.archives.get(&name) else { continue };
        // A start that is no name keeps everything.
        let start = Place::parse(start).map_or(0, |start| start.position);
        let before = archive.iter().filter(|(place, _)| place.position < start);
        unneeded.extend(before.map(|(place, segment)| archive.key(place, segment)));
    }
    unneeded
}
