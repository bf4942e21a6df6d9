//! From the objects of a site to the backups in it and the log behind each.

use crate::{
    domain::{
        binlog::{Flavour, GtidSet},
        recovery::{BaseImage, BaseTool, Codec, WrappedKey},
    },
    layout::{
        backup::{ExpectedSize, ListedBackup, Needs},
        binlogs::{BinlogChain, ListedBinlog, NotedBackup, Said},
        myhoard::{
            keys::{Role, in_stream, role},
            notes::{self, BaseBackup, BinlogNote, Broken, NoteError, Promotion},
        },
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Contents and user metadata of small objects, by key.
#[derive(Clone, Debug, Default)]
pub struct Notes<'a> {
    /// Contents.
    pub texts: BTreeMap<&'a str, &'a [u8]>,
    /// User metadata of binary logs.
    pub metadata: BTreeMap<&'a str, &'a BTreeMap<String, String>>,
}

/// The objects of one stream.
#[derive(Debug, Default)]
struct Stream<'a> {
    /// By number: key and size in bytes.
    parts: BTreeMap<u32, (&'a str, u64)>,
    base: Option<&'a str>,
    completed: Option<&'a str>,
    broken: Option<&'a str>,
    promotions: Vec<&'a str>,
    /// By number and server.
    binlogs: BTreeMap<(u32, u32), (&'a str, u64)>,
}

/// The completed backups of a site, oldest first, and what cannot be read of them. `objects` are key
/// and size of everything; `key_id` names the site's key pair.
#[must_use]
pub fn read<'a>(
    objects: impl Iterator<Item = (&'a str, u64)>,
    notes: &Notes<'_>,
    key_id: Option<&str>,
) -> (Vec<NotedBackup>, Vec<String>) {
    let mut streams: BTreeMap<String, Stream<'_>> = BTreeMap::new();
    for (key, size) in objects {
        match role(key) {
            Role::Part { stream, number } => {
                streams.entry(stream).or_default().parts.insert(number, (key, size));
            }
            Role::Base { stream } => streams.entry(stream).or_default().base = Some(key),
            Role::Completed { stream } => streams.entry(stream).or_default().completed = Some(key),
            Role::Broken { stream } => streams.entry(stream).or_default().broken = Some(key),
            Role::Promotion { stream } => streams.entry(stream).or_default().promotions.push(key),
            Role::Binlog { stream, index, server_id } => {
                let known = streams.entry(stream).or_default();
                known.binlogs.insert((index, server_id), (key, size));
            }
            Role::Closed { .. } | Role::Preserved { .. } | Role::Other => {}
        }
    }
    let (mut backups, mut problems) = (Vec::new(), Vec::new());
    for (label, stream) in &streams {
        let (Some(base), Some(_)) = (stream.base, stream.completed) else { continue };
        match backup(label, base, stream, notes, key_id) {
            Ok(backup) => backups.push(backup),
            Err(error) => problems.push(format!("backup {label} cannot be used: {error}")),
        }
    }
    needs_of_earlier(&mut backups);
    backups.sort_by(|a, b| {
        let order = |backup: &NotedBackup| (backup.listed.started_at, backup.listed.label.clone());
        order(a).cmp(&order(b))
    });
    (backups, problems)
}

/// An incremental backup needs what the ones before it need.
fn needs_of_earlier(backups: &mut [NotedBackup]) {
    let known: BTreeMap<String, Result<Arc<Needs>, String>> =
        backups.iter().map(|b| (b.listed.label.clone(), b.needs.clone())).collect();
    for backup in backups.iter_mut() {
        for earlier in &backup.listed.references {
            let Ok(needs) = &mut backup.needs else { break };
            match known.get(earlier) {
                Some(Ok(more)) => Arc::make_mut(needs).join(more),
                Some(Err(what)) => backup.needs = Err(format!("{earlier}, which it needs: {what}")),
                None => backup.needs = Err(format!("{earlier}, which it needs, is missing")),
            }
        }
    }
}

fn backup(
    label: &str,
    base_key: &str,
    stream: &Stream<'_>,
    notes: &Notes<'_>,
    key_id: Option<&str>,
) -> Result<NotedBackup, NoteError> {
    let text = |key: &str| notes.texts.get(key).copied().unwrap_or_default();
    let base: BaseBackup = notes::read(base_key, text(base_key))?;
    let promotions = promotions(stream, notes)?;
    let mut binlogs = BinlogRun::of(stream, &promotions, notes, key_id)?;
    let parts = base.number_of_splits.unwrap_or(1).max(1);
    let keys: Vec<(String, u64)> = (1..=parts)
        .map(|number| match stream.parts.get(&number) {
            Some((key, size)) => ((*key).to_owned(), *size),
            None => (in_stream(label, &part_name(number)), 0),
        })
        .collect();
    let needs = match stream.broken {
        Some(key) => {
            let _: Broken = notes::read(key, text(key))?;
            Err("MyHoard has marked it as broken (broken.json)".to_owned())
        }
        None => needs(label, base_key, &base, stream, &keys),
    };
    let start_offset = binlogs.begin_at(&base);
    let started_at = notes::time(base.start_ts).unwrap_or_default();
    let wrapped_key = base.encryption_key.clone().map(|hex| WrappedKey {
        key_id: key_id.unwrap_or_default().to_owned(),
        hex: hex.to_ascii_lowercase(),
    });
    let stored_bytes = keys.iter().map(|(_, size)| size).sum();
    let listed = ListedBackup {
        started_at,
        finished_at: notes::time(base.end_ts).unwrap_or_default(),
        size_bytes: base.end_size.unwrap_or(0),
        stored_bytes,
        references: base.required_streams.clone().unwrap_or_default(),
        ..ListedBackup::without_wal(label)
    };
    let image =
        BaseImage { tool: BaseTool::XtraBackup, parts: keys, codec: Codec::None, wrapped_key };
    let chain = BinlogChain {
        flavour: Flavour::MySql,
        // xtrabackup's versions are those of the servers that it is for.
        server_version: base.tool_version.clone(),
        base: image,
        executed: base.gtid.as_deref().and_then(|text| GtidSet::parse(Flavour::MySql, text).ok()),
        unusable: base.incremental.then(|| {
            "it is incremental: it is copied, and this version of btar does not restore it; restore it \
             with MyHoard from the copy"
                .to_owned()
        }),
        start_offset,
        consistent_at: (0, start_offset.unwrap_or(0)),
        objects: binlogs.objects,
        gap: binlogs.gap,
        behind_gap: binlogs.behind_gap,
    };
    Ok(NotedBackup { listed, needs, chain })
}

fn part_name(number: u32) -> String {
    match number {
        1 => "basebackup.xbstream".to_owned(),
        number => format!("basebackup.xbstream.{number:03}"),
    }
}

/// What the base backup and its beginning need. Binary log 1 is written after `completed.json`.
fn needs(
    label: &str,
    base_key: &str,
    base: &BaseBackup,
    stream: &Stream<'_>,
    parts: &[(String, u64)],
) -> Result<Arc<Needs>, String> {
    let mut needs = Needs { said_by: Some(base_key.to_owned()), ..Needs::default() };
    let whole: u64 = parts.iter().map(|(_, size)| size).sum();
    let missing = parts.iter().any(|(key, _)| !stream.parts.values().any(|(k, _)| *k == key));
    if let (false, Some(expected)) = (missing, base.compressed_size)
        && whole != expected
    {
        return Err(format!("its base backup has {whole} bytes in all, not {expected}"));
    }
    for (key, size) in parts {
        needs.objects.insert(key.clone(), ExpectedSize::Exactly(*size));
    }
    if let (1, Some(size)) = (parts.len(), base.compressed_size) {
        needs.objects.insert(parts[0].0.clone(), ExpectedSize::Exactly(size));
    }
    if missing {
        // Of a part that is not there only this much is known.
        needs.objects.values_mut().for_each(|size| *size = ExpectedSize::AtLeast(1));
    }
    for key in [Some(base_key), stream.completed].into_iter().flatten() {
        needs.objects.insert(key.to_owned(), ExpectedSize::AtLeast(1));
    }
    for key in &stream.promotions {
        needs.objects.insert((*key).to_owned(), ExpectedSize::AtLeast(1));
    }
    if stream.promotions.is_empty() {
        let key = in_stream(label, "promotions");
        return Err(format!("{key} is empty: nothing says whose binary logs belong to it"));
    }
    Ok(Arc::new(needs))
}

/// The promotions, those that came first before.
fn promotions(stream: &Stream<'_>, notes: &Notes<'_>) -> Result<Vec<Promotion>, NoteError> {
    let mut all: Vec<Promotion> = Vec::new();
    for key in &stream.promotions {
        all.push(notes::read(key, notes.texts.get(*key).copied().unwrap_or_default())?);
    }
    all.sort_by(|a, b| a.promoted_at.total_cmp(&b.promoted_at));
    Ok(all)
}

/// The server that writes binary log `index`: of those promoted at or before it the last one.
fn server_of(promotions: &[Promotion], index: u32) -> Option<u32> {
    let promoted = promotions.iter().filter(|promotion| promotion.start_index <= index);
    promoted
        .max_by(|a, b| {
            (a.start_index.cmp(&b.start_index)).then(a.promoted_at.total_cmp(&b.promoted_at))
        })
        .map(|promotion| promotion.server_id)
}

/// The gapless run of a stream's binary logs.
#[derive(Debug)]
struct BinlogRun {
    objects: Vec<ListedBinlog>,
    /// The server's own numbers of the first few.
    local: Vec<Option<u32>>,
    gap: Option<String>,
    behind_gap: u64,
}

impl BinlogRun {
    fn of(
        stream: &Stream<'_>,
        promotions: &[Promotion],
        notes: &Notes<'_>,
        key_id: Option<&str>,
    ) -> Result<Self, NoteError> {
        let (mut objects, mut local) = (Vec::new(), Vec::new());
        let mut gap = None;
        for index in 1.. {
            let server = server_of(promotions, index);
            let found = server.and_then(|server| stream.binlogs.get(&(index, server)));
            let Some((key, size)) = found else {
                gap = missing(stream, index, server);
                break;
            };
            let none = BTreeMap::new();
            let metadata = notes.metadata.get(*key).copied().unwrap_or(&none);
            let note = notes::of_binlog(key, metadata)?;
            local.push(note.as_ref().map(|note| note.local_index));
            objects.push(listed(key, *size, note.as_ref(), key_id));
        }
        let there: BTreeSet<u32> = stream.binlogs.keys().map(|(index, _)| *index).collect();
        let next = u32::try_from(objects.len()).unwrap_or(u32::MAX).saturating_add(1);
        let behind_gap = there.range(next..).count() as u64;
        let gap = gap.filter(|_| behind_gap > 0 || objects.is_empty());
        Ok(Self { objects, local, gap, behind_gap })
    }

    /// Drops the files before the one in which the base backup ends. Gives where in it that is.
    fn begin_at(&mut self, base: &BaseBackup) -> Option<u64> {
        let at = self.local.iter().position(|local| *local == Some(base.binlog_index));
        let at = at.filter(|at| self.objects[*at].name == base.binlog_name)?;
        self.objects.drain(..at);
        Some(base.binlog_position)
    }
}

/// What is missing at `index`, for people.
fn missing(stream: &Stream<'_>, index: u32, server: Option<u32>) -> Option<String> {
    let others: Vec<String> = stream
        .binlogs
        .range((index, 0)..=(index, u32::MAX))
        .map(|((_, server), _)| server.to_string())
        .collect();
    Some(match (server, others.is_empty()) {
        (None, _) => format!("no promotion says whose binary log {index} belongs to the stream"),
        (Some(server), true) => format!("binary log {index} of server {server} is missing"),
        (Some(server), false) => format!(
            "binary log {index} of server {server} is missing: there is one of server {} only, which \
             the promotions do not name",
            others.join(", ")
        ),
    })
}

fn listed(
    key: &str,
    size_bytes: u64,
    note: Option<&BinlogNote>,
    key_id: Option<&str>,
) -> ListedBinlog {
    let codec = match note.and_then(|note| note.compression_algorithm.as_deref()) {
        Some("snappy") => Codec::Snappy,
        Some("zstd") => Codec::Zst,
        Some("lzma") => Codec::Xz,
        Some(_) | None => Codec::None,
    };
    let last = note.and_then(|note| note.gtid_ranges.last());
    let said = Said {
        last_commit: last.and_then(|range| notes::time(range.end_ts.floor())),
        closed_at: note.and_then(|note| notes::time(note.processed_at.floor())),
    };
    let name = note.map_or_else(
        || key.rsplit('/').next().unwrap_or(key).to_owned(),
        |note| note.file_name.clone(),
    );
    ListedBinlog {
        key: key.to_owned(),
        name,
        size_bytes,
        file_bytes: note.map(|note| note.file_size),
        codec,
        key_id: key_id.map(str::to_owned),
        sha1: None,
        joins: false,
        said,
    }
}
