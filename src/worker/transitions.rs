//! Learns next-item transitions beside the feed: takes the rows that wait in the tables, solves when
//! enough are new, and publishes. Nobody waits for it.

use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};

use super::{Context, WorkerError};
use crate::global::{GlobalTables, TransitionLearner, Waiting};
use crate::model::ridge::Unsolved;
use crate::runtime::{self, Urgency};
use crate::telemetry::names;

/// How often rows are taken. Longer: more of a burst is left out.
const LOOK: Duration = Duration::from_millis(50);
/// After so long a map is made anew from few new rows too. Where there is none, nothing is done.
const STALE: Duration = Duration::from_secs(600);

/// Starts the thread; none where transitions are not wanted.
pub(super) fn start(context: &Context) -> Result<Option<JoinHandle<()>>, WorkerError> {
    let Some(learner) = context.config.global.transitions() else { return Ok(None) };
    let mut learning = Learning { context: context.clone(), learner, taken: Waiting::default() };
    learning.tables().transitions().follow();
    let io = |source| WorkerError::Io { what: "starting a thread".into(), source };
    runtime::spawn("transitions", Urgency::Later, move || learning.run()).map(Some).map_err(io)
}

struct Learning {
    context: Context,
    learner: TransitionLearner,
    taken: Waiting,
}

impl Learning {
    fn run(&mut self) {
        let mut solved = Instant::now();
        while !self.context.stop.sleep(LOOK) {
            self.take();
            let stale = self.learner.has_new() && solved.elapsed() >= STALE;
            if self.learner.missing() == 0 || stale {
                self.solve();
                solved = Instant::now();
            }
        }
    }

    /// Takes what waits.
    fn take(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        self.tables().transitions().take(&mut taken);
        self.learner.learn(&taken);
        let outcome =
            |outcome: &'static str| counter!(names::TRANSITION_ROWS, "outcome" => outcome);
        outcome("taken").increment(taken.len() as u64);
        outcome("left_out").increment(taken.left_out());
        self.taken = taken;
        gauge!(names::TRANSITION_BYTES).set(self.learner.bytes() as f64);
    }

    fn solve(&mut self) {
        let begun = Instant::now();
        let (rows, solving) = (self.learner.rows(), self.learner.begin());
        // Rows go on coming while it is solved, which takes seconds.
        let solved = solving.solve(|| {
            self.take();
            !self.context.stop.is_requested()
        });
        let map = match solved {
            Ok(map) => Arc::new(map),
            Err(Unsolved::Stopped) => return,
            Err(error) => return tracing::warn!(%error, rows, "transitions stay as they were"),
        };
        let (items, took) = (map.len(), begun.elapsed());
        let before = self.tables().transitions().publish(map);
        drop(before);
        histogram!(names::TRANSITION_SOLVE_SECONDS).record(took);
        gauge!(names::TRANSITION_ITEMS).set(items as f64);
        tracing::debug!(rows, items, ?took, "transitions are solved");
    }

    fn tables(&self) -> RwLockReadGuard<'_, GlobalTables> {
        self.context.global.read().unwrap_or_else(PoisonError::into_inner)
    }
}
