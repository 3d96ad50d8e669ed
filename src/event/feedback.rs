//! Feedback: what users say that they do not want to see, and take back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::codec::{self, Encoding};
use super::user_event::{optional_id, plausible_time, required_id};
use super::{Rejection, ValidityRules, schema};
use crate::time::EventTime;

/// What a user said. Of two things said in one millisecond the later of this order counts: nobody
/// takes back what they have not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FeedbackKind {
    /// Recommend it no more.
    NotInterested = 0,
    /// It may be recommended again.
    Undo = 1,
}

/// What kind of thing was spoken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SubjectKind {
    /// One item.
    Item = 0,
    /// All items of a creator.
    Creator = 1,
    /// All items of a category.
    Category = 2,
}

impl SubjectKind {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 3] = [Self::Item, Self::Creator, Self::Category];

    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Creator => "creator",
            Self::Category => "category",
        }
    }
}

/// An item, a creator or a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject<'a> {
    /// Which of them.
    pub kind: SubjectKind,
    /// Its id, or its name in the catalog.
    pub id: &'a str,
}

/// One valid feedback event. Borrows from the record that it was decoded from.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback<'a> {
    /// The producer's id of this event.
    pub id: Cow<'a, str>,
    /// Who.
    pub user: Cow<'a, str>,
    /// When.
    pub at: EventTime,
    /// What was said.
    pub kind: FeedbackKind,
    /// What kind of thing it was said of.
    pub subject_kind: SubjectKind,
    /// Its id, or its name in the catalog.
    pub subject: Cow<'a, str>,
    /// The recommendation it answers, where known.
    pub request: Option<Cow<'a, str>>,
    /// Where in the product; empty where not known.
    pub surface: Cow<'a, str>,
    /// The platform's session; empty where it has none.
    pub session: Cow<'a, str>,
}

/// Symbols that are not known, as later schemas will have, read as the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum KindWire {
    NotInterested,
    Undo,
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum SubjectWire {
    Item,
    Creator,
    Category,
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct FeedbackWire<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    event_time: i64,
    kind: KindWire,
    subject_kind: SubjectWire,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Cow<'a, str>>,
    #[serde(borrow)]
    surface: Cow<'a, str>,
    #[serde(borrow)]
    session: Cow<'a, str>,
}

impl<'a> Feedback<'a> {
    /// What it is about.
    pub fn about(&self) -> Subject<'_> {
        Subject { kind: self.subject_kind, id: &self.subject }
    }

    /// Decodes and validates the value of a record of `feedback-events`.
    ///
    /// # Errors
    /// A [`Rejection`] that says what was found and what would be accepted.
    pub fn decode(bytes: &'a [u8], rules: &ValidityRules) -> Result<Self, Rejection> {
        let (wire, _): (FeedbackWire<'a>, _) = codec::decode(&schema::FEEDBACK_EVENT, bytes)?;
        required_id("event_id", &wire.event_id)?;
        required_id("user", &wire.user)?;
        let kind = match wire.kind {
            KindWire::NotInterested => FeedbackKind::NotInterested,
            KindWire::Undo => FeedbackKind::Undo,
            KindWire::Unknown => {
                return Err(unknown("UnknownKind", "kind", "NOT_INTERESTED or UNDO"));
            }
        };
        let subject_kind = match wire.subject_kind {
            SubjectWire::Item => SubjectKind::Item,
            SubjectWire::Creator => SubjectKind::Creator,
            SubjectWire::Category => SubjectKind::Category,
            SubjectWire::Unknown => {
                let known = "ITEM, CREATOR or CATEGORY";
                return Err(unknown("UnknownSubject", "subject_kind", known));
            }
        };
        required_id("subject", &wire.subject)?;
        optional_id("surface", &wire.surface)?;
        optional_id("session", &wire.session)?;
        wire.request.as_deref().map_or(Ok(()), |request| optional_id("request", request))?;
        let at = EventTime::from_millis(wire.event_time);
        plausible_time(at, rules)?;
        Ok(Self {
            id: wire.event_id,
            user: wire.user,
            at,
            kind,
            subject_kind,
            subject: wire.subject,
            request: wire.request,
            surface: wire.surface,
            session: wire.session,
        })
    }

    /// Encodes the event for its topic, for clients of ours: `replay`, tests.
    ///
    /// # Errors
    /// A [`Rejection`] where it does not fit the schema: a fault of ours.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, Rejection> {
        let wire = FeedbackWire {
            event_id: Cow::Borrowed(&self.id),
            user: Cow::Borrowed(&self.user),
            event_time: self.at.millis(),
            kind: match self.kind {
                FeedbackKind::NotInterested => KindWire::NotInterested,
                FeedbackKind::Undo => KindWire::Undo,
            },
            subject_kind: match self.subject_kind {
                SubjectKind::Item => SubjectWire::Item,
                SubjectKind::Creator => SubjectWire::Creator,
                SubjectKind::Category => SubjectWire::Category,
            },
            subject: Cow::Borrowed(&self.subject),
            request: self.request.as_deref().map(Cow::Borrowed),
            surface: Cow::Borrowed(&self.surface),
            session: Cow::Borrowed(&self.session),
        };
        codec::encode(&schema::FEEDBACK_EVENT, &wire, encoding)
    }
}

fn unknown(class: &'static str, field: &str, known: &str) -> Rejection {
    let message = format!(
        "{field} is missing or none that this build knows; it must be {known}. A newer one can be \
         read once workers are upgraded"
    );
    Rejection::invalid(class, message)
}
