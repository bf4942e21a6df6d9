//! Replaces a damaged object of a copy by the primary's, when that still proves good.

use crate::{
    engine::{
        error::chain,
        replicate::{
            examine::{Check, KnownSums, Verdict, read},
            record::{Ledger, Primary},
            scrub::ProveError,
        },
        state::{damage::Damage, records::Record},
    },
    layout::BackupPlace,
    store::{Body, Condition, Contents, Lasting, StoreError, key::Key, proof::Crc64},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::sync::{Arc, OnceLock};
use tracing::{info, warn};

/// The contents that an object must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expected {
    size_bytes: u64,
    crc64: u64,
}

impl Ledger {
    /// Tries to repair an object that is known to be damaged.
    ///
    /// # Errors
    /// [`ProveError`] when the copy or the state cannot be used. That the primary's object is no
    /// better is noted and no error.
    pub(super) async fn repair(
        &self,
        key: &str,
        damage: &Damage,
        primary: Option<&Primary>,
    ) -> Result<(), ProveError> {
        let outcome = match primary {
            None => Err("the primary region is not known to this engine".to_owned()),
            Some(primary) => self.replace(key, primary).await?,
        };
        let (copy, now) = (self.number()?, self.clock.now());
        match outcome {
            Ok(()) => {
                info!(service = %self.id, region = %self.region, key,
                    "a damaged object of the copy was repaired from the primary region");
                self.judge.notify_one();
            }
            Err(why) => {
                if damage.unrepaired.as_ref() != Some(&why) {
                    warn!(service = %self.id, region = %self.region, key, why,
                        "a damaged object of the copy cannot be repaired");
                }
                let damage = Damage { unrepaired: Some(why), ..damage.clone() };
                self.state.note_damage(copy, key, &damage, now)?;
            }
        }
        Ok(())
    }

    /// Writes the primary's object over the copy's; the inner error says why not.
    async fn replace(
        &self,
        key: &str,
        primary: &Primary,
    ) -> Result<Result<(), String>, ProveError> {
        let record = self.recorded(key)?;
        let expected = match self.expected(key, record.as_ref(), primary).await {
            Ok(expected) => expected,
            Err(why) => return Ok(Err(why)),
        };
        let (Ok(from), Ok(to)) = (primary.prefix.join(key), self.place.prefix.join(key)) else {
            return Ok(Err("its key is none of an object".to_owned()));
        };
        let object = match primary.store.get(&from).await {
            Ok(object) => object,
            Err(error) => return Ok(Err(unreadable(&error))),
        };
        if object.meta.size_bytes != expected.size_bytes {
            let (is, not) = (object.meta.size_bytes, expected.size_bytes);
            return Ok(Err(format!("{PRIMARY} is not good either: it has {is} bytes, not {not}")));
        }
        let mismatch = Arc::new(OnceLock::new());
        let body = checked(from, object.body, expected, mismatch.clone());
        let contents = Contents::new(expected.size_bytes, object.user_metadata, body);
        match self.store.write(&to, contents, &Condition::None).await {
            Ok(stored) => {
                self.wrote(key, &stored);
                self.flush(None)?;
                Ok(Ok(()))
            }
            Err(error) => match mismatch.get() {
                Some(what) => Ok(Err(format!("{PRIMARY} is not good either: {what}"))),
                None => Err(error.into()),
            },
        }
    }

    /// What the object must be: as it was recorded, else what the layout proves in the primary.
    async fn expected(
        &self,
        key: &str,
        record: Option<&Record>,
        primary: &Primary,
    ) -> Result<Expected, String> {
        if let Some(record) = record {
            return Ok(Expected { size_bytes: record.size_bytes, crc64: record.crc64 });
        }
        let place =
            BackupPlace { format: self.place.format.clone(), prefix: primary.prefix.clone() };
        let store = &*primary.store;
        let check = KnownSums::default().check(store, &place, key).await;
        let check: Check = check.map_err(|error| unreadable(&error))?;
        let from = primary.prefix.join(key).map_err(|error| error.to_string())?;
        let seen = read(store, &from, &check, None).await.map_err(|error| unreadable(&error))?;
        let seen = seen.ok_or_else(|| format!("{PRIMARY} does not exist any more"))?;
        match seen.layout {
            Verdict::Proven => Ok(Expected { size_bytes: seen.size_bytes, crc64: seen.crc64 }),
            Verdict::Refuted(what) => Err(format!("{PRIMARY} is not good either: {what}")),
            Verdict::Silent => Err(format!("nothing proves {PRIMARY}")),
        }
    }
}

const PRIMARY: &str = "the primary region's object";

fn unreadable(error: &StoreError) -> String {
    match error {
        StoreError::NotFound(_) => format!("{PRIMARY} does not exist any more"),
        StoreError::AlreadyExists(_)
        | StoreError::Changed(_)
        | StoreError::NoSpace { .. }
        | StoreError::Denied { .. }
        | StoreError::Refused { .. }
        | StoreError::Unavailable { .. } => format!("{PRIMARY} cannot be read: {}", chain(error)),
    }
}

/// A body whose last piece is only given when all of it is as expected: otherwise nothing is written.
/// `mismatch` tells why, whatever a store makes of the error.
fn checked(key: Key, body: Body, expected: Expected, mismatch: Arc<OnceLock<String>>) -> Body {
    let state = (body, Crc64::new(), 0_u64, None::<Bytes>, false);
    let pieces = stream::try_unfold(state, move |(mut body, mut sum, mut read, held, ended)| {
        let (key, mismatch) = (key.clone(), mismatch.clone());
        async move {
            if ended {
                return Ok(None);
            }
            if let Some(piece) = body.try_next().await? {
                sum.update(&piece);
                read += piece.len() as u64;
                let give = held.unwrap_or_default();
                return Ok(Some((give, (body, sum, read, Some(piece), false))));
            }
            if read == expected.size_bytes && sum.finish() == expected.crc64 {
                return Ok(Some((held.unwrap_or_default(), (body, sum, read, None, true))));
            }
            let (is, not) = (sum.finish(), expected.crc64);
            let what = format!("its CRC-64 is {is:016x}, not {not:016x}");
            let what = Lasting(mismatch.get_or_init(|| what).clone());
            Err(StoreError::unavailable("the primary region's store", "reading", &key, what))
        }
    });
    // An empty piece means nothing to a store, and is what stands before the first.
    pieces.try_filter(|piece| futures_util::future::ready(!piece.is_empty())).boxed()
}
