//! The architecture as a test: who may import whom, which files stay pure, how large a file may grow.
//!
//! Change a table here in the same commit that changes ARCHITECTURE.md.
#![allow(clippy::unwrap_used, reason = "a test helper may panic")]

use std::{collections::BTreeSet, fs, path::Path};

/// Module and the sibling modules it may name. Longest matching path wins.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &["domain"]),
    ("api", &["api", "domain"]),
    ("sys", &["sys"]),
    ("client", &["client", "api", "domain", "sys"]),
    // The plugin server knows nothing about backups: it could be a crate of its own.
    ("plugin", &["plugin"]),
    ("provider", &["provider", "plugin", "client", "api", "domain", "sys"]),
    ("store", &["store", "sys"]),
    ("wal", &["wal", "domain"]),
    ("binlog", &["binlog", "domain"]),
    ("layout", &["layout", "domain", "store::key"]),
    ("sealed", &["sealed", "layout", "domain"]),
    ("push", &["push", "layout", "store", "binlog", "domain", "sys"]),
    ("restore", &["restore", "sealed", "layout", "store", "domain"]),
    (
        "engine",
        &[
            "engine", "restore", "sealed", "layout", "binlog", "wal", "store", "api", "domain",
            "sys",
        ],
    ),
    // The decisions know neither the store nor the wire.
    ("engine/catalog/build.rs", &["engine::catalog", "layout", "wal", "domain", "store::key"]),
    ("engine/catalog/binlogs/judge.rs", &["engine::catalog", "layout", "binlog", "domain"]),
    ("engine/catalog/repository.rs", &["engine::catalog", "layout", "domain"]),
    ("engine/catalog/archive.rs", &["engine::catalog", "layout", "domain"]),
    ("engine/catalog/merge.rs", &["engine::catalog", "layout", "domain"]),
    ("engine/catalog/segment.rs", &["engine::catalog", "layout", "domain"]),
    ("engine/catalog/blocks.rs", &["engine::catalog", "layout", "domain"]),
    ("engine/catalog/hash.rs", &["engine::catalog", "layout", "domain"]),
    ("engine/catalog/learned.rs", &["engine::catalog", "layout", "wal", "domain"]),
    ("engine/catalog/runs.rs", &["engine::catalog", "layout", "wal", "domain", "store::key"]),
    (
        "engine/replicate/plan.rs",
        &["engine::catalog", "engine::replicate", "layout", "domain", "store::key"],
    ),
    (
        "engine/replicate/needed_log.rs",
        &["engine::catalog", "engine::replicate", "layout", "domain", "store::key"],
    ),
    (
        "engine/replicate/prune",
        &["engine::catalog", "engine::replicate", "layout", "domain", "store::key"],
    ),
    ("engine/replicate/guard.rs", &[]),
    ("engine/http", &["engine::http", "engine::app", "engine::error", "api", "domain", "sys"]),
];

/// A crate that only these places may name, so that it can be replaced there.
const ONLY_HERE: &[(&str, &[&str])] = &[
    ("tf_provider::", &["plugin/", "provider/", "bin/terraform-provider"]),
    ("tonic::", &["plugin/"]),
    ("reqwest::", &["client/transport.rs"]),
    ("axum::", &["engine/http/"]),
    ("rusqlite::", &["engine/state/"]),
    ("tokio_postgres::", &["engine/fork/server.rs"]),
    ("object_store::", &["store/cloud/"]),
    ("aws_lc_rs::", &["sealed/", "plugin/tls.rs"]),
    ("liblzma::", &["sealed/codec.rs", "wal/decode.rs"]),
    ("snap::", &["sealed/codec.rs", "wal/decode.rs"]),
    ("blake2::", &["restore/tree.rs"]),
    ("process::Command", &["engine/fork/process.rs", "engine/privilege.rs", "push/process.rs"]),
];

/// Files with decisions and no effects.
const PURE: &[&str] = &[
    "domain/",
    "api/",
    "layout/",
    "wal/",
    "binlog/",
    "sealed/",
    "push/parse.rs",
    "restore/place.rs",
    "restore/plan.rs",
    "restore/index_object.rs",
    "restore/tablespaces.rs",
    "catalog/build.rs",
    "catalog/binlogs/judge.rs",
    "catalog/repository.rs",
    "catalog/archive.rs",
    "catalog/merge.rs",
    "catalog/segment.rs",
    "catalog/blocks.rs",
    "catalog/hash.rs",
    "catalog/learned.rs",
    "catalog/runs.rs",
    "replicate/guard.rs",
    "replicate/needed_log.rs",
    "replicate/plan/",
    "replicate/prune/",
    "replicate/schedule.rs",
];
const IMPURE: &[&str] =
    &["async fn", ".await", "tokio::", "std::fs", "std::env", "std::net", "Clock"];

/// Lines before the tests of a file.
const FILE_LINES_MAX: usize = 400;

#[test]
fn modules_import_only_what_they_may() {
    let mut faults = Vec::new();
    for (name, code, _) in sources() {
        let Some((_, allowed)) =
            MAY_IMPORT.iter().filter(|(m, _)| covers(m, &name)).max_by_key(|(m, _)| m.len())
        else {
            continue; // lib.rs and bin/ see everything.
        };
        for path in crate_paths(&code) {
            if !allowed.iter().any(|a| path == *a || path.starts_with(&format!("{a}::"))) {
                faults.push(format!("src/{name} imports crate::{path}; it may import {allowed:?}"));
            }
        }
        if code.contains("super::super") {
            faults.push(format!("src/{name} uses super::super; write the path from crate::"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn decisions_stay_pure() {
    let mut faults = Vec::new();
    for (name, code, _) in sources().into_iter().filter(|s| PURE.iter().any(|p| s.0.contains(p))) {
        for word in IMPURE.iter().filter(|w| code.contains(**w)) {
            faults.push(format!("src/{name} is pure but has `{word}`"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn foreign_crates_stay_behind_their_seam() {
    let mut faults = Vec::new();
    for (name, code, _) in sources() {
        for (krate, homes) in ONLY_HERE {
            if code.contains(krate) && !homes.iter().any(|h| name.starts_with(h)) {
                faults.push(format!("src/{name} names `{krate}`; only {homes:?} may"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_stays_small() {
    let mut faults = Vec::new();
    for (name, code, text) in sources() {
        if !text.starts_with("//! ") {
            faults.push(format!("src/{name} does not begin with a `//!` line"));
        }
        let lines = code.lines().count();
        if lines > FILE_LINES_MAX {
            faults.push(format!(
                "src/{name} has {lines} lines before its tests; at most {FILE_LINES_MAX}"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// Name under src/, the code before the tests without comment lines blanked out, and the whole text.
fn sources() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
                let code =
                    code.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l });
                found.push((name, code.collect::<Vec<_>>().join("\n"), text.clone()));
            }
        }
    }
    found.sort();
    found
}

fn covers(module: &str, name: &str) -> bool {
    name == module || name == format!("{module}.rs") || name.starts_with(&format!("{module}/"))
}

/// Every `crate::` path, with one level of `{a, b::c}` opened.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        expand("", rest, &mut found);
    }
    found
}

/// Adds the path that `text` begins with, each of them where it goes on with a group.
fn expand(before: &str, text: &str, found: &mut BTreeSet<String>) {
    let head: String =
        text.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
    let path = format!("{before}{head}");
    let Some(group) = text[head.len()..].strip_prefix('{') else {
        if !head.is_empty() {
            found.insert(path.trim_end_matches(':').to_owned());
        }
        return;
    };
    let mut depth = 1;
    let group: String = group
        .chars()
        .take_while(|c| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth > 0
        })
        .collect();
    let mut depth = 0;
    for part in group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    }) {
        expand(&path, part.trim(), found);
    }
}
