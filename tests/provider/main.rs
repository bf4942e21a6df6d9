//! The provider through the real `terraform` binary, against a fake of the API that refuses what the
//! real one refuses.

mod api;
mod journeys;
mod outages;
mod terraform;
