//! Makes the answers: what a request is answered from, and what was missing from it.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Histogram, counter};

use super::pipelines::Pipelines;
use super::{Job, reply_now};
use crate::deployment::{Route, Routing};
use crate::event::{After, ErrorKind, Reply, Request, RolloutArm};
use crate::experiment::hash::bucket;
use crate::experiment::running::Assignment;
use crate::feature::UserState;
use crate::kafka::Producer;
use crate::serving::{self, Made, Outcome, Query, Ranking, World};
use crate::state::hot::{HotValue, Version};
use crate::telemetry::names;
use crate::time::wall_now;
use crate::worker::global_feed::FeedState;
use crate::worker::rollout::ServedList;
use crate::worker::shards::OwnedShard;
use crate::worker::shown::ShownMemory;
use crate::worker::{Context, joining};

/// Seed of the hash that chooses the requests for which a list is made that nobody sees.
const SHADOW_SEED: &str = "shadow";

/// What the hot tier says about a user.
enum Hot {
    /// It need not be asked, or has nothing that helps.
    NotAsked,
    /// Why it could not say.
    Failed(&'static str),
    /// A value, and how far that is folded.
    Found { bytes: Vec<u8>, version: Version },
}

/// One thread of the pool.
pub(super) struct Answerer {
    pub(super) context: Context,
    pub(super) feed: Arc<FeedState>,
    pub(super) producer: Arc<Producer>,
    pub(super) pipelines: Arc<Pipelines>,
    pub(super) seconds: Histogram,
}

impl Answerer {
    /// Answers one request, with a list or with an error.
    pub(super) fn answer(&self, job: Job) {
        let routing = self.context.rollout.routing();
        let mut reply = if wall_now() > job.deadline {
            self.error(&job, ErrorKind::Expired, "the deadline had passed when it was read")
        } else if !self.is_begun() {
            self.error(&job, ErrorKind::NotReady, "the worker is starting; try again")
        } else {
            self.recommend(&job, &self.choose(&job.request, &routing))
        };
        let took = job.received.elapsed();
        reply.took_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        self.seconds.record(took);
        self.context.serving_windows.note(&reply, took);
        reply_now(&self.producer, &job.address, &reply, Arc::clone(&job.done));
        if let Some(route) = routing.shadow().filter(|_| reply.error.is_none()) {
            self.make_shadow(&job, &route, &reply);
        }
    }

    /// Whether enough is read to answer at all.
    fn is_begun(&self) -> bool {
        let Context { catalog, experiments, .. } = &self.context;
        self.feed.has_begun() && catalog.is_loaded() && experiments.is_read()
    }

    /// Who answers a request, and how. An experiment's version comes before one that is tried.
    fn choose(&self, request: &Request, routing: &Routing) -> Chosen {
        let unit = unit(request);
        let tables = self.context.items.tables();
        let is_there = |version| tables.basis(version).is_some();
        let assignment = self.context.experiments.get().assign(unit, is_there);
        let mut route = routing.route(unit);
        if assignment.model.is_some() {
            route = Route { arm: RolloutArm::Champion, version: assignment.model, ..route };
        }
        Chosen { route, assignment }
    }

    /// Makes a list that nobody sees, for a share of what is answered, after it is.
    fn make_shadow(&self, job: &Job, route: &Route, answered: &Reply) {
        let request = &job.request;
        if bucket(SHADOW_SEED, &request.request_id) >= self.context.config.deployment.shadow_share {
            return;
        }
        let chosen = Chosen { route: *route, assignment: Assignment::default() };
        let made = caught(|| self.recommend(job, &chosen));
        let listed = made.as_ref().filter(|reply| reply.error.is_none());
        let answered: HashSet<&str> = answered.items.iter().map(|item| &*item.item).collect();
        let items = listed.map_or(&[][..], |reply| &reply.items);
        let list = ServedList {
            took: Duration::from_micros(made.as_ref().map_or(0, |reply| reply.took_us as u64)),
            failed: listed.is_none(),
            items: items.len(),
            overlap: items.iter().filter(|item| answered.contains(&*item.item)).count(),
        };
        self.context.rollout.note_served(route, request.user.as_str(), &list);
    }

    fn error(&self, job: &Job, kind: ErrorKind, message: &str) -> Reply {
        Reply::error(&job.request.request_id, job.request.user.as_str(), kind, message)
    }

    fn recommend(&self, job: &Job, chosen: &Chosen) -> Reply {
        if !job.request.needs_state() {
            return self.list(job, chosen, &UserState::default(), Vec::new(), After::NotAsked);
        }
        let owned = self.context.shards.get(job.partition);
        let shard = owned.as_ref().map(|o| &o.shard);
        // Before the shard is read: where that is further, the hot tier's value is not used.
        let hot = if owned.as_ref().is_none_or(|o| !o.is_restored()) {
            self.ask_hot_tier(job, owned.as_deref())
        } else {
            Hot::NotAsked
        };
        if let Hot::Found { bytes, version } = &hot
            && let Some(reply) =
                self.list_from_hot_tier(job, chosen, bytes, *version, owned.is_some())
        {
            return reply;
        }
        let after = job.after.outcome(shard);
        let mut missing = Vec::new();
        let bytes = match shard.map(|s| s.read(job.request.user.as_str())) {
            Some(Ok(bytes)) => Some(bytes),
            Some(Err(error)) => {
                tracing::error!(%error, "a user could not be read");
                missing.push("the user's state could not be read".to_owned());
                None
            }
            None => {
                missing.push("the user's shard has moved to another worker".to_owned());
                None
            }
        };
        let user = match bytes.as_ref().map(|b| b.state()) {
            Some(Ok(user)) => user,
            Some(Err(error)) => {
                tracing::error!(%error, "a user could not be read");
                missing.push("the user's state is damaged".to_owned());
                UserState::default()
            }
            None => UserState::default(),
        };
        if owned.as_ref().is_some_and(|o| !o.is_restored()) {
            missing.push("the user's shard is being restored: recent events may be missing".into());
        }
        if let Hot::Failed(reason) = hot {
            missing.push(format!("the hot tier {reason}"));
        }
        self.list(job, chosen, &user, missing, after)
    }

    /// What the hot tier has of a user whose shard is not restored here, where that is further
    /// than the shard is.
    fn ask_hot_tier(&self, job: &Job, owned: Option<&OwnedShard>) -> Hot {
        let Some(tier) = &self.context.hot else { return Hot::NotAsked };
        let (outcome, hot) = match tier.get(job.request.user.as_str()) {
            Err(reason) => ("failed", Hot::Failed(reason)),
            Ok(None) => ("absent", Hot::NotAsked),
            Ok(Some(bytes)) => match HotValue::decode(&bytes) {
                Err(error) => {
                    tracing::warn!(%error, "a user's value in the hot tier is passed over");
                    ("damaged", Hot::Failed("holds a damaged value"))
                }
                Ok(value) if value.identity != self.context.hot_identity(job.partition) => {
                    ("foreign", Hot::NotAsked)
                }
                Ok(HotValue { version, .. }) => match owned {
                    Some(owned) if !owned.reaches(version) => ("foreign", Hot::NotAsked),
                    Some(owned) if !version.covers(owned.version()) => ("older", Hot::NotAsked),
                    _ => ("used", Hot::Found { bytes, version }),
                },
            },
        };
        counter!(names::HOT_READS, "outcome" => outcome).increment(1);
        hot
    }

    /// The answer from a value of the hot tier; `None` where the state in it is damaged.
    fn list_from_hot_tier(
        &self,
        job: &Job,
        chosen: &Chosen,
        bytes: &[u8],
        version: Version,
        is_owned: bool,
    ) -> Option<Reply> {
        let value = HotValue::decode(bytes).ok()?;
        let user = match UserState::decode(value.state) {
            Ok(user) => user,
            Err(error) => {
                tracing::warn!(%error, "a user's value in the hot tier is passed over");
                return None;
            }
        };
        let why = if is_owned { "is being restored" } else { "has moved to another worker" };
        let reason = format!(
            "the user's shard {why}: answered from the hot tier, which knows the events below \
             watch@{}, click@{} and feedback@{}",
            version.watch, version.click, version.feedback
        );
        let after = job.after.outcome_at(|topic| version.of(topic));
        Some(self.list(job, chosen, &user, vec![reason], after))
    }

    fn list(
        &self,
        job: &Job,
        chosen: &Chosen,
        user: &UserState<'_>,
        missing: Vec<String>,
        after: After,
    ) -> Reply {
        let global = self.context.global.read().unwrap_or_else(PoisonError::into_inner);
        let catalog = self.context.catalog.read();
        let blends = self.context.blends.get();
        let items = self.context.items.tables();
        let owned = self.context.shards.get(job.partition);
        let memory = owned.as_ref().map(|owned| owned.shown());
        let name = job.request.user.as_str();
        let shown = memory.filter(|_| !name.is_empty()).map(|m| m.of(name)).unwrap_or_default();
        let weights = self.context.ranking.weights();
        let counters = owned.as_ref().filter(|_| !name.is_empty() && self.context.ranks());
        let counters = counters.map(|owned| joining::counters(owned, name)).transpose();
        let counters = counters.unwrap_or_else(|error| {
            tracing::error!(%error, "the counters of a user could not be read");
            None
        });
        let counters = counters.unwrap_or_default();
        let ranking = self.context.ranks().then(|| self.context.ranking.globals());
        let config = &self.context.config;
        let ranking = ranking.as_deref().map(|globals| Ranking {
            globals,
            weights: &weights,
            user: &counters,
            rules: chosen
                .assignment
                .settings
                .ranker_rules(config.ranker.rules(config.quality.long_view_ms)),
        });
        let world = World {
            user,
            global: &global,
            catalog: &catalog,
            items,
            blends: &blends,
            shown: &shown,
            ranking,
        };
        let query = |route: &Route| {
            let mut query = Query::new(&job.request, world);
            match route.version {
                Some(version) => query.serve_by(version, chosen.label(route.arm)),
                None => query.arm = chosen.label(route.arm),
            }
            for arm in &chosen.assignment.missing {
                query.degrade("experiment", format!("the model of {arm} is not loaded"));
            }
            self.say_what_is_missing(job, &mut query, memory, &missing, after);
            query
        };
        let begun = Instant::now();
        let outcome = self.make(job, chosen, query);
        // Of a list that nobody sees this is all that is asked.
        let took_us = i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        let Some(outcome) = outcome else {
            return Reply { took_us, ..self.error(job, ErrorKind::NotReady, "no number") };
        };
        Reply {
            took_us,
            request_id: job.request.request_id.clone(),
            user: job.request.user.to_string(),
            model_version: outcome.model_version.into_owned(),
            arm: outcome.arm.into_owned(),
            items: outcome.items,
            degraded: outcome.degraded,
            after,
            ..Reply::default()
        }
    }

    /// Makes the list and lets happen what happens with it. None where what nobody sees makes no sense.
    fn make<'q>(
        &self,
        job: &Job,
        chosen: &Chosen,
        query: impl Fn(&Route) -> Query<'q>,
    ) -> Option<Outcome> {
        let (route, begun) = (&chosen.route, Instant::now());
        let pipeline = self.pipelines.of(&chosen.assignment.settings);
        match route.arm {
            RolloutArm::Shadow => Some(self.pipelines.shadow.make(query(route)))
                .filter(Made::is_sound)
                .map(|made| self.pipelines.shadow.conclude(made)),
            RolloutArm::Canary => {
                let made = caught(|| pipeline.make(query(route))).filter(Made::is_sound);
                self.count(job, chosen, begun, made.as_ref());
                // Whoever is chosen for the candidate has a list though it fails: the champion's.
                let made = made.unwrap_or_else(|| {
                    let champion = Route { arm: RolloutArm::Champion, version: None, ..*route };
                    pipeline.make(query(&champion))
                });
                Some(pipeline.conclude(made))
            }
            RolloutArm::Champion | RolloutArm::Unknown => {
                let made = pipeline.make(query(route));
                self.count(job, chosen, begun, Some(&made));
                Some(pipeline.conclude(made))
            }
        }
    }

    fn count(&self, job: &Job, chosen: &Chosen, begun: Instant, made: Option<&Made<'_>>) {
        let Chosen { route, assignment } = chosen;
        if assignment.model.is_some() {
            // Neither the champion's nor the candidate's.
            return;
        }
        let list = ServedList {
            took: begun.elapsed(),
            failed: made.is_none(),
            items: made.map_or(0, Made::len),
            overlap: 0,
        };
        self.context.rollout.note_served(route, job.request.user.as_str(), &list);
    }

    fn say_what_is_missing(
        &self,
        job: &Job,
        query: &mut Query<'_>,
        memory: Option<&Arc<ShownMemory>>,
        missing: &[String],
        after: After,
    ) {
        let name = job.request.user.as_str();
        missing.iter().for_each(|reason| query.degrade("user_state", reason.as_str()));
        if !self.feed.is_warmed() {
            query.degrade("global", "the worker is starting: it knows a part of what others do");
        }
        if !self.context.items.is_loaded() {
            query.degrade("items", "the worker is starting: it knows a part of the items' vectors");
        }
        if !name.is_empty() && memory.is_none_or(|memory| !memory.is_warm()) {
            query.degrade("shown", "what the user was shown is not read yet: it may come again");
        }
        if after == After::Missed {
            query.degrade(
                "read_your_writes",
                "the deadline came before the fold had passed `after`",
            );
        }
    }
}

/// By whose name a request's arm is chosen: the user's, or its own where it is of nobody in particular.
fn unit(request: &Request) -> &str {
    let user = request.user.as_str();
    if user.is_empty() { &request.request_id } else { user }
}

/// How a request is answered.
struct Chosen {
    /// By which version.
    route: Route,
    /// By which arms of experiments.
    assignment: Assignment,
}

impl Chosen {
    /// What the list's arm is called: whether its version is tried, and the arms of experiments.
    fn label(&self, arm: RolloutArm) -> Cow<'static, str> {
        let experiments = &self.assignment.arm;
        match (arm, experiments.is_empty()) {
            (RolloutArm::Shadow, _) => serving::SHADOW_ARM.into(),
            (RolloutArm::Canary, true) => serving::CANARY_ARM.into(),
            (RolloutArm::Canary, false) => format!("{},{experiments}", serving::CANARY_ARM).into(),
            (RolloutArm::Champion | RolloutArm::Unknown, true) => serving::DEFAULT_ARM.into(),
            (RolloutArm::Champion | RolloutArm::Unknown, false) => experiments.clone().into(),
        }
    }
}

/// What a version on trial makes; none where it panics, which must not take the thread along.
fn caught<T>(make: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(make)).ok()
}
