//! Everything of PGHoard's layout on a real site: keys, decryption, restores that PostgreSQL starts from.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod site;

mod branches;
mod broken;
mod copies;
mod listing;
mod made;
mod oracle;
mod random;
mod speed;
mod targets;
mod windows;
