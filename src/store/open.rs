//! From an address and its settings to a store with its wrappers.

use crate::{
    store::{
        BlobStore,
        address::{Address, AddressError},
        cloud,
        config::{Environment, ProofChoice, SettingsError, StoreOptions},
        local::{LocalStore, Sidecars},
        wrap::{
            bandwidth::{Bandwidth, SlowedStore},
            retry::{RetryPolicy, RetryingStore},
        },
    },
    sys::clock::Clock,
};
use std::sync::Arc;

/// A store cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Its settings do not fit.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl OpenError {
    /// The setting that is to be corrected; `store` is the address.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Address(_) => "store",
            Self::Settings(error) => error.field,
        }
    }
}

/// Opens the store at an address. Nothing is asked of it yet: one that is down is found out by use.
///
/// # Errors
/// [`OpenError`], with how to put it right.
pub fn open(
    address: &str,
    options: &StoreOptions,
    clock: Arc<dyn Clock>,
    environment: Environment<'_>,
) -> Result<Arc<dyn BlobStore>, OpenError> {
    let mut store: Arc<dyn BlobStore> = match Address::parse(address)? {
        Address::Directory(root) => {
            only_for_directories(options)?;
            let sidecars = if options.sidecars { Sidecars::Json } else { Sidecars::None };
            let store = LocalStore::with_sidecars(root, sidecars);
            Arc::new(store.reading_back(options.proof == ProofChoice::ReadBack))
        }
        Address::Bucket { cloud, bucket, prefix, account } => {
            if options.sidecars {
                let what = "sidecars is for directories; buckets keep user metadata themselves";
                return Err(SettingsError::new("sidecars", what).into());
            }
            let bucket = cloud::Bucket { cloud, name: bucket, prefix, account };
            let store = Arc::new(cloud::open(bucket, options, clock.clone(), environment)?);
            // A cloud's writes are tried again part by part: nothing is kept here to replay them.
            Arc::new(RetryingStore::new(store, clock.clone(), RetryPolicy::default(), None))
        }
    };
    if let Some(mib) = options.bandwidth_mib {
        let line = Bandwidth::new(mib << 20, clock);
        store = Arc::new(SlowedStore::new(store, line));
    }
    Ok(store)
}

/// Settings that a directory has no use for are a mistake about what is being configured.
fn only_for_directories(options: &StoreOptions) -> Result<(), SettingsError> {
    let mine = StoreOptions {
        sidecars: options.sidecars,
        bandwidth_mib: options.bandwidth_mib,
        proof: options.proof,
        ..StoreOptions::default()
    };
    if *options == mine {
        return Ok(());
    }
    let what = "a directory takes only sidecars, proof and bandwidth_mib as its options; remove the \
                others";
    Err(SettingsError::new("store_options", what))
}
