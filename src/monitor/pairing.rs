//! Whether clicks and watches still tell of the same people. A client that stops sending one of them
//! looks like a drop of what comes of lists; but what people want less of, they click and watch less.
//!
//! Enters: clicks and watches by the minute. Leaves: that one of them is missing its usual share of the
//! other. By Page's cumulative sums (Biometrika 41, 1954) of the log-likelihood that the odds of a
//! click have halved, and that they have doubled.

use serde::{Deserialize, Serialize};

/// Evidence, in nats, from which it is a finding: while the odds are what they were, less than once in
/// a million minutes. Less than most drops take to be told, as this has to be known first.
const EVIDENCE: f64 = 14.0;
/// By how much evidence may exceed that: what a finding has to lose again before it ends.
const HEADROOM: f64 = 3.0;
/// What odds are times, where one of both is missing. Nearer to 1: what people do differently, such as
/// letting videos play, is taken for a client that is broken.
const MISSING: f64 = 0.5;
/// What is left a minute later of what was usual.
const KEPT: f64 = 1.0 - 1.0 / 1_440.0;
/// Watches and clicks from which it is known what is usual.
const LEAST: f64 = 1_000.0;

/// Clicks and watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pair {
    clicks: f64,
    watches: f64,
}

impl Pair {
    fn add(&mut self, other: Pair) {
        self.clicks += other.clicks;
        self.watches += other.watches;
    }

    fn odds(self) -> f64 {
        self.clicks / self.watches
    }
}

/// Evidence that odds are times a factor, and what it is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    evidence: f64,
    since: Pair,
}

impl Sum {
    fn take(&mut self, pair: Pair, usual: f64, factor: f64) {
        let share = |odds: f64| odds / (1.0 + odds);
        let (was, is) = (share(usual), share(usual * factor));
        let gain = pair.clicks * (is / was).ln() + pair.watches * ((1.0 - is) / (1.0 - was)).ln();
        self.since.add(pair);
        self.evidence += gain;
        if self.evidence <= 0.0 {
            *self = Self::default();
        }
        self.evidence = self.evidence.min(EVIDENCE + HEADROOM);
    }
}

/// Clicks and watches over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pairing {
    usual: Pair,
    fewer_clicks: Sum,
    fewer_watches: Sum,
}

/// One of both is missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Missing {
    /// Clicks for a watch, since it began.
    pub observed: f64,
    /// Clicks for a watch, as usual.
    pub usual: f64,
    /// Clicks and watches since it began.
    pub n: i64,
}

impl Pairing {
    /// Takes in a minute.
    pub fn update(&mut self, clicks: i64, watches: i64) {
        let pair = Pair { clicks: clicks as f64, watches: watches as f64 };
        let usual = self.usual;
        let is_known =
            usual.clicks + usual.watches >= LEAST && usual.clicks.min(usual.watches) > 0.0;
        if is_known {
            self.fewer_clicks.take(pair, usual.odds(), MISSING);
            self.fewer_watches.take(pair, usual.odds(), 1.0 / MISSING);
        }
        self.usual.clicks *= KEPT;
        self.usual.watches *= KEPT;
        self.usual.add(pair);
    }

    /// What is missing, while it is.
    pub fn missing(&self) -> Option<Missing> {
        let sums = [&self.fewer_clicks, &self.fewer_watches];
        let sum = sums.into_iter().find(|sum| sum.evidence >= EVIDENCE)?;
        Some(Missing {
            observed: sum.since.odds(),
            usual: self.usual.odds(),
            n: (sum.since.clicks + sum.since.watches) as i64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Minutes until something is missing, where each of `n` events a minute is a click by a chance.
    fn minutes(
        pairing: &mut Pairing,
        seed: u64,
        n: i64,
        chance: f64,
        most: usize,
    ) -> Option<usize> {
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        (0..most).find(|_| {
            let clicks = (0..n).filter(|_| draws.random::<f64>() < chance).count() as i64;
            pairing.update(clicks, n - clicks);
            pairing.missing().is_some()
        })
    }

    #[test]
    fn weeks_in_which_odds_stay_or_rise_by_a_quarter_tell_nothing() {
        for seed in 0..4 {
            let mut pairing = Pairing::default();
            assert_eq!(minutes(&mut pairing, seed, 10, 0.4, 20_000), None);
            assert_eq!(minutes(&mut pairing, seed + 9, 10, 0.45, 5_000), None);
        }
    }

    #[test]
    fn either_of_both_that_is_missing_is_found_within_a_hundred_events_or_so() {
        for (chance, is_less) in [(0.22, true), (0.75, false)] {
            let mut pairing = Pairing::default();
            assert_eq!(minutes(&mut pairing, 3, 10, 0.45, 3_000), None);
            let after = minutes(&mut pairing, 4, 10, chance, 60).unwrap();
            assert!(after < 25, "{after} minutes");
            let missing = pairing.missing().unwrap();
            assert_eq!(missing.observed < missing.usual, is_less, "{missing:?}");
            // It ends soon after it is over.
            let mut over = 0;
            while pairing.missing().is_some() {
                minutes(&mut pairing, 5 + over, 10, 0.45, 1);
                over += 1;
            }
            assert!(over < 15, "{over} minutes more");
        }
    }

    #[test]
    fn before_anything_is_usual_nothing_is_missing() {
        let mut pairing = Pairing::default();
        (0..50).for_each(|_| pairing.update(10, 0));
        (0..50).for_each(|_| pairing.update(0, 10));
        (0..9).for_each(|_| pairing.update(0, 0));
        assert_eq!(pairing.missing(), None);
    }
}
