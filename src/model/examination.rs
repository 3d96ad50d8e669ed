//! Which places of a list are looked at: the position effect.
//!
//! Enters: items that were drawn at random, each with its place and whether it was clicked. Leaves:
//! how likely each place is looked at, next to the first. A click needs an item that pleases at a
//! place that is looked at (the position-based model: Richardson et al. 2007, "Predicting clicks").
//! Where a place went to an item that was drawn at random, what pleases is alike at every place, so
//! that clicks per showing differ by the place alone. Nothing else is assumed of the shape but that
//! places further down are looked at no more often: clicks per showing are fitted by pooling
//! neighbours that are out of order (isotonic regression: Ayer et al. 1955).

use std::collections::BTreeMap;
use std::sync::Arc;

/// Places told apart; those behind count as the last.
const PLACES: usize = 100;
/// Showings of a place that what is known without them weighs as much as: at one click in fifty,
/// some twenty clicks.
const PRIOR_SHOWINGS: f64 = 1_000.0;
/// Places are looked at (1 + place)^−POWER as often as the first, as long as nothing is known. Eye
/// tracking and swapped results have found .5 to 1 on pages of text (Joachims et al. 2017, "Unbiased
/// learning-to-rank with biased feedback"): the shy end, since it discounts what was shown.
const POWER: f64 = 0.5;
/// Surfaces counted apart; others count for all together only.
const MAX_SURFACES: usize = 64;
/// Counts are halved where one place has more showings, so that a new layout is learnt.
const MAX_SHOWINGS: u64 = 1 << 20;

/// What was shown and clicked at each place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    shown: Vec<u64>,
    clicked: Vec<u64>,
}

impl Counts {
    fn observe(&mut self, place: usize, clicked: bool) {
        if self.shown.len() <= place {
            self.shown.resize(place + 1, 0);
            self.clicked.resize(place + 1, 0);
        }
        self.shown[place] += 1;
        self.clicked[place] += u64::from(clicked);
        if self.shown[place] > MAX_SHOWINGS {
            self.shown.iter_mut().chain(&mut self.clicked).for_each(|count| *count /= 2);
        }
    }

    /// The curve that these counts make of `prior`.
    fn curve(&self, prior: &Curve) -> Curve {
        let of = |counts: &[u64], place| counts.get(place).copied().unwrap_or(0) as f64;
        let looked: f64 = (0..PLACES).map(|k| of(&self.shown, k) * prior.at(k)).sum();
        let clicked: f64 = (0..PLACES).map(|k| of(&self.clicked, k)).sum();
        if clicked == 0.0 {
            return prior.clone();
        }
        // Clicks of a place that is always looked at, by the prior.
        let rate = clicked / looked;
        // Places that were never shown say nothing of those that were.
        let rates = (0..self.shown.len()).map(|k| {
            let expected = PRIOR_SHOWINGS * rate * prior.at(k);
            let weight = of(&self.shown, k) + PRIOR_SHOWINGS;
            ((of(&self.clicked, k) + expected) / weight, weight)
        });
        let fitted = falling(rates);
        let (first, last) = (fitted[0], fitted[fitted.len() - 1]);
        let at = |k: usize| fitted.get(k).copied().unwrap_or_else(|| last.min(rate * prior.at(k)));
        Curve(Arc::new(std::array::from_fn(|place| (at(place) / first) as f32)))
    }
}

/// How likely each place is looked at, next to the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve(Arc<[f32; PLACES]>);

impl Default for Curve {
    /// What is supposed before anything was shown.
    fn default() -> Self {
        let weight = |place| (1.0 + place as f64).powf(-POWER) as f32;
        Self(Arc::new(std::array::from_fn(weight)))
    }
}

impl Curve {
    /// Of a place, from 0: 1 at the first, no more at any other, above 0.
    pub fn weight(&self, place: usize) -> f32 {
        self.0[place.min(PLACES - 1)]
    }

    fn at(&self, place: usize) -> f64 {
        f64::from(self.weight(place))
    }
}

/// The curves of all surfaces, and over all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    all: Curve,
    surfaces: BTreeMap<String, Curve>,
}

impl Curves {
    /// Of a surface; over all where nothing is known of it.
    pub fn of(&self, surface: &str) -> &Curve {
        self.surfaces.get(surface).unwrap_or(&self.all)
    }
}

/// Learns the curves; the same counts in any order make the same curves, until they are halved.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    all: Counts,
    surfaces: BTreeMap<String, Counts>,
}

impl Examination {
    /// An item that was drawn at random was shown at a place, from 0.
    pub fn observe(&mut self, surface: &str, place: usize, clicked: bool) {
        let place = place.min(PLACES - 1);
        self.all.observe(place, clicked);
        if let Some(counts) = self.surfaces.get_mut(surface) {
            counts.observe(place, clicked);
        } else if self.surfaces.len() < MAX_SURFACES {
            self.surfaces.entry(surface.to_owned()).or_default().observe(place, clicked);
        }
    }

    /// What they say by now: of a surface what all say as long as it has shown little itself.
    pub fn curves(&self) -> Curves {
        let all = self.all.curve(&Curve::default());
        let of = |(surface, counts): (&String, &Counts)| (surface.clone(), counts.curve(&all));
        let surfaces = self.surfaces.iter().map(of).collect();
        Curves { all, surfaces }
    }
}

/// The rates nearest to these, by weight, that never rise; of rates above 0, in order.
fn falling(rates: impl Iterator<Item = (f64, f64)>) -> Vec<f64> {
    // Of pooled neighbours: mean, weight, how many.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for (rate, weight) in rates {
        let mut pool = (rate, weight, 1);
        while let Some(last) = pools.last().filter(|last| last.0 < pool.0) {
            let total = last.1 + pool.1;
            let mean = (last.0 * last.1 + pool.0 * pool.1) / total;
            pool = (mean, total, last.2 + pool.2);
            pools.pop();
        }
        pools.push(pool);
    }
    pools.into_iter().flat_map(|(mean, _, count)| std::iter::repeat_n(mean, count)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn a_curve_is_found_whatever_its_shape() {
        let mut dice = ChaCha8Rng::seed_from_u64(7);
        for truth in [|k: usize| 0.89_f64.powi(k as i32), |k: usize| if k < 4 { 1.0 } else { 0.2 }]
        {
            let mut examination = Examination::default();
            for _ in 0..600_000 {
                let place = dice.random_range(0..20);
                let clicked = dice.random::<f64>() < 0.2 * truth(place);
                examination.observe("home", place, clicked);
            }
            let curves = examination.curves();
            for place in 0..20 {
                let found = f64::from(curves.of("home").weight(place));
                assert!((found - truth(place)).abs() < 0.05, "{place}: {found}, {}", truth(place));
            }
        }
    }

    #[test]
    fn little_shown_moves_a_curve_little() {
        let mut examination = Examination::default();
        for place in 0..20 {
            examination.observe("home", place, place == 19);
        }
        let curves = examination.curves();
        for place in 0..20 {
            let (found, prior) = (curves.of("home").weight(place), Curve::default().weight(place));
            assert!((found - prior).abs() < 0.05, "{place}: {found}, supposed {prior}");
        }
    }

    #[test]
    fn a_surface_of_which_nothing_is_known_is_looked_at_as_all_are() {
        let mut examination = Examination::default();
        for i in 0..50_000 {
            examination.observe("home", 0, i % 10 == 0);
            examination.observe("home", 5, i % 100 == 0);
        }
        let curves = examination.curves();
        assert_eq!(curves.of("elsewhere"), &curves.all);
        assert!((0.09..0.13).contains(&curves.of("elsewhere").weight(5)));
        examination.observe("elsewhere", 5, true);
        let learnt = examination.curves().of("elsewhere").weight(5);
        assert!((0.09..0.15).contains(&learnt), "{learnt}");
    }

    proptest! {
        #[test]
        fn falling_rates_are_the_nearest_of_all(rates in prop::collection::vec((0.01..1.0, 0.5..5.0), 1..8)) {
            let fitted = falling(rates.iter().copied());
            prop_assert!(fitted.windows(2).all(|pair| pair[1] <= pair[0] + 1e-12));
            // The naive oracle: at each place min over beginnings of max over ends of the mean of what
            // lies between (Robertson et al. 1988).
            let mean = |from: usize, to: usize| {
                let slice = &rates[from..=to];
                let weight: f64 = slice.iter().map(|(_, w)| w).sum();
                slice.iter().map(|(r, w)| r * w).sum::<f64>() / weight
            };
            for (place, found) in fitted.iter().enumerate() {
                let expected = (0..=place)
                    .map(|from| (place..rates.len()).map(|to| mean(from, to)).fold(f64::MIN, f64::max))
                    .fold(f64::MAX, f64::min);
                prop_assert!((found - expected).abs() < 1e-9);
            }
        }

        #[test]
        fn weights_fall_from_one_and_stay_above_nothing(
            seen in prop::collection::vec((0..150_usize, any::<bool>()), 0..300),
        ) {
            let mut examination = Examination::default();
            seen.iter().for_each(|(place, clicked)| examination.observe("home", *place, *clicked));
            let curves = examination.curves();
            let curve = curves.of("home");
            prop_assert_eq!(curve.weight(0), 1.0);
            prop_assert!((1..200).all(|k| curve.weight(k) <= curve.weight(k - 1)));
            prop_assert!(curve.weight(199) > 0.0);
        }
    }
}
