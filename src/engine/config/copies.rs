//! Whether the providers of regions can make the copies that they are asked to make.

use crate::{
    engine::config::{Region, Settings, check::Checker, file::RegionTable},
    store::{BlobStore, config::process_environment, key::Key, open::open},
    sys::clock::SystemClock,
};
use std::sync::Arc;

impl Checker<'_> {
    /// A provider copies only what it holds itself: a region with `server_side_copy` must lie where the
    /// primary regions do that it may get copies of.
    pub(super) fn server_side_copies(&mut self, settings: &Settings, written: &[RegionTable]) {
        let Settings { regions, services, .. } = settings;
        for target in regions.iter().filter(|region| region.store_options.server_side_copy) {
            // What cannot be opened has been told already.
            let Some(store) = opened(target) else { continue };
            let others = services.iter().filter(|service| service.backup.is_some());
            let others = others.filter_map(|service| {
                let primary = regions.iter().find(|region| region.cloud.name == service.cloud)?;
                Some((service, primary)).filter(|(_, primary)| {
                    primary.cloud.name != target.cloud.name
                        && primary.cloud.provider == target.cloud.provider
                })
            });
            let mut apart = others.filter(|(_, primary)| {
                opened(primary).is_some_and(|primary| !takes_over(&*store, &*primary))
            });
            let Some((service, primary)) = apart.next() else { continue };
            let name = target.cloud.name.to_string();
            let table = written.iter().find(|table| *table.cloud.get_ref() == name);
            let options = table.and_then(|table| table.store_options.as_ref());
            let at =
                options.map_or(0, |options| self.setting(options.span().start, "server_side_copy"));
            let what = format!(
                "the backups of {} in {} are not in S3 with the same endpoint, so the provider \
                 cannot copy them from there; remove server_side_copy",
                service.id, primary.cloud.name
            );
            self.mistake(at, what);
        }
    }
}

fn opened(region: &Region) -> Option<Arc<dyn BlobStore>> {
    let clock = Arc::new(SystemClock::new());
    open(&region.store, &region.store_options, clock, &process_environment).ok()
}

/// Whether objects of `primary` can be copied into `store`, whichever they are.
fn takes_over(store: &dyn BlobStore, primary: &dyn BlobStore) -> bool {
    let any = Key::parse("any").expect("a plain name is a key");
    primary.object_name(&any).is_some_and(|name| store.takes_over(&name, 0))
}
