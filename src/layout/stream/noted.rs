//! From the objects of a place to the backups in it and the log behind each.

use crate::{
    domain::{hex, recovery::BaseImage},
    layout::{
        binlogs::{BinlogChain, ListedBinlog, NotedBackup, Said},
        stream::{
            chain::{self, Chain},
            keys::{Role, role},
            manifest::{Manifest, ManifestError},
            series::{Series, SeriesError},
        },
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Whether the contents of the object with this key are read to know what there is.
#[must_use]
pub fn is_note(key: &str) -> bool {
    matches!(role(key), Role::Manifest { .. } | Role::Series { .. })
}

/// A note that cannot be relied on.
#[derive(Debug, thiserror::Error)]
enum NoteError {
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Series(#[from] SeriesError),
}

/// The backups of a place, oldest first, and what cannot be read of them. `objects` are key and size in
/// bytes of everything, `texts` the contents of notes by key.
#[must_use]
pub fn read<'a>(
    objects: &[(&'a str, u64)],
    texts: &BTreeMap<&'a str, &[u8]>,
) -> (Vec<NotedBackup>, Vec<String>) {
    let (mut manifests, mut series, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (key, text) in texts {
        let read = match role(key) {
            Role::Manifest { .. } => {
                Manifest::read(text).map(|read| manifests.push(read)).map_err(NoteError::from)
            }
            Role::Series { series: name } => {
                Series::read(&name, text).map(|read| series.push(read)).map_err(NoteError::from)
            }
            Role::Part { .. } | Role::Binlog(_) | Role::Other => Ok(()),
        };
        if let Err(error) = read {
            let source = std::error::Error::source(&error);
            let why = source.map_or_else(String::new, |source| format!(": {source}"));
            problems.push(format!("{key} cannot be used: {error}{why}"));
        }
    }
    let noted = |manifest: &Manifest| {
        let chain = chain::chain(objects.iter().copied(), &series, manifest);
        NotedBackup {
            listed: manifest.listed(),
            needs: Ok(Arc::new(manifest.needs())),
            chain: chain_of(manifest, chain),
        }
    };
    let mut backups: Vec<NotedBackup> = manifests.iter().map(noted).collect();
    backups.sort_by(|a, b| {
        let order = |backup: &NotedBackup| (backup.listed.started_at, backup.listed.label.clone());
        order(a).cmp(&order(b))
    });
    (backups, problems)
}

fn chain_of(manifest: &Manifest, chain: Chain) -> BinlogChain {
    let end = &manifest.log_end;
    // Where the chain does not reach that far, behind all of it.
    let at = chain.objects.iter().position(|binlog| {
        (binlog.series == manifest.log.series) && binlog.sequence == end.sequence
    });
    let consistent_at = (at.unwrap_or(chain.objects.len()), end.offset);
    let mut before: Option<String> = None;
    let objects = chain.objects.into_iter().map(|binlog| {
        let joins = before.as_ref().is_some_and(|series| *series != binlog.series);
        before = Some(binlog.series);
        ListedBinlog {
            key: binlog.key,
            name: binlog.name,
            size_bytes: binlog.size_bytes,
            file_bytes: None,
            codec: binlog.codec,
            key_id: None,
            sha1: hex::bytes(&binlog.sha1),
            joins,
            said: Said::default(),
        }
    });
    BinlogChain {
        flavour: manifest.flavour,
        server_version: Some(manifest.server_version.clone()),
        base: BaseImage {
            tool: manifest.tool,
            parts: manifest.part_keys().collect(),
            codec: manifest.codec,
            wrapped_key: None,
        },
        executed: manifest.executed.clone(),
        unusable: None,
        start_offset: manifest.log.start_offset,
        consistent_at,
        objects: objects.collect(),
        gap: chain.gap,
        behind_gap: chain.behind_gap,
    }
}

/// The checksum in the name of a binary log.
#[must_use]
pub fn sha1_of(key: &str) -> Option<[u8; 20]> {
    match role(key) {
        Role::Binlog(binlog) => hex::bytes(&binlog.sha1),
        Role::Part { .. } | Role::Manifest { .. } | Role::Series { .. } | Role::Other => None,
    }
}
