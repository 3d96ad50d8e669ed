//! How far an item shard has come: what moves in the same batch as the items' states.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Interaction;
use crate::model::BasisVersion;
use crate::state::Anchor;

/// Progress of one item shard over its partition of `interactions`. Statistics and the vectors over
/// each basis are folds of their own, each from where it begins: a basis that comes later reads
/// again what the others have passed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardProgress {
    /// Counts and co-watched items, from the first record on.
    pub statistics: Part,
    /// Vectors by version of their basis, from where its training ended.
    pub vectors: BTreeMap<u64, Part>,
    /// The last record folded, by which the topic is known again.
    pub anchor: Option<Anchor>,
}

/// Progress of one fold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    /// The next offset to fold.
    pub next: i64,
    /// The highest offset seen of each source, by user shard: -1 before the first.
    seen: BTreeMap<i32, [i64; 2]>,
}

impl Part {
    /// A fold that begins at an offset.
    pub fn from(next: i64) -> Self {
        Self { next, seen: BTreeMap::new() }
    }

    /// Whether an interaction of a user shard has not been folded. Interactions are delivered at
    /// least once: after a crash a user shard sends again what it had sent since its last commit.
    pub fn is_new(&mut self, shard: i32, one: &Interaction<'_>) -> bool {
        let highest = &mut self.seen.entry(shard).or_insert([-1; 2])[one.source as usize];
        let is_new = one.offset > *highest;
        *highest = (*highest).max(one.offset);
        is_new
    }
}

impl ShardProgress {
    /// The bases whose vectors are folded along with the statistics.
    pub fn is_along(&self, version: BasisVersion) -> bool {
        self.vectors.get(&version.0).is_some_and(|part| part.next >= self.statistics.next)
    }

    /// Where the fold begins that is furthest behind the statistics; none where none is.
    pub fn behind(&self) -> Option<i64> {
        let next = self.vectors.values().map(|part| part.next);
        next.filter(|next| *next < self.statistics.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Source;

    #[test]
    fn what_was_seen_of_a_source_is_not_new_again_even_after_it_was_stored() {
        let mut part = Part::from(7);
        let one = |source, offset| Interaction { source, offset, ..Interaction::default() };
        assert!(part.is_new(0, &one(Source::Watch, 4)));
        assert!(!part.is_new(0, &one(Source::Watch, 4)) && !part.is_new(0, &one(Source::Watch, 2)));
        assert!(part.is_new(0, &one(Source::Click, 2)) && part.is_new(1, &one(Source::Watch, 0)));
        let text = serde_json::to_string(&part).unwrap();
        let mut read: Part = serde_json::from_str(&text).unwrap();
        assert_eq!(read, part);
        assert!(!read.is_new(1, &one(Source::Watch, 0)) && read.is_new(1, &one(Source::Watch, 1)));
    }

    #[test]
    fn a_basis_is_behind_until_it_has_read_what_the_statistics_have() {
        let mut progress = ShardProgress { statistics: Part::from(10), ..Default::default() };
        progress.vectors.insert(1, Part::from(4));
        progress.vectors.insert(2, Part::from(12));
        assert_eq!(progress.behind(), Some(4));
        assert!(!progress.is_along(BasisVersion(1)) && progress.is_along(BasisVersion(2)));
        progress.vectors.insert(1, Part::from(10));
        assert_eq!(progress.behind(), None);
        assert!(progress.is_along(BasisVersion(1)) && !progress.is_along(BasisVersion(3)));
    }
}
