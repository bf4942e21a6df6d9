//! What a fork's server calls itself, and the account that only we have while the fork is made.

use crate::engine::fork::{
    error::ForkError,
    mysql::{conf, paths::Paths},
    site::{read_json, remove_file, write_file, write_json},
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

/// Kept as long as the fork lives, in a file for its owner alone.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Number of the server in its own log, which no other server of a chain should have.
    pub(super) server_id: u32,
    /// Name of the account for us alone. No account of the source has it.
    pub(super) user: String,
    password: String,
}

impl Identity {
    /// The identity of this fork, made when there is none yet.
    pub(super) fn get(paths: &Paths<'_>) -> Result<Self, ForkError> {
        if let Some(known) = read_json(&paths.identity())? {
            return Ok(known);
        }
        let mut rng = rand::rng();
        let digits: u128 = rng.random();
        let made = Self {
            // Small numbers are what people give their servers.
            server_id: rng.random_range(1 << 24..=u32::MAX),
            user: format!("btar-{:08x}", rng.random::<u32>()),
            // Of every kind that a policy may ask for.
            password: format!("Aa1-{digits:032x}"),
        };
        write_json(&paths.identity(), &made)?;
        Ok(made)
    }

    /// Writes what server and clients need for the account. Both files are for their owner alone.
    pub(super) fn unlock(&self, paths: &Paths<'_>) -> Result<(), ForkError> {
        write_file(&paths.init_file(), &conf::init_file(&self.user, &self.password))?;
        let client = conf::client(paths.0, &self.user, &self.password);
        write_file(&paths.client_conf(), &client)
    }

    /// Takes both away.
    pub(super) fn lock(paths: &Paths<'_>) -> Result<(), ForkError> {
        remove_file(&paths.init_file())?;
        remove_file(&paths.client_conf())
    }
}
