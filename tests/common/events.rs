//! Watch and click events as a platform would send them.

use serde_json::{Value, json};

use super::avro;
use super::dice::Dice;
use super::now_ms;

pub const SECOND: i64 = 1_000;
pub const HOUR: i64 = 3_600 * SECOND;
pub const DAY: i64 = 24 * HOUR;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    Watch,
    Click,
}

impl Source {
    pub const ALL: [Source; 2] = [Source::Watch, Source::Click];

    /// Its topic, without the prefix.
    pub fn topic(self) -> &'static str {
        match self {
            Source::Watch => "watch-events",
            Source::Click => "click-events",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub source: Source,
    pub id: String,
    pub user: String,
    pub item: String,
    pub at: i64,
    pub watched_ms: i64,
    pub duration_ms: i64,
    pub surface: String,
    pub session: String,
}

impl Event {
    /// A watch of ten seconds out of a minute, just now.
    pub fn watch(user: &str, item: &str) -> Self {
        Self {
            source: Source::Watch,
            id: unique_id(),
            user: user.into(),
            item: item.into(),
            at: now_ms(),
            watched_ms: 40 * SECOND,
            duration_ms: 60 * SECOND,
            surface: String::new(),
            session: String::new(),
        }
    }

    pub fn click(user: &str, item: &str) -> Self {
        let watch = Self::watch(user, item);
        Self { source: Source::Click, watched_ms: 0, duration_ms: 0, ..watch }
    }

    pub fn on(mut self, surface: &str) -> Self {
        self.surface = surface.into();
        self
    }

    pub fn at(mut self, at: i64) -> Self {
        self.at = at;
        self
    }

    /// Watched for `watched_ms` of `duration_ms`.
    pub fn lasting(mut self, watched_ms: i64, duration_ms: i64) -> Self {
        (self.watched_ms, self.duration_ms) = (watched_ms, duration_ms);
        self
    }

    pub fn to_json(&self) -> Value {
        let mut object = json!({
            "event_id": self.id,
            "user": self.user,
            "item": self.item,
            "event_time": self.at,
            "surface": self.surface,
            "session": self.session,
        });
        if self.source == Source::Watch {
            object["watched_ms"] = self.watched_ms.into();
            object["duration_ms"] = self.duration_ms.into();
        }
        object
    }

    /// As JSON or as Avro, whichever its id says: streams hold both.
    pub fn encode(&self) -> Vec<u8> {
        if self.id.ends_with('j') {
            return self.to_json().to_string().into_bytes();
        }
        let codec = if self.source == Source::Watch { &avro::WATCH } else { &avro::CLICK };
        codec.encode(&self.to_json())
    }

    pub fn from_json(source: Source, object: &Value) -> Self {
        let text = |key: &str| object[key].as_str().expect("a text").to_owned();
        let number = |key: &str| object[key].as_i64().unwrap_or(0);
        Self {
            source,
            id: text("event_id"),
            user: text("user"),
            item: text("item"),
            at: number("event_time"),
            watched_ms: number("watched_ms"),
            duration_ms: number("duration_ms"),
            surface: text("surface"),
            session: text("session"),
        }
    }
}

fn unique_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// An endless stream of events of some users: two months of event time, out of order, with
/// duplicates, in both encodings.
pub struct Stream {
    dice: Dice,
    users: u64,
    clock: i64,
    step: i64,
    number: u64,
    /// Events that may be sent again: so few and so new that each is still among its user's
    /// newest, where duplicates are found.
    again: Vec<Event>,
}

impl Stream {
    /// `length` is about how many events will be drawn: by then the clock has come to now.
    pub fn new(dice: Dice, users: u64, length: u64) -> Self {
        let (clock, again) = (now_ms() - 60 * DAY, Vec::new());
        let step = 59 * DAY / length as i64;
        Self { dice, users, clock, step, number: 0, again }
    }

    /// The next event, now and then one that was there before.
    pub fn draw(&mut self) -> Event {
        if self.again.len() > 20 {
            self.again.remove(0);
            if self.dice.one_in(15) {
                return self.dice.pick(&self.again).clone();
            }
        }
        self.draw_new()
    }

    /// The next event, never one that was there before.
    pub fn draw_new(&mut self) -> Event {
        let dice = &mut self.dice;
        self.number += 1;
        // Held before now: a longer stream than announced goes on at the same instant.
        self.clock = (self.clock + dice.between(0, 2 * self.step + 1)).min(now_ms() - HOUR);
        let encoding = if dice.one_in(5) { "j" } else { "a" };
        let source = if dice.one_in(3) { Source::Click } else { Source::Watch };
        let duration_ms = if dice.one_in(8) { 0 } else { dice.between(1, 900) * SECOND + 7 };
        let watched_ms = match dice.below(4) {
            0 => dice.between(0, 3_500),
            1 => duration_ms * dice.between(93, 130) / 100,
            _ => duration_ms * dice.between(0, 95) / 100,
        };
        // Every tenth comes late: by minutes, hours, days or weeks.
        let late = if dice.one_in(10) {
            *dice.pick(&[HOUR / 6, HOUR * 7, DAY, 9 * DAY, 30 * DAY])
        } else {
            0
        };
        let mut event = Event {
            source,
            id: format!("{:08x}-{}{encoding}", dice.next() as u32, self.number),
            user: format!("user-{}", dice.below(self.users)),
            item: format!("item-{}", dice.below(5_000)),
            at: self.clock - late,
            watched_ms,
            duration_ms,
            surface: (*dice.pick(&["", "home", "search", "up_next"])).into(),
            session: if dice.one_in(2) { String::new() } else { format!("s{}", dice.below(9)) },
        };
        if source == Source::Click {
            (event.watched_ms, event.duration_ms) = (0, 0);
        }
        if late == 0 {
            self.again.push(event.clone());
        }
        event
    }
}
