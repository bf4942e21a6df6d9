//! Stores around stores: each adds one thing and is a store itself.

pub mod retry;

pub mod bandwidth;
pub mod limit;
pub mod metrics;
mod pace;

pub mod faulty;
