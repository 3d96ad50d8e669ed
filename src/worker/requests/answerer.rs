//! Makes the answers: what a request is answered from, and what was missing from it.

use std::sync::{Arc, PoisonError};

use metrics::Histogram;

use super::{Job, reply_now};
use crate::event::{After, ErrorKind, Reply};
use crate::feature::UserState;
use crate::kafka::Producer;
use crate::serving::{self, Pipeline, Query, World};
use crate::time::wall_now;
use crate::worker::Context;
use crate::worker::global_feed::FeedState;

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
        } else if !self.feed.is_warmed() || !self.context.catalog.is_loaded() {
            self.error(&job, ErrorKind::NotReady, "the worker is starting; try again")
        } else {
            self.recommend(&job)
        };
        let took = job.received.elapsed();
        reply.took_us = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        self.seconds.record(took);
        reply_now(&self.producer, &job.address, &reply, job.done);
    }

    fn error(&self, job: &Job, kind: ErrorKind, message: &str) -> Reply {
        Reply::error(&job.request.request_id, job.request.user.as_str(), kind, message)
    }

    fn recommend(&self, job: &Job) -> Reply {
        let owned = self.context.shards.get(job.partition);
        let shard = owned.as_ref().map(|o| &o.shard);
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
        let global = self.context.global.read().unwrap_or_else(PoisonError::into_inner);
        let catalog = self.context.catalog.read();
        let blend = self.context.blend.get();
        let world = World { user: &user, global: &global, catalog: &catalog, blend: &blend };
        let mut query = Query::new(&job.request, world);
        missing.into_iter().for_each(|reason| query.degrade("user_state", reason));
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
            model_version: serving::UNTRAINED.into(),
            arm: "default".into(),
            items: outcome.items,
            degraded: outcome.degraded,
            after,
            ..Reply::default()
        }
    }
}
