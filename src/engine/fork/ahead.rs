//! Opens the next segments of a recovery before PostgreSQL asks for them: `restore_command` then has
//! nothing to do but to move a file.
//!
//! A segment lies below its name only when it is proven. Nothing relies on one being there: what is not,
//! `btar wal-fetch` opens itself.

use crate::{
    engine::fork::{
        fetch::{Trace, prove, segment_of, trace, write_new},
        fetch_plan::FetchPlan,
    },
    sys::clock::Clock,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Segments that lie ready.
const AHEAD: usize = 16;
/// How often is looked whether one was taken.
const INTERVAL: Duration = Duration::from_millis(20);
/// The same after a segment that cannot be opened. Whoever asks for it is told why.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);

/// Where the segments of the plan in `plan_file` lie ready.
pub(super) fn directory(plan_file: &Path) -> PathBuf {
    plan_file.with_extension("ahead")
}

/// Keeps segments ready until it is dropped.
pub(super) async fn keep(plan_file: &Path, plan: FetchPlan, clock: &dyn Clock) {
    let (plan, plan_file) = (Arc::new(plan), plan_file.to_owned());
    loop {
        let (plan, plan_file) = (plan.clone(), plan_file.clone());
        let step = tokio::task::spawn_blocking(move || step(&plan, &plan_file)).await;
        match step.expect("opening a segment does not panic") {
            Ok(true) => {}
            Ok(false) => clock.sleep(INTERVAL).await,
            Err(what) => {
                tracing::debug!(what, "a segment cannot be opened ahead");
                clock.sleep(AFTER_A_FAILURE).await;
            }
        }
    }
}

/// Makes one more segment ready; `false` when enough are.
fn step(plan: &FetchPlan, plan_file: &Path) -> Result<bool, String> {
    let next = match trace(plan_file, plan) {
        None => 0,
        Some(Trace::Beyond) => return Ok(false),
        Some(Trace::Sent(segment)) => {
            let name = segment.file_name(plan.segment_size());
            plan.segments().iter().position(|object| object.name == name).map_or(0, |at| at + 1)
        }
    };
    let wanted = plan.segments().iter().skip(next).take(AHEAD);
    let dir = directory(plan_file);
    fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let names: BTreeSet<&str> = wanted.clone().map(|object| object.name.as_str()).collect();
    for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
        // PostgreSQL has gone past it, or a write was broken off.
        if !entry.file_name().to_str().is_some_and(|name| names.contains(name)) {
            let _ = fs::remove_file(entry.path());
        }
    }
    for object in wanted {
        let place = dir.join(&object.name);
        if place.exists() {
            continue;
        }
        let bytes = segment_of(plan, object)?;
        prove(object, &bytes)?;
        let staged = dir.join(format!("{}.new", object.name));
        let placed = write_new(&staged, &bytes).and_then(|()| fs::rename(&staged, &place));
        return placed.map(|()| true).map_err(|error| error.to_string());
    }
    Ok(false)
}

/// Gives the segment `name` to `destination`, when it lies ready.
pub(super) fn give(plan_file: &Path, name: &str, destination: &Path) -> bool {
    // A name that is one part only: it comes from PostgreSQL, and nothing else may be moved.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain && fs::rename(directory(plan_file).join(name), destination).is_ok()
}
