//! The store in memory.

use crate::suite::{Traits, keeps_its_promises};
use btar::store::memory::MemoryStore;

#[tokio::test]
async fn keeps_promises() {
    keeps_its_promises(&MemoryStore::new(), Traits::ALL).await;
}
