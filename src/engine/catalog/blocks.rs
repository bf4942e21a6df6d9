//! An ordered list of blocks that copies share: a change copies one block and the list.

use crate::engine::catalog::segment::BlockId;
use std::sync::Arc;

/// Blocks in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks<T> {
    list: Vec<(BlockId, Arc<T>)>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<T> Blocks<T> {
    /// The block.
    #[must_use]
    pub fn get(&self, id: BlockId) -> Option<&Arc<T>> {
        self.place(id).ok().map(|at| &self.list[at].1)
    }

    /// The block, which mostly is the one behind that of the last call with the same `hint`.
    #[must_use]
    pub fn near(&self, id: BlockId, hint: &mut usize) -> Option<&Arc<T>> {
        let at = match self.list.get(*hint) {
            Some((there, _)) if *there == id => *hint,
            _ => self.place(id).ok()?,
        };
        *hint = at + 1;
        Some(&self.list[at].1)
    }

    /// The blocks from a place on.
    #[must_use]
    pub fn from(&self, id: BlockId) -> &[(BlockId, Arc<T>)] {
        let (Ok(at) | Err(at)) = self.place(id);
        &self.list[at..]
    }

    /// All blocks.
    #[must_use]
    pub fn all(&self) -> &[(BlockId, Arc<T>)] {
        &self.list
    }

    /// Puts a block to its place.
    pub fn insert(&mut self, id: BlockId, block: Arc<T>) {
        match self.place(id) {
            Ok(at) => self.list[at].1 = block,
            Err(at) => self.list.insert(at, (id, block)),
        }
    }

    /// Takes a block away.
    pub fn remove(&mut self, id: BlockId) -> Option<Arc<T>> {
        self.place(id).ok().map(|at| self.list.remove(at).1)
    }

    /// Takes away the blocks from a place on.
    pub fn truncate(&mut self, id: BlockId) {
        let (Ok(at) | Err(at)) = self.place(id);
        self.list.truncate(at);
    }

    /// Takes away the blocks before a place.
    pub fn forget_before(&mut self, id: BlockId) {
        let (Ok(at) | Err(at)) = self.place(id);
        self.list.drain(..at);
    }

    fn place(&self, id: BlockId) -> Result<usize, usize> {
        match self.list.last() {
            None => Err(0),
            Some((last, _)) if *last < id => Err(self.list.len()),
            Some((last, _)) if *last == id => Ok(self.list.len() - 1),
            Some(_) => self.list.binary_search_by_key(&id, |(there, _)| *there),
        }
    }
}

impl<T: Clone + Default> Blocks<T> {
    /// The block to change it: a copy when others share it, a new one where there is none.
    pub fn make_mut(&mut self, id: BlockId) -> &mut T {
        let at = match self.place(id) {
            Ok(at) => at,
            Err(at) => {
                self.list.insert(at, (id, Arc::default()));
                at
            }
        };
        Arc::make_mut(&mut self.list[at].1)
    }
}
