//! Recommendation requests and replies.

use serde::{Deserialize, Serialize};

use super::catalog_item::{days, languages, names, time};
use super::codec::{self, Encoding};
use super::user_event::{Device, optional_id, required_id};
use super::{Rejection, schema};
use crate::ids::{ItemId, Surface, UserId};
use crate::time::EventTime;

/// Most items in one list. A page shows tens; a larger list is a batch job's, which asks again.
pub const MAX_COUNT: usize = 500;
/// Most excluded ids in one request: what one client can have on its screen and more.
const MAX_EXCLUDE: usize = 1000;
/// Most creators or categories wanted or left out: each costs a comparison for every candidate.
const MAX_NAMES: usize = 1000;

/// Most items of an anonymous session: as many as sources look at.
const MAX_RECENT: usize = 50;

/// What a list is to be about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestKind {
    /// What fits the user.
    #[default]
    Personal,
    /// What goes with the context item, whoever watches it.
    Related,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Personal, Self::Related];

    /// As requests name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::Related => "related",
        }
    }

    fn of(name: &str) -> Result<Self, Rejection> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(" or ");
            Rejection::invalid("UnknownKind", format!("kind is {name:?}; it must be {known}"))
        })
    }
}

/// A valid request for a ranked list.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The client's id; empty where it gave none (the worker then makes one from the position).
    pub request_id: String,
    /// For whom; empty for somebody not known, where it is about an item or an anonymous session.
    pub user: UserId,
    /// What the list is to be about.
    pub kind: RequestKind,
    /// What an anonymous session has watched or clicked, oldest first, 50 at most: all its
    /// history. None where the user's own history counts.
    pub recent_items: Option<Vec<ItemId>>,
    /// How many items, 1 to [`MAX_COUNT`].
    pub count: usize,
    /// Where the list will be shown; empty where not said.
    pub surface: Surface,
    /// The item being watched now. There is one where the kind is [`RequestKind::Related`].
    pub context_item: Option<ItemId>,
    /// Items that must not be in the list.
    pub exclude: Vec<ItemId>,
    /// Whether items that the user already knows may be in the list.
    pub include_seen: bool,
    /// Makes the answer reproducible.
    pub seed: Option<i64>,
    /// Device context; its country decides what is available.
    pub device: Option<Device<'static>>,
    /// The time for which the list is wanted; the record's own where it names none.
    pub at: Option<EventTime>,
    /// Items known to be in other languages are left out; BCP 47 in lower case, empty for all.
    pub languages: Vec<String>,
    /// Items published longer ago, or nobody knows when, are left out.
    pub max_age_days: Option<u32>,
    /// Items of these creators are left out.
    pub blocked_creators: Vec<String>,
    /// Items of any of these categories are left out.
    pub blocked_categories: Vec<String>,
    /// Only items of these creators, where there are any.
    pub creators: Vec<String>,
    /// Only items of at least one of these categories, where there are any.
    pub categories: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RequestWire {
    request_id: String,
    user: String,
    count: i32,
    surface: String,
    context_item: Option<String>,
    exclude: Vec<String>,
    include_seen: bool,
    seed: Option<i64>,
    device: Option<Device<'static>>,
    event_time: Option<i64>,
    languages: Vec<String>,
    max_age_days: Option<i32>,
    blocked_creators: Vec<String>,
    blocked_categories: Vec<String>,
    creators: Vec<String>,
    categories: Vec<String>,
    kind: String,
    recent_items: Option<Vec<String>>,
}

impl Default for RequestWire {
    fn default() -> Self {
        Self {
            request_id: String::new(),
            user: String::new(),
            count: 20,
            surface: String::new(),
            context_item: None,
            exclude: Vec::new(),
            include_seen: false,
            seed: None,
            device: None,
            event_time: None,
            languages: Vec::new(),
            max_age_days: None,
            blocked_creators: Vec::new(),
            blocked_categories: Vec::new(),
            creators: Vec::new(),
            categories: Vec::new(),
            kind: RequestKind::default().name().to_owned(),
            recent_items: None,
        }
    }
}

impl Request {
    /// A request for `count` items with nothing else said.
    pub fn new(request_id: impl Into<String>, user: UserId, count: usize) -> Self {
        Self {
            request_id: request_id.into(),
            user,
            kind: RequestKind::default(),
            recent_items: None,
            count,
            surface: Surface::from(""),
            context_item: None,
            exclude: Vec::new(),
            include_seen: false,
            seed: None,
            device: None,
            at: None,
            languages: Vec::new(),
            max_age_days: None,
            blocked_creators: Vec::new(),
            blocked_categories: Vec::new(),
            creators: Vec::new(),
            categories: Vec::new(),
        }
    }

    /// Whether the answer needs the state of a user: nobody's, of somebody not known. Of an
    /// anonymous session that names its user it needs what they do not want to see.
    pub fn needs_state(&self) -> bool {
        !self.user.as_str().is_empty()
    }
}

/// Decodes and validates a request. The encoding is returned also where the request is refused,
/// so that the error reply can be read by whoever sent it.
///
/// # Errors
/// A [`Rejection`] that says what was found and what would be accepted.
pub fn decode_request(bytes: &[u8]) -> (Encoding, Result<Request, Rejection>) {
    let guess =
        if bytes.first() == Some(&0xC3) { Encoding::AvroSingleObject } else { Encoding::Json };
    (guess, codec::decode::<RequestWire>(&schema::REQUEST, bytes).and_then(|(w, _)| validate(w)))
}

fn validate(wire: RequestWire) -> Result<Request, Rejection> {
    let kind = RequestKind::of(&wire.kind)?;
    check_user(&wire, kind)?;
    optional_id("request_id", &wire.request_id)?;
    optional_id("surface", &wire.surface)?;
    if let Some(item) = &wire.context_item {
        required_id("context_item", item)?;
    }
    let count = usize::try_from(wire.count).unwrap_or(0);
    if count == 0 || count > MAX_COUNT {
        return Err(Rejection::invalid(
            "BadCount",
            format!("count is {}; it must be 1 to {MAX_COUNT}", wire.count),
        ));
    }
    if wire.exclude.len() > MAX_EXCLUDE {
        return Err(Rejection::invalid(
            "TooManyExcluded",
            format!("exclude has {} ids; {MAX_EXCLUDE} are allowed", wire.exclude.len()),
        ));
    }
    for item in &wire.exclude {
        required_id("exclude", item)?;
    }
    if let Some(items) = &wire.recent_items {
        if items.len() > MAX_RECENT {
            return Err(Rejection::invalid(
                "TooManyRecent",
                format!("recent_items has {} ids; send the newest {MAX_RECENT}", items.len()),
            ));
        }
        items.iter().try_for_each(|item| required_id("recent_items", item))?;
    }
    names("blocked_creators", &wire.blocked_creators, MAX_NAMES)?;
    names("blocked_categories", &wire.blocked_categories, MAX_NAMES)?;
    names("creators", &wire.creators, MAX_NAMES)?;
    names("categories", &wire.categories, MAX_NAMES)?;
    Ok(Request {
        request_id: wire.request_id,
        user: UserId::new(wire.user),
        kind,
        recent_items: wire.recent_items.map(|items| items.into_iter().map(ItemId::new).collect()),
        count,
        surface: Surface::new(wire.surface),
        context_item: wire.context_item.map(ItemId::new),
        exclude: wire.exclude.into_iter().map(ItemId::new).collect(),
        include_seen: wire.include_seen,
        seed: wire.seed,
        device: wire.device,
        at: time("event_time", wire.event_time)?,
        languages: languages("languages", wire.languages)?,
        max_age_days: days("max_age_days", wire.max_age_days)?,
        blocked_creators: wire.blocked_creators,
        blocked_categories: wire.blocked_categories,
        creators: wire.creators,
        categories: wire.categories,
    })
}

/// Whoever is not known has no state: only what is about an item, or carries its own history, can
/// be answered.
fn check_user(wire: &RequestWire, kind: RequestKind) -> Result<(), Rejection> {
    if kind == RequestKind::Related && wire.context_item.is_none() {
        let message = "kind is related; context_item must name the item that it is about";
        return Err(Rejection::invalid("NoContext", message.to_owned()));
    }
    if wire.user.is_empty() && kind == RequestKind::Personal && wire.recent_items.is_none() {
        let message = "user is empty; name the user, or send recent_items (which may be empty) \
                       for an anonymous session";
        return Err(Rejection::invalid("EmptyId", message.to_owned()));
    }
    optional_id("user", &wire.user)
}

/// Encodes a request, for clients of ours.
///
/// # Errors
/// A [`Rejection`] where a number does not fit the schema.
pub fn encode_request(request: &Request, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
    let wire = RequestWire {
        request_id: request.request_id.clone(),
        user: request.user.to_string(),
        count: i32::try_from(request.count).unwrap_or(i32::MAX),
        surface: request.surface.to_string(),
        context_item: request.context_item.as_ref().map(ToString::to_string),
        exclude: request.exclude.iter().map(ToString::to_string).collect(),
        include_seen: request.include_seen,
        seed: request.seed,
        device: request.device.clone(),
        event_time: request.at.map(EventTime::millis),
        languages: request.languages.clone(),
        max_age_days: request.max_age_days.map(|days| i32::try_from(days).unwrap_or(i32::MAX)),
        blocked_creators: request.blocked_creators.clone(),
        blocked_categories: request.blocked_categories.clone(),
        creators: request.creators.clone(),
        categories: request.categories.clone(),
        kind: request.kind.name().to_owned(),
        recent_items: request
            .recent_items
            .as_ref()
            .map(|items| items.iter().map(ToString::to_string).collect()),
    };
    codec::encode(&schema::REQUEST, &wire, encoding)
}

/// The answer to one request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// The request's id.
    pub request_id: String,
    /// For whom.
    pub user: String,
    /// The model that ranked.
    pub model_version: String,
    /// Experiment arm.
    pub arm: String,
    /// Best first; empty where there is an error.
    pub items: Vec<RecommendedItem>,
    /// What was missing from this answer.
    pub degraded: Vec<Degradation>,
    /// Whether the named events were known.
    pub after: After,
    /// Microseconds from reading the request to making the reply.
    pub took_us: i64,
    /// Why there is no list.
    pub error: Option<RequestError>,
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecommendedItem {
    /// The item.
    pub item: String,
    /// What it was ranked by; comparable within a list.
    pub score: f64,
    /// The source that put it forward most strongly.
    pub source: String,
    /// Probability with which it was placed here.
    pub propensity: f64,
    /// The strongest first.
    pub reasons: Vec<Reason>,
}

impl Default for RecommendedItem {
    fn default() -> Self {
        Self {
            item: String::new(),
            score: 0.0,
            source: String::new(),
            propensity: 1.0,
            reasons: Vec::new(),
        }
    }
}

/// Why an item is in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// `because_you_watched`, `trending`, `continue_watching`.
    pub kind: String,
    /// The item that caused it.
    pub item: Option<String>,
    /// The same in English.
    pub text: String,
}

/// A part that was missing from an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Degradation {
    /// Which part.
    pub part: String,
    /// What was missing.
    pub reason: String,
}

/// Whether an answer knows the events named by its `after` header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum After {
    /// There was no such header.
    #[default]
    NotAsked,
    /// The fold had passed all of them.
    Satisfied,
    /// The deadline came first.
    Missed,
}

/// Why there is no list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestError {
    /// What to do about it.
    #[serde(rename = "type")]
    pub kind: ErrorKind,
    /// What was wrong.
    pub message: String,
}

/// What a client does about an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorKind {
    /// Mend the request.
    BadRequest,
    /// Try again later.
    Overloaded,
    /// The deadline had passed.
    Expired,
    /// The worker cannot answer yet: try again.
    NotReady,
    /// A fault of the worker.
    #[default]
    Internal,
}

impl ErrorKind {
    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::BadRequest => "bad_request",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Expired => "expired",
            ErrorKind::NotReady => "not_ready",
            ErrorKind::Internal => "internal",
        }
    }
}

impl Reply {
    /// An answer that says why there is no list.
    pub fn error(
        request_id: &str,
        user: &str,
        kind: ErrorKind,
        message: impl Into<String>,
    ) -> Self {
        Self {
            request_id: request_id.into(),
            user: user.into(),
            error: Some(RequestError { kind, message: message.into() }),
            ..Self::default()
        }
    }
}

/// Encodes a reply in the encoding of its request.
///
/// # Errors
/// A [`Rejection`] where the value does not fit the schema: a fault of ours.
pub fn encode_reply(reply: &Reply, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
    codec::encode(&schema::REPLY, reply, encoding)
}

/// Decodes a reply, for clients of ours.
///
/// # Errors
/// A [`Rejection`] where the bytes are no reply.
pub fn decode_reply(bytes: &[u8]) -> Result<Reply, Rejection> {
    codec::decode(&schema::REPLY, bytes).map(|(reply, _)| reply)
}
