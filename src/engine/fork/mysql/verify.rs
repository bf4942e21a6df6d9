//! The phase *verifying*: the transactions of the fork's own log are those of the plan.

use crate::{
    domain::binlog::GtidSet,
    engine::fork::{
        error::ForkError,
        mysql::{binlogs, door::Door, error::MySqlError, paths::Step, runner::Job},
    },
};

const DOING: &str = "comparing the replay with the plan";

/// Compares, has everything written to the disk, and records that it is right.
pub(super) async fn verify(job: &Job<'_>) -> Result<(), ForkError> {
    compare(job).await?;
    // The replay was not durable: only what was written down by an orderly end may be relied on.
    job.stop_in_order(DOING).await?;
    if let Some(expected) = job.order.plan.transactions {
        let found = binlogs::groups(&job.paths().own_logs())?;
        if found != expected {
            let what = format!("{found} were replayed, and the plan has {expected}");
            return Err(MySqlError::Mismatch { what }.into());
        }
    }
    job.paths().mark(Step::Verified, &job.order.plan)
}

/// Compares the transactions that the running server has with those of the plan.
pub(super) async fn compare(job: &Job<'_>) -> Result<(), ForkError> {
    let Some(expected) = &job.order.plan.executed else { return Ok(()) };
    let before = job.paths().noted_executed()?;
    let expected = with_base(expected, before.as_ref());
    let found = Door { job }.executed(DOING).await?;
    match difference(&expected, &found) {
        None => Ok(()),
        Some(what) => Err(MySqlError::Mismatch { what }.into()),
    }
}

/// What the server must have in the end. The log of a server of MySQL that was itself restored does not
/// say what came with its data: that is in the base backup.
fn with_base(planned: &GtidSet, base: Option<&GtidSet>) -> GtidSet {
    let mut expected = planned.clone();
    if let (GtidSet::MySql(_), Some(base)) = (planned, base) {
        expected.extend(base);
    }
    expected
}

/// What is missing or too much.
fn difference(expected: &GtidSet, found: &GtidSet) -> Option<String> {
    let same = match (expected, found) {
        (GtidSet::MySql(_), GtidSet::MySql(_)) => {
            expected.contains(found) && found.contains(expected)
        }
        // A domain in which the source's log has nothing is of no plan.
        (GtidSet::MariaDb(expected), GtidSet::MariaDb(found)) => {
            expected.iter().all(|(domain, last)| found.get(domain) == Some(last))
        }
        (GtidSet::MySql(_), GtidSet::MariaDb(_)) | (GtidSet::MariaDb(_), GtidSet::MySql(_)) => {
            false
        }
    };
    if same {
        return None;
    }
    let kind = match (found.contains(expected), expected.contains(found)) {
        (true, _) => "too many",
        (false, true) => "too few",
        (false, false) => "others",
    };
    Some(format!("{kind}; the server has `{found}`, and the plan `{expected}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::binlog::Flavour;

    const ONE: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[track_caller]
    fn check(flavour: Flavour, expected: &str, found: &str, says: Option<&str>) {
        let set = |text: &str| GtidSet::parse(flavour, &text.replace("ONE", ONE)).unwrap();
        let what = difference(&set(expected), &set(found));
        match (what, says) {
            (None, None) => {}
            (Some(what), Some(says)) => assert!(what.starts_with(says), "{what}"),
            (what, says) => panic!("{what:?} is not {says:?}"),
        }
    }

    #[test]
    fn only_the_same_transactions_are_right() {
        check(Flavour::MySql, "ONE:1-5", "ONE:1-5", None);
        check(Flavour::MySql, "ONE:1-5", "ONE:1-6", Some("too many"));
        check(Flavour::MySql, "ONE:1-5", "ONE:1-4", Some("too few"));
        check(Flavour::MySql, "ONE:1-5", "ONE:1-4:6", Some("others"));
        check(Flavour::MariaDb, "0-1-5,3-1-2", "0-1-5,3-1-2,7-7-7", None);
        check(Flavour::MariaDb, "0-1-5", "0-1-4", Some("too few"));
        check(Flavour::MariaDb, "0-1-5", "0-1-6", Some("too many"));
        check(Flavour::MariaDb, "0-1-5", "0-2-5", Some("too many"));
        check(Flavour::MariaDb, "0-1-5,3-1-2", "0-1-5", Some("too few"));
    }
}
