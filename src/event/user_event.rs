//! Watch and click events: what users did.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::datum::{Datum, Positional};
use super::{Rejection, schema};
use crate::ids::MAX_ID_BYTES;
use crate::time::{DAY_MS, EventTime};

/// Whether an item was watched or clicked. Each has its own topic, order and duplicate window.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum Source {
    /// `watch-events`.
    #[default]
    Watch = 0,
    /// `click-events`.
    Click = 1,
}

impl Source {
    /// Both, in the order of their codes.
    pub const ALL: [Source; 2] = [Source::Watch, Source::Click];
}

/// A topic of users' events. Each has its own order and offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventTopic {
    /// `watch-events`.
    Watch = 0,
    /// `click-events`.
    Click = 1,
    /// `feedback-events`.
    Feedback = 2,
}

impl EventTopic {
    /// All of them, in the order of their codes.
    pub const ALL: [EventTopic; 3] = [EventTopic::Watch, EventTopic::Click, EventTopic::Feedback];
}

impl From<Source> for EventTopic {
    fn from(source: Source) -> Self {
        match source {
            Source::Watch => Self::Watch,
            Source::Click => Self::Click,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EventKind {
    /// Watched for `watched_ms` of `duration_ms` (0 where not known), both in milliseconds.
    Watch {
        /// Milliseconds watched.
        watched_ms: u64,
        /// The item's length in milliseconds, 0 where not known.
        duration_ms: u64,
    },
    /// Clicked, at this position of the list where known.
    Click {
        /// From 0.
        position: Option<u32>,
    },
}

/// One valid event of a user. Borrows from the record that it was decoded from.
#[derive(Clone, Debug, PartialEq)]
pub struct UserEvent<'a> {
    /// The producer's id of this event.
    pub id: Cow<'a, str>,
    /// Who.
    pub user: Cow<'a, str>,
    /// What it was about.
    pub item: Cow<'a, str>,
    /// When it happened.
    pub at: EventTime,
    /// What happened.
    pub kind: EventKind,
    /// Where in the product; empty where not known.
    pub surface: Cow<'a, str>,
    /// The platform's session; empty where it has none.
    pub session: Cow<'a, str>,
    /// The recommendation it followed from, where known.
    pub request: Option<Cow<'a, str>>,
    /// Turnover, in the platform's unit.
    pub value: f64,
    /// Device context, where known.
    pub device: Option<Device<'a>>,
}

/// The device context of an event or a request. Absent parts are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device<'a> {
    /// For example `ios`, `android`, `web`, `tv`.
    pub platform: Cow<'a, str>,
    /// Version of the operating system.
    pub os_version: Cow<'a, str>,
    /// Version of the client.
    pub app_version: Cow<'a, str>,
    /// BCP 47 language tag.
    pub locale: Cow<'a, str>,
    /// ISO 3166-1 alpha-2.
    pub country: Cow<'a, str>,
}

/// What the log itself says about a record, against which its claims are held.
#[derive(Clone, Copy, Debug)]
pub struct ValidityRules {
    /// Broker's append time of the record.
    pub appended: EventTime,
    /// How far an event time may lie ahead of the append time, in milliseconds. Larger: a
    /// broken clock moves watermarks and decay for everyone. Smaller: honest clock skew is refused.
    pub max_ahead_ms: i64,
}

/// No video platform's event is older: 1 January 1990. Catches seconds sent as milliseconds
/// (which land in January 1970) and zero.
pub(super) const EARLIEST: EventTime = EventTime::from_millis(631_152_000_000);

/// No single watch is longer; catches microseconds sent as milliseconds.
const MAX_WATCH_MS: i64 = 30 * DAY_MS;

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WatchWire<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    item: Cow<'a, str>,
    event_time: i64,
    watched_ms: i64,
    duration_ms: i64,
    #[serde(borrow)]
    surface: Cow<'a, str>,
    #[serde(borrow)]
    session: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Cow<'a, str>>,
    value: f64,
    device: Option<Device<'a>>,
}

impl Default for WatchWire<'_> {
    fn default() -> Self {
        Self {
            event_id: "".into(),
            user: "".into(),
            item: "".into(),
            event_time: 0,
            watched_ms: 0,
            duration_ms: 0,
            surface: "".into(),
            session: "".into(),
            request: None,
            value: 0.0,
            device: None,
        }
    }
}

impl<'a> Positional<'a> for WatchWire<'a> {
    fn read(datum: &mut Datum<'a>) -> Option<Self> {
        Some(Self {
            event_id: datum.text()?,
            user: datum.text()?,
            item: datum.text()?,
            event_time: datum.long()?,
            watched_ms: datum.long()?,
            duration_ms: datum.long()?,
            surface: datum.text()?,
            session: datum.text()?,
            request: datum.optional(Datum::text)?,
            value: datum.double()?,
            device: datum.optional(Device::read)?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ClickWire<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    item: Cow<'a, str>,
    event_time: i64,
    #[serde(borrow)]
    request: Option<Cow<'a, str>>,
    position: Option<i32>,
    #[serde(borrow)]
    surface: Cow<'a, str>,
    #[serde(borrow)]
    session: Cow<'a, str>,
    value: f64,
    device: Option<Device<'a>>,
}

impl Default for ClickWire<'_> {
    fn default() -> Self {
        Self {
            event_id: "".into(),
            user: "".into(),
            item: "".into(),
            event_time: 0,
            request: None,
            position: None,
            surface: "".into(),
            session: "".into(),
            value: 0.0,
            device: None,
        }
    }
}

impl<'a> Positional<'a> for ClickWire<'a> {
    fn read(datum: &mut Datum<'a>) -> Option<Self> {
        Some(Self {
            event_id: datum.text()?,
            user: datum.text()?,
            item: datum.text()?,
            event_time: datum.long()?,
            request: datum.optional(Datum::text)?,
            position: datum.optional(Datum::int)?,
            surface: datum.text()?,
            session: datum.text()?,
            value: datum.double()?,
            device: datum.optional(Device::read)?,
        })
    }
}

impl<'a> Positional<'a> for Device<'a> {
    fn read(datum: &mut Datum<'a>) -> Option<Self> {
        Some(Self {
            platform: datum.text()?,
            os_version: datum.text()?,
            app_version: datum.text()?,
            locale: datum.text()?,
            country: datum.text()?,
        })
    }
}

impl<'a> UserEvent<'a> {
    /// Decodes and validates the value of a record of `source`.
    ///
    /// # Errors
    /// A [`Rejection`] that says what was found and what would be accepted.
    pub fn decode(
        source: Source,
        bytes: &'a [u8],
        rules: &ValidityRules,
    ) -> Result<Self, Rejection> {
        let event = match source {
            Source::Watch => {
                let wire = codec::decode_positional::<WatchWire<'a>>(&schema::WATCH_EVENT, bytes)?;
                Self {
                    kind: EventKind::Watch {
                        watched_ms: milliseconds("watched_ms", wire.watched_ms)?,
                        duration_ms: milliseconds("duration_ms", wire.duration_ms)?,
                    },
                    id: wire.event_id,
                    user: wire.user,
                    item: wire.item,
                    at: EventTime::from_millis(wire.event_time),
                    surface: wire.surface,
                    session: wire.session,
                    request: wire.request,
                    value: wire.value,
                    device: wire.device,
                }
            }
            Source::Click => {
                let wire = codec::decode_positional::<ClickWire<'a>>(&schema::CLICK_EVENT, bytes)?;
                Self {
                    kind: EventKind::Click { position: position(wire.position)? },
                    id: wire.event_id,
                    user: wire.user,
                    item: wire.item,
                    at: EventTime::from_millis(wire.event_time),
                    surface: wire.surface,
                    session: wire.session,
                    request: wire.request,
                    value: wire.value,
                    device: wire.device,
                }
            }
        };
        event.validate(rules)?;
        Ok(event)
    }

    /// Which topic this event belongs on.
    pub fn source(&self) -> Source {
        match self.kind {
            EventKind::Watch { .. } => Source::Watch,
            EventKind::Click { .. } => Source::Click,
        }
    }

    /// Encodes the event for its topic, for clients of ours: `replay`, `simulate`, tests.
    ///
    /// # Errors
    /// A [`Rejection`] where a number does not fit the schema.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
        match self.kind {
            EventKind::Watch { watched_ms, duration_ms } => codec::encode(
                &schema::WATCH_EVENT,
                &WatchWire {
                    event_id: Cow::Borrowed(&self.id),
                    user: Cow::Borrowed(&self.user),
                    item: Cow::Borrowed(&self.item),
                    event_time: self.at.millis(),
                    watched_ms: long("watched_ms", watched_ms)?,
                    duration_ms: long("duration_ms", duration_ms)?,
                    surface: Cow::Borrowed(&self.surface),
                    session: Cow::Borrowed(&self.session),
                    request: self.request.as_deref().map(Cow::Borrowed),
                    value: self.value,
                    device: self.device.clone(),
                },
                encoding,
            ),
            EventKind::Click { position } => codec::encode(
                &schema::CLICK_EVENT,
                &ClickWire {
                    event_id: Cow::Borrowed(&self.id),
                    user: Cow::Borrowed(&self.user),
                    item: Cow::Borrowed(&self.item),
                    event_time: self.at.millis(),
                    request: self.request.as_deref().map(Cow::Borrowed),
                    position: position.map(int).transpose()?,
                    surface: Cow::Borrowed(&self.surface),
                    session: Cow::Borrowed(&self.session),
                    value: self.value,
                    device: self.device.clone(),
                },
                encoding,
            ),
        }
    }

    fn validate(&self, rules: &ValidityRules) -> Result<(), Rejection> {
        required_id("event_id", &self.id)?;
        required_id("user", &self.user)?;
        required_id("item", &self.item)?;
        optional_id("surface", &self.surface)?;
        optional_id("session", &self.session)?;
        if let Some(request) = &self.request {
            optional_id("request", request)?;
        }
        plausible_time(self.at, rules)?;
        if !self.value.is_finite() || self.value < 0.0 {
            return Err(Rejection::invalid(
                "BadNumber",
                format!("value is {}; it must be finite and at least 0", self.value),
            ));
        }
        Ok(())
    }
}

pub(super) fn required_id(field: &str, id: &str) -> Result<(), Rejection> {
    if id.is_empty() {
        return Err(Rejection::invalid("EmptyId", format!("{field} is empty or missing")));
    }
    optional_id(field, id)
}

pub(super) fn optional_id(field: &str, id: &str) -> Result<(), Rejection> {
    if id.len() > MAX_ID_BYTES {
        return Err(Rejection::invalid(
            "OversizedId",
            format!("{field} has {} bytes; {MAX_ID_BYTES} are allowed", id.len()),
        ));
    }
    Ok(())
}

/// Refuses what is before 1990 or too far ahead of when its record was appended.
pub(super) fn plausible_time(at: EventTime, rules: &ValidityRules) -> Result<(), Rejection> {
    if at < EARLIEST {
        return Err(Rejection::invalid(
            "AbsurdTime",
            format!(
                "event_time {} is before 1990: it counts milliseconds since the Unix epoch",
                at.millis()
            ),
        ));
    }
    if at.since(rules.appended) > rules.max_ahead_ms {
        return Err(Rejection::invalid(
            "FutureTime",
            format!(
                "event_time {} lies {} ms after the record was appended; {} ms are allowed",
                at.millis(),
                at.since(rules.appended),
                rules.max_ahead_ms
            ),
        ));
    }
    Ok(())
}

pub(super) fn milliseconds(field: &str, ms: i64) -> Result<u64, Rejection> {
    if ms > MAX_WATCH_MS {
        return Err(Rejection::invalid(
            "AbsurdTime",
            format!("{field} is {ms}, more than 30 days: it counts milliseconds"),
        ));
    }
    u64::try_from(ms).map_err(|_| {
        Rejection::invalid("NegativeTime", format!("{field} is {ms}; it must be at least 0"))
    })
}

fn position(position: Option<i32>) -> Result<Option<u32>, Rejection> {
    position
        .map(|p| {
            u32::try_from(p).map_err(|_| {
                Rejection::invalid("BadNumber", format!("position is {p}; it counts from 0"))
            })
        })
        .transpose()
}

fn long(field: &str, ms: u64) -> Result<i64, Rejection> {
    i64::try_from(ms)
        .map_err(|_| Rejection::invalid("BadNumber", format!("{field} {ms} does not fit a long")))
}

fn int(position: u32) -> Result<i32, Rejection> {
    i32::try_from(position).map_err(|_| {
        Rejection::invalid("BadNumber", format!("position {position} does not fit an int"))
    })
}
