//! Full scans that take longer than anything else: passes go on meanwhile.

use super::{
    reader_of, regions, service, shared,
    world::{LOG, Primary, SimClock},
};
use crate::{
    engine::{
        catalog::paged::Paged,
        replicate::pass::{Replicator, Shared},
        views::RegionView,
    },
    store::{BlobStore, Condition, Contents, StoreError, key::Key, memory::MemoryStore, read_all},
    sys::clock::Clock,
};
use futures_util::FutureExt;
use rand::{SeedableRng, rngs::StdRng};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// Keys of a page: more than passes list.
const PAGE: usize = 9;

struct World {
    clock: SimClock,
    primary: Primary,
    copy: MemoryStore,
    shared: Shared,
    replicator: Replicator,
    /// Each page behind the first of a listing waits for one of them.
    pages: Arc<Semaphore>,
    /// Pages that are waited for, and the most at one time.
    waited: Arc<(AtomicUsize, AtomicUsize)>,
    fails: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl World {
    /// A copy that is in step, and whose first full scan is over.
    async fn new() -> Self {
        let (clock, mut primary, copy) = (SimClock::default(), Primary::new(), MemoryStore::new());
        primary.archive().await;
        primary.back_up(&mut StdRng::seed_from_u64(1), &clock).await;
        for _ in 0..14 {
            primary.archive().await;
        }
        let dir = tempfile::tempdir().unwrap();
        let shared =
            Shared { full_scan_interval: Duration::from_secs(3600), ..shared(&clock, dir.path()) };
        let waited = Arc::<(AtomicUsize, AtomicUsize)>::default();
        let fails = Arc::<AtomicBool>::default();
        let pages = Arc::new(Semaphore::new(1000));
        let slow = |store: &MemoryStore| -> Arc<dyn BlobStore> {
            let all = (pages.clone(), waited.clone(), fails.clone());
            let before = move |number: u64| {
                let (pages, waited, fails) = all.clone();
                async move {
                    if number == 0 {
                        return Ok(());
                    }
                    let now = waited.0.fetch_add(1, Ordering::SeqCst) + 1;
                    waited.1.fetch_max(now, Ordering::SeqCst);
                    pages.acquire().await.unwrap().forget();
                    waited.0.fetch_sub(1, Ordering::SeqCst);
                    if fails.load(Ordering::SeqCst) {
                        let key = Key::parse("page").unwrap();
                        return Err(StoreError::unavailable("s", "listing", &key, "told to fail"));
                    }
                    Ok(())
                }
                .boxed()
            };
            Arc::new(Paged::new(Arc::new(store.clone()), PAGE, before))
        };
        let source = reader_of(&shared, slow(&primary.store), "repo");
        let target = (regions().remove(0), reader_of(&shared, slow(&copy), "p/s"));
        let replicator =
            Replicator::new(service(None), Some(source), [target].into(), shared.clone());
        let _dir = dir;
        let world = Self { clock, primary, copy, shared, replicator, pages, waited, fails, _dir };
        for _ in 0..20 {
            world.pass().await;
        }
        assert!(!world.replicator.is_scanning().await);
        assert!(world.is_in_step());
        world.waited.1.store(0, Ordering::SeqCst);
        world.pages.forget_permits(1000);
        world
    }

    async fn pass(&self) {
        self.replicator.pass(&regions()[..1]).await;
        self.clock.sleep(Duration::from_secs(2)).await;
    }

    /// Scans go on, and what they find is heeded.
    async fn go_on(&self) {
        self.pages.add_permits(1000);
        for _ in 0..20 {
            self.pass().await;
        }
        assert!(!self.replicator.is_scanning().await);
        self.pages.forget_permits(1000);
    }

    fn view(&self) -> RegionView {
        self.shared.views.service(&service(None).id).regions[&regions()[0]].clone()
    }

    /// Whether all that the primary has archived is published.
    fn is_in_step(&self) -> bool {
        let (newest, catalog) = (&LOG[self.primary.archived - 1], self.view().catalog);
        let end = catalog.frontier.as_ref().map(|end| &end.segment);
        end == Some(&newest.name) && catalog.window.latest() == Some(newest.commit)
    }

    /// A full scan begins, unless one is going on.
    async fn due(&self) {
        *self.replicator.last_full_scan.lock().await = None;
    }

    /// A key of the copy.
    fn segment(&self, number: usize) -> Key {
        Key::parse(&format!("p/s/{}", LOG[number].key)).unwrap()
    }
}

#[tokio::test]
async fn what_arrives_during_a_full_scan_is_published_before_the_scan_ends() {
    let mut world = World::new().await;
    world.due().await;
    for _ in 0..5 {
        world.primary.archive().await;
        world.pass().await;
        assert!(world.is_in_step() && world.replicator.is_scanning().await);
    }
    world.go_on().await;
    assert!(world.is_in_step());
}

#[tokio::test]
async fn a_scan_is_not_begun_twice_and_what_asks_for_it_meanwhile_gets_another_one() {
    let world = World::new().await;
    world.due().await;
    world.pass().await;
    // The scan has been at the beginning of the log: what goes there now is for another one.
    world.copy.delete(&world.segment(1)).await.unwrap();
    for _ in 0..3 {
        world.due().await;
        world.pass().await;
    }
    let most = world.waited.1.load(Ordering::SeqCst);
    assert_eq!(most, 2, "one of the source, one of the copy");
    world.go_on().await;
    assert!(world.copy.head(&world.segment(1)).await.is_ok(), "it was missed, and copied again");
    assert!(world.is_in_step(), "{:?}", world.view());
}

#[tokio::test]
async fn a_scan_that_fails_says_so_holds_up_nothing_and_is_begun_anew() {
    let mut world = World::new().await;
    world.copy.delete(&world.segment(1)).await.unwrap();
    world.fails.store(true, Ordering::SeqCst);
    world.due().await;
    for _ in 0..3 {
        world.primary.archive().await;
        world.pages.add_permits(2);
        world.pass().await;
        world.pass().await;
        let problems = world.view().problems;
        assert!(problems.iter().any(|what| what.contains("told to fail")), "{problems:?}");
        assert!(world.is_in_step());
    }
    world.fails.store(false, Ordering::SeqCst);
    world.go_on().await;
    assert!(world.copy.head(&world.segment(1)).await.is_ok(), "it was missed, and copied again");
    assert!(world.is_in_step());
    assert_eq!(world.view().problems, Vec::<String>::new());
}

#[tokio::test]
async fn what_a_full_scan_sees_replaced_is_read_again() {
    let world = World::new().await;
    world.due().await;
    world.pass().await;
    let key = world.segment(12);
    let other = Contents::of("something else".into());
    world.copy.write(&key, other, &Condition::None).await.unwrap();
    world.go_on().await;
    world.replicator.prove(&regions()[..1]).await;
    world.go_on().await;
    let (_, bytes) = read_all(&world.copy, &key, 1 << 30).await.unwrap();
    assert_eq!(bytes, LOG[12].bytes, "it was found damaged, and repaired");
    assert!(world.is_in_step());
}
