//! Which step of which lane is taken next, and for which other lanes at the same time.
//!
//! 1. Each lane goes through its own stages; the next stage begins when all steps of the one before
//!    have succeeded. Lanes do not wait for each other.
//! 2. A step that other lanes have before them in their present stage is taken for all of them: the
//!    source is read once.
//! 3. A lane that is slow or has failed goes on alone, so that the others do not wait for it.

use crate::{
    engine::replicate::plan::{Stage, Step},
    store::transfer::WHOLE_BYTES_MAX,
};
use std::collections::HashMap;

/// The lanes of one run.
#[derive(Debug)]
pub(super) struct Schedule<'a> {
    lines: Vec<Line<'a>>,
    at_once: usize,
    /// The lane that is asked first the next time.
    turn: usize,
}

/// How far one lane is.
#[derive(Debug)]
struct Line<'a> {
    /// The present stage and those after it.
    stages: &'a [Stage],
    by_key: HashMap<&'a str, usize>,
    taken: Vec<bool>,
    /// Before which all steps of the stage are taken.
    cursor: usize,
    /// Steps that were left behind and are to be taken once more.
    again: Vec<usize>,
    running: usize,
    has_failed: bool,
    is_alone: bool,
    is_over: bool,
}

/// A step for one or several lanes.
#[derive(Debug)]
pub(super) struct Work<'a> {
    /// Lanes, and what the step is in each: the same object, perhaps replacing another one.
    pub(super) shares: Vec<Share<'a>>,
}

/// A step of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share<'a> {
    pub(super) lane: usize,
    /// Its place in the stage.
    pub(super) at: usize,
    pub(super) step: &'a Step,
}

/// What came of a lane's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// Its source is not what it should be; the lane's other steps are not concerned.
    FaultySource,
    /// It failed in the lane's target.
    Failed,
    /// It failed, and the lane's further steps would, too.
    Hopeless,
    /// The other lanes were not to wait for this one.
    LeftBehind,
}

impl<'a> Line<'a> {
    fn new(stages: &'a [Stage]) -> Self {
        let mut line = Self {
            stages,
            by_key: HashMap::new(),
            taken: Vec::new(),
            cursor: 0,
            again: Vec::new(),
            running: 0,
            has_failed: false,
            is_alone: false,
            is_over: false,
        };
        line.enter();
        line
    }

    /// Enters the first stage that has steps.
    fn enter(&mut self) {
        while self.stages.first().is_some_and(|stage| stage.steps.is_empty()) {
            self.stages = &self.stages[1..];
        }
        let steps = self.stages.first().map_or(&[][..], |stage| &stage.steps);
        self.by_key = steps.iter().enumerate().map(|(at, step)| (step.key(), at)).collect();
        (self.taken, self.cursor) = (vec![false; steps.len()], 0);
        self.is_over = steps.is_empty();
    }

    fn steps(&self) -> &'a [Step] {
        self.stages.first().map_or(&[], |stage| &stage.steps)
    }

    /// The first step that is not taken.
    fn take(&mut self) -> Option<usize> {
        if let Some(at) = self.again.pop() {
            return Some(at);
        }
        while self.taken.get(self.cursor).copied().unwrap_or_default() {
            self.cursor += 1;
        }
        let at = self.cursor;
        *self.taken.get_mut(at)? = true;
        Some(at)
    }

    /// The same object among the steps that are not taken.
    fn take_same(&mut self, step: &Step) -> Option<usize> {
        let at = *self.by_key.get(step.key())?;
        let is_same = match (step, &self.steps()[at]) {
            (
                Step::Copy { size_bytes, proof, .. },
                Step::Copy { size_bytes: size, proof: other, .. },
            ) => size_bytes == size && proof == other,
            (Step::Copy { .. } | Step::Write { .. }, _) => false,
        };
        if !is_same || self.taken[at] {
            return None;
        }
        self.taken[at] = true;
        Some(at)
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.again.is_empty() && self.taken[self.cursor..].iter().all(|t| *t)
    }
}

impl<'a> Schedule<'a> {
    /// A schedule in which each lane has at most `at_once` steps under way of its own, and as many
    /// again that it shares with others. A large object, which is read and written at the same time,
    /// counts as two.
    pub(super) fn new(lanes: impl IntoIterator<Item = &'a [Stage]>, at_once: usize) -> Self {
        let lines = lanes.into_iter().map(Line::new).collect();
        Self { lines, at_once: at_once.max(1), turn: 0 }
    }

    /// Whether nothing is left of a lane.
    pub(super) fn is_over(&self, lane: usize) -> bool {
        self.lines[lane].is_over
    }

    /// Whether nothing is left of any.
    pub(super) fn are_all_over(&self) -> bool {
        self.lines.iter().all(|line| line.is_over)
    }

    /// What to begin now, if there is anything.
    pub(super) fn next(&mut self) -> Option<Work<'a>> {
        let count = self.lines.len();
        for lane in (0..count).map(|at| (self.turn + at) % count.max(1)) {
            let line = &mut self.lines[lane];
            if line.is_over || line.running >= self.at_once {
                continue;
            }
            let Some(at) = line.take() else { continue };
            line.running += weight(&line.steps()[at]);
            let (step, is_alone) = (&line.steps()[at], line.is_alone);
            let mut shares = vec![Share { lane, at, step }];
            if !is_alone {
                self.share(lane, step, &mut shares);
            }
            self.turn = (lane + 1) % count;
            return Some(Work { shares });
        }
        None
    }

    fn share(&mut self, lane: usize, step: &'a Step, shares: &mut Vec<Share<'a>>) {
        // Twice: a lane that is a moment behind the others is still served with them.
        let running_max = 2 * self.at_once;
        for (other, line) in self.lines.iter_mut().enumerate() {
            if other == lane || line.is_over || line.is_alone || line.running >= running_max {
                continue;
            }
            if let Some(at) = line.take_same(step) {
                line.running += weight(step);
                shares.push(Share { lane: other, at, step: &line.steps()[at] });
            }
        }
    }

    /// Takes in what came of the step at `at` of a lane. Says whether that ends the lane.
    pub(super) fn ended(&mut self, lane: usize, at: usize, outcome: Outcome) -> bool {
        let line = &mut self.lines[lane];
        if line.is_over {
            return false;
        }
        line.running -= weight(&line.steps()[at]);
        match outcome {
            Outcome::Done => {}
            Outcome::FaultySource => line.has_failed = true,
            Outcome::Failed => (line.has_failed, line.is_alone) = (true, true),
            Outcome::Hopeless => line.is_over = true,
            Outcome::LeftBehind => {
                line.is_alone = true;
                line.again.push(at);
            }
        }
        if !line.is_over && line.is_idle() {
            if line.has_failed {
                line.is_over = true;
            } else {
                line.stages = &line.stages[1..];
                line.enter();
            }
        }
        line.is_over
    }
}

/// What a step counts for.
fn weight(step: &Step) -> usize {
    if step.size_bytes() > WHOLE_BYTES_MAX { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::replicate::plan::Proof;

    fn stage(keys: &[&str]) -> Stage {
        let step = |key: &&str| Step::Copy {
            key: (*key).to_owned(),
            size_bytes: 1,
            proof: Proof::Size,
            replace: false,
        };
        Stage { name: "stage", steps: keys.iter().map(step).collect() }
    }

    /// What is begun until nothing more can be, such as `a01 b0`: the step, and for which lanes.
    fn begun<'a>(schedule: &mut Schedule<'a>) -> (String, Vec<Share<'a>>) {
        let (mut said, mut all) = (Vec::new(), Vec::new());
        while let Some(work) = schedule.next() {
            let lanes: String = work.shares.iter().map(|share| share.lane.to_string()).collect();
            said.push(format!("{}{lanes}", work.shares[0].step.key()));
            all.extend(work.shares);
        }
        (said.join(" "), all)
    }

    fn end(schedule: &mut Schedule<'_>, shares: &[Share<'_>], outcome: Outcome) {
        for share in shares {
            schedule.ended(share.lane, share.at, outcome);
        }
    }

    #[test]
    fn equal_steps_are_taken_together_and_each_lane_has_its_own_barrier() {
        let first = [stage(&["a", "b"]), stage(&["z"])];
        let second = [stage(&["b", "c"]), stage(&["z"])];
        let mut schedule = Schedule::new([&first[..], &second[..]], 8);
        let (said, shares) = begun(&mut schedule);
        assert_eq!(said, "a0 b10 c1");
        let (mine, others): (Vec<_>, Vec<_>) = shares.into_iter().partition(|s| s.lane == 0);
        end(&mut schedule, &mine, Outcome::Done);
        let (said, last) = begun(&mut schedule);
        assert_eq!(said, "z0", "the second lane is not through its first stage");
        end(&mut schedule, &last, Outcome::Done);
        assert!(schedule.is_over(0) && !schedule.is_over(1));
        end(&mut schedule, &others, Outcome::Done);
        let (said, last) = begun(&mut schedule);
        assert_eq!(said, "z1");
        end(&mut schedule, &last, Outcome::Done);
        assert!(schedule.are_all_over());
    }

    #[test]
    fn only_the_same_object_is_shared() {
        let first = [stage(&["a"])];
        let mut second = [stage(&["a"])];
        let Step::Copy { size_bytes, .. } = &mut second[0].steps[0] else { unreachable!() };
        *size_bytes = 2;
        assert_eq!(begun(&mut Schedule::new([&first[..], &second[..]], 8)).0, "a0 a1");
    }

    #[test]
    fn a_lane_that_hangs_holds_nobody_up() {
        let stages = [stage(&["a", "b", "c", "d", "e", "f"])];
        let mut schedule = Schedule::new([&stages[..], &stages[..]], 2);
        let (said, shares) = begun(&mut schedule);
        assert_eq!(said, "a01 b10");
        // The first lane's steps succeed, the second one's never end.
        let mut mine: Vec<_> = shares.into_iter().filter(|share| share.lane == 0).collect();
        let mut all = said;
        while !mine.is_empty() {
            end(&mut schedule, &mine, Outcome::Done);
            let (said, shares) = begun(&mut schedule);
            all = format!("{all}, {said}");
            mine = shares.into_iter().filter(|share| share.lane == 0).collect();
        }
        assert_eq!(all, "a01 b10, c01 d01, e0 f0, ");
        assert!(schedule.is_over(0) && !schedule.is_over(1));
    }

    #[test]
    fn who_was_left_behind_goes_on_alone_and_leaves_nothing_out() {
        let stages = [stage(&["a", "b", "c"])];
        let mut schedule = Schedule::new([&stages[..], &stages[..]], 1);
        let (_, shares) = begun(&mut schedule);
        schedule.ended(0, shares[0].at, Outcome::Done);
        schedule.ended(1, shares[1].at, Outcome::LeftBehind);
        let (said, shares) = begun(&mut schedule);
        assert_eq!(said, "a1 b0");
        end(&mut schedule, &shares, Outcome::Done);
        let (said, shares) = begun(&mut schedule);
        assert_eq!(said, "b1 c0");
        end(&mut schedule, &shares, Outcome::Done);
        let (said, shares) = begun(&mut schedule);
        assert_eq!(said, "c1");
        end(&mut schedule, &shares, Outcome::Done);
        assert!(schedule.are_all_over());
    }

    #[test]
    fn a_failure_ends_a_lane_at_its_barrier_or_at_once() {
        let stages = [stage(&["a", "b"]), stage(&["z"])];
        for (outcome, further) in [(Outcome::Failed, "b0"), (Outcome::FaultySource, "b0")] {
            let mut schedule = Schedule::new([&stages[..]], 1);
            let (_, shares) = begun(&mut schedule);
            end(&mut schedule, &shares, outcome);
            let (said, shares) = begun(&mut schedule);
            assert_eq!(said, further);
            assert!(schedule.ended(0, shares[0].at, Outcome::Done));
            assert!(schedule.are_all_over(), "z is left to a later pass");
        }
        let mut schedule = Schedule::new([&stages[..]], 1);
        let (_, shares) = begun(&mut schedule);
        assert!(schedule.ended(0, shares[0].at, Outcome::Hopeless));
        assert_eq!(begun(&mut schedule).0, "");
    }
}
