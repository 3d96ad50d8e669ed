//! Weights and learners as bytes, all numbers little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `driftrnk` of weights, `driftlrn` of a learner |
//! | 4, 8 | format version; the feature schema's number |
//! | 8, 8 | examples learnt; newest exposure among them, milliseconds |
//! | 2 × 4 d | dense weights, by target |
//! | 8, 8 × 4 · 19 | watch time: as of; exposures and seconds, by length and by whether viewed long |
//! | 4, (8, 8, 24) … | surfaces by rising key: key, as of, N, Σy and N, Σp |
//! | 4, (4, 8) … | of weights: ids by rising slot, where a weight is not 0: slot, weight by target |
//! | 1, … | of a learner: 0 and (z, n) of dense weights, or 1 and the covariances |
//! | 4, (4, 16) … | of a learner: ids by rising slot, where something was learnt: slot, (z, n) by target |
//! | 8 | XXH3-64 of all before: the checksum, and the version |

use super::kalman::Covariance;
use super::surfaces::Surface;
use super::{Dense, IDS_RULE, Kind, Learner, Memory, REST_RULE, Weights};
use crate::feature::varint::Reader;
use crate::ids::stable_hash;
use crate::ranking::counter::{Counter, Rates, Sums};
use crate::ranking::features::{DENSE, SLOTS, schema};
use crate::time::EventTime;

const WEIGHTS: &[u8; 8] = b"driftrnk";
const LEARNER: &[u8; 8] = b"driftlrn";
const FORMAT: u32 = 1;
const CHECKSUM_BYTES: usize = 8;

/// Why bytes cannot be read as weights or as a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Something else, or damaged.
    #[error("not readable: {0}; fetch it again, or learn it anew from examples")]
    Damaged(&'static str),
    /// Written by another version of the program.
    #[error("format {found} where this program reads {FORMAT}: run the program that wrote it")]
    Format {
        /// The version found.
        found: u32,
    },
    /// Learnt from features that mean something else.
    #[error("learnt from feature schema {found:016x} where {expected:016x} is served: learn anew")]
    Schema {
        /// What it was learnt from.
        found: u64,
        /// What this program serves.
        expected: u64,
    },
}

impl From<crate::feature::Corrupt> for Unreadable {
    fn from(error: crate::feature::Corrupt) -> Self {
        Unreadable::Damaged(error.what())
    }
}

impl Weights {
    /// The bytes to publish; the same weights always give the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.common(WEIGHTS);
        let there = || {
            let slots = (0u32..).zip(&self.ids);
            slots.filter(|(_, weights)| weights.iter().any(|w| *w != 0.0))
        };
        out.extend_from_slice(&(there().count() as u32).to_le_bytes());
        for (slot, weights) in there() {
            out.extend_from_slice(&slot.to_le_bytes());
            put_floats(&mut out, weights);
        }
        sealed(out)
    }

    /// Reads what [`Weights::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Unreadable`] says why not; whatever the bytes, it does not panic.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut bytes = open(bytes, WEIGHTS)?;
        let mut weights = Self::take_common(&mut bytes)?;
        take_slots(&mut bytes, |slot, bytes| {
            weights.ids[slot] = take_floats(bytes)?;
            Ok(())
        })?;
        ended(&bytes)?;
        Ok(weights)
    }

    fn common(&self, magic: &[u8; 8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(1 << 16);
        out.extend_from_slice(magic);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&schema().to_le_bytes());
        out.extend_from_slice(&self.learnt.to_le_bytes());
        out.extend_from_slice(&self.watermark.millis().to_le_bytes());
        put_floats(&mut out, self.dense.as_flattened());
        out.extend_from_slice(&self.watch_time.at.millis().to_le_bytes());
        for sum in self.watch_time.sums.as_flattened().as_flattened() {
            out.extend_from_slice(&sum.to_le_bytes());
        }
        let mut surfaces: Vec<(u64, &Surface)> = self.surfaces.0.iter().collect();
        surfaces.sort_unstable_by_key(|(key, _)| *key);
        out.extend_from_slice(&(surfaces.len() as u32).to_le_bytes());
        for (key, Surface { came, predicted }) in surfaces {
            out.extend_from_slice(&key.to_le_bytes());
            out.extend_from_slice(&came.at.millis().to_le_bytes());
            for counter in [came, predicted] {
                let mut values = [0.0; Rates::LEN];
                counter.sums[0].to_slice(&mut values);
                put_floats(&mut out, &values);
            }
        }
        out
    }

    fn take_common(bytes: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (learnt, watermark) = (bytes.u64()?, take_time(bytes)?);
        let mut weights = Self { learnt, watermark, ..Self::default() };
        for dense in &mut weights.dense {
            *dense = take_floats(bytes)?;
        }
        weights.watch_time.at = take_time(bytes)?;
        for sum in weights.watch_time.sums.as_flattened_mut().as_flattened_mut() {
            *sum = f64::from_bits(bytes.u64()?);
            if !(sum.is_finite() && *sum >= 0.0) {
                return Err(Unreadable::Damaged("a sum of watch time is no number, or below 0"));
            }
        }
        let mut before = None;
        for _ in 0..bytes.u32()? {
            let key = bytes.u64()?;
            if before.is_some_and(|before| before >= key) {
                return Err(Unreadable::Damaged("its surfaces do not rise"));
            }
            before = Some(key);
            let at = take_time(bytes)?;
            let mut counter = || -> Result<_, Unreadable> {
                let values: [f32; Rates::LEN] = take_floats(bytes)?;
                if values.iter().any(|value| *value < 0.0) {
                    return Err(Unreadable::Damaged("a sum of a surface is below 0"));
                }
                Ok(Counter { at, sums: [Rates::from_slice(&values)] })
            };
            let (came, predicted) = (counter()?, counter()?);
            *weights.surfaces.0.entry(key) = Surface { came, predicted };
        }
        Ok(weights)
    }
}

impl Learner {
    /// The bytes to go on learning from; the same learner always gives the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.weights.common(LEARNER);
        out.push(match self.kind {
            Kind::Ftrl => 0,
            Kind::Kalman => 1,
        });
        for dense in &self.dense {
            match dense {
                Dense::Ftrl(memory) => {
                    memory.iter().for_each(|m| put_floats(&mut out, &[m.z, m.n]))
                }
                Dense::Kalman(covariance) => put_floats(&mut out, &covariance.values),
            }
        }
        let there = || {
            let slots = (0u32..).zip(&self.ids);
            slots.filter(|(_, memories)| memories.iter().any(|m| *m != Memory::default()))
        };
        out.extend_from_slice(&(there().count() as u32).to_le_bytes());
        for (slot, memories) in there() {
            out.extend_from_slice(&slot.to_le_bytes());
            memories.iter().for_each(|m| put_floats(&mut out, &[m.z, m.n]));
        }
        sealed(out)
    }

    /// Reads what [`Learner::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Unreadable`] says why not; whatever the bytes, it does not panic.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut bytes = open(bytes, LEARNER)?;
        let weights = Weights::take_common(&mut bytes)?;
        let (kind, rule) = match bytes.byte()? {
            0 => (Kind::Ftrl, IDS_RULE),
            1 => (Kind::Kalman, REST_RULE),
            _ => return Err(Unreadable::Damaged("it is of no known kind")),
        };
        let mut learner = Self { weights, ..Self::new(kind) };
        for dense in &mut learner.dense {
            match dense {
                Dense::Ftrl(memories) => {
                    for memory in memories {
                        *memory = take_memory(&mut bytes)?;
                    }
                }
                Dense::Kalman(covariance) => {
                    let mut values = Vec::with_capacity(DENSE * DENSE);
                    for _ in 0..DENSE {
                        values.extend_from_slice(&take_floats::<DENSE>(&mut bytes)?);
                    }
                    *covariance = Covariance::of(values, DENSE);
                }
            }
        }
        let Self { ids, weights, .. } = &mut learner;
        take_slots(&mut bytes, |slot, bytes| {
            for (memory, w) in ids[slot].iter_mut().zip(&mut weights.ids[slot]) {
                *memory = take_memory(bytes)?;
                *w = rule.weight(*memory);
            }
            Ok(())
        })?;
        ended(&bytes)?;
        Ok(learner)
    }
}

fn sealed(mut out: Vec<u8>) -> Vec<u8> {
    let checksum = stable_hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The bytes after the schema, once what they are and their checksum are seen to be right.
fn open<'a>(bytes: &'a [u8], magic: &[u8; 8]) -> Result<Reader<'a>, Unreadable> {
    let body = bytes.len().checked_sub(CHECKSUM_BYTES);
    let Some((body, checksum)) = body.map(|body| bytes.split_at(body)) else {
        return Err(Unreadable::Damaged("it ends early"));
    };
    let mut reader = Reader::new(body);
    if reader.bytes(magic.len())? != magic {
        return Err(Unreadable::Damaged("it is something else"));
    }
    let found = reader.u32()?;
    if stable_hash(body).to_le_bytes() != *checksum {
        return Err(Unreadable::Damaged("its checksum is wrong"));
    }
    // What was written whole by another program is not called damaged.
    if found != FORMAT {
        return Err(Unreadable::Format { found });
    }
    let (found, expected) = (reader.u64()?, schema());
    if found != expected {
        return Err(Unreadable::Schema { found, expected });
    }
    Ok(reader)
}

fn ended(bytes: &Reader<'_>) -> Result<(), Unreadable> {
    if bytes.is_empty() { Ok(()) } else { Err(Unreadable::Damaged("there are bytes left")) }
}

fn put_floats(out: &mut Vec<u8>, values: &[f32]) {
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn take_floats<const N: usize>(bytes: &mut Reader<'_>) -> Result<[f32; N], Unreadable> {
    let mut values = [0.0; N];
    for value in &mut values {
        *value = f32::from_bits(bytes.u32()?);
        if !value.is_finite() {
            return Err(Unreadable::Damaged("a value is not finite"));
        }
    }
    Ok(values)
}

fn take_memory(bytes: &mut Reader<'_>) -> Result<Memory, Unreadable> {
    let [z, n] = take_floats(bytes)?;
    if n < 0.0 {
        return Err(Unreadable::Damaged("a sum of squares is below 0"));
    }
    Ok(Memory { z, n })
}

fn take_time(bytes: &mut Reader<'_>) -> Result<EventTime, Unreadable> {
    Ok(EventTime::from_millis(bytes.u64()? as i64))
}

fn take_slots<'a>(
    bytes: &mut Reader<'a>,
    mut each: impl FnMut(usize, &mut Reader<'a>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut least = 0;
    for _ in 0..bytes.u32()? {
        let slot = bytes.u32()? as usize;
        if slot < least || slot >= SLOTS {
            return Err(Unreadable::Damaged("its slots do not rise"));
        }
        least = slot + 1;
        each(slot, bytes)?;
    }
    Ok(())
}
