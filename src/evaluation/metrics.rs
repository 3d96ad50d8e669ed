//! Ranking metrics for one relevant item a list. Pure.
//!
//! Enters: the places of the wanted items. Leaves: means. Never looks at how a list was made.

/// Where the wanted item of one list came, the best place being 0. Items of equal score count as
/// half before one another, so a place may lie between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Its place, if it was on the list.
    pub rank: Option<f32>,
    /// Its place among all known items, 0 the first and 1 the last. What is not on the list is
    /// tied behind it.
    pub percentile: f32,
}

impl Placed {
    /// The place of the item at `index` of a list with these scores, best first, out of `known`
    /// items; none where it is not on the list.
    pub fn of(scores: &[f64], index: Option<usize>, known: usize) -> Self {
        let rank = index.map(|index| {
            let score = scores[index];
            let before = scores.iter().filter(|&&s| s > score).count();
            let ties = scores.iter().filter(|&&s| s == score).count() - 1;
            before as f32 + ties as f32 / 2.0
        });
        Self::at(rank, scores.len(), known)
    }

    /// The same of a list whose order counts, which need not be that of the scores: equals are
    /// those of the same score that stand beside the item.
    pub fn on_list(scores: &[f64], index: Option<usize>, known: usize) -> Self {
        let rank = index.map(|index| {
            let is_equal = |score: &&f64| **score == scores[index];
            let above = scores[..index].iter().rev().take_while(is_equal).count();
            let below = scores[index + 1..].iter().take_while(is_equal).count();
            index as f32 + (below as f32 - above as f32) / 2.0
        });
        Self::at(rank, scores.len(), known)
    }

    fn at(rank: Option<f32>, listed: usize, known: usize) -> Self {
        let last = known.max(listed).saturating_sub(1);
        let unlisted = (listed as f32 + last as f32) / 2.0;
        let place = rank.unwrap_or(unlisted);
        Self { rank, percentile: if last == 0 { 0.0 } else { place / last as f32 } }
    }

    /// 1 where the item is among the first `k`: recall, and hit rate, of one relevant item.
    pub fn recall(&self, k: usize) -> f64 {
        f64::from(self.within(k).is_some())
    }

    /// 1 / (place + 1) among the first `k`, else 0.
    pub fn reciprocal(&self, k: usize) -> f64 {
        self.within(k).map_or(0.0, |rank| 1.0 / (f64::from(rank) + 1.0))
    }

    /// 1 / log2(place + 2) among the first `k`, else 0 (Järvelin and Kekäläinen, 2002, for one
    /// relevant item, whose ideal gain is 1).
    pub fn gain(&self, k: usize) -> f64 {
        self.within(k).map_or(0.0, |rank| 1.0 / (f64::from(rank) + 2.0).log2())
    }

    fn within(&self, k: usize) -> Option<f32> {
        self.rank.filter(|&rank| rank < k as f32)
    }
}

/// A metric of one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Recall, and hit rate, at a cut-off.
    Recall(usize),
    /// Mean reciprocal rank at a cut-off.
    Mrr(usize),
    /// Normalised discounted cumulative gain at a cut-off.
    Ndcg(usize),
    /// Mean percentile rank: lower is better, .5 is chance.
    Mpr,
}

impl Metric {
    /// Those of lists of `top` items.
    pub fn all(top: usize) -> Vec<Metric> {
        let mut all = Vec::new();
        if top > 10 {
            all.extend([Metric::Recall(10), Metric::Ndcg(10)]);
        }
        all.extend([Metric::Recall(top), Metric::Ndcg(top), Metric::Mrr(top), Metric::Mpr]);
        all
    }

    /// As reports name it.
    pub fn name(self) -> String {
        match self {
            Metric::Recall(k) => format!("Recall@{k}"),
            Metric::Mrr(k) => format!("MRR@{k}"),
            Metric::Ndcg(k) => format!("NDCG@{k}"),
            Metric::Mpr => "MPR".to_owned(),
        }
    }

    /// Its value for one list.
    pub fn of(self, placed: &Placed) -> f64 {
        match self {
            Metric::Recall(k) => placed.recall(k),
            Metric::Mrr(k) => placed.reciprocal(k),
            Metric::Ndcg(k) => placed.gain(k),
            Metric::Mpr => f64::from(placed.percentile),
        }
    }
}

/// The share of `items` items that were in any list, `counts` being how often each was.
pub fn coverage(counts: &[u32], items: usize) -> f64 {
    counts.iter().filter(|&&count| count > 0).count() as f64 / items.max(1) as f64
}

/// The Gini coefficient of how often `items` items were in lists, those never in one included: 0
/// where all equally often, near 1 where few are in all lists.
pub fn gini(counts: &[u32], items: usize) -> f64 {
    let mut sorted: Vec<u32> = counts.iter().copied().filter(|&count| count > 0).collect();
    sorted.sort_unstable();
    let never = items.max(sorted.len()) - sorted.len();
    let n = (never + sorted.len()) as f64;
    let total: f64 = sorted.iter().map(|&count| f64::from(count)).sum();
    if total == 0.0 {
        return 0.0;
    }
    let weighted: f64 = sorted
        .iter()
        .enumerate()
        .map(|(place, &count)| (2.0 * (never + place + 1) as f64 - n - 1.0) * f64::from(count))
        .sum();
    weighted / (n * total)
}

/// −log2 of an item's popularity, in bits: `times` of `all` events were of it. Each of the `items`
/// has one more than it had, so that what nobody has watched yet is rare, not infinitely so.
pub fn self_information(times: u32, all: u64, items: u64) -> f64 {
    ((all + items) as f64 / (f64::from(times) + 1.0)).log2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_metrics_of_a_list_are_those_worked_out_by_hand() {
        let third = Placed::of(&[0.9, 0.8, 0.7, 0.6], Some(2), 101);
        assert_eq!(third.rank, Some(2.0));
        assert_eq!((third.recall(2), third.recall(3)), (0.0, 1.0));
        assert!((third.reciprocal(10) - 1.0 / 3.0).abs() < 1e-9);
        assert!((third.gain(10) - 0.5).abs() < 1e-9);
        assert!((third.percentile - 0.02).abs() < 1e-6);
    }

    #[test]
    fn ties_count_half() {
        let tied = Placed::of(&[0.9, 0.5, 0.5, 0.5], Some(3), 10);
        assert_eq!(tied.rank, Some(2.0));
        let two = Placed::of(&[0.5, 0.5], Some(0), 2);
        assert_eq!((two.rank, two.percentile), (Some(0.5), 0.5));
    }

    #[test]
    fn the_place_on_a_list_is_that_of_the_list_where_it_is_not_by_score() {
        let third = Placed::on_list(&[0.9, 0.5, 0.7, 0.5, 0.5], Some(2), 10);
        assert_eq!(third.rank, Some(2.0));
        assert_eq!(Placed::on_list(&[0.9, 0.5, 0.7, 0.5, 0.5], Some(3), 10).rank, Some(3.5));
    }

    #[test]
    fn an_item_that_is_not_on_the_list_is_tied_behind_it() {
        let missing = Placed::of(&[0.9, 0.8], None, 11);
        // Places 2 to 10 are left, 6 in the middle.
        assert!((missing.percentile - 0.6).abs() < 1e-6);
        assert_eq!((missing.recall(20), missing.reciprocal(20), missing.gain(20)), (0., 0., 0.));
        assert_eq!(Placed::of(&[], None, 11).percentile, 0.5);
        assert_eq!(Placed::of(&[], None, 0).percentile, 0.0);
    }

    #[test]
    fn lists_of_one_item_only_cover_it_and_are_as_unequal_as_can_be() {
        assert_eq!(coverage(&[5, 0, 0, 0], 4), 0.25);
        assert_eq!(gini(&[5, 0, 0, 0], 4), 0.75);
        assert_eq!(gini(&[3, 3, 3], 3), 0.0);
        assert_eq!((gini(&[], 0), coverage(&[], 0)), (0.0, 0.0));
    }

    #[test]
    fn what_half_of_all_events_are_of_has_one_bit_and_what_nobody_watched_has_the_most() {
        assert!((self_information(1_000_000, 2_000_000, 2) - 1.0).abs() < 1e-6);
        assert_eq!(self_information(0, 0, 8), 3.0);
        assert!(self_information(0, 100, 8) > self_information(1, 100, 8));
    }

    proptest! {
        #[test]
        fn gini_is_half_the_relative_mean_difference(counts in prop::collection::vec(0u32..50, 1..40)) {
            let n = counts.len() as f64;
            let total: f64 = counts.iter().map(|&c| f64::from(c)).sum();
            let pairs = counts.iter().flat_map(|&a| counts.iter().map(move |&b| (a, b)));
            let differences: f64 = pairs.map(|(a, b)| (f64::from(a) - f64::from(b)).abs()).sum();
            let naive = if total == 0.0 { 0.0 } else { differences / (2.0 * n * total) };
            prop_assert!((gini(&counts, counts.len()) - naive).abs() < 1e-9);
        }

        #[test]
        fn a_place_is_the_mean_over_all_orders_of_equals(
            scores in prop::collection::vec(0u8..4, 1..12), pick in any::<prop::sample::Index>()
        ) {
            let mut scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
            scores.sort_by(|a, b| b.total_cmp(a));
            let index = pick.index(scores.len());
            let equals: Vec<usize> =
                (0..scores.len()).filter(|&i| scores[i] == scores[index]).collect();
            let naive = equals.iter().sum::<usize>() as f32 / equals.len() as f32;
            prop_assert_eq!(Placed::of(&scores, Some(index), 100).rank, Some(naive));
            prop_assert_eq!(Placed::on_list(&scores, Some(index), 100).rank, Some(naive));
        }
    }
}
