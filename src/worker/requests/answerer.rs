//! Makes the answers: what a request is answered from, and what was missing from it.

use std::sync::{Arc, PoisonError};

use metrics::{Histogram, counter};

use super::{Job, reply_now};
use crate::event::{After, ErrorKind, Reply};
use crate::feature::UserState;
use crate::kafka::Producer;
use crate::serving::{self, Pipeline, Query, Ranking, World};
use crate::state::hot::{HotValue, Version};
use crate::telemetry::names;
use crate::time::wall_now;
use crate::worker::global_feed::FeedState;
use crate::worker::shards::OwnedShard;
use crate::worker::{Context, joining};

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
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) seconds: Histogram,
}

impl Answerer {
    /// Answers one request, with a list or with an error.
    pub(super) fn answer(&self, job: Job) {
        let mut reply = if wall_now() > job.deadline {
            self.error(&job, ErrorKind::Expired, "the deadline had passed when it was read")
        } else if !self.feed.has_begun() || !self.context.catalog.is_loaded() {
            self.error(&job, ErrorKind::NotReady, "the worker is starting; try again")
        } else {
            self.recommend(&job)
        };
        let took = job.received.elapsed();
        reply.took_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        self.seconds.record(took);
        self.context.serving_windows.note(&reply, took);
        reply_now(&self.producer, &job.address, &reply, job.done);
    }

    fn error(&self, job: &Job, kind: ErrorKind, message: &str) -> Reply {
        Reply::error(&job.request.request_id, job.request.user.as_str(), kind, message)
    }

    fn recommend(&self, job: &Job) -> Reply {
        if !job.request.needs_state() {
            return self.list(job, &UserState::default(), Vec::new(), After::NotAsked);
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
            && let Some(reply) = self.list_from_hot_tier(job, bytes, *version, owned.is_some())
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
        self.list(job, &user, missing, after)
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
        Some(self.list(job, &user, vec![reason], after))
    }

    fn list(&self, job: &Job, user: &UserState<'_>, missing: Vec<String>, after: After) -> Reply {
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
            rules: config.ranker.rules(config.quality.long_view_ms),
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
        let mut query = Query::new(&job.request, world);
        missing.into_iter().for_each(|reason| query.degrade("user_state", reason));
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
        let outcome = self.pipeline.run(query);
        Reply {
            request_id: job.request.request_id.clone(),
            user: job.request.user.to_string(),
            model_version: outcome.model_version.into_owned(),
            arm: serving::DEFAULT_ARM.into(),
            items: outcome.items,
            degraded: outcome.degraded,
            after,
            ..Reply::default()
        }
    }
}
