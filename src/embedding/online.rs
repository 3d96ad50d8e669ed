//! Leaky normalised least mean squares (Widrow and Hoff, 1960; normalised: Nagumo and Noda, 1967)
//! on one item's vector v, which is to score 1 with the users who like it:
//!
//! ```text
//! g  = max(g_min, 0.85 / (n + n_tr))
//! v += g · (1 − u·v) / (|u|² + m) · u
//! v  = t + (v − t) · 2^(−Δ/h)          the leak, before the update
//! ```
//!
//! u is folded in over the frozen basis from the history *before* the event, t is where the item
//! leaks back to ([`Origin`]), n counts this item's updates, n_tr those of training, m is the
//! basis' mean of |u|².
//!
//! **When it leaks.** Event time is cut at the multiples of `leak_step_ms` since the epoch; Δ is the
//! number of cuts passed times the step. Between two cuts nothing leaks, so a reader need not
//! recompute a vector more often than once a step, and [`ItemVector::at`] gives every reader the
//! same. An event that is older than the item's newest is learnt without a leak and does not turn
//! time back.
//!
//! **Determinism.** Sums run in fixed lanes, 2^x is our own: the same updates in the same order give
//! the same bytes on every machine of an architecture. Other orders of one item's events give other
//! vectors.

use crate::model::vector::{axpy, dot};
use crate::model::{Dim, Trained, decayed};
use crate::time::{DAY_MS, EventTime, HOUR_MS};

/// Gain of the first update: nearly all the way, as the first user is all that is known.
const FIRST_GAIN: f32 = 0.85;

/// How live vectors move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LmsConfig {
    /// g_min in (0, 1]: the gain that stays however often an item was seen. Results are flat from
    /// .05 to .3; larger follows faster and forgets faster.
    pub min_gain: f32,
    /// h: what a trained item has learnt since the retrain halves in this time, in ms. About a
    /// day of events: longer and old trends linger, shorter and nothing is learnt.
    pub half_life_ms: i64,
    /// h of items that were not there at training; none: they forget nothing. Longer favours new
    /// items; without end and without daily retraining they crowd out the old ones.
    pub new_half_life_ms: Option<i64>,
    /// The grid of event time at which vectors leak, in ms. Much smaller than the half-lives, so
    /// that the steps do not show; larger spares readers work.
    pub leak_step_ms: i64,
}

impl LmsConfig {
    /// For sessions of clicks, as measured on DIGINETICA.
    pub const SESSIONS: Self = Self {
        min_gain: 0.1,
        half_life_ms: DAY_MS,
        new_half_life_ms: Some(3 * DAY_MS),
        leak_step_ms: HOUR_MS,
    };
    /// For videos, as measured on KuaiRand.
    pub const VIDEOS: Self = Self { min_gain: 0.2, ..Self::SESSIONS };
}

/// Why something of this room cannot be made or read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EmbeddingError {
    /// A setting out of its range.
    #[error("{name} is {value}; it must be {wanted}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// Its range.
        wanted: &'static str,
    },
    /// Bytes that are no item vector, or no item state.
    #[error("not readable as what is kept of an item: {0}; rebuild the store from its log")]
    Corrupt(&'static str),
}

/// Where an item's vector comes from, and what it leaks back to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin<'a> {
    /// It was there at training.
    Trained(Trained<'a>),
    /// It is new; its content predicts this vector.
    Content(&'a [f32]),
    /// It is new and nothing is known: zero.
    Unknown,
}

impl<'a> Origin<'a> {
    fn vector(self) -> Option<&'a [f32]> {
        match self {
            Origin::Trained(trained) => Some(trained.vector),
            Origin::Content(vector) => Some(vector),
            Origin::Unknown => None,
        }
    }
}

/// The update rule over one basis.
#[derive(Clone, Copy, Debug)]
pub struct Lms {
    config: LmsConfig,
    mean_user_norm: f32,
}

impl Lms {
    /// The rule for a basis whose mean of |u|² is `mean_user_norm`
    /// ([`Basis::mean_user_norm`](crate::model::Basis::mean_user_norm)).
    ///
    /// # Errors
    /// [`EmbeddingError::Setting`] where a setting is out of its range.
    pub fn new(config: LmsConfig, mean_user_norm: f32) -> Result<Self, EmbeddingError> {
        let gain = f64::from(config.min_gain);
        if !(gain > 0.0 && gain <= 1.0) {
            let wanted = "above 0 and at most 1";
            return Err(EmbeddingError::Setting { name: "min_gain", value: gain, wanted });
        }
        let positive = [
            ("mean_user_norm", f64::from(mean_user_norm)),
            ("half_life_ms", config.half_life_ms as f64),
            ("new_half_life_ms", config.new_half_life_ms.unwrap_or(1) as f64),
            ("leak_step_ms", config.leak_step_ms as f64),
        ];
        for (name, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(EmbeddingError::Setting { name, value, wanted: "positive" });
            }
        }
        Ok(Self { config, mean_user_norm })
    }

    /// What is left of a deviation from the origin after the cuts between two times.
    pub(super) fn kept(&self, origin: Origin<'_>, from: EventTime, to: EventTime) -> f32 {
        let step = self.config.leak_step_ms;
        let half_life = match origin {
            Origin::Trained(_) => Some(self.config.half_life_ms),
            Origin::Content(_) | Origin::Unknown => self.config.new_half_life_ms,
        };
        let cuts = to.millis().div_euclid(step).saturating_sub(from.millis().div_euclid(step));
        match half_life {
            Some(half_life) if cuts > 0 => {
                decayed(cuts as f64 * step as f64 / half_life as f64) as f32
            }
            _ => 1.0,
        }
    }

    /// Whether no cut lies between two times, so that every vector is the same at both.
    pub(super) fn is_same_step(&self, from: EventTime, to: EventTime) -> bool {
        let step = self.config.leak_step_ms;
        from.millis().div_euclid(step) == to.millis().div_euclid(step)
    }
}

/// The live vector of one item over one basis. At a retrain it is made anew from the new basis.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemVector {
    live: Box<[f32]>,
    updates: u32,
    newest: EventTime,
}

impl ItemVector {
    /// The vector before its first event.
    pub fn new(dim: Dim, origin: Origin<'_>) -> Self {
        let live = match origin.vector() {
            Some(vector) => vector.into(),
            None => vec![0.0; dim.get()].into(),
        };
        Self { live, updates: 0, newest: EventTime::from_millis(i64::MIN) }
    }

    /// Learns that a user with vector `user` liked the item at `at`. `origin` is the one it was
    /// made with. Vectors are of one dimension and one basis.
    pub fn learn(&mut self, lms: &Lms, origin: Origin<'_>, user: &[f32], at: EventTime) {
        self.leak(lms, origin, at);
        let trained = match origin {
            Origin::Trained(trained) => trained.count,
            Origin::Content(_) | Origin::Unknown => 0,
        };
        let seen = self.updates.saturating_add(trained);
        // For the first event ever the quotient is infinite: the gain is 0.85.
        let gain = (FIRST_GAIN / seen.max(1) as f32).max(lms.config.min_gain);
        let error = 1.0 - dot(user, &self.live);
        axpy(gain * error / (dot(user, user) + lms.mean_user_norm), user, &mut self.live);
        self.updates = self.updates.saturating_add(1);
    }

    fn leak(&mut self, lms: &Lms, origin: Origin<'_>, to: EventTime) {
        let kept = lms.kept(origin, self.newest, to);
        if kept < 1.0 && self.updates > 0 {
            pull(&mut self.live, origin, kept);
        }
        self.newest = self.newest.max(to);
    }

    /// Writes the vector as of `now` into `out`: what has leaked since its newest event is gone.
    pub fn at(&self, lms: &Lms, origin: Origin<'_>, now: EventTime, out: &mut [f32]) {
        out.copy_from_slice(&self.live);
        let kept = lms.kept(origin, self.newest, now);
        if kept < 1.0 && self.updates > 0 {
            pull(out, origin, kept);
        }
    }

    /// The vector as of its newest event.
    pub fn live(&self) -> &[f32] {
        &self.live
    }

    /// n, the events it has learnt since the retrain.
    pub fn updates(&self) -> u32 {
        self.updates
    }

    /// The time of the newest event learnt; none before the first.
    pub fn newest(&self) -> Option<EventTime> {
        (self.updates > 0).then_some(self.newest)
    }

    /// Bytes for a store: format version (1), updates (4), newest event time (8), components (4
    /// each), little-endian. 269 bytes at 64 components.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + 4 * self.live.len());
        out.push(FORMAT);
        out.extend_from_slice(&self.updates.to_le_bytes());
        out.extend_from_slice(&self.newest.millis().to_le_bytes());
        self.live.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        out
    }

    /// Reads what [`ItemVector::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`EmbeddingError::Corrupt`] where the bytes are of another version or dimension, cut off,
    /// or hold a number that is not finite.
    pub fn from_bytes(dim: Dim, bytes: &[u8]) -> Result<Self, EmbeddingError> {
        let short = EmbeddingError::Corrupt("it ends early");
        let (&[format], rest) = bytes.split_first_chunk().ok_or(short.clone())?;
        if format != FORMAT {
            return Err(EmbeddingError::Corrupt("it is of another format version"));
        }
        let (&updates, rest) = rest.split_first_chunk().ok_or(short.clone())?;
        let (&newest, rest) = rest.split_first_chunk().ok_or(short)?;
        if rest.len() != 4 * dim.get() {
            return Err(EmbeddingError::Corrupt("it is of another dimension"));
        }
        let live: Box<[f32]> = rest.as_chunks().0.iter().map(|v| f32::from_le_bytes(*v)).collect();
        if !live.iter().all(|value| value.is_finite()) {
            return Err(EmbeddingError::Corrupt("a component is not finite"));
        }
        let newest = EventTime::from_millis(i64::from_le_bytes(newest));
        Ok(Self { live, updates: u32::from_le_bytes(updates), newest })
    }
}

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 13;

/// `v = t + kept · (v − t)`.
fn pull(v: &mut [f32], origin: Origin<'_>, kept: f32) {
    match origin.vector() {
        Some(t) => v.iter_mut().zip(t).for_each(|(v, t)| *v = t + kept * (*v - t)),
        None => v.iter_mut().for_each(|v| *v *= kept),
    }
}

#[cfg(test)]
mod tests;
