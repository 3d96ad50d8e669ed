//! A user's counters as bytes:
//!
//! | what | how |
//! |---|---|
//! | format version | a byte |
//! | counter of all | time, sums |
//! | surfaces, categories, creators, lengths | how many, then by rising key: key (4 bytes), time, sums |
//!
//! A time is its distance to that of the counter of all, zigzag and LEB128; that one's is its distance to the
//! epoch. A sum is twice itself as LEB128 where it is a small whole number, as sums that never decay
//! are; else 1 and its four bytes, little-endian. About 90 bytes, and 10 to 30 for each key.

use super::counter::{Counter, Sums};
use super::user::{Few, UserCounters};
use crate::feature::Corrupt as State;
use crate::feature::varint::{Reader, put};
use crate::time::EventTime;

const VERSION: u8 = 1;
/// Whole numbers below it take fewer bytes than the four of an f32.
const WHOLE: f32 = 1_048_576.0;

/// The bytes are no counters of a user: of another version, or damaged. They can be learnt anew from
/// the user's examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not readable as a user's counters: {0}; forget them, and learn them from examples again")]
pub struct Corrupt(&'static str);

impl From<State> for Corrupt {
    fn from(error: State) -> Self {
        Self(error.what())
    }
}

impl UserCounters {
    /// The bytes to keep.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_counter(&mut out, &self.all, EventTime::default());
        let at = self.all.at;
        put_few(&mut out, &self.surfaces, at);
        put_few(&mut out, &self.categories, at);
        put_few(&mut out, &self.creators, at);
        put_few(&mut out, &self.lengths, at);
        out
    }

    /// Reads what [`UserCounters::encode`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes are of another version, cut off or damaged; never panics, and never
    /// asks for more memory than the bytes account for.
    pub fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut bytes = Reader::new(bytes);
        if bytes.byte()? != VERSION {
            return Err(Corrupt("it is of another version"));
        }
        let all = take_counter(&mut bytes, EventTime::default())?;
        let counters = Self {
            surfaces: take_few(&mut bytes, all.at)?,
            categories: take_few(&mut bytes, all.at)?,
            creators: take_few(&mut bytes, all.at)?,
            lengths: take_few(&mut bytes, all.at)?,
            all,
        };
        if !bytes.is_empty() {
            return Err(Corrupt("there are bytes left"));
        }
        Ok(counters)
    }
}

fn put_counter<S: Sums, const H: usize>(
    out: &mut Vec<u8>,
    counter: &Counter<S, H>,
    from: EventTime,
) {
    let distance = counter.at.millis().wrapping_sub(from.millis());
    put(out, ((distance << 1) ^ (distance >> 63)) as u64);
    let mut values = [0.0; 8];
    for sums in counter.sums {
        sums.to_slice(&mut values[..S::LEN]);
        for &value in &values[..S::LEN] {
            if (0.0..WHOLE).contains(&value) && value.fract() == 0.0 && value.is_sign_positive() {
                put(out, (value as u64) << 1);
            } else {
                out.push(1);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
    }
}

fn take_counter<S: Sums, const H: usize>(
    bytes: &mut Reader<'_>,
    from: EventTime,
) -> Result<Counter<S, H>, Corrupt> {
    let zigzag = bytes.varint()?;
    let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    let at = EventTime::from_millis(from.millis().wrapping_add(distance));
    let mut counter = Counter { at, sums: [S::default(); H] };
    let mut values = [0.0; 8];
    for sums in &mut counter.sums {
        for value in &mut values[..S::LEN] {
            let head = bytes.varint()?;
            *value = match head {
                1 => f32::from_bits(bytes.u32()?),
                whole if whole % 2 == 0 && whole < 2 * WHOLE as u64 => (whole / 2) as f32,
                _ => return Err(Corrupt("a sum is out of range")),
            };
            if !value.is_finite() || *value < 0.0 {
                return Err(Corrupt("a sum is no number, or below 0"));
            }
        }
        *sums = S::from_slice(&values[..S::LEN]);
    }
    Ok(counter)
}

fn put_few<S: Sums, const H: usize, const MOST: usize>(
    out: &mut Vec<u8>,
    few: &Few<S, H, MOST>,
    at: EventTime,
) {
    put(out, few.0.len() as u64);
    for (key, counter) in &few.0 {
        out.extend_from_slice(&key.to_le_bytes());
        put_counter(out, counter, at);
    }
}

fn take_few<S: Sums, const H: usize, const MOST: usize>(
    bytes: &mut Reader<'_>,
    at: EventTime,
) -> Result<Few<S, H, MOST>, Corrupt> {
    let count = bytes.count()?;
    if count > MOST {
        return Err(Corrupt("there are more keys than are kept"));
    }
    let mut few = Few(Vec::with_capacity(count));
    for _ in 0..count {
        let key = bytes.u32()?;
        if few.0.last().is_some_and(|(before, _)| *before >= key) {
            return Err(Corrupt("keys do not rise"));
        }
        few.0.push((key, take_counter(bytes, at)?));
    }
    Ok(few)
}
