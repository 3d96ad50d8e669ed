//! What a user does not want to see: of everything that they spoke of, the last thing said.
//!
//! A later word replaces an earlier one about the same subject, in whichever order they arrive:
//! what was taken back is remembered too, so that a refusal that comes late finds it. So this is
//! a function of the set of events, and a duplicate says nothing new.

use super::Corrupt;
use super::varint::{Reader, put};
use crate::event::{FeedbackKind, Subject, SubjectKind};
use crate::time::EventTime;

/// Subjects remembered of a user, the newest. An entry takes some 15 bytes and a comparison with
/// each new one: more would cost every read of those few who refuse by habit, fewer would let
/// them see again what they refused.
pub const MAX_REFUSALS: usize = 500;

/// What a user said of a subject. Ordered by time; of one time, what is taken back comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict<'a> {
    /// When it was said.
    pub at: EventTime,
    /// What.
    pub kind: FeedbackKind,
    /// Of what.
    pub subject: Subject<'a>,
}

impl<'a> Verdict<'a> {
    /// Appends an operand's bytes after its topic: time, kinds in one byte, subject.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.at.millis().unsigned_abs());
        out.push(self.kinds());
        put(out, self.subject.id.len() as u64);
        out.extend_from_slice(self.subject.id.as_bytes());
    }

    /// Reads what [`Verdict::encode`] wrote.
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, Corrupt> {
        let at = i64::try_from(reader.varint()?).map_err(|_| Corrupt("a time is out of range"))?;
        let (kind, subject) = kinds_of(reader.byte()?)?;
        let subject = Subject { kind: subject, id: reader.text()? };
        Ok(Self { at: EventTime::from_millis(at), kind, subject })
    }

    fn kinds(&self) -> u8 {
        self.kind as u8 | (self.subject.kind as u8) << 1
    }
}

fn kinds_of(byte: u8) -> Result<(FeedbackKind, SubjectKind), Corrupt> {
    let kind = if byte & 1 == 0 { FeedbackKind::NotInterested } else { FeedbackKind::Undo };
    let subject = SubjectKind::ALL.get(usize::from(byte >> 1));
    subject.map(|subject| (kind, *subject)).ok_or(Corrupt("an unknown kind of subject"))
}

/// The last verdict on each subject, the newest [`MAX_REFUSALS`], oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals<'a> {
    verdicts: Vec<Verdict<'a>>,
}

impl<'a> Refusals<'a> {
    pub(super) fn verdicts(&self) -> &[Verdict<'a>] {
        &self.verdicts
    }

    pub(super) fn newest(&self) -> Option<EventTime> {
        self.verdicts.last().map(|verdict| verdict.at)
    }

    /// Hears a verdict. One that is older than all of a full list is forgotten at once.
    pub(super) fn learn(&mut self, verdict: Verdict<'a>) {
        let known = self.verdicts.iter().position(|held| held.subject == verdict.subject);
        match known {
            Some(place) if self.verdicts[place] >= verdict => return,
            Some(place) => drop(self.verdicts.remove(place)),
            None if self.verdicts.len() < MAX_REFUSALS => {}
            None if self.verdicts[0] > verdict => return,
            None => drop(self.verdicts.remove(0)),
        }
        let place = self.verdicts.partition_point(|held| *held < verdict);
        self.verdicts.insert(place, verdict);
    }

    pub(super) fn drop_before(&mut self, floor: EventTime) {
        let old = self.verdicts.partition_point(|verdict| verdict.at < floor);
        self.verdicts.drain(..old);
    }

    /// In columns: count, steps of time, kinds, lengths, texts.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.verdicts.len() as u64);
        let mut before = 0;
        for verdict in &self.verdicts {
            put(out, (verdict.at.millis() - before).unsigned_abs());
            before = verdict.at.millis();
        }
        self.verdicts.iter().for_each(|v| out.push(v.kinds()));
        self.verdicts.iter().for_each(|v| put(out, v.subject.id.len() as u64));
        self.verdicts.iter().for_each(|v| out.extend_from_slice(v.subject.id.as_bytes()));
    }

    pub(super) fn decode(r: &mut Reader<'a>) -> Result<Self, Corrupt> {
        let count = r.count()?;
        let mut at = 0i64;
        let mut verdicts = Vec::with_capacity(count);
        for _ in 0..count {
            at = at.checked_add_unsigned(r.varint()?).ok_or(Corrupt("a time is out of range"))?;
            let subject = Subject { kind: SubjectKind::Item, id: "" };
            let at = EventTime::from_millis(at);
            verdicts.push(Verdict { at, kind: FeedbackKind::NotInterested, subject });
        }
        for verdict in &mut verdicts {
            (verdict.kind, verdict.subject.kind) = kinds_of(r.byte()?)?;
        }
        let lens = (0..count).map(|_| r.count()).collect::<Result<Vec<_>, _>>()?;
        for (verdict, len) in verdicts.iter_mut().zip(lens) {
            let id = std::str::from_utf8(r.bytes(len)?);
            verdict.subject.id = id.map_err(|_| Corrupt("a text is not UTF-8"))?;
        }
        // Damage may say of equal times what the order does not allow.
        if verdicts.is_sorted() { Ok(Self { verdicts }) } else { Err(Corrupt("out of order")) }
    }
}
