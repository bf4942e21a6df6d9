//! Opens the next segments of a recovery before PostgreSQL asks for them: `restore_command` then has
//! nothing to do but to move a file.
//!
//! A segment lies below its name only when it is proven. Nothing relies on one being there: what is not,
//! `btar wal-fetch` opens itself.

use crate::{
    engine::fork::{
        fetch::{Trace, trace},
        fetch_plan::FetchPlan,
        opening,
    },
    sys::clock::Clock,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// Segments that lie ready.
const AHEAD: usize = 16;
/// How much less than others the opening is due of a busy processor.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;
/// How often is looked whether one was taken.
const INTERVAL: Duration = Duration::from_millis(20);
/// The same after a segment that cannot be opened. Whoever asks for it is told why.
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);

/// Where the segments of the plan in `plan_file` lie ready.
pub(super) fn directory(plan_file: &Path) -> PathBuf {
    plan_file.with_extension("ahead")
}

/// Keeps segments ready until it is dropped. It never ends by itself. `ended` is dropped when nothing more is
/// written, a moment later.
pub(super) async fn keep(
    plan_file: &Path,
    plan: FetchPlan,
    clock: &dyn Clock,
    ended: oneshot::Sender<()>,
) {
    let (ask, asked) = mpsc::channel::<oneshot::Sender<Result<bool, String>>>();
    let plan_file = plan_file.to_owned();
    let work = move || {
        give_way();
        for answer in asked {
            // Nobody waits for it when the replay has ended meanwhile.
            let _ = answer.send(step(&plan, &plan_file));
        }
        drop(ended);
    };
    if let Err(error) = thread::Builder::new().name("open-ahead".to_owned()).spawn(work) {
        tracing::warn!(%error, "no thread for opening segments ahead: each is opened when it is asked for");
        return std::future::pending().await;
    }
    loop {
        let (answer, answered) = oneshot::channel();
        ask.send(answer).expect("the thread listens until the sender is gone");
        match answered.await.expect("opening a segment does not panic") {
            Ok(true) => {}
            Ok(false) => clock.sleep(INTERVAL).await,
            Err(what) => {
                tracing::debug!(what, "a segment cannot be opened ahead");
                clock.sleep(AFTER_A_FAILURE).await;
            }
        }
    }
}

/// Lets the replay go first where both want the same processor. On Linux this is of one thread, which
/// therefore does nothing else.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // It is only politeness.
        let _ = rustix::process::nice(NICENESS);
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
        // A name of its own: one who was called off a moment ago may still be writing the same segment.
        let staged = dir.join(format!("{}.{:016x}", object.name, rand::random::<u64>()));
        let file = opening::segment(plan, object, &staged)?;
        // PostgreSQL syncs a segment before it replays it, and finds that done. A failure counts: it is
        // told only once.
        let placed = file.sync_all().and_then(|()| fs::rename(&staged, &place));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fork::fetch::{
        run,
        tests::{FIRST, world},
    };

    fn plan_in(file: &Path) -> FetchPlan {
        FetchPlan::parse(&fs::read_to_string(file).unwrap()).unwrap()
    }

    #[test]
    fn what_lies_ready_is_handed_over_and_nothing_is_opened_twice() {
        let temp = tempfile::tempdir().unwrap();
        let (plan, file) = world(temp.path(), 6 << 20);
        let fetch_plan = plan_in(&file);
        assert_eq!(step(&fetch_plan, &file), Ok(true));
        assert_eq!(step(&fetch_plan, &file), Ok(false), "the plan has one segment");
        let ready: Vec<_> = fs::read_dir(directory(&file)).unwrap().collect();
        assert_eq!(ready.len(), 1, "nothing but the segment");
        // Without the object, it can only come from there.
        fs::remove_file(temp.path().join("six")).unwrap();
        let destination = temp.path().join("RECOVERYXLOG");
        let _ = run(&file, FIRST, &destination);
        let bytes = fs::read(&destination).unwrap();
        let expected = plan.log[0].sha1.as_deref().unwrap();
        assert_eq!(crate::wal::decode::sha1_hex(&bytes), expected);
        assert_eq!(
            step(&fetch_plan, &file),
            Ok(false),
            "it was sent, so it is not wanted any more"
        );
    }

    #[test]
    fn what_is_damaged_never_lies_under_its_name() {
        let temp = tempfile::tempdir().unwrap();
        let (mut plan, file) = world(temp.path(), 6 << 20);
        plan.log[0].sha1 = Some("0".repeat(40));
        fs::write(&file, FetchPlan::of(&plan, temp.path()).to_text()).unwrap();
        for _ in 0..2 {
            let failed = step(&plan_in(&file), &file).unwrap_err();
            assert!(failed.contains("SHA-1"), "{failed}");
            assert!(!directory(&file).join(FIRST).exists());
        }
        assert!(!give(&file, FIRST, &temp.path().join("RECOVERYXLOG")));
        // A write that was broken off is not left for ever.
        plan.log.clear();
        assert_eq!(step(&FetchPlan::of(&plan, temp.path()), &file), Ok(false));
        assert_eq!(fs::read_dir(directory(&file)).unwrap().count(), 0);
    }
}
