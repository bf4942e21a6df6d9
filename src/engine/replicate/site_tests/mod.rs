//! Copies of a site of PGHoard: what is removed from them, what is lost and mended.

mod retention;
mod sidecars;
mod world;
