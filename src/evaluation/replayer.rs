//! The product without its wires: what a worker does with an event and with a request, in memory.
//!
//! Enters: events of a [`Log`]. Leaves: lists of the pipelines that serve. Never does itself what
//! a room does: fold, tables and pipeline are the worker's own.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::arm::{Arm, Vectors};
use super::log::{Event, Exposure, Log};
use super::vectors::{FrozenTables, Standing};
use crate::catalog::Catalog;
use crate::config::{GlobalConfig, ItemsConfig};
use crate::embedding::{
    Beginnings, FirstBasis, ItemFold, ItemState, ItemTables, Settings, TablesError,
};
use crate::event::{Interaction, RecommendedItem, Request};
use crate::feature::{Corrupt, FoldRules, Positives, UserState};
use crate::global::{GlobalTables, TransitionLearner, Transitions, Waiting};
use crate::ids::{Prehashed, Surface, UserId, stable_hash};
use crate::model::ridge::Unsolved;
use crate::model::{Basis, BasisVersion, ModelError};
use crate::serving::{
    BlendLearner, ListRules, Pipeline, Query, Shown, SourceKind, World, blend_learner,
    intra_list_diversity, nearest_lifted, untrained_of,
};

/// Operands are folded into the state at this size, in bytes, as the store's compaction does.
/// Larger: reads fold more. Smaller: writes encode more.
const COMPACT_AT: usize = 4_096;
/// Trending is ranked anew after so many events at most. A busy worker learns more than that
/// between two refreshes; fewer would cost a run more time than its lists.
const REFRESH_AT_MOST: u64 = 1_000;

/// Rows are taken from the tables when so many wait.
const TAKEN_AT: usize = 4_096;

/// What a source puts forward to score what was shown, at least: where it is further down, its word
/// counts for little. More takes longer.
const PUT_FORWARD: usize = 200;

/// Nobody's lists.
static NOTHING_SHOWN: LazyLock<Shown> = LazyLock::new(Shown::default);

/// Why a log could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Would be a fault of the fold.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// More items than tables hold.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// A first basis that could not be trained.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Transitions that could not be solved.
    #[error(transparent)]
    Transitions(#[from] Unsolved),
}

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
    vectors: Vectors,
    pipeline: Pipeline,
    blend: BlendLearner,
}

/// What item shards know and publish.
struct Items {
    states: HashMap<u64, ItemState, Prehashed>,
    fold: ItemFold,
    tables: ItemTables,
    first_basis: Option<FirstBasis>,
    /// A basis that goes live when the log has come to where its training ended.
    given: Option<Basis>,
    live: Option<BasisVersion>,
    /// Kept where an arm wants them.
    frozen: Option<FrozenTables>,
    /// Positive interactions that the live basis was trained on.
    trained_on: usize,
}

impl Items {
    fn new(config: &ItemsConfig, wants_frozen: bool) -> Self {
        let trainer = || {
            let limits = config.first_basis_limits();
            FirstBasis::new(limits, &Settings::CANDIDATES)
        };
        Self {
            states: HashMap::default(),
            fold: ItemFold::default(),
            tables: ItemTables::new(config.tables()),
            first_basis: config.first_basis.enabled.then(trainer),
            given: None,
            live: None,
            frozen: wants_frozen.then(|| FrozenTables::new(config.tables())),
            trained_on: 0,
        }
    }

    fn learn(&mut self, one: &Interaction<'_>) -> Result<(), ReplayError> {
        let hash = stable_hash(one.item.as_bytes());
        let is_after = |basis: &mut Basis| one.event_time > basis.watermark().millis();
        if let Some(basis) = self.given.take_if(is_after) {
            let basis = self.tables.set_basis(basis)?;
            self.live = Some(basis.version());
            self.fold.add_basis(basis);
        }
        let state = self.states.entry(hash).or_default();
        self.fold.learn(state, hash, one);
        state.retain_vectors(|version| self.live == Some(version));
        self.tables.apply_state(one.item, state)?;
        if let Some(frozen) = &self.frozen {
            frozen.apply(one.item, state.features())?;
        }
        let Some(trainer) = &mut self.first_basis else { return Ok(()) };
        trainer.observe(one);
        if !trainer.is_due(self.trained_on) {
            return Ok(());
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        if let Some(trained) = trainer.train(threads, || true)? {
            self.trained_on = trained.positives;
            if let Some(frozen) = &self.frozen {
                frozen.replace(trained.basis.clone(), self.live)?;
            }
            let basis = self.tables.set_basis(trained.basis)?;
            if let Some(earlier) = self.live.replace(basis.version()) {
                self.tables.drop_basis(earlier);
                self.fold.remove_basis(earlier);
            }
            self.fold.add_basis(basis);
        }
        Ok(())
    }

    /// The tables that an arm serves from.
    fn tables(&self, vectors: Vectors) -> &ItemTables {
        match (&self.frozen, vectors) {
            (Some(frozen), Vectors::Frozen) => frozen.tables(),
            _ => &self.tables,
        }
    }
}

/// Next-item transitions as they are learnt here, where nobody waits: as soon as enough rows are new.
struct Following {
    learner: TransitionLearner,
    waiting: Waiting,
    /// Rows taken since the newest map, and rows before it.
    since: usize,
    before: usize,
    /// Whether somebody is served already.
    answers: bool,
}

impl Following {
    /// Solves before anything else happens: every run alike. As long as nobody is served, only the
    /// blend's predictions use the maps, and one at each doubling does: a map takes seconds.
    fn learn(&mut self, transitions: &Transitions) -> Result<(), Unsolved> {
        if transitions.waiting() < self.learner.missing().min(TAKEN_AT) {
            return Ok(());
        }
        self.take(transitions);
        if self.learner.missing() == 0 && (self.answers || self.since >= self.before) {
            self.solve(transitions)?;
        }
        Ok(())
    }

    /// From now on somebody is served, at first from all that is known.
    fn answer(&mut self, transitions: &Transitions) -> Result<(), Unsolved> {
        self.answers = true;
        self.take(transitions);
        if self.learner.has_new() { self.solve(transitions) } else { Ok(()) }
    }

    fn take(&mut self, transitions: &Transitions) {
        transitions.take(&mut self.waiting);
        self.since += self.waiting.len();
        self.learner.learn(&self.waiting);
    }

    fn solve(&mut self, transitions: &Transitions) -> Result<(), Unsolved> {
        self.before += std::mem::take(&mut self.since);
        transitions.publish(Arc::new(self.learner.begin().solve(|| true)?));
        Ok(())
    }
}

/// Users, tables, items and catalog in one process.
pub struct Replayer<'a> {
    log: &'a Log,
    rules: FoldRules,
    users: Vec<StoredUser>,
    global: GlobalTables,
    transitions: Option<Following>,
    catalog: Catalog,
    items: Items,
    beginnings: Beginnings,
    positives: Vec<Positives>,
    servers: Vec<Server>,
    /// Events learnt of each item, by number.
    times: Vec<u32>,
    learnt: u64,
    refreshed: u64,
}

impl<'a> Replayer<'a> {
    /// Nothing learnt yet. Each of `arms` serves and learns its blend apart.
    pub fn new(
        log: &'a Log,
        rules: FoldRules,
        global: &GlobalConfig,
        catalog: Catalog,
        items: &ItemsConfig,
        lists: ListRules,
        arms: &[Arm],
    ) -> Self {
        let servers = arms.iter().map(|arm| Server {
            vectors: arm.vectors,
            pipeline: match arm.lifted_by {
                Some(exponent) => nearest_lifted(exponent, lists),
                None => untrained_of(&arm.sources, lists),
            },
            blend: blend_learner(&arm.sources),
        });
        let users = vec![StoredUser::default(); log.users()];
        let servers = servers.collect();
        let positives = vec![Positives::default(); log.users()];
        let items = Items::new(items, arms.iter().any(|arm| arm.vectors == Vectors::Frozen));
        let following = |learner| Following {
            learner,
            waiting: Waiting::default(),
            since: 0,
            before: 0,
            answers: false,
        };
        // Maps take seconds: none are made that nobody asks for.
        let is_asked = arms.iter().any(|arm| arm.sources.contains(&SourceKind::Transitions));
        let transitions = global.transitions().filter(|_| is_asked).map(following);
        let global = global.tables();
        if transitions.is_some() {
            global.transitions().follow();
        }
        Self {
            log,
            rules,
            users,
            global,
            transitions,
            catalog,
            items,
            beginnings: Beginnings::default(),
            positives,
            servers,
            times: vec![0; log.items.len()],
            learnt: 0,
            refreshed: 0,
        }
    }

    /// Serves from this basis, from its watermark on, and trains none on the way.
    #[must_use]
    pub fn with_basis(mut self, basis: Basis) -> Self {
        self.items.first_basis = None;
        self.items.given = Some(basis);
        self
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

    /// Lets blends, items and global tables learn an event.
    ///
    /// # Errors
    /// [`ReplayError`] where there are too many items, or a first basis cannot be trained.
    pub fn learn(&mut self, event: &Event) -> Result<(), ReplayError> {
        let positives = &mut self.positives[event.user as usize];
        let user = stable_hash(self.log.user(event).as_bytes());
        self.times[event.item as usize] += 1;
        let event = self.log.fold_event(event);
        let mut one = event.interaction(user, 0);
        if event.is_positive() {
            one.history = Some(positives.before(event.at));
            positives.learn(stable_hash(one.item.as_bytes()), event.at);
        }
        for server in self.servers.iter_mut().filter(|server| server.blend.chooses(&one, false)) {
            let items = self.items.tables(server.vectors);
            server.blend.observe(&one, &self.global, &self.catalog, items);
        }
        self.items.learn(&one)?;
        self.global.learn_one(&one);
        if let Some(transitions) = &mut self.transitions {
            transitions.learn(self.global.transitions())?;
        }
        self.learnt += 1;
        // In proportion while there is little, so that small logs are not answered from nothing.
        let due = self.refreshed + (1 + self.refreshed / 100).min(REFRESH_AT_MOST);
        if self.learnt >= due {
            self.refreshed = self.learnt;
            self.global.refresh();
            if !self.catalog.is_empty() {
                let shelves = self.catalog.shelve(&self.global.watched(), self.global.watermark());
                self.catalog.set_shelves(shelves);
                self.beginnings.begin(&self.items.tables, &self.catalog)?;
                if let Some(frozen) = &mut self.items.frozen {
                    frozen.begin(&self.catalog)?;
                }
            }
            self.items.tables.advance()?;
        }
        Ok(())
    }

    /// From now on lists are wanted. Before, transitions are learnt in larger steps.
    ///
    /// # Errors
    /// [`ReplayError::Transitions`] where they cannot be solved.
    pub fn answer_from_now_on(&mut self) -> Result<(), ReplayError> {
        let Some(transitions) = &mut self.transitions else { return Ok(()) };
        Ok(transitions.answer(self.global.transitions())?)
    }

    /// What is known of the item of this number.
    pub fn standing(&self, item: u32) -> Standing {
        let item = self.log.item_of(item);
        if self.global.items().find(item).is_none() {
            return Standing::Unseen;
        }
        match self.items.live.and_then(|version| self.items.tables.basis(version)) {
            None => Standing::Untrained,
            Some(live) if live.basis().position(item).is_some() => Standing::Trained,
            Some(_) => Standing::New,
        }
    }

    /// How many of the events learnt are of the item of this number, and how many there are.
    pub fn popularity(&self, item: u32) -> (u32, u64) {
        (self.times[item as usize], self.learnt)
    }

    /// How unlike each other the items of a list are; none for fewer than two.
    pub fn diversity(&self, list: &[RecommendedItem]) -> Option<f64> {
        let hashes: Vec<u64> = list.iter().map(|i| stable_hash(i.item.as_bytes())).collect();
        intra_list_diversity(&hashes, &self.catalog, &self.items.tables)
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
            let query = Query::new(&request, self.world(server, &user));
            let list = server.pipeline.run(query).items;
            take(place, &list, begun.elapsed());
        }
        Ok(())
    }

    /// The score that each arm has for what was shown, just before, given to `take` with the arm's
    /// place. Nothing is masked: what was shown may be what the user has had.
    ///
    /// # Errors
    /// [`Corrupt`] would be a fault of the fold.
    pub fn scores(
        &self,
        shown: &Exposure,
        mut take: impl FnMut(usize, f64),
    ) -> Result<(), Corrupt> {
        let user_id = UserId::new(self.log.user_of(shown.user));
        let mut request = Request::new("", user_id, PUT_FORWARD);
        request.surface = Surface::from(self.log.surface_of(shown));
        request.include_seen = true;
        request.at = Some(shown.at);
        let item = stable_hash(self.log.item_of(shown.item).as_bytes());
        let user = self.users[shown.user as usize].read(&self.rules)?;
        for (place, server) in self.servers.iter().enumerate() {
            let query = Query::new(&request, self.world(server, &user));
            take(place, server.pipeline.score_of(query, item));
        }
        Ok(())
    }

    fn world<'w>(&'w self, server: &'w Server, user: &'w UserState<'w>) -> World<'w> {
        World {
            user,
            global: &self.global,
            catalog: &self.catalog,
            items: self.items.tables(server.vectors),
            blends: server.blend.blends(),
            // What was shown before was of somebody else's lists.
            shown: &NOTHING_SHOWN,
            ranking: None,
        }
    }
}
