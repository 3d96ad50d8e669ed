//! An item's state as bytes: `version, newest` (time + 1, 0 for none), buckets, co-watched items,
//! vectors. Numbers are varints; hashes, weights and vectors are little-endian.

use super::co_watched::{CoWatched, Weighted};
use super::{ItemCounts, ItemState};
use crate::embedding::online::{EmbeddingError, ItemVector};
use crate::feature::varint::{Reader, put};
use crate::feature::{Bucket, Corrupt, Resolution};
use crate::model::{BasisVersion, Dim};
use crate::time::{EventTime, HOUR_MS};

/// First byte of every state. A store of another version is rebuilt from the log.
pub const VERSION: u8 = 1;

/// Bytes of a vector before its components, as [`ItemVector::to_bytes`] writes it.
const VECTOR_HEADER: usize = 13;

impl ItemState {
    /// The state's canonical bytes: equal states have equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + 280 * self.vectors.len());
        out.push(VERSION);
        put(&mut out, self.newest.map_or(0, |at| at.millis().unsigned_abs() + 1));
        put(&mut out, self.buckets.len() as u64);
        let mut before = 0;
        for Bucket { start, resolution, counts } in &self.buckets {
            out.push(*resolution as u8);
            put(&mut out, start.millis().abs_diff(before) / HOUR_MS as u64);
            before = start.millis();
            [counts.watches, counts.long_views, counts.clicks]
                .iter()
                .for_each(|count| put(&mut out, *count));
        }
        put(&mut out, self.co_watched.held().len() as u64);
        put(&mut out, self.co_watched.step().unsigned_abs());
        for Weighted { item, weight, error } in self.co_watched.held() {
            out.extend_from_slice(&item.to_le_bytes());
            out.extend_from_slice(&weight.to_le_bytes());
            out.extend_from_slice(&error.to_le_bytes());
        }
        put(&mut out, self.vectors.len() as u64);
        for (version, vector) in &self.vectors {
            let bytes = vector.to_bytes();
            out.extend_from_slice(&version.0.to_le_bytes());
            put(&mut out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        out
    }

    /// Reads what [`ItemState::encode`] wrote.
    ///
    /// # Errors
    /// [`EmbeddingError::Corrupt`] where the bytes are no state of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EmbeddingError> {
        let mut r = Reader::new(bytes);
        if r.byte()? != VERSION {
            return Err(EmbeddingError::Corrupt("it is of another format version"));
        }
        let newest = match r.varint()? {
            0 => None,
            after => Some(EventTime::from_millis(time(after - 1)?)),
        };
        let buckets = decode_buckets(&mut r)?;
        let held = r.count()?;
        let step = time(r.varint()?)?;
        let held = (0..held).map(|_| weighted(&mut r)).collect::<Result<Vec<_>, Corrupt>>()?;
        let mut state = Self {
            newest,
            buckets,
            co_watched: CoWatched::from_parts(held, step),
            ..Self::default()
        };
        for _ in 0..r.count()? {
            let version = BasisVersion(r.u64()?);
            let length = r.count()?;
            let components = length.saturating_sub(VECTOR_HEADER) / 4;
            let dim = Dim::new(components)
                .map_err(|_| EmbeddingError::Corrupt("a vector of no dimension there is"))?;
            state.vectors.insert(version, ItemVector::from_bytes(dim, r.bytes(length)?)?);
        }
        match r.is_empty() {
            true => Ok(state),
            false => Err(EmbeddingError::Corrupt("it has bytes left over")),
        }
    }
}

impl From<Corrupt> for EmbeddingError {
    fn from(error: Corrupt) -> Self {
        Self::Corrupt(error.what())
    }
}

fn time(value: u64) -> Result<i64, EmbeddingError> {
    i64::try_from(value).map_err(|_| EmbeddingError::Corrupt("a time is out of range"))
}

fn decode_buckets(r: &mut Reader<'_>) -> Result<Vec<Bucket<ItemCounts>>, EmbeddingError> {
    let mut start = 0i64;
    let buckets = (0..r.count()?).map(|_| {
        let resolution = match r.byte()? {
            0 => Resolution::Hour,
            1 => Resolution::Day,
            2 => Resolution::Week,
            _ => return Err(EmbeddingError::Corrupt("an unknown bucket width")),
        };
        start = time(r.varint()?)?
            .checked_mul(HOUR_MS)
            .and_then(|ms| start.checked_add(ms))
            .ok_or(EmbeddingError::Corrupt("a time is out of range"))?;
        let counts =
            ItemCounts { watches: r.varint()?, long_views: r.varint()?, clicks: r.varint()? };
        Ok(Bucket { start: EventTime::from_millis(start), resolution, counts })
    });
    buckets.collect()
}

fn weighted(r: &mut Reader<'_>) -> Result<Weighted, Corrupt> {
    let item = r.u64()?;
    Ok(Weighted { item, weight: f32::from_bits(r.u32()?), error: f32::from_bits(r.u32()?) })
}
