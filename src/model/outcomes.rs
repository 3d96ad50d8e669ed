//! How well scores tell what happens from what does not: metrics of yes-or-no outcomes.
//!
//! Enters: scores or probabilities, and what came. Leaves: AUC, AUC by group, log loss, calibration,
//! and the line that makes scores probabilities. Pure, and of any ranker: whoever scores brings the
//! scores.

use std::collections::HashMap;

/// A score, whether it came, and how much it counts: whole numbers are how often it was drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Higher is likelier.
    pub score: f64,
    /// Whether it came.
    pub outcome: bool,
    /// 0 or above.
    pub weight: f64,
}

/// The area under the ROC curve: the probability that what came is scored above what did not, ties
/// counting half (Hanley and McNeil, 1982). None where only one of the two is there.
pub fn auc(mut judged: Vec<Judged>) -> Option<f64> {
    judged.sort_unstable_by(|a, b| a.score.total_cmp(&b.score));
    auc_of_sorted(judged)
}

/// The same of scores in rising order, in one pass.
pub fn auc_of_sorted(judged: impl IntoIterator<Item = Judged>) -> Option<f64> {
    let (mut won, mut came, mut rest) = (0.0, 0.0, 0.0);
    // Of the equals at hand: what came and what did not.
    let (mut at, mut yes, mut no) = (f64::NAN, 0.0, 0.0);
    for one in judged {
        if one.score != at {
            (won, came, rest) = (won + yes * (rest + no / 2.0), came + yes, rest + no);
            (at, yes, no) = (one.score, 0.0, 0.0);
        }
        let side = if one.outcome { &mut yes } else { &mut no };
        *side += one.weight;
    }
    (won, came, rest) = (won + yes * (rest + no / 2.0), came + yes, rest + no);
    (came > 0.0 && rest > 0.0).then(|| won / (came * rest))
}

/// The AUC within one group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupAuc {
    /// The group: a user, a session, a request.
    pub group: u64,
    /// Within it.
    pub auc: f64,
    /// How many scores it has: its weight in [`gauc`].
    pub scores: usize,
}

/// The AUC of each group that has both outcomes, in the order of groups.
pub fn auc_by_group(scores: impl IntoIterator<Item = (u64, f64, bool)>) -> Vec<GroupAuc> {
    let mut groups: HashMap<u64, Vec<Judged>> = HashMap::new();
    for (group, score, outcome) in scores {
        groups.entry(group).or_default().push(Judged { score, outcome, weight: 1.0 });
    }
    let one = |(group, judged): (u64, Vec<Judged>)| {
        let scores = judged.len();
        auc(judged).map(|auc| GroupAuc { group, auc, scores })
    };
    let mut found: Vec<GroupAuc> = groups.into_iter().filter_map(one).collect();
    found.sort_unstable_by_key(|one| one.group);
    found
}

/// The mean of the groups' AUCs, each weighed by its scores (Zhu et al., "Optimized Cost per Click
/// in Taobao Display Advertising", KDD 2017). None of nothing.
pub fn gauc(groups: &[GroupAuc]) -> Option<f64> {
    let all: f64 = groups.iter().map(|one| one.scores as f64).sum();
    let sum: f64 = groups.iter().map(|one| one.scores as f64 * one.auc).sum();
    (all > 0.0).then(|| sum / all)
}

/// −ln of the probability given to what came, in nats. Probabilities of exactly 0 and 1 are taken for
/// the next numbers to them, so that one mistake is not infinite.
pub fn log_loss(probability: f64, outcome: bool) -> f64 {
    let given = if outcome { probability } else { 1.0 - probability };
    -given.max(f64::EPSILON).ln()
}

/// Σp / Σy: 1 where as much came as was predicted, above it where less did. None where nothing came.
pub fn calibration(predicted: impl IntoIterator<Item = (f64, bool)>) -> Option<f64> {
    let add = |(p, y): (f64, f64), (probability, outcome): (f64, bool)| {
        (p + probability, y + f64::from(outcome))
    };
    let (predicted, came) = predicted.into_iter().fold((0.0, 0.0), add);
    (came > 0.0).then(|| predicted / came)
}

/// The line that makes a score a probability (Platt, 1999): p = 1 / (1 + exp(−(a·x + b))), with
/// x = ln(s / (1 − s)), the log-odds that the score s in (0, 1) states.
///
/// Fitted as outcomes come, one Gauss-Newton step each (logistic regression by an extended Kalman
/// filter without drift): every outcome counts alike, as if all had been fitted at once. It begins
/// at a = 0, b = 0, which says one half, with a standard normal prior on both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Platt {
    /// The slope: 1 where the score's log-odds differ as they should.
    pub a: f64,
    /// What is added.
    pub b: f64,
    /// The covariance of (a, b): of a, of both, of b.
    covariance: [f64; 3],
}

impl Default for Platt {
    fn default() -> Self {
        Self { a: 0.0, b: 0.0, covariance: [1.0, 0.0, 1.0] }
    }
}

/// Scores are kept so far from 0 and 1 at least: log-odds of ±27.6.
const LEAST_SCORE: f64 = 1e-12;

impl Platt {
    /// The probability that a score stands for.
    pub fn probability(&self, score: f64) -> f64 {
        1.0 / (1.0 + (-(self.a * log_odds(score) + self.b)).exp())
    }

    /// Learns what came of a score. Ask for its probability before.
    pub fn learn(&mut self, score: f64, outcome: bool) {
        let (x, p) = (log_odds(score), self.probability(score));
        let [aa, ab, bb] = self.covariance;
        // Covariance times (x, 1).
        let (along_a, along_b) = (aa * x + ab, ab * x + bb);
        let curvature = p * (1.0 - p);
        let shrink = curvature / (1.0 + curvature * (along_a * x + along_b));
        self.covariance = [
            aa - shrink * along_a * along_a,
            ab - shrink * along_a * along_b,
            bb - shrink * along_b * along_b,
        ];
        let step = (f64::from(outcome) - p) / (1.0 + curvature * (along_a * x + along_b));
        self.a += along_a * step;
        self.b += along_b * step;
    }
}

fn log_odds(score: f64) -> f64 {
    let score = score.clamp(LEAST_SCORE, 1.0 - LEAST_SCORE);
    (score / (1.0 - score)).ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn judged(scores: &[(u8, bool)]) -> Vec<Judged> {
        let one = |&(score, outcome): &(u8, bool)| Judged {
            score: f64::from(score),
            outcome,
            weight: 1.0,
        };
        scores.iter().map(one).collect()
    }

    /// Every pair of what came and what did not.
    fn by_pairs(scores: &[(u8, bool)]) -> Option<f64> {
        let of = |wanted| scores.iter().filter(move |(_, outcome)| *outcome == wanted);
        let pairs: Vec<f64> = of(true)
            .flat_map(|(yes, _)| {
                of(false).map(move |(no, _)| {
                    f64::from(u8::from(yes > no)) + f64::from(u8::from(yes == no)) / 2.0
                })
            })
            .collect();
        (!pairs.is_empty()).then(|| pairs.iter().sum::<f64>() / pairs.len() as f64)
    }

    fn same(a: Option<f64>, b: Option<f64>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        }
    }

    #[test]
    fn one_outcome_alone_has_no_order() {
        assert_eq!(auc(judged(&[(1, true), (2, true)])), None);
        assert_eq!(auc(Vec::new()), None);
        assert_eq!((gauc(&[]), calibration([(0.5, false)])), (None, None));
    }

    #[test]
    fn groups_of_both_outcomes_are_weighed_by_their_scores() {
        // Group 1 is in order, group 2 is not, group 3 says nothing.
        let scores = [(1, 0.9, true), (1, 0.1, false), (2, 0.1, true), (2, 0.2, false)];
        let more = [(2, 0.3, false), (3, 0.5, true), (3, 0.6, true)];
        let found = auc_by_group(scores.into_iter().chain(more));
        let of = |group, auc, scores| GroupAuc { group, auc, scores };
        assert_eq!(found, vec![of(1, 1.0, 2), of(2, 0.0, 3)]);
        assert!(same(gauc(&found), Some(0.4)));
    }

    #[test]
    fn log_loss_and_calibration_are_those_worked_out_by_hand() {
        assert!((log_loss(0.25, true) - 4f64.ln()).abs() < 1e-12);
        assert!((log_loss(0.25, false) - (4.0f64 / 3.0).ln()).abs() < 1e-12);
        assert!(log_loss(0.0, true).is_finite() && log_loss(1.0, false).is_finite());
        assert!(same(calibration([(0.5, true), (0.25, false), (0.75, true)]), Some(0.75)));
    }

    #[test]
    fn platt_finds_the_line_that_outcomes_were_drawn_from() {
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let mut platt = Platt::default();
        let (a, b) = (0.4, 1.5);
        let mut losses = [0.0, 0.0];
        let rounds = 40_000;
        for _ in 0..rounds {
            let x: f64 = random.random_range(-9.0..-3.0);
            let score = 1.0 / (1.0 + (-x).exp());
            let truth = 1.0 / (1.0 + (-(a * x + b)).exp());
            let outcome = random.random_bool(truth);
            losses[0] += log_loss(platt.probability(score), outcome) / f64::from(rounds);
            losses[1] += log_loss(truth, outcome) / f64::from(rounds);
            platt.learn(score, outcome);
        }
        assert!((platt.a - a).abs() < 0.05 && (platt.b - b).abs() < 0.25, "{platt:?}");
        assert!(losses[0] - losses[1] < 0.001, "learning costs {losses:?}");
    }

    #[test]
    fn a_score_of_nought_or_one_breaks_nothing() {
        let mut platt = Platt::default();
        for (score, outcome) in [(0.0, true), (1.0, false), (0.0, false), (1.0, true)] {
            platt.learn(score, outcome);
        }
        assert!(platt.a.is_finite() && platt.probability(0.0).is_finite(), "{platt:?}");
    }

    proptest! {
        #[test]
        fn auc_is_the_share_of_pairs_in_order(
            scores in prop::collection::vec((0u8..6, any::<bool>()), 0..40)
        ) {
            prop_assert!(same(auc(judged(&scores)), by_pairs(&scores)));
        }

        #[test]
        fn a_weight_is_how_often_a_score_is_there(
            scores in prop::collection::vec((0u8..6, any::<bool>(), 0usize..4), 0..20)
        ) {
            let weighted = scores.iter().map(|&(score, outcome, weight)| Judged {
                score: f64::from(score),
                outcome,
                weight: weight as f64,
            });
            let repeated: Vec<_> = scores
                .iter()
                .flat_map(|&(score, outcome, times)| vec![(score, outcome); times])
                .collect();
            prop_assert!(same(auc(weighted.collect()), by_pairs(&repeated)));
        }

        #[test]
        fn the_mean_over_groups_is_that_of_their_pairs(
            scores in prop::collection::vec((0u64..4, 0u8..6, any::<bool>()), 0..40)
        ) {
            let found = auc_by_group(scores.iter().map(|&(g, s, y)| (g, f64::from(s), y)));
            let (mut sum, mut all) = (0.0, 0.0);
            for group in 0..4 {
                let own: Vec<_> =
                    scores.iter().filter(|one| one.0 == group).map(|one| (one.1, one.2)).collect();
                if let Some(auc) = by_pairs(&own) {
                    sum += own.len() as f64 * auc;
                    all += own.len() as f64;
                }
            }
            prop_assert!(same(gauc(&found), (all > 0.0).then(|| sum / all)));
        }
    }
}
