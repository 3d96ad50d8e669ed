//! A data set's events in memory, in time order, ids as numbers: protocols look ahead, the product
//! never does.
//!
//! Enters: rows. Leaves: [`Log`]; about 80 bytes an event, 48 an exposure where they are kept, and
//! each id once.

use std::collections::{HashMap, HashSet};

use crate::dataset::{Row, RowKind, Sessions};
use crate::event::Source;
use crate::feature::{FoldEvent, session_key};
use crate::ids::{UserId, stable_hash};
use crate::time::EventTime;

/// An event of the log. Users, items and surfaces are their places in the log's texts.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Whose.
    pub user: u32,
    /// Of what.
    pub item: u32,
    /// When.
    pub at: EventTime,
    /// Watched or clicked.
    pub source: Source,
    /// Milliseconds watched; 0 for a click.
    pub watched_ms: u64,
    /// The item's length in milliseconds; 0 where not known.
    pub duration_ms: u64,
    /// Hash of the event id.
    pub id: u64,
    /// The row of the data set it was made of: a click and a watch of one exposure share it.
    pub row: u32,
    surface: u32,
    fold_id: u32,
    /// Its session's key; none where the data set says nothing of sessions.
    session: Option<u64>,
}

/// That an item was shown to a user, whatever came of it. Numbers are those of [`Event`].
#[derive(Clone, Copy, Debug)]
pub struct Exposure {
    /// To whom.
    pub user: u32,
    /// What.
    pub item: u32,
    /// When.
    pub at: EventTime,
    /// The row of the data set it was made of; what came of it are the events of the same row.
    pub row: u32,
    /// Its session's key. Where nothing says what sessions are, a day of the user's.
    pub session: u64,
    surface: u32,
    has_session: bool,
}

/// What counts as something the user wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any watch.
    NextWatch,
    /// Any click.
    NextClick,
    /// A watch of at least [`LONG_VIEW_MS`], or to the end where the item is shorter; of items as
    /// long as a film, of at least [`LONG_VIEW_SHARE`] of it.
    LongView,
}

impl Target {
    /// As the command line and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Target::NextWatch => "next-watch",
            Target::NextClick => "next-click",
            Target::LongView => "long-view",
        }
    }
}

/// A long view, as KuaiRand's publishers label it (Gao et al., CIKM 2022): 18 seconds.
pub const LONG_VIEW_MS: u64 = 18_000;
/// From this length on, in milliseconds, seconds say nothing and the share watched decides.
const LONG_ITEM_MS: u64 = 20 * 60 * 1_000;
/// The share of a long item that is a long view: four stars of five, where ratings are watches.
pub const LONG_VIEW_SHARE: f64 = 0.8;

impl Event {
    /// Whether it is a `target`.
    pub fn is(&self, target: Target) -> bool {
        let watched = self.source == Source::Watch;
        match target {
            Target::NextWatch => watched,
            Target::NextClick => self.source == Source::Click,
            Target::LongView if self.duration_ms >= LONG_ITEM_MS => {
                watched && self.watched_ms as f64 >= LONG_VIEW_SHARE * self.duration_ms as f64
            }
            Target::LongView if self.duration_ms > 0 => {
                watched && self.watched_ms >= self.duration_ms.min(LONG_VIEW_MS)
            }
            Target::LongView => watched && self.watched_ms >= LONG_VIEW_MS,
        }
    }
}

/// Ids as numbers.
#[derive(Default)]
pub struct Texts {
    texts: Vec<Box<str>>,
    places: HashMap<Box<str>, u32>,
}

impl Texts {
    fn place(&mut self, text: &str) -> u32 {
        if let Some(&place) = self.places.get(text) {
            return place;
        }
        let place = self.texts.len() as u32;
        self.texts.push(text.into());
        self.places.insert(text.into(), place);
        place
    }

    /// The number of an id.
    pub fn find(&self, text: &str) -> Option<u32> {
        self.places.get(text).copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// All events of a data set.
#[derive(Default)]
pub struct Log {
    events: Vec<Event>,
    exposures: Vec<Exposure>,
    keeps_exposures: bool,
    /// Items, by number.
    pub items: Texts,
    users: Texts,
    surfaces: Texts,
    rows: u32,
    last_row: Option<(u64, EventTime, RowKind)>,
}

impl Log {
    /// An empty log that keeps what was shown too.
    pub fn with_exposures() -> Self {
        Self { keeps_exposures: true, ..Self::default() }
    }

    /// Adds what a row becomes: for an impression an exposure where they are kept, else nothing.
    pub fn push(&mut self, row: &Row) {
        let shared = self.last_row.is_some_and(|(number, at, kind)| {
            number == row.number && at == row.at && kind != row.kind
        });
        if !shared {
            self.rows += 1;
        }
        self.last_row = Some((row.number, row.at, row.kind));
        let session = row.session.as_deref().unwrap_or_default();
        if row.kind == RowKind::Impression && self.keeps_exposures {
            let user_hash = stable_hash(row.user.as_str().as_bytes());
            self.exposures.push(Exposure {
                user: self.users.place(row.user.as_str()),
                item: self.items.place(row.item.as_str()),
                at: row.at,
                row: self.rows,
                session: session_key(user_hash, session, row.at),
                surface: self.surfaces.place(row.surface.as_ref().map_or("", |s| s.as_str())),
                has_session: row.session.is_some(),
            });
        }
        let Some(event) = row.event(session, 0) else { return };
        let user_hash = stable_hash(event.user.as_bytes());
        let fold = FoldEvent::from_event(&event, user_hash);
        let event = Event {
            user: self.users.place(&event.user),
            item: self.items.place(fold.item),
            at: fold.at,
            source: fold.source,
            watched_ms: fold.watched_ms,
            duration_ms: fold.duration_ms,
            id: stable_hash(event.id.as_bytes()),
            row: self.rows,
            surface: self.surfaces.place(fold.surface),
            fold_id: fold.id,
            session: row.session.as_ref().map(|_| fold.session),
        };
        self.events.push(event);
    }

    /// Puts events and exposures in time order, as published logs often are not, those of one time
    /// as they came; then gives those without session one that `derived` tells. What is shown and
    /// what is done have sessions of their own: a history must not know what else was shown.
    pub fn finish(&mut self, derived: Option<Sessions>) {
        self.events.sort_by_key(|event| event.at);
        self.exposures.sort_by_key(|exposure| exposure.at);
        let Some(mut derived) = derived else { return };
        let mut of_exposures = derived.clone();
        let session = |derived: &mut Sessions, user: &str, at| {
            let session = derived.of(&UserId::from(user), at);
            session_key(stable_hash(user.as_bytes()), &session, at)
        };
        for event in self.events.iter_mut().filter(|event| event.session.is_none()) {
            let user = &*self.users.texts[event.user as usize];
            event.session = Some(session(&mut derived, user, event.at));
        }
        for exposure in self.exposures.iter_mut().filter(|exposure| !exposure.has_session) {
            let user = &*self.users.texts[exposure.user as usize];
            exposure.session = session(&mut of_exposures, user, exposure.at);
        }
    }

    /// In the order they came, or in time order once finished.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// What was shown, where it is kept, in the same order.
    pub fn exposures(&self) -> &[Exposure] {
        &self.exposures
    }

    /// What came of each exposure: whether there is a `target` of the same row. In their order.
    pub fn outcomes(&self, target: Target) -> Vec<bool> {
        let wanted: HashSet<u32> =
            self.events.iter().filter(|event| event.is(target)).map(|event| event.row).collect();
        self.exposures.iter().map(|exposure| wanted.contains(&exposure.row)).collect()
    }

    /// Milliseconds watched of each exposure, by the watch of the same row. In their order.
    pub fn watched_ms(&self) -> Vec<u64> {
        let watches = self.events.iter().filter(|event| event.is(Target::NextWatch));
        let by_row: HashMap<u32, u64> =
            watches.map(|event| (event.row, event.watched_ms)).collect();
        let of = |exposure: &Exposure| by_row.get(&exposure.row).copied().unwrap_or_default();
        self.exposures.iter().map(of).collect()
    }

    /// The `event` as the worker folds it.
    pub fn fold_event(&self, event: &Event) -> FoldEvent<'_> {
        FoldEvent {
            source: event.source,
            at: event.at,
            id: event.fold_id,
            session: event.session.unwrap_or_else(|| {
                session_key(stable_hash(self.user(event).as_bytes()), "", event.at)
            }),
            watched_ms: event.watched_ms,
            duration_ms: event.duration_ms,
            item: self.item(event),
            surface: self.surface(event),
        }
    }

    /// The user's id.
    pub fn user(&self, event: &Event) -> &str {
        self.user_of(event.user)
    }

    /// The id of the user of this number.
    pub fn user_of(&self, number: u32) -> &str {
        &self.users.texts[number as usize]
    }

    /// The id of the item of this number.
    pub fn item_of(&self, number: u32) -> &str {
        &self.items.texts[number as usize]
    }

    /// Where it was shown; empty where not known.
    pub fn surface_of(&self, exposure: &Exposure) -> &str {
        &self.surfaces.texts[exposure.surface as usize]
    }

    /// The number of where it was shown.
    pub fn surface_number(&self, exposure: &Exposure) -> u32 {
        exposure.surface
    }

    /// The item's id.
    pub fn item(&self, event: &Event) -> &str {
        self.item_of(event.item)
    }

    /// The surface; empty where not known.
    pub fn surface(&self, event: &Event) -> &str {
        &self.surfaces.texts[event.surface as usize]
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The number of a user's id.
    pub fn find_user(&self, user: &str) -> Option<u32> {
        self.users.find(user)
    }
}
