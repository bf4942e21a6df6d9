//! Objects in a directory that have lost the files with their user metadata.

use super::world::{BACKUPS, FIRST, LOG, digest, engine, passes, reader, region, site};
use crate::{
    engine::catalog::listing::Extent,
    store::local::{LocalStore, Sidecars},
};
use std::{fs, sync::Arc};

#[tokio::test]
async fn an_object_without_its_sidecar_is_none_and_gets_it_back() {
    let (source, dir, state) =
        (site().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = LocalStore::with_sidecars(dir.path().to_owned(), Sidecars::Json);
    let engine = engine(&source, Arc::new(store.clone()), state.path(), None, false);
    passes(&engine, 20).await;
    let mut judge = reader(Arc::new(store.clone()));
    let whole = judge.observe(Extent::Everything).await.unwrap().catalog;
    assert_eq!(whole.problems, Vec::<String>::new());
    assert_eq!(whole.window.ranges().len(), 1, "{}", whole.window);
    assert_eq!(whole.backups.len(), BACKUPS.len());
    for key in [
        format!("xlog/{}", LOG[5].0),
        format!("basebackup/{FIRST}.00000000.pghoard"),
        format!("basebackup_delta_chunk/{FIRST}/{FIRST}.00000001.pghoard"),
        format!("basebackup_delta/{}", digest("aa")),
    ] {
        let sidecar = dir.path().join("orders").join(format!("{key}.metadata"));
        fs::remove_file(&sidecar).unwrap();
        // What cannot be told from names alone is read again first.
        let mut mended = false;
        for _ in 0..30 {
            passes(&engine, 1).await;
            while engine.prove(&[region()]).await {}
            mended |= sidecar.exists();
        }
        assert!(mended, "{key}");
        let seen = judge.observe(Extent::Everything).await.unwrap().catalog;
        assert_eq!((seen.window, seen.problems), (whole.window.clone(), Vec::new()), "{key}");
    }
}

#[tokio::test]
async fn the_window_shrinks_until_what_was_lost_is_back() {
    let (source, dir, state) =
        (site().await, tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = LocalStore::with_sidecars(dir.path().to_owned(), Sidecars::Json);
    let engine = engine(&source, Arc::new(store.clone()), state.path(), None, false);
    passes(&engine, 20).await;
    let shared = format!("orders/basebackup_delta/{}", digest("aa"));
    // Nothing can be repaired from there.
    for key in source.keys().iter().filter(|key| key.as_str() == shared) {
        crate::store::BlobStore::delete(&source, key).await.unwrap();
    }
    fs::remove_file(dir.path().join(format!("{shared}.metadata"))).unwrap();
    for _ in 0..10 {
        passes(&engine, 1).await;
        while engine.prove(&[region()]).await {}
    }
    let view = engine.shared.views.service(&engine.service.id);
    let view = &view.regions[&region()];
    let first = view.catalog.backups.iter().find(|backup| backup.name == FIRST).unwrap();
    assert_eq!((first.range.as_ref(), first.missing.len()), (None, 1), "{first:?}");
    let problems = view.problems.join("\n");
    assert!(problems.contains("user metadata are gone"), "{problems}");
}
