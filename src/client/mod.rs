//! The client of the API: one method per endpoint, safe repetition, shared reads.

pub mod endpoints;
pub mod error;
mod exchange;
mod reads;
pub mod retry;
pub mod token;
pub mod transport;

#[cfg(test)]
pub(crate) mod fake;
