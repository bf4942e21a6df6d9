//! Says what a backup with its binary logs can restore.

use crate::{
    domain::window::RestoreRange,
    engine::catalog::{Frontier, binlogs::ReadChain, repository::Repository},
    layout::backup::ListedBackup,
};
use chrono::{DateTime, Utc};

impl ReadChain {
    /// Whether the files reach the end of the base backup.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let (file, offset) = self.chain.consistent_at;
        self.files.get(file).is_some_and(|summary| summary.bytes >= offset)
    }

    /// Whether names and notes alone say so, where the key is missing that would tell.
    fn seems_consistent(&self) -> bool {
        self.lacks_key.is_some() && self.chain.objects.len() > self.chain.consistent_at.0
    }

    /// The last moment whose contents are known: of the last transaction, or a later one that any
    /// event names.
    #[must_use]
    pub fn covered_until(&self) -> Option<DateTime<Utc>> {
        self.files.iter().map(|summary| summary.covered_until).max()
    }

    /// The objects whose contents were read and are sound, with their sizes in bytes.
    pub fn proven(&self) -> impl Iterator<Item = (String, u64)> {
        let objects = self.chain.objects.iter().zip(&self.files);
        objects.map(|(object, _)| (object.key.clone(), object.size_bytes))
    }

    /// The same by what is noted beside the files that cannot be read.
    fn said_until(&self) -> Option<DateTime<Utc>> {
        let unread = self.chain.objects.iter().skip(self.files.len());
        unread.filter_map(|object| object.said.closed_at.max(object.said.last_commit)).max()
    }
}

/// What a backup restores whose objects are all there; says what ends its log.
pub(in crate::engine::catalog) fn range(
    listed: &ListedBackup,
    chain: &ReadChain,
    problems: &mut Vec<String>,
) -> Option<RestoreRange> {
    let label = &listed.label;
    if let Some(end) = &chain.end {
        problems.push(end.clone());
    }
    if let Some(why) = &chain.chain.unusable {
        problems.push(format!("backup {label}: {why}"));
        return None;
    }
    let sealed = chain.lacks_key.is_some();
    if !chain.is_consistent() && !chain.seems_consistent() {
        problems
            .push(format!("the binary log that makes backup {label} consistent is not complete"));
        return None;
    }
    if let Some(key_id) = &chain.lacks_key {
        problems.push(match key_id.is_empty() {
            true => format!(
                "what backup {label} covers is an estimate: its binary logs are encrypted, and the \
                 service names no private_key"
            ),
            false => format!(
                "what backup {label} covers is an estimate: it is encrypted for the key \
                 `{key_id}`, whose private key is not configured"
            ),
        });
    }
    let covered = match sealed {
        true => chain.covered_until().max(chain.said_until()),
        false => chain.covered_until(),
    };
    let latest = covered.map_or(listed.finished_at, |until| until.max(listed.finished_at));
    let exact = !sealed && covered.is_some_and(|until| until >= listed.finished_at);
    Some(RestoreRange { earliest: listed.finished_at, latest, exact })
}

/// Number of files that can be used and the size of their objects, in bytes.
pub(in crate::engine::catalog) fn extent(chain: &ReadChain) -> (u64, u64) {
    let usable = match chain.lacks_key {
        Some(_) => chain.chain.objects.len(),
        None => chain.files.len(),
    };
    let used = chain.chain.objects.iter().take(usable);
    used.fold((0, 0), |sum, object| (sum.0 + 1, sum.1 + object.size_bytes))
}

/// Where the chain ends.
pub(in crate::engine::catalog) fn frontier(
    chain: &ReadChain,
    repository: &Repository,
) -> Option<Frontier> {
    let last = chain.files.last()?;
    let object = chain.chain.objects.get(chain.files.len() - 1)?;
    let commits = chain.files.iter().rev().find_map(|summary| summary.last_commit);
    Some(Frontier {
        position: format!("{}:{}", object.name, last.groups_end),
        segment: object.name.clone(),
        last_commit_at: commits,
        stored_at: repository.get(&object.key)?.modified_at,
    })
}
