//! Listings of everything that go on beside the looks of a reader.

#[cfg(test)]
use crate::engine::catalog::listing::Listing;
use crate::engine::catalog::{
    listing::{Scan, Scanned, Whole},
    observe::Reader,
};

impl Reader {
    /// Begins a listing of everything, which goes on beside looks, in place of the last such; `None`
    /// before the first look, which lists everything itself.
    pub fn scan(&mut self) -> Option<Scan> {
        self.listing.scan()
    }

    /// Takes in what such a listing has found, for the next look.
    pub fn take_in(&mut self, scanned: Scanned) {
        self.listing.take_in(scanned);
    }

    /// What such a listing finds, or has found, counts for nothing.
    pub fn give_up_scan(&mut self) {
        self.listing.give_up_scan();
    }

    /// Whether a look has shown everything as it is listed since this was asked last.
    pub fn take_whole(&mut self) -> Option<Whole> {
        self.listing.take_whole()
    }

    /// Objects of the log are being written, by key: the next look sees them wherever they lie.
    pub fn wrote<'a>(&mut self, keys: impl Iterator<Item = &'a str>) {
        self.listing.wrote(keys);
    }

    /// The same, whose looks list so many segments before the newest one again.
    #[cfg(test)]
    pub(crate) fn with_tail(self, segments: usize) -> Self {
        Self { listing: Listing::with_tail(segments), ..self }
    }
}
