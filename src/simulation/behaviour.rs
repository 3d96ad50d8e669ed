//! What a person does with what they see. Enters: tastes, a list, a moment. Leaves: clicks,
//! watches, and whether they stay. Never looks at anything a person could not know: items they
//! do not examine do not move them.

use crate::ids::ItemId;
use crate::time::{EventTime, SECOND_MS};

use super::catalog::Item;
use super::dice::{Dice, sigmoid};

/// Log-odds of a click on an examined item that fits neither well nor badly.
const CLICK_BIAS: f64 = -3.8;
/// Log-odds a full fit (cosine 1) adds to a click.
pub(super) const FIT_WEIGHT: f64 = 4.4;
/// Log-odds one standard deviation of quality adds to a click.
pub(super) const QUALITY_WEIGHT: f64 = 0.8;
/// Log-odds lost where the person has watched the item already.
const WATCHED_PENALTY: f64 = 4.0;
/// Log-odds lost for each time the item was lately shown to them in vain.
const SIGHT_PENALTY: f64 = 0.3;
/// Probability that the first position is looked at.
const EXAMINE_FIRST: f64 = 0.96;
/// Each further position is looked at this much less often.
const EXAMINE_DECAY: f64 = 0.89;
/// Pages a session may have; bounds a session of a very content person.
const MAX_PAGES: u32 = 25;
/// Share of a video from which a watch counts as content when the person decides to stay.
const LONG_WATCH: f64 = 0.5;

/// One thing a person did.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// They opened an item.
    Click {
        /// Unique in the world and the same on every run.
        event_id: String,
        /// The item.
        item: ItemId,
        /// When.
        at: EventTime,
        /// Its position in the served list, from 0; none where it was found without one.
        position: Option<u32>,
    },
    /// They stopped watching it; follows its click.
    Watch {
        /// Unique in the world and the same on every run.
        event_id: String,
        /// The item.
        item: ItemId,
        /// When they stopped.
        at: EventTime,
        /// How long they watched, in milliseconds.
        watched_ms: u64,
        /// The item's length, in milliseconds.
        duration_ms: u64,
        /// Its position in the served list, from 0; none where it was found without one.
        position: Option<u32>,
    },
}

impl Action {
    /// The event's id.
    pub fn event_id(&self) -> &str {
        match self {
            Action::Click { event_id, .. } | Action::Watch { event_id, .. } => event_id,
        }
    }

    /// The item acted on.
    pub fn item(&self) -> &ItemId {
        match self {
            Action::Click { item, .. } | Action::Watch { item, .. } => item,
        }
    }

    /// When it happened.
    pub fn at(&self) -> EventTime {
        match self {
            Action::Click { at, .. } | Action::Watch { at, .. } => *at,
        }
    }
}

/// What came of one page.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// Clicks and watches in time order, none before the visit.
    pub actions: Vec<Action>,
    /// How many items were clicked.
    pub clicks: usize,
    /// Served ids that are not items of this world, not published yet, or taken away; nobody clicks
    /// them.
    pub unknown: usize,
    /// Whether the person asks for another page, which comes as a later visit.
    pub continues: bool,
    /// When the page is done: the time of the next one where the session continues.
    pub next_at: EventTime,
}

/// Log-odds that a person loses interest by: they have `watched` the item, or were shown it so often.
pub(super) fn weariness(watched: bool, sights: usize) -> f64 {
    let known = if watched { WATCHED_PENALTY } else { 0.0 };
    known + SIGHT_PENALTY * sights as f64
}

/// Probability of a click on an examined item: `fit` is the cosine of taste and item, `mood` what
/// else moves the log-odds.
pub(super) fn click_probability(fit: f64, quality: f64, mood: f64) -> f64 {
    sigmoid(CLICK_BIAS + FIT_WEIGHT * fit + QUALITY_WEIGHT * quality + mood)
}

/// Probability that `position` (from 0) is looked at.
pub(super) fn examine_probability(position: usize) -> f64 {
    EXAMINE_FIRST * EXAMINE_DECAY.powi(position.min(1_000) as i32)
}

/// How much of `item` is watched, in milliseconds: most of it where it fits, a moment where it
/// turns out not to.
pub(super) fn watched_ms(dice: &mut Dice, fit: f64, item: &Item) -> u64 {
    let content = dice.chance(sigmoid(-1.2 + 3.4 * fit + 0.4 * item.quality));
    let draw = dice.unit();
    let fraction = if content { 1.0 - 0.5 * draw * draw } else { 0.02 + 0.3 * draw * draw };
    let watched = (fraction * item.duration_ms as f64) as u64;
    watched.max(500).min(item.duration_ms)
}

/// A page in the making: the person's clock, and what they have done so far.
pub(super) struct Page<'a> {
    prefix: &'a str,
    now: EventTime,
    actions: Vec<Action>,
    content: u32,
    disappointed: u32,
    /// The item last watched with content.
    pub(super) last_content: Option<ItemId>,
}

impl<'a> Page<'a> {
    /// A page whose event ids begin with `prefix`, from `at` on.
    pub(super) fn new(prefix: &'a str, at: EventTime) -> Self {
        let (content, disappointed) = (0, 0);
        Self { prefix, now: at, actions: Vec::new(), content, disappointed, last_content: None }
    }

    /// Time passes: a glance at an item, typing a search.
    pub(super) fn pass(&mut self, ms: f64) {
        self.now = self.now.plus_millis(ms as i64);
    }

    /// A click and the watch that follows. `number` tells it apart on its page.
    pub(super) fn open(&mut self, number: usize, item: &Item, watched_ms: u64, served: bool) {
        let position = if served { u32::try_from(number).ok() } else { None };
        let how = if served { "" } else { "o" };
        self.actions.push(Action::Click {
            event_id: format!("{}-{how}{number}c", self.prefix),
            item: item.id.clone(),
            at: self.now,
            position,
        });
        self.pass(watched_ms as f64);
        self.actions.push(Action::Watch {
            event_id: format!("{}-{how}{number}w", self.prefix),
            item: item.id.clone(),
            at: self.now,
            watched_ms,
            duration_ms: item.duration_ms,
            position,
        });
        if watched_ms as f64 >= LONG_WATCH * item.duration_ms as f64 {
            self.content += 1;
            self.last_content = Some(item.id.clone());
        } else {
            self.disappointed += 1;
        }
    }

    /// Whether the person stays, by patience and by what the page gave them.
    pub(super) fn stays(&self, dice: &mut Dice, patience: f64, page: u32) -> bool {
        let nothing = if self.actions.is_empty() { 0.7 } else { 0.0 };
        let mood = patience + 0.7 * f64::from(self.content.min(3))
            - 0.6 * f64::from(self.disappointed.min(3))
            - nothing
            - 0.12 * f64::from(page);
        page + 1 < MAX_PAGES && dice.chance(sigmoid(mood))
    }

    /// The page is done.
    pub(super) fn finish(self, unknown: usize, continues: bool) -> Response {
        let clicks = self.actions.len() / 2;
        let next_at = self.now.plus_millis(SECOND_MS);
        Response { actions: self.actions, clicks, unknown, continues, next_at }
    }
}
