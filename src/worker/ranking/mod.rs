//! What ranks by what came of lists, as the threads of a worker share it.
//!
//! Counters of items, creators, categories and surfaces are folded by every worker from
//! `training-examples`; what goes together with what, from `interactions`. Weights are learnt by one
//! worker, see [`learner`], and come to all of them through `models`.

mod learner;
mod versions;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use metrics::{counter, gauge};

use crate::event::{Interaction, RankerManifest, Source};
use crate::global;
use crate::ids::stable_hash;
use crate::ranking::{CLICK, Globals, LONG_VIEW, Learner, Lesson, Limits, NEWEST, Weights};
use crate::telemetry::names;

pub use learner::{place_of, start};
pub use versions::{Assembly, PREFIX};

/// What is taken together waits here to be counted, at most so much of it.
const MOST_WAITING: usize = 1 << 16;
/// Examples and pairs learnt under one lock: requests wait for it.
const AT_ONCE: usize = 64;

/// Something that a user took after other things.
struct Taken {
    kind: usize,
    item: u64,
    before: Vec<u64>,
}

/// A whole version.
pub struct Version {
    /// What it is.
    pub manifest: RankerManifest,
    bytes: Vec<u8>,
}

/// See the module.
pub struct SharedRanking {
    globals: RwLock<Globals>,
    weights: RwLock<Arc<Weights>>,
    newest: Mutex<Newest>,
    taken: Mutex<Vec<Taken>>,
}

#[derive(Default)]
struct Newest {
    version: Option<Arc<Version>>,
    is_read: bool,
}

impl Default for SharedRanking {
    fn default() -> Self {
        Self {
            globals: RwLock::new(Globals::new(Limits::default())),
            weights: RwLock::default(),
            newest: Mutex::default(),
            taken: Mutex::default(),
        }
    }
}

impl SharedRanking {
    /// The counters that users share.
    pub fn globals(&self) -> RwLockReadGuard<'_, Globals> {
        self.globals.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The weights that rank.
    pub fn weights(&self) -> Arc<Weights> {
        Arc::clone(&self.weights.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest version that the topic holds.
    pub fn newest(&self) -> Option<Arc<Version>> {
        self.lock_newest().version.clone()
    }

    /// Takes a version that is whole. It ranks after the next [`SharedRanking::read_newest`].
    pub fn announce(&self, version: Version) {
        let mut newest = self.lock_newest();
        let known = newest.version.as_ref().map_or(0, |known| known.manifest.version);
        if version.manifest.version > known {
            *newest = Newest { version: Some(Arc::new(version)), is_read: false };
        }
    }

    /// Reads the newest version, where it has not been read: once, however many came meanwhile.
    pub fn read_newest(&self) {
        let mut newest = self.lock_newest();
        if std::mem::replace(&mut newest.is_read, true) {
            return;
        }
        let Some(version) = newest.version.clone() else { return };
        drop(newest);
        let (number, learnt) = (version.manifest.version, version.manifest.examples);
        match version.learner() {
            Ok(learner) => {
                let weights = Arc::new(learner.weights().clone());
                gauge!(names::RANKER_EXAMPLES).set(weights.learnt() as f64);
                *self.weights.write().unwrap_or_else(PoisonError::into_inner) = weights;
                tracing::debug!(version = number, examples = learnt, "the ranker has a version");
            }
            // Of another program's features: the owner learns anew.
            Err(error) => tracing::warn!(version = number, error, "a ranker is not taken"),
        }
    }

    fn lock_newest(&self) -> std::sync::MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what users took after other things, to be counted by [`SharedRanking::learn`].
    pub fn note_taken(&self, interactions: &[Interaction<'_>]) {
        let of = |one: &Interaction<'_>| {
            let before = one.history.as_ref().filter(|_| global::is_liked(one))?;
            let kind = match one.source {
                Source::Click => CLICK,
                Source::Watch => LONG_VIEW,
            };
            let before = before.iter().take(NEWEST).collect();
            Some(Taken { kind, item: stable_hash(one.item.as_bytes()), before })
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let free = MOST_WAITING.saturating_sub(taken.len());
        let mut new = interactions.iter().filter_map(of);
        taken.extend(new.by_ref().take(free));
        counter!(names::RANKER_PAIRS_DROPPED).increment(new.count() as u64);
    }

    /// Learns examples, and what was noted meanwhile.
    pub fn learn(&self, lessons: &[Lesson]) {
        for lessons in lessons.chunks(AT_ONCE) {
            let mut globals = self.globals.write().unwrap_or_else(PoisonError::into_inner);
            for lesson in lessons {
                globals.learn(&lesson.example());
                if let Some((watch, user_rate)) = lesson.watch() {
                    globals.watched(&watch, user_rate);
                }
            }
        }
        let taken = std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner));
        for taken in taken.chunks(AT_ONCE) {
            let mut globals = self.globals.write().unwrap_or_else(PoisonError::into_inner);
            for Taken { kind, item, before } in taken {
                globals.co_visits.learn(*kind, *item, before);
            }
        }
    }
}

impl Version {
    /// To go on learning from.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn learner(&self) -> Result<Learner, String> {
        Learner::from_bytes(&self.bytes).map_err(|error| error.to_string())
    }
}
