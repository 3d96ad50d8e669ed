//! All that the monitor knows, as a function of the records of `metrics` in their order.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::answers::Answers;
use super::checks::Checks;
use super::distances::Distances;
use super::merging::{Merger, Minute, Taken};
use super::outcomes::{Champion, Definition, METRICS, Outcomes};
use crate::drift::seasonal::{Judgement, Refused};
use crate::event::{MetricsWindow, RetrainTrigger, ServingWindow};
use crate::quality::windows::merge;
use crate::trigger::{Moment, Policy};

/// A record that cannot be what it says.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Impossible(String);

/// A final minute, and what was made of all its traffic.
#[derive(Debug)]
pub struct Judged<'a> {
    /// The minute.
    pub minute: &'a Minute,
    /// All its segments in one.
    pub all: &'a MetricsWindow,
    /// How each metric was judged.
    pub metrics: Vec<(&'static Definition, Judgement)>,
}

/// The whole state. Written by serde and read back it goes on as it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    settings: Settings,
    merger: Merger,
    outcomes: Outcomes,
    distances: Distances,
    checks: Checks,
    answers: Answers,
    /// What came of lists, in event time.
    policy: Policy,
    /// What was answered, in the wall time that its records tell. Two clocks, two policies.
    system: Policy,
    /// By partition of `metrics`: the next offset to read.
    next: Vec<i64>,
    minutes: u64,
}

impl Watch {
    /// Of nothing yet.
    ///
    /// # Errors
    /// Where a setting makes no sense.
    pub fn new(settings: Settings) -> Result<Self, Refused> {
        let rules = settings.rules.clone();
        let system = crate::trigger::Rules { schedule: None, ..rules.clone() };
        Ok(Self {
            merger: Merger::new(settings.idle_minutes * crate::time::MINUTE_MS),
            outcomes: Outcomes::new(settings.clone())?,
            distances: Distances::new(settings.clone()),
            checks: Checks::new(settings.clone()),
            answers: Answers::new(settings.clone()),
            policy: Policy::new(rules),
            system: Policy::new(system),
            next: Vec::new(),
            minutes: 0,
            settings,
        })
    }

    /// By what it judges.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// By partition: the next offset to read.
    pub fn next_offsets(&self) -> &[i64] {
        &self.next
    }

    /// Minutes that were judged.
    pub fn minutes(&self) -> u64 {
        self.minutes
    }

    /// What is watched.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Goes past a record. Whether it is new: partitions are read in order.
    pub fn pass(&mut self, partition: i32, offset: i64) -> bool {
        let place = usize::try_from(partition).unwrap_or(0);
        if self.next.len() <= place {
            self.next.resize(place + 1, 0);
        }
        let is_new = offset >= self.next[place];
        self.next[place] = self.next[place].max(offset + 1);
        is_new
    }

    /// Takes in what came of lists.
    ///
    /// # Errors
    /// [`Impossible`] where the window contradicts itself; nothing changes then.
    pub fn take_outcomes(
        &mut self,
        partition: i32,
        window: MetricsWindow,
    ) -> Result<(Taken, Vec<RetrainTrigger>), Impossible> {
        self.take_outcomes_telling(partition, window, &mut |_| {})
    }

    /// The same; `tell` hears of each minute that becomes final how it was judged.
    ///
    /// # Errors
    /// As [`Watch::take_outcomes`].
    pub fn take_outcomes_telling(
        &mut self,
        partition: i32,
        window: MetricsWindow,
        tell: &mut dyn FnMut(&Judged<'_>),
    ) -> Result<(Taken, Vec<RetrainTrigger>), Impossible> {
        check(&window)?;
        let newest = self.merger.newest();
        let taken = self.merger.take(partition, window);
        if self.merger.newest() > newest {
            self.answers.hear_of_lists();
        }
        let mut told = Vec::new();
        while let Some(minute) = self.merger.next() {
            told.extend(self.judge(&minute, tell)?);
        }
        Ok((taken, told))
    }

    /// Takes in what a worker answered. Returns whether it came in time, and what is to be told.
    pub fn take_answers(&mut self, window: &ServingWindow) -> (bool, Vec<RetrainTrigger>) {
        let in_time = self.answers.take(window);
        let mut told = Vec::new();
        while let Some(minute) = self.answers.next() {
            let moment = Moment {
                now: minute.now,
                model_version: self.answers.version(),
                version_since: self.answers.version_since(),
                offsets: &self.next,
            };
            told.extend(self.system.step(&moment, minute.findings));
        }
        (in_time, told)
    }

    fn judge(
        &mut self,
        minute: &Minute,
        tell: &mut dyn FnMut(&Judged<'_>),
    ) -> Result<Vec<RetrainTrigger>, Impossible> {
        let now = minute.start;
        self.minutes += 1;
        // Whether the data can be believed comes first: it holds back what they seem to say.
        let mut findings = self.checks.update(minute);
        let mut metrics = Vec::with_capacity(METRICS.len());
        let has_changed = self
            .outcomes
            .update(minute, &mut |definition, judgement| metrics.push((definition, judgement)))
            .map_err(Impossible)?;
        if has_changed {
            self.distances.begin_reference();
        }
        let reference = self.outcomes.champion().map(Champion::reference).unwrap_or_default();
        let mut all = MetricsWindow::default();
        minute.segments.values().for_each(|window| merge(&mut all, window));
        tell(&Judged { minute, all: &all, metrics });
        self.distances.update(now, &all, &reference);
        findings.extend(self.outcomes.findings(now).map_err(|e| Impossible(e.to_string()))?);
        findings.extend(self.distances.findings().iter().cloned());
        let champion = self.outcomes.champion();
        let moment = Moment {
            now,
            model_version: champion.map_or("", |champion| &champion.version),
            version_since: champion.filter(|champion| champion.is_new).map(|c| c.since),
            offsets: &self.next,
        };
        Ok(self.policy.step(&moment, findings))
    }
}

/// Refuses what no lists can have come to.
fn check(window: &MetricsWindow) -> Result<(), Impossible> {
    let counts = [
        window.lists,
        window.degraded_lists,
        window.impressions,
        window.clicks,
        window.watches,
        window.late_clicks,
        window.late_watches,
        window.predicted,
    ];
    if counts.iter().chain(&window.scores).chain(&window.feature_counts).any(|count| *count < 0) {
        return Err(Impossible("a count is below 0".into()));
    }
    for definition in METRICS {
        let (sum, n) = (definition.of)(window);
        if !(0.0..=n as f64).contains(&sum) {
            let name = definition.name;
            return Err(Impossible(format!("{name} is out of its range: {sum} of {n}")));
        }
    }
    Ok(())
}
