//! Merges a listing that goes by into what was known, replacing only what differs.
//!
//! 1. `begin` names a part and the key behind which it is listed: what lies there is open.
//! 2. `take` is shown each object. Segments are gathered block by block; as long as the others are
//!    those that were known, nothing is copied.
//! 3. `finish` gives the new repository, which shares with the known one all that is equal. When the
//!    listing fails in between, nothing has happened.
//!
//! Stores list in the order of keys. An object out of order is merged all the same, only slower.

use crate::{
    domain::recovery::Codec,
    engine::catalog::{
        archive::{Archive, Block},
        repository::Repository,
        segment::{BlockId, Found, Packed, Place},
    },
    layout::{BackupFormat, Role},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

/// A listing that goes by.
#[derive(Debug)]
pub struct Merge {
    format: BackupFormat,
    known: Arc<Repository>,
    /// What it began with: what was known, or what a scan has found.
    base: Arc<Repository>,
    next: Repository,
    block: Option<OpenBlock>,
    others: Option<Others>,
    unknown: Vec<Unknown>,
}

/// A segment of which it is not known yet what is in it.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// The log.
    archive: String,
    place: Place,
    /// Key below the repository's prefix.
    pub key: String,
    /// Size, time and version.
    pub found: Found,
}

/// What the metadata of a segment say is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentContents {
    /// SHA-1 of the plain contents.
    pub sha1: String,
    /// Compression.
    pub codec: Codec,
    /// Name of the key pair that it is encrypted for, where it is.
    pub key_id: Option<String>,
}

/// The block that is being listed.
#[derive(Debug)]
struct OpenBlock {
    archive: String,
    id: BlockId,
    objects: Vec<Packed>,
}

/// The other objects of the part that is being listed.
#[derive(Debug)]
struct Others {
    part: String,
    known: Arc<BTreeMap<String, Found>>,
    /// Up to here all was as known.
    equal_to: String,
    /// Since something was not: what is there.
    made: Option<BTreeMap<String, Found>>,
}

impl Merge {
    /// Begins with what was known.
    #[must_use]
    pub fn new(format: &BackupFormat, known: Arc<Repository>) -> Self {
        Self::onto(format, known.clone(), known)
    }

    /// Begins with what a scan has found; `known` is what was known besides, and what the result is
    /// compared with.
    #[must_use]
    pub fn onto(format: &BackupFormat, known: Arc<Repository>, scanned: Arc<Repository>) -> Self {
        let next = (*scanned).clone();
        let (block, others, unknown) = (None, None, Vec::new());
        Self { format: format.clone(), known, base: scanned, next, block, others, unknown }
    }

    /// The objects of `part`, such as `archive/m`, behind the key `after` follow.
    pub fn begin(&mut self, part: &str, after: &str) {
        self.end_of_part();
        let known = self.next.others.get(part).cloned().unwrap_or_default();
        self.others =
            Some(Others { part: part.to_owned(), known, equal_to: after.to_owned(), made: None });
        for archive in self.next.archives.values_mut() {
            let below =
                |of: &str, key: &str| key.strip_prefix(of).is_some_and(|k| k.starts_with('/'));
            let is_in = archive.directory == part || below(part, &archive.directory);
            let open = is_in && (below(&archive.directory, after) || *archive.directory > *after);
            if open {
                keep_to(Arc::make_mut(archive), after);
            }
        }
    }

    /// The next object.
    pub fn take(&mut self, key: &str, found: Found) {
        match self.format.role(key) {
            Role::Segment { archive, name, sha1, codec } => {
                let packed = Place::parse(&name)
                    .and_then(|place| Some((place, Packed::new(place, &sha1, codec, &found)?)));
                match packed {
                    Some((place, segment)) => self.segment(&archive, place, segment),
                    None => self.other(key, found), // Far too large for a segment.
                }
            }
            Role::History { archive, timeline } => {
                let archive = self.archive(&archive);
                if archive.histories.get(&timeline).is_none_or(|known| known != key) {
                    Arc::make_mut(archive).histories.insert(timeline, key.to_owned());
                }
                self.other(key, found);
            }
            Role::NamedSegment { archive, name } => match Place::parse(&name) {
                Some(place) => self.named(&archive, place, key, found),
                None => self.other(key, found),
            },
            Role::Binlog { .. }
            | Role::Marker { .. }
            | Role::Data { .. }
            | Role::Shared
            | Role::Other => {
                self.other(key, found);
            }
        }
    }

    /// A segment whose metadata tell what is in it: what was known of this very object stays known.
    fn named(&mut self, archive: &str, place: Place, key: &str, found: Found) {
        let of = |repository: &Repository| {
            let archive = repository.archives.get(archive)?;
            let known = archive.at(place).filter(|known| known.found() == found)?;
            Some((*known, archive.key_id(known).cloned()))
        };
        let known = match of(&self.base) {
            Some((known, _)) => Some(known),
            // A scan may have numbered the keys in another order.
            None => of(&self.known).and_then(|(known, key_id)| {
                let owner = Arc::make_mut(self.archive(archive));
                Some(known.encrypted_with(owner.number_of_key(key_id.as_deref())?))
            }),
        };
        match known {
            Some(known) => self.segment(archive, place, known),
            None => {
                let archive = archive.to_owned();
                self.unknown.push(Unknown { archive, place, key: key.to_owned(), found });
            }
        }
    }

    /// Takes the segments of which it is not known what is in them.
    pub fn take_unknown(&mut self) -> Vec<Unknown> {
        std::mem::take(&mut self.unknown)
    }

    /// How many of them there are.
    #[must_use]
    pub fn unknown_count(&self) -> usize {
        self.unknown.len()
    }

    /// What the metadata of such a segment say; `None` when they say nothing that can be relied on:
    /// it then counts as an object, but as no part of the log.
    pub fn know(&mut self, segment: Unknown, contents: Option<SegmentContents>) {
        let Unknown { archive, place, key, found } = segment;
        let packed = contents.and_then(|SegmentContents { sha1, codec, key_id }| {
            let owner = Arc::make_mut(self.archive(&archive));
            let number = owner.number_of_key(key_id.as_deref())?;
            Some(Packed::new(place, &sha1, codec, &found)?.encrypted_with(number))
        });
        match packed {
            Some(packed) => self.segment(&archive, place, packed),
            None => self.other(&key, found),
        }
    }

    /// What is known now; the very same when nothing has changed.
    #[must_use]
    pub fn finish(mut self) -> Arc<Repository> {
        self.end_of_part();
        let generation = self.known.generation + 1;
        let mut changed = false;
        let of = |others: &BTreeMap<String, Arc<BTreeMap<String, Found>>>, key: &str| {
            others.values().find_map(|part| part.get(key).copied())
        };
        let same = |key: &str| of(&self.known.others, key) == of(&self.next.others, key);
        self.next.archives.retain(|name, archive| {
            let known = self.known.archives.get(name);
            let is_known = known.is_some_and(|known| {
                (&known.blocks, &known.doubles, &known.histories, known.key_ids())
                    == (&archive.blocks, &archive.doubles, &archive.histories, archive.key_ids())
            });
            // A history file that was written anew changes its log's ways.
            let mut histories = archive.histories.values();
            let is_known = is_known && histories.all(|key| same(key));
            if let (Some(known), true) = (known, is_known) {
                *archive = known.clone();
                return true;
            }
            changed = true;
            let archive = Arc::make_mut(archive);
            archive.generation = generation;
            archive.count();
            archive.extent().0 > 0 || !archive.histories.is_empty()
        });
        changed |= self.next.archives.len() != self.known.archives.len();
        changed |= self.next.others != self.known.others;
        if !changed {
            return self.known;
        }
        let sizes = self.next.others.values().flat_map(|part| part.values());
        let sum = |(count, bytes): (u64, u64), found: &Found| (count + 1, bytes + found.size_bytes);
        self.next.others_extent = sizes.fold((0, 0), sum);
        self.next.generation = generation;
        Arc::new(self.next)
    }

    fn segment(&mut self, archive: &str, place: Place, segment: Packed) {
        let id = place.block();
        match &mut self.block {
            Some(open) if open.id == id && open.archive == archive => open.objects.push(segment),
            Some(_) | None => {
                self.end_of_block();
                // Mostly there is nothing yet; what was kept, or came out of order, goes on.
                let known = self.archive(archive);
                let is_new = known.blocks.get(id).is_none() && known.doubles.is_empty();
                let mut objects = if is_new { Vec::new() } else { Arc::make_mut(known).take(id) };
                objects.push(segment);
                self.block = Some(OpenBlock { archive: archive.to_owned(), id, objects });
            }
        }
    }

    fn other(&mut self, key: &str, found: Found) {
        let Some(others) = &mut self.others else { return };
        if others.made.is_none() {
            let from = (Excluded(&*others.equal_to), Unbounded);
            if others.known.range::<str, _>(from).next() == Some((&key.to_owned(), &found)) {
                key.clone_into(&mut others.equal_to);
                return;
            }
        }
        let made = others.made.get_or_insert_with(|| up_to(&others.known, &others.equal_to));
        made.insert(key.to_owned(), found);
    }

    fn archive(&mut self, name: &str) -> &mut Arc<Archive> {
        if !self.next.archives.contains_key(name) {
            let directory = self.format.archive_directory(name);
            let archive = Arc::new(Archive::new(directory, self.format.naming()));
            self.next.archives.insert(name.to_owned(), archive);
        }
        self.next.archives.get_mut(name).expect("it was put there two lines ago")
    }

    fn end_of_block(&mut self) {
        let Some(open) = self.block.take() else { return };
        let known = self.known.archives.get(&open.archive).cloned();
        let archive = Arc::make_mut(self.archive(&open.archive));
        archive.put(open.id, open.objects, known.as_deref());
    }

    fn end_of_part(&mut self) {
        self.end_of_block();
        let Some(others) = self.others.take() else { return };
        let rest = (Excluded(&*others.equal_to), Unbounded);
        let made = match others.made {
            Some(made) => Arc::new(made),
            None if others.known.range::<str, _>(rest).next().is_none() => others.known,
            None => Arc::new(up_to(&others.known, &others.equal_to)),
        };
        if made.is_empty() {
            self.next.others.remove(&others.part);
        } else {
            self.next.others.insert(others.part, made);
        }
    }
}

fn up_to(known: &BTreeMap<String, Found>, last: &str) -> BTreeMap<String, Found> {
    let kept = known.range::<str, _>((Unbounded, Included(last)));
    kept.map(|(key, found)| (key.clone(), *found)).collect()
}

/// Keeps of an archive what has no key behind `after`. Keys of segments are ordered as their places.
fn keep_to(archive: &mut Archive, after: &str) {
    archive.histories.retain(|_, key| **key <= *after);
    let is_kept =
        |archive: &Archive, place, segment: &Packed| *archive.key(place, segment) <= *after;
    let first_is_kept = |(id, block): &(BlockId, Arc<Block>)| {
        let first = block.segments().first();
        first.is_some_and(|first| is_kept(archive, id.place(first.slot()), first))
    };
    let whole = archive.blocks.all().partition_point(first_is_kept);
    // The border may go through a block, and through names that are stored twice.
    let border = whole.checked_sub(1).map(|last| archive.blocks.all()[last].0);
    let doubles = archive.doubles().filter(|(place, segment)| !is_kept(archive, *place, segment));
    let open: BTreeSet<BlockId> = doubles.map(|(place, _)| place.block()).chain(border).collect();
    let behind = archive.blocks.all().get(whole).map(|(id, _)| *id);
    let kept: Vec<(BlockId, Vec<Packed>)> = open
        .into_iter()
        .map(|id| {
            let mut objects = archive.take(id);
            objects.retain(|segment| is_kept(archive, id.place(segment.slot()), segment));
            (id, objects)
        })
        .collect();
    if let Some(behind) = behind {
        archive.blocks.truncate(behind);
    }
    for (id, objects) in kept {
        archive.put(id, objects, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::catalog::samples::{format, found, merged, segment_key, sorted};
    use chrono::DateTime;
    use proptest::prelude::*;

    #[test]
    fn two_segments_of_one_name_are_trusted_neither() {
        let one = "000000010000000000000001";
        let two = "000000010000000000000002";
        let keys = [segment_key(one, 'a'), segment_key(one, 'b'), segment_key(two, 'c')];
        let repository = sorted(keys.into_iter().map(|key| (key, found(9))));
        let archive = &repository.archives["15-1"];
        assert_eq!(archive.iter().map(|(place, _)| place.name()).collect::<Vec<_>>(), [two]);
        assert_eq!(archive.ambiguous().collect::<Vec<_>>(), [one]);
        assert_eq!(repository.extent(), (3, 27));
    }

    /// A log of few names, so that they meet: segments of two archives and timelines, some stored
    /// twice, and what else a repository has.
    fn key() -> impl Strategy<Value = String> {
        let sum = prop::sample::select(vec!['a', 'b']);
        let extension = prop::sample::select(vec!["", ".gz", ".zst", ".zst.tmp"]);
        let archive = prop::sample::select(vec!["15-1", "15-2"]);
        let number = prop_oneof![0_u32..6, 250_u32..262, 510_u32..514];
        let segment = (archive, 1_u32..3, 0_u32..2, number, sum, extension);
        let segment = segment.prop_map(|(archive, timeline, log, number, sum, extension)| {
            let (high, sum) = (format!("{timeline:08X}{log:08X}"), sum.to_string().repeat(40));
            format!("archive/m/{archive}/{high}/{high}{number:08X}-{sum}{extension}")
        });
        let other = prop::sample::select(vec![
            "archive/m/archive.info",
            "archive/m/15-1/00000002.history",
            "archive/m/15-2/00000003.history",
            "archive/m/15-1/0000000100000000/000000010000000000000002.00000028.backup",
            "backup/m/backup.info",
            "backup/m/20261123-075157F/pg_data/a",
            "backup/m/20261123-075157F/pg_data/b",
        ]);
        prop_oneof![12 => segment, 1 => other.prop_map(str::to_owned)]
    }

    #[derive(Clone, Debug)]
    enum Change {
        Put(Vec<(String, u64)>),
        Delete(Vec<prop::sample::Index>),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            3 => prop::collection::vec((key(), 1_u64..4), 1..30).prop_map(Change::Put),
            1 => prop::collection::vec(any::<prop::sample::Index>(), 1..20)
                .prop_map(Change::Delete),
        ]
    }

    type Objects = BTreeMap<String, Found>;

    fn apply(truth: &mut Objects, change: Change) {
        match change {
            Change::Put(all) => {
                truth.extend(all.into_iter().map(|(key, size)| {
                    let tag = format!("{size}");
                    (key, Found::new(size, DateTime::UNIX_EPOCH, Some(&tag)))
                }));
            }
            Change::Delete(which) => {
                for index in which.iter().filter(|_| !truth.is_empty()).collect::<Vec<_>>() {
                    if truth.is_empty() {
                        return;
                    }
                    let key = truth.keys().nth(index.index(truth.len())).unwrap().clone();
                    truth.remove(&key);
                }
            }
        }
    }

    /// The trusted object of each name, and the names that have none, in the simple way.
    fn segments(archive: &str, objects: &Objects) -> (BTreeMap<String, String>, Vec<String>) {
        let mut by_name: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for key in objects.keys() {
            if let Role::Segment { archive: of, name, sha1, .. } = format().role(key)
                && of == archive
            {
                by_name.entry(name).or_default().push((sha1, key.clone()));
            }
        }
        let (mut trusted, mut ambiguous) = (BTreeMap::new(), Vec::new());
        for (name, all) in by_name {
            if all.iter().all(|(sha1, _)| *sha1 == all[0].0) {
                trusted.insert(name, all.last().unwrap().1.clone());
            } else {
                ambiguous.push(name);
            }
        }
        (trusted, ambiguous)
    }

    fn check(repository: &Repository, known: &Objects) {
        let bytes: u64 = known.values().map(|found| found.size_bytes).sum();
        assert_eq!(repository.extent(), (known.len() as u64, bytes));
        for (key, found) in known {
            assert_eq!(repository.get(key), Some(*found), "{key}");
        }
        for archive in ["15-1", "15-2"] {
            let (trusted, ambiguous) = segments(archive, known);
            let empty = Arc::default();
            let log = repository.archives.get(archive).unwrap_or(&empty);
            let found = log.iter().map(|(place, s)| (place.name(), log.key(place, s)));
            assert_eq!(found.collect::<BTreeMap<_, _>>(), trusted);
            assert_eq!(log.ambiguous().collect::<Vec<_>>(), ambiguous);
            assert_eq!(log.len(), trusted.len());
            for (n, (name, key)) in trusted.iter().rev().enumerate() {
                assert!(log.contains(name));
                assert_eq!(log.nth_last(n + 1).map(|s| s.key).as_ref(), Some(key));
            }
            assert_eq!(log.nth_last(trusted.len() + 1), None);
            let histories = known.keys().filter(|key| key.ends_with(".history"));
            let of_log = histories.filter(|key| key.contains(archive)).collect::<Vec<_>>();
            assert_eq!(log.histories.values().collect::<Vec<_>>(), of_log);
        }
        let others = repository.others().map(|(key, _)| key);
        let segment = |key: &str| matches!(format().role(key), Role::Segment { .. });
        let expect: Vec<_> = known.keys().filter(|key| !segment(key)).collect();
        assert_eq!(others.collect::<Vec<_>>(), expect);
    }

    proptest! {
        #[test]
        fn a_merged_listing_is_what_the_simple_way_makes_of_it(
            steps in prop::collection::vec((change(), any::<Option<prop::sample::Index>>()), 1..12),
        ) {
            let (mut truth, mut known, mut repository) =
                (Objects::new(), Objects::new(), Arc::<Repository>::default());
            for (change, after) in steps {
                apply(&mut truth, change);
                let mut keys = known.keys().filter(|key| key.starts_with("archive/m/15"));
                let count = keys.clone().count();
                let after = after.filter(|_| count > 0).and_then(|at| keys.nth(at.index(count)));
                let after = after.cloned().unwrap_or_default();
                let before = known.clone();
                let seen = |key: &str| *key > *after && (after.is_empty() || key < "b");
                known.retain(|key, _| !seen(key));
                let listed = truth.iter().filter(|(key, _)| seen(key));
                known.extend(listed.map(|(key, found)| (key.clone(), *found)));
                let next = merged(repository.clone(), &after, &truth);
                check(&next, &known);
                prop_assert_eq!(Arc::ptr_eq(&next, &repository), before == known);
                prop_assert_eq!(&next.others, &sorted(known.clone()).others);
                for (name, archive) in &next.archives {
                    let (old, new) = (repository.archives.get(name), sorted(known.clone()));
                    let fresh = &new.archives[name];
                    prop_assert_eq!(&archive.blocks, &fresh.blocks);
                    prop_assert_eq!(&archive.doubles, &fresh.doubles);
                    if let Some(old) = old {
                        let same = (&old.blocks, &old.doubles, &old.histories)
                            == (&archive.blocks, &archive.doubles, &archive.histories);
                        // A history file that was written anew counts as well.
                        let of_log = |objects: &Objects| -> Objects {
                            let histories = objects.iter().filter(|(k, _)| k.ends_with("history"));
                            let of_log = histories.filter(|(key, _)| key.contains(name));
                            of_log.map(|(key, found)| (key.clone(), *found)).collect()
                        };
                        let same = same && of_log(&before) == of_log(&known);
                        prop_assert_eq!(same, old.generation == archive.generation);
                    }
                }
                repository = next;
            }
        }

        #[test]
        fn an_order_that_no_store_should_have_does_no_harm(
            changes in prop::collection::vec(change(), 1..4),
            mut mixed in Just(()).prop_perturb(|(), rng| rng),
        ) {
            let mut truth = Objects::new();
            changes.into_iter().for_each(|change| apply(&mut truth, change));
            let mut archive: Vec<_> = truth.iter().filter(|(k, _)| k.starts_with('a')).collect();
            for n in (1..archive.len()).rev() {
                archive.swap(n, usize::try_from(mixed.next_u64()).unwrap() % (n + 1));
            }
            let mut merge = Merge::new(&format(), Arc::default());
            merge.begin("archive/m", "");
            archive.iter().for_each(|(key, found)| merge.take(key, **found));
            merge.begin("backup/m", "");
            truth.iter().filter(|(k, _)| k.starts_with('b')).for_each(|(k, f)| merge.take(k, *f));
            check(&merge.finish(), &truth);
        }

        #[test]
        fn equal_blocks_are_passed_over_and_no_difference_is(
            (common, mine, theirs) in (change(), change(), change()),
        ) {
            let (mut one, mut other) = (Objects::new(), Objects::new());
            apply(&mut one, common.clone());
            apply(&mut other, common);
            apply(&mut one, mine);
            apply(&mut other, theirs);
            let (left, right) = (sorted(one.clone()), sorted(other.clone()));
            for (name, log) in &left.archives {
                let there = right.archives.get(name).map(|there| &**there);
                let differing: BTreeMap<String, bool> = log
                    .differing(there, Place::FIRST, Place::LAST)
                    .map(|(place, _, there)| (place.name(), there.is_some()))
                    .collect();
                let others = segments(name, &other).0;
                for (segment, key) in segments(name, &one).0 {
                    let same = others.get(&segment) == Some(&key)
                        && one[&key].size_bytes == other[&key].size_bytes;
                    let seen = differing.get(&segment);
                    prop_assert!(same || seen == Some(&others.contains_key(&segment)), "{}", key);
                }
            }
            for (name, log) in &left.archives {
                let same = log.differing(Some(log), Place::FIRST, Place::LAST).count();
                prop_assert_eq!(same, 0, "{}", name);
            }
        }
    }
}
