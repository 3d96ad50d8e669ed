//! The compact form in which a record reaches a user's state: the operand of the store's merge.

use super::Corrupt;
use super::refusals::Verdict;
use super::varint::{self, Reader};
use crate::event::{EventKind, EventTopic, Feedback, Interaction, Source, UserEvent};
use crate::ids::stable_hash;
use crate::time::{DAY_MS, EventTime};

/// What the fold needs of one record of a user's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldRecord<'a> {
    /// An item was watched or clicked.
    Event(FoldEvent<'a>),
    /// Something was refused, or that was taken back.
    Verdict(Verdict<'a>),
}

impl<'a> From<FoldEvent<'a>> for FoldRecord<'a> {
    fn from(event: FoldEvent<'a>) -> Self {
        Self::Event(event)
    }
}

impl<'a> From<&'a Feedback<'_>> for FoldRecord<'a> {
    fn from(feedback: &'a Feedback<'_>) -> Self {
        let Feedback { at, kind, .. } = *feedback;
        Self::Verdict(Verdict { at, kind, subject: feedback.about() })
    }
}

impl FoldRecord<'_> {
    /// Its topic.
    pub fn topic(&self) -> EventTopic {
        match self {
            Self::Event(event) => event.source.into(),
            Self::Verdict(_) => EventTopic::Feedback,
        }
    }

    /// When it happened.
    pub fn at(&self) -> EventTime {
        match self {
            Self::Event(event) => event.at,
            Self::Verdict(verdict) => verdict.at,
        }
    }

    /// Appends the operand's bytes. Operands are concatenated, never rewritten.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Event(event) => event.encode(out),
            Self::Verdict(verdict) => {
                out.push(EventTopic::Feedback as u8);
                verdict.encode(out);
            }
        }
    }
}

/// What the fold needs of a watch or a click. Borrows from the record, or from the bytes of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldEvent<'a> {
    /// Watched or clicked.
    pub source: Source,
    /// When it happened.
    pub at: EventTime,
    /// The low 24 bits of the XXH3-64 of the event id. With the event time, to the millisecond,
    /// it identifies an event among those of one user and topic. It does not compress, so each
    /// byte more would be a byte an event.
    pub id: u32,
    /// [`session_key`].
    pub session: u64,
    /// Milliseconds watched; 0 for a click.
    pub watched_ms: u64,
    /// The item's length in milliseconds; 0 where not known and for a click.
    pub duration_ms: u64,
    /// What it was about.
    pub item: &'a str,
    /// Where in the product; empty where not known.
    pub surface: &'a str,
}

/// The key of a session across users: user and session id, or user and UTC day where the
/// platform has no sessions. `user` is the [`stable_hash`] of the user id.
pub fn session_key(user: u64, session: &str, at: EventTime) -> u64 {
    let mut key = [0u8; 17];
    key[..8].copy_from_slice(&user.to_le_bytes());
    let within = if session.is_empty() {
        // A session that is named after a day number is still another one.
        key[16] = 1;
        at.millis().div_euclid(DAY_MS) as u64
    } else {
        stable_hash(session.as_bytes())
    };
    key[8..16].copy_from_slice(&within.to_le_bytes());
    stable_hash(&key)
}

impl<'a> FoldEvent<'a> {
    /// What the fold needs of `event`, whose user's [`stable_hash`] is `user`.
    pub fn from_event(event: &'a UserEvent<'_>, user: u64) -> Self {
        let (watched_ms, duration_ms) = match event.kind {
            EventKind::Watch { watched_ms, duration_ms } => (watched_ms, duration_ms),
            EventKind::Click { .. } => (0, 0),
        };
        Self {
            source: event.source(),
            at: event.at,
            id: stable_hash(event.id.as_bytes()) as u32 & 0xFF_FFFF,
            session: session_key(user, &event.session, event.at),
            watched_ms,
            duration_ms,
            item: &event.item,
            surface: &event.surface,
        }
    }

    /// What all workers are told of it. `user` is the user's [`stable_hash`], `offset` its
    /// record's place in its topic.
    pub fn interaction(&self, user: u64, offset: i64) -> Interaction<'a> {
        // The user, the time and the 24-bit id hash tell events apart as the fold does.
        let mut key = [0u8; 21];
        key[..8].copy_from_slice(&user.to_le_bytes());
        key[8..16].copy_from_slice(&self.at.millis().to_le_bytes());
        key[16..20].copy_from_slice(&self.id.to_le_bytes());
        key[20] = self.source as u8;
        let fraction = if self.duration_ms == 0 {
            0.0
        } else {
            (self.watched_ms as f64 / self.duration_ms as f64) as f32
        };
        Interaction {
            source: self.source,
            offset,
            user: user as i64,
            session: self.session as i64,
            event: stable_hash(&key) as i64,
            item: self.item,
            event_time: self.at.millis(),
            fraction,
            surface: self.surface,
            history: None,
        }
    }

    /// Appends the operand's bytes, as [`FoldRecord::encode`] does.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.source as u8);
        varint::put(out, self.at.millis().unsigned_abs());
        out.extend_from_slice(&self.id.to_le_bytes()[..3]);
        out.extend_from_slice(&self.session.to_le_bytes());
        if self.source == Source::Watch {
            varint::put(out, self.watched_ms);
            varint::put(out, self.duration_ms);
        }
        varint::put(out, self.item.len() as u64);
        out.extend_from_slice(self.item.as_bytes());
        varint::put(out, self.surface.len() as u64);
        out.extend_from_slice(self.surface.as_bytes());
    }
}

/// Reads the records of an operand, in the order they were appended.
pub fn fold_records(operand: &[u8]) -> impl Iterator<Item = Result<FoldRecord<'_>, Corrupt>> {
    let mut reader = Reader::new(operand);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || reader.is_empty() {
            return None;
        }
        let record = decode(&mut reader);
        failed = record.is_err();
        Some(record)
    })
}

fn decode<'a>(reader: &mut Reader<'a>) -> Result<FoldRecord<'a>, Corrupt> {
    let source = match reader.byte()? {
        0 => Source::Watch,
        1 => Source::Click,
        2 => return Verdict::decode(reader).map(FoldRecord::Verdict),
        _ => return Err(Corrupt("an event of an unknown topic")),
    };
    let at = i64::try_from(reader.varint()?).map_err(|_| Corrupt("a time is out of range"))?;
    let id = reader.u24()?;
    let session = reader.u64()?;
    let (watched_ms, duration_ms) = match source {
        Source::Watch => (reader.varint()?, reader.varint()?),
        Source::Click => (0, 0),
    };
    let item = reader.text()?;
    let surface = reader.text()?;
    Ok(FoldRecord::Event(FoldEvent {
        source,
        at: EventTime::from_millis(at),
        id,
        session,
        watched_ms,
        duration_ms,
        item,
        surface,
    }))
}
