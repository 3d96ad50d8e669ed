//! Which items are taken by the same users: counts of pairs, in bounded memory.

use std::collections::HashMap;

use super::math::ln;
use super::pair;
use crate::ids::Prehashed;

/// Items of a user's newest that a new one is paired with, and that a candidate is compared with.
pub const NEWEST: usize = 20;

/// What counts go in: by click and by long view, as targets are ordered.
const KINDS: usize = super::TARGETS;

/// What a candidate has to do with a user's newest items of one kind, as ratios that
/// features take the logarithm of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoVisit {
    /// Σ C / √((N_i + 10)(N_b + 10)) over the items b: C users took both, N one.
    pub sum: f32,
    /// The largest of these.
    pub max: f32,
    /// The mean of ln((C + 1) / ((N_i + 5)(N_b + 5)·1e−5 + 1)); 0 without items.
    pub information: f32,
}

/// Counts of pairs. At the limit all counts are halved, and what is then below one goes: what is
/// rare is forgotten first, and the newer counts more.
#[derive(Clone, Debug)]
pub struct CoVisits {
    pairs: HashMap<u64, [u16; KINDS], Prehashed>,
    items: HashMap<u64, [u32; KINDS], Prehashed>,
    limit: usize,
}

impl CoVisits {
    /// None yet, and never more than `limit` pairs.
    pub fn new(limit: usize) -> Self {
        Self { pairs: HashMap::default(), items: HashMap::default(), limit: limit.max(1) }
    }

    /// Pairs held.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Learns that a user took `item` in the way of `kind`, after `before`: what they took in the
    /// same way, the newest first. Only the newest [`NEWEST`] count.
    pub fn learn(&mut self, kind: usize, item: u64, before: &[u64]) {
        let count = &mut self.items.entry(item).or_default()[kind];
        *count = count.saturating_add(1);
        for &other in before.iter().take(NEWEST).filter(|&&other| other != item) {
            let count = &mut self.pairs.entry(unordered(item, other)).or_default()[kind];
            *count = count.saturating_add(1);
        }
        if self.pairs.len() > self.limit {
            self.halve();
        }
    }

    /// What `item` has to do with the newest of what a user took.
    pub fn of(&self, kind: usize, item: u64, newest: &[u64]) -> CoVisit {
        let own = self.count(kind, item);
        let mut found = CoVisit::default();
        let mut compared = 0.0;
        for &other in newest.iter().take(NEWEST).filter(|&&other| other != item) {
            let both = self.pairs.get(&unordered(item, other)).map_or(0, |counts| counts[kind]);
            let (both, others) = (f32::from(both), self.count(kind, other));
            let cosine = both / ((own + 10.0) * (others + 10.0)).sqrt();
            found.sum += cosine;
            found.max = found.max.max(cosine);
            found.information += ln((both + 1.0) / ((own + 5.0) * (others + 5.0) * 1e-5 + 1.0));
            compared += 1.0;
        }
        found.information /= f32::max(compared, 1.0);
        found
    }

    /// Adds the counts of others.
    pub fn merge(&mut self, other: &Self) {
        for (key, counts) in &other.items {
            let own = self.items.entry(*key).or_default();
            own.iter_mut().zip(counts).for_each(|(own, n)| *own = own.saturating_add(*n));
        }
        for (key, counts) in &other.pairs {
            let own = self.pairs.entry(*key).or_default();
            own.iter_mut().zip(counts).for_each(|(own, n)| *own = own.saturating_add(*n));
        }
        while self.pairs.len() > self.limit {
            self.halve();
        }
    }

    fn count(&self, kind: usize, item: u64) -> f32 {
        self.items.get(&item).map_or(0.0, |counts| counts[kind] as f32)
    }

    fn halve(&mut self) {
        self.pairs.retain(|_, counts| {
            counts.iter_mut().for_each(|count| *count /= 2);
            counts.iter().any(|&count| count > 0)
        });
        self.items.retain(|_, counts| {
            counts.iter_mut().for_each(|count| *count /= 2);
            counts.iter().any(|&count| count > 0)
        });
    }
}

fn unordered(a: u64, b: u64) -> u64 {
    pair(a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_those_of_all_pairs_among_the_newest(
            taken in prop::collection::vec((0usize..3, 0u64..9), 0..120)
        ) {
            let mut table = CoVisits::new(1 << 20);
            let mut newest: [Vec<u64>; 3] = Default::default();
            let mut naive: HashMap<(u64, u64), f32> = HashMap::new();
            let mut alone = [0.0f32; 9];
            for (user, item) in taken {
                table.learn(1, item, &newest[user]);
                for &other in newest[user].iter().take(NEWEST).filter(|&&other| other != item) {
                    *naive.entry((item.min(other), item.max(other))).or_default() += 1.0;
                }
                alone[item as usize] += 1.0;
                newest[user].insert(0, item);
            }
            let asked: Vec<u64> = (0..9).collect();
            for item in 0..9u64 {
                let cosines: Vec<f32> = (0..9).filter(|b| *b != item).map(|b| {
                    let both = naive.get(&(item.min(b), item.max(b))).copied().unwrap_or(0.0);
                    both / ((alone[item as usize] + 10.0) * (alone[b as usize] + 10.0)).sqrt()
                }).collect();
                let found = table.of(1, item, &asked);
                prop_assert!((found.sum - cosines.iter().sum::<f32>()).abs() < 1e-5);
                prop_assert_eq!(found.max, cosines.iter().copied().fold(0.0, f32::max));
                prop_assert_eq!(table.of(0, item, &asked).sum, 0.0);
            }
        }
    }

    #[test]
    fn at_the_limit_the_rare_is_forgotten_and_the_frequent_is_kept() {
        let mut table = CoVisits::new(50);
        for n in 0..1_000u64 {
            table.learn(0, 1, &[2]);
            table.learn(0, 10 + n, &[10_000 + n]);
            assert!(table.len() <= 50);
        }
        let (often, once) = (table.of(0, 1, &[2]), table.of(0, 10, &[10_000]));
        assert!(often.max > 0.5 && once.max == 0.0, "{often:?} {once:?}");
    }
}
