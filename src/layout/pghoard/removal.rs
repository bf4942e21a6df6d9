//! Which objects go with a base backup, and in which order.

use crate::layout::pghoard::{
    keys,
    needs::{Listing, chunks_listed},
};
use std::collections::BTreeSet;

/// The shared files that the base backups refer to that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptReferences {
    /// The index of every one of them in delta mode has been read, and these are all.
    Known(BTreeSet<String>),
    /// At least one of those indexes could not be read, so that any file may be referred to.
    Unknown,
}

/// What to remove, in this order. A step begins when the one before it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// First the index: from then on nobody takes the base backup for whole.
    pub index: Vec<String>,
    /// Then what is this backup's alone.
    pub data: Vec<String>,
    /// Shared files that nobody refers to any more.
    pub shared: Vec<String>,
    /// Shared files of which that is not known. They stay.
    pub undecided: Vec<String>,
}

/// Works out what goes with `backup`. `own` are the digests of the shared files that it refers to;
/// `None` when its index could not be read, and then no shared file goes with it.
#[must_use]
pub fn removal(
    backup: &str,
    listing: &Listing,
    own: Option<&BTreeSet<String>>,
    kept: &KeptReferences,
) -> Removal {
    let index = index_of(backup, listing);
    let data = chunks_listed(backup, listing).into_iter().map(|chunk| chunk.key).collect();
    let (shared, undecided) = shared_files(own.into_iter().flatten(), listing, kept);
    Removal { index, data, shared, undecided }
}

/// Of the shared files with these digests, the keys of those that nobody refers to any more, and of
/// those of which that is not known.
#[must_use]
pub fn shared_files<'a>(
    digests: impl IntoIterator<Item = &'a String>,
    listing: &Listing,
    kept: &KeptReferences,
) -> (Vec<String>, Vec<String>) {
    let (mut shared, mut undecided) = (Vec::new(), Vec::new());
    for digest in digests {
        let key = keys::delta_file(digest);
        match kept {
            _ if !listing.contains_key(&key) => {}
            KeptReferences::Known(kept) if kept.contains(digest) => {}
            KeptReferences::Known(_) => shared.push(key),
            KeptReferences::Unknown => undecided.push(key),
        }
    }
    (shared, undecided)
}

fn index_of(backup: &str, listing: &Listing) -> Vec<String> {
    let keys = keys::index_keys(backup);
    keys.into_iter().filter(|key| listing.contains_key(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_files_go_only_when_nobody_can_need_them() {
        let id = "2026-11-23_09-01_1";
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let shared = |digest: &str| format!("basebackup_delta/{digest}");
        let index = format!("basebackup/{id}.00000000.pghoard");
        let bundle = format!("basebackup_delta_chunk/{id}/{id}.00000001.pghoard");
        let other = "basebackup/2026-11-23_09-01_2.00000000.pghoard".to_owned();
        let listing: Listing = [&index, &bundle, &other, &shared(&a), &shared(&b)]
            .into_iter()
            .map(|key| (key.clone(), 1))
            .collect();
        let own = BTreeSet::from([a.clone(), b.clone()]);

        let known = KeptReferences::Known(BTreeSet::from([a.clone()]));
        let expect = Removal {
            index: vec![index],
            data: vec![bundle],
            shared: vec![shared(&b)],
            undecided: vec![],
        };
        assert_eq!(removal(id, &listing, Some(&own), &known), expect);

        let unknown = removal(id, &listing, Some(&own), &KeptReferences::Unknown);
        assert_eq!((unknown.shared, unknown.undecided), (vec![], vec![shared(&a), shared(&b)]));

        let keyless = removal(id, &listing, None, &known);
        assert_eq!((keyless.data, keyless.shared), (expect.data, vec![]));
    }
}
