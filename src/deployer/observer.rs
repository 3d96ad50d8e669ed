//! What is known of a rollout: what workers say, what came of lists, who asks for what.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::deployment::{CONTROLLED, Fleet, Outcomes, View};
use crate::event::{
    MetricsWindow, ModelAck, ModelControl, RetrainTrigger, RunState, TrainingRun, TriggerAction,
    TriggerState,
};
use crate::kafka::{KafkaError, Record, WholeTopic};
use crate::serving::UNTRAINED;
use crate::time::HOUR_MS;

/// How long a poll waits where nothing is there.
const POLL: Duration = Duration::from_millis(5);
/// Records of a topic that are read before the others' turn.
const BURST: usize = 1_000;

/// Reads the topics that decisions stand on.
pub struct Observer {
    acks: WholeTopic,
    metrics: WholeTopic,
    triggers: WholeTopic,
    runs: WholeTopic,
    begun: Instant,
    fleet: Fleet,
    control: ModelControl,
    seen_ms: u64,
    is_sent_again: bool,
    outcomes: Outcomes,
    /// The newest ROLLBACK that was asked for: of which version, and why.
    rollback: Option<(String, String)>,
    /// The newest version that a trainer has finished and blessed.
    blessed: Option<String>,
}

impl Observer {
    /// Reads all there is that may concern `control`.
    ///
    /// # Errors
    /// [`KafkaError`] where the broker does not answer or a topic is not there.
    pub fn open(config: &Config, control: &ModelControl) -> Result<Self, KafkaError> {
        let (client, topics) = (config.kafka.client(), &config.topics);
        let open = |name: String| WholeTopic::open(&client, &name, "driftline-deployer");
        let mut observer = Self {
            acks: open(topics.model_acks())?,
            metrics: open(topics.metrics())?,
            triggers: open(topics.retrain_triggers())?,
            runs: open(topics.training_runs())?,
            begun: Instant::now(),
            fleet: Fleet::default(),
            control: ModelControl::default(),
            seen_ms: 0,
            is_sent_again: false,
            outcomes: Outcomes::default(),
            rollback: None,
            blessed: None,
        };
        observer.follow(control);
        // Windows are of lists of after the decision. An hour, since clocks differ.
        observer.metrics.start_at_time(control.decided_at - HOUR_MS)?;
        let topics =
            [&mut observer.acks, &mut observer.metrics, &mut observer.triggers, &mut observer.runs];
        topics.into_iter().try_for_each(WholeTopic::mark_end)?;
        while !observer.is_caught_up() {
            observer.read();
        }
        Ok(observer)
    }

    fn is_caught_up(&self) -> bool {
        [&self.acks, &self.metrics, &self.triggers, &self.runs].iter().all(|t| t.is_at_mark())
    }

    /// Goes by another decision from now on.
    pub fn follow(&mut self, control: &ModelControl) {
        if control.candidate != self.control.candidate || control.salt != self.control.salt {
            self.is_sent_again = false;
        }
        let champion = match control.champion.as_str() {
            "" => UNTRAINED,
            champion => champion,
        };
        self.outcomes = Outcomes::new(champion, &control.candidate, control.since);
        self.control = control.clone();
        self.seen_ms = self.now_ms();
    }

    /// Reads what is there now. Whether there was anything.
    pub fn read(&mut self) -> bool {
        let now = self.now_ms();
        let mut any = false;
        let (fleet, outcomes) = (&mut self.fleet, &mut self.outcomes);
        any |= each(&mut self.acks, |record| {
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            if !key.starts_with(&format!("{CONTROLLED}/")) {
                return Ok(());
            }
            let ack = (!record.is_tombstone()).then(|| ModelAck::decode(record.value()));
            fleet.take(&key, ack.transpose().map_err(|error| error.to_string())?, now);
            Ok(())
        });
        any |= each(&mut self.metrics, |record| {
            // Windows of workers are of no use here.
            if let Ok(window) = MetricsWindow::decode(record.value()) {
                outcomes.take(&window);
            }
            Ok(())
        });
        let rollback = &mut self.rollback;
        any |= each(&mut self.triggers, |record| {
            let told = RetrainTrigger::decode(record.value()).map_err(|e| e.to_string())?;
            if told.action == TriggerAction::Rollback && told.state == TriggerState::Firing {
                *rollback = Some((told.model_version, told.reason));
            }
            Ok(())
        });
        let blessed = &mut self.blessed;
        any |= each(&mut self.runs, |record| {
            let run = TrainingRun::decode(record.value()).map_err(|e| e.to_string())?;
            if run.state == RunState::Finished && run.blessed && !run.promoted {
                *blessed = Some(run.version);
            }
            Ok(())
        });
        any
    }

    /// All that is known now.
    pub fn view(&self) -> View<'_> {
        let now_ms = self.now_ms();
        View {
            control: &self.control,
            fleet: &self.fleet,
            outcomes: &self.outcomes,
            now_ms,
            waited_ms: now_ms - self.seen_ms,
            is_sent_again: self.is_sent_again,
            rollback: self.rollback.as_ref(),
        }
    }

    /// The candidate's bytes were sent again.
    pub fn note_sent_again(&mut self) {
        self.is_sent_again = true;
    }

    /// The newest version that a trainer has blessed and not promoted itself.
    pub fn blessed(&self) -> Option<&str> {
        self.blessed.as_deref()
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

fn each(topic: &mut WholeTopic, mut take: impl FnMut(&Record<'_>) -> Result<(), String>) -> bool {
    let mut any = false;
    for _ in 0..BURST {
        let Some(record) = topic.poll(POLL) else { break };
        any = true;
        if let Err(error) = take(&record) {
            let (topic, offset) = (record.topic(), record.offset());
            tracing::warn!(error, topic, offset, "a record is passed over");
        }
    }
    any
}
