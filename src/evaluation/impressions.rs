//! How well arms tell what was taken of what was shown. Pure: other rankers are judged by the same.
//!
//! Enters: exposures in the order in which they were scored, what came of each, and each arm's score,
//! given before that was learnt. Leaves: AUC, GAUC by user, order within sessions, log loss and
//! calibration, with paired intervals.
//!
//! The score is the probability that an item is what the user chooses next, out of all items. That is
//! not the probability that they take it where it is shown. So scores are first made such
//! probabilities by one line a ranker ([`Platt`]), fitted on the exposures before; only log loss and
//! calibration need it.

use super::bootstrap::{self, Interval};
use crate::model::outcomes::{
    GroupAuc, Judged, Platt, auc_by_group, auc_of_sorted, calibration, gauc, log_loss,
};

/// An exposure that was scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its user's number.
    pub user: u32,
    /// Its session's key.
    pub session: u64,
    /// Whether the item was taken.
    pub taken: bool,
}

/// How well a ranker told what was taken. None where there is nothing to tell apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Over all exposures.
    pub auc: Option<f64>,
    /// Within users, weighed by exposures.
    pub gauc: Option<f64>,
    /// Within sessions, weighed by exposures.
    pub session_gauc: Option<f64>,
    /// The mean in nats, of probabilities.
    pub log_loss: f64,
    /// Σp / Σy.
    pub calibration: Option<f64>,
    /// The line that made scores probabilities, as it is after the last exposure.
    pub platt: Platt,
}

/// How much a ranker is above another, with paired intervals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// Of the AUC.
    pub auc: Option<Interval>,
    /// Of the GAUC by user.
    pub gauc: Option<Interval>,
    /// Of the GAUC by session.
    pub session_gauc: Option<Interval>,
    /// Of the log loss: below 0 is better.
    pub log_loss: Option<Interval>,
}

/// Exposures, and the scores that rankers gave them.
#[derive(Clone, Debug, Default)]
pub struct Impressions {
    /// In the order of scoring.
    pub shown: Vec<Shown>,
    /// By ranker, a score above 0 and below 1 each.
    pub scores: Vec<Vec<f64>>,
}

impl Impressions {
    /// None yet, for so many rankers.
    pub fn new(rankers: usize) -> Self {
        Self { shown: Vec::new(), scores: vec![Vec::new(); rankers] }
    }

    /// How many were taken.
    pub fn taken(&self) -> usize {
        self.shown.iter().filter(|one| one.taken).count()
    }

    /// How many users and sessions had both taken and left something.
    pub fn mixed_groups(&self) -> (usize, usize) {
        let count = |group: fn(&Shown) -> u64| {
            let nothing = self.shown.iter().map(|one| (group(one), 0.0, one.taken));
            auc_by_group(nothing).len()
        };
        (count(Shown::by_user), count(Shown::by_session))
    }

    /// How well a ranker did.
    pub fn verdict(&self, ranker: usize) -> Verdict {
        let (predicted, platt) = self.probabilities(ranker);
        let pairs = || predicted.iter().zip(&self.shown).map(|(p, one)| (*p, one.taken));
        let losses: f64 = pairs().map(|(p, taken)| log_loss(p, taken)).sum();
        Verdict {
            auc: auc_of_sorted(self.sorted(ranker).into_iter().map(|(judged, _)| judged)),
            gauc: gauc(&self.by_group(ranker, Shown::by_user)),
            session_gauc: gauc(&self.by_group(ranker, Shown::by_session)),
            log_loss: losses / self.shown.len().max(1) as f64,
            calibration: calibration(pairs()),
            platt,
        }
    }

    /// How much `ranker` is above `other`. Users are resampled.
    pub fn gains(&self, ranker: usize, other: usize, seed: u64) -> Gains {
        let (ours, _) = self.probabilities(ranker);
        let (theirs, _) = self.probabilities(other);
        let losses = ours.iter().zip(&theirs).zip(&self.shown).map(|((ours, theirs), one)| {
            let value = log_loss(*ours, one.taken) - log_loss(*theirs, one.taken);
            bootstrap::Difference { user: one.user, weight: 1.0, value }
        });
        Gains {
            auc: self.auc_gain(ranker, other, seed),
            gauc: self.group_gain(ranker, other, Shown::by_user, seed),
            session_gauc: self.group_gain(ranker, other, Shown::by_session, seed),
            log_loss: bootstrap::interval(losses, seed),
        }
    }

    /// The probability of each exposure as it was known before what came of it, and the line in the
    /// end.
    fn probabilities(&self, ranker: usize) -> (Vec<f64>, Platt) {
        let mut platt = Platt::default();
        let predict = |(&score, one): (&f64, &Shown)| {
            let probability = platt.probability(score);
            platt.learn(score, one.taken);
            probability
        };
        let predicted = self.scores[ranker].iter().zip(&self.shown).map(predict).collect();
        (predicted, platt)
    }

    fn by_group(&self, ranker: usize, group: impl Fn(&Shown) -> u64) -> Vec<GroupAuc> {
        let pairs = self.scores[ranker].iter().zip(&self.shown);
        auc_by_group(pairs.map(|(score, one)| (group(one), *score, one.taken)))
    }

    /// In rising order of the score, with the user of each.
    fn sorted(&self, ranker: usize) -> Vec<(Judged, u32)> {
        let judged = |(&score, one): (&f64, &Shown)| {
            (Judged { score, outcome: one.taken, weight: 1.0 }, one.user)
        };
        let mut sorted: Vec<_> = self.scores[ranker].iter().zip(&self.shown).map(judged).collect();
        sorted.sort_unstable_by(|a, b| a.0.score.total_cmp(&b.0.score));
        sorted
    }

    /// The AUC is no mean over users, so it is taken anew of every resample.
    fn auc_gain(&self, ranker: usize, other: usize, seed: u64) -> Option<Interval> {
        let [ours, theirs] = [ranker, other].map(|ranker| {
            let sorted = self.sorted(ranker);
            sorted
                .into_iter()
                .map(|(judged, user)| (judged, bootstrap::group_of(user)))
                .collect::<Vec<_>>()
        });
        let auc = |sorted: &[(Judged, usize)], times: &[u32]| {
            let drawn = sorted
                .iter()
                .map(|(judged, group)| Judged { weight: f64::from(times[*group]), ..*judged });
            auc_of_sorted(drawn)
        };
        let users = self.shown.iter().map(|one| one.user);
        bootstrap::resample(users, seed, |times| Some(auc(&ours, times)? - auc(&theirs, times)?))
    }

    fn group_gain(
        &self,
        ranker: usize,
        other: usize,
        group: fn(&Shown) -> u64,
        seed: u64,
    ) -> Option<Interval> {
        let users: std::collections::HashMap<u64, u32> =
            self.shown.iter().map(|one| (group(one), one.user)).collect();
        // The same groups in the same order: outcomes decide which there are.
        let pairs = self.by_group(ranker, group).into_iter().zip(self.by_group(other, group));
        let differences = pairs.map(|(ours, theirs)| bootstrap::Difference {
            user: users[&ours.group],
            weight: ours.scores as f64,
            value: ours.auc - theirs.auc,
        });
        bootstrap::interval(differences, seed)
    }
}

impl Shown {
    fn by_user(&self) -> u64 {
        self.user.into()
    }

    fn by_session(&self) -> u64 {
        self.session
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A ranker that knows the probabilities, one that knows half of it, one that knows the user's
    /// only, and one that knows nothing.
    fn generated() -> Impressions {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut impressions = Impressions::new(4);
        for user in 0..300u32 {
            let leaning: f64 = random.random_range(-2.0..1.0);
            for n in 0..40u64 {
                let liking: f64 = random.random_range(-2.0..2.0);
                let odds = |x: f64| 1.0 / (1.0 + (-x).exp());
                let taken = random.random_bool(odds(leaning + liking));
                let session = u64::from(user) * 4 + n / 10;
                impressions.shown.push(Shown { user, session, taken });
                // Of the scale of "what comes next": far below what is taken where shown.
                let noise: f64 = random.random_range(-3.0..3.0);
                let known = [leaning + liking, leaning + liking + noise, leaning, 0.0];
                for (scores, known) in impressions.scores.iter_mut().zip(known) {
                    scores.push(odds(known - 6.0));
                }
            }
        }
        impressions
    }

    #[test]
    fn who_knows_more_tells_better_and_the_line_makes_it_a_probability() {
        let impressions = generated();
        let [all, half, user, nothing] = [0, 1, 2, 3].map(|ranker| impressions.verdict(ranker));
        assert!(all.auc > half.auc && half.auc > nothing.auc, "{all:?} {half:?}");
        assert!(all.log_loss < half.log_loss && half.log_loss < nothing.log_loss);
        assert_eq!((nothing.auc, nothing.gauc), (Some(0.5), Some(0.5)));
        // What is the same for all of a user's exposures orders none of them.
        assert_eq!((user.gauc, user.session_gauc), (Some(0.5), Some(0.5)));
        assert!(user.auc.unwrap() > 0.55, "{user:?}");
        for verdict in [all, half, user, nothing] {
            assert!((verdict.calibration.unwrap() - 1.0).abs() < 0.02, "{verdict:?}");
        }
        assert!((all.platt.a - 1.0).abs() < 0.1 && (all.platt.b - 6.0).abs() < 0.6, "{all:?}");
    }

    #[test]
    fn gains_are_the_differences_of_the_verdicts_and_what_is_no_gain_has_none() {
        let impressions = generated();
        let (ours, theirs) = (impressions.verdict(0), impressions.verdict(1));
        let gains = impressions.gains(0, 1, 1);
        for (gain, ours, theirs) in [
            (gains.auc, ours.auc, theirs.auc),
            (gains.gauc, ours.gauc, theirs.gauc),
            (gains.session_gauc, ours.session_gauc, theirs.session_gauc),
        ] {
            let gain = gain.unwrap();
            assert!((gain.mean - (ours.unwrap() - theirs.unwrap())).abs() < 1e-9, "{gain:?}");
            assert!(gain.low > 0.0 && gain.low < gain.mean && gain.mean < gain.high, "{gain:?}");
        }
        let loss = gains.log_loss.unwrap();
        assert!((loss.mean - (ours.log_loss - theirs.log_loss)).abs() < 1e-9 && loss.high < 0.0);
        let none = impressions.gains(2, 2, 1);
        assert_eq!(none.auc.map(|gain| (gain.low, gain.high)), Some((0.0, 0.0)));
    }

    #[test]
    fn where_everything_was_taken_there_is_nothing_to_tell() {
        let shown = vec![Shown { user: 1, session: 1, taken: true }; 3];
        let impressions = Impressions { shown, scores: vec![vec![0.1, 0.2, 0.3]] };
        let verdict = impressions.verdict(0);
        assert_eq!((verdict.auc, verdict.gauc), (None, None));
        assert_eq!(impressions.gains(0, 0, 1).auc, None);
        assert_eq!(impressions.mixed_groups(), (0, 0));
    }
}
