//! The product without its wires: what a worker does with an event and with a request, in memory.
//!
//! Enters: events of a [`Log`]. Leaves: lists of the pipelines that serve. Never does itself what
//! a room does: fold, tables and pipeline are the worker's own.

use super::log::{Event, Log};
use crate::catalog::Catalog;
use crate::event::{RecommendedItem, Request};
use crate::feature::{Corrupt, FoldRules, UserState};
use crate::global::GlobalTables;
use crate::ids::{Surface, UserId, stable_hash};
use crate::serving::{
    BlendLearner, Pipeline, Query, SourceKind, World, blend_learner, untrained_of,
};

/// Operands are folded into the state at this size, in bytes, as the store's compaction does.
/// Larger: reads fold more. Smaller: writes encode more.
const COMPACT_AT: usize = 4_096;
/// Trending is ranked anew after so many events at most. A busy worker learns more than that
/// between two refreshes; fewer would cost a run more time than its lists.
const REFRESH_AT_MOST: u64 = 1_000;

#[derive(Clone, Default)]
struct StoredUser {
    state: Vec<u8>,
    operand: Vec<u8>,
}

impl StoredUser {
    fn read(&self, rules: &FoldRules) -> Result<UserState<'_>, Corrupt> {
        let mut state = match self.state.is_empty() {
            true => UserState::default(),
            false => UserState::decode(&self.state)?,
        };
        state.fold(&self.operand, rules)?;
        Ok(state)
    }
}

/// A choice of sources as it serves.
struct Server {
    pipeline: Pipeline,
    blend: BlendLearner,
}

/// Users, tables and catalog in one process.
pub struct Replayer<'a> {
    log: &'a Log,
    rules: FoldRules,
    users: Vec<StoredUser>,
    global: GlobalTables,
    catalog: Catalog,
    servers: Vec<Server>,
    learnt: u64,
    refreshed: u64,
}

impl<'a> Replayer<'a> {
    /// Nothing learnt yet. Each of `arms`, choices of sources, serves and learns its blend apart.
    pub fn new<'s>(
        log: &'a Log,
        rules: FoldRules,
        global: GlobalTables,
        catalog: Catalog,
        arms: impl IntoIterator<Item = &'s [SourceKind]>,
    ) -> Self {
        let servers = arms.into_iter().map(|sources| Server {
            pipeline: untrained_of(sources),
            blend: blend_learner(sources),
        });
        let users = vec![StoredUser::default(); log.users()];
        let servers = servers.collect();
        Self { log, rules, users, global, catalog, servers, learnt: 0, refreshed: 0 }
    }

    /// Folds an event into its user's state.
    ///
    /// # Errors
    /// [`Corrupt`] would be a fault of the fold.
    pub fn fold(&mut self, event: &Event) -> Result<(), Corrupt> {
        let user = &mut self.users[event.user as usize];
        self.log.fold_event(event).encode(&mut user.operand);
        if user.operand.len() >= COMPACT_AT {
            let state = user.read(&self.rules)?.encode();
            *user = StoredUser { state, operand: Vec::new() };
        }
        Ok(())
    }

    /// Lets blends and global tables learn an event.
    pub fn learn(&mut self, event: &Event) {
        let user = stable_hash(self.log.user(event).as_bytes());
        let event = self.log.fold_event(event);
        let one = event.interaction(user, 0);
        for server in self.servers.iter_mut().filter(|server| server.blend.chooses(&one)) {
            server.blend.observe(&one, &self.global, &self.catalog);
        }
        self.global.learn_one(&one);
        self.learnt += 1;
        // In proportion while there is little, so that small logs are not answered from nothing.
        let due = self.refreshed + (1 + self.refreshed / 100).min(REFRESH_AT_MOST);
        if self.learnt >= due {
            self.refreshed = self.learnt;
            self.global.refresh();
            if !self.catalog.is_empty() {
                let shelves = self.catalog.shelve(&self.global.watched(), self.global.watermark());
                self.catalog.set_shelves(shelves);
            }
        }
    }

    /// Whether the tables know an item.
    pub fn knows(&self, item: &str) -> bool {
        self.global.items().find(item).is_some()
    }

    /// How many items the tables know.
    pub fn known_items(&self) -> usize {
        self.global.items().len()
    }

    /// The lists that the user of `event` would get just before it, one from each arm, given to
    /// `take` with the arm's place.
    ///
    /// # Errors
    /// [`Corrupt`] would be a fault of the fold.
    pub fn lists(
        &self,
        event: &Event,
        count: usize,
        repeats: bool,
        mut take: impl FnMut(usize, &[RecommendedItem], std::time::Duration),
    ) -> Result<(), Corrupt> {
        let mut request = Request::new("", UserId::new(self.log.user(event)), count);
        request.surface = Surface::from(self.log.surface(event));
        request.include_seen = repeats;
        request.at = Some(event.at);
        // Equals come in an order that is the target's own, and the same in every run.
        request.seed = Some(event.id as i64);
        for (place, server) in self.servers.iter().enumerate() {
            // Reading the user is part of what a request costs.
            let begun = std::time::Instant::now();
            let user = self.users[event.user as usize].read(&self.rules)?;
            let world = World {
                user: &user,
                global: &self.global,
                catalog: &self.catalog,
                blend: server.blend.blend(),
            };
            let list = server.pipeline.run(Query::new(&request, world)).items;
            take(place, &list, begun.elapsed());
        }
        Ok(())
    }
}
