//! Interaction → item state.

use std::sync::Arc;

use super::{ItemState, LiveBasis};
use crate::embedding::online::ItemVector;
use crate::event::Interaction;
use crate::model::{BasisVersion, FoldIn};
use crate::time::EventTime;

/// Folds interactions into item states. One a thread: it holds scratch memory.
#[derive(Default)]
pub struct ItemFold {
    bases: Vec<Learning>,
}

struct Learning {
    basis: Arc<LiveBasis>,
    solver: FoldIn,
}

impl ItemFold {
    /// Lets vectors over a basis learn from now on. One that is there already stays.
    pub fn add_basis(&mut self, basis: Arc<LiveBasis>) {
        if self.bases.iter().all(|learning| learning.basis.version() != basis.version()) {
            let solver = basis.basis().solver();
            self.bases.push(Learning { basis, solver });
        }
    }

    /// Lets vectors over a basis learn no more.
    pub fn remove_basis(&mut self, version: BasisVersion) {
        self.bases.retain(|learning| learning.basis.version() != version);
    }

    /// The bases that are live.
    pub fn versions(&self) -> impl Iterator<Item = BasisVersion> {
        self.bases.iter().map(|learning| learning.basis.version())
    }

    /// Whether vectors over a basis learn.
    pub fn is_live(&self, version: BasisVersion) -> bool {
        self.versions().any(|live| live == version)
    }

    /// Folds an interaction of the item whose hash is `item`: statistics, and the vectors over
    /// every live basis. Interactions come in the order of their partition.
    pub fn learn(&mut self, state: &mut ItemState, item: u64, one: &Interaction<'_>) {
        state.learn_statistics(item, one);
        for learning in &mut self.bases {
            learning.learn(state, item, one);
        }
    }

    /// Folds an interaction into the vector over one basis only: statistics and the other vectors
    /// have come further, or not so far.
    pub fn learn_vector(
        &mut self,
        version: BasisVersion,
        state: &mut ItemState,
        item: u64,
        one: &Interaction<'_>,
    ) {
        let learning = self.bases.iter_mut().find(|l| l.basis.version() == version);
        if let Some(learning) = learning {
            learning.learn(state, item, one);
        }
    }
}

impl Learning {
    fn learn(&mut self, state: &mut ItemState, item: u64, one: &Interaction<'_>) {
        let Some(history) = &one.history else { return };
        let Some(user) = self.basis.fold_in(&mut self.solver, history.iter()) else { return };
        let origin = self.basis.origin(item);
        let fresh = || ItemVector::new(self.basis.basis().dim(), origin);
        let vector = state.vectors.entry(self.basis.version()).or_insert_with(fresh);
        vector.learn(self.basis.lms(), origin, user, EventTime::from_millis(one.event_time));
    }
}
