//! Implicit ALS: user and item vectors whose inner products are near 1 where there was an
//! interaction and near 0 elsewhere (Hu, Koren and Volinsky, ICDM 2008), with the
//! frequency-scaled regularisation of Rendle et al., "Revisiting the Performance of iALS on Item
//! Recommendation Benchmarks" (RecSys 2022):
//!
//! Σ_(u,i) (1 − u·t)² + a0 Σ_all (u·t)² + λ [Σ_u (n_u + a0·N_items)|u|² + Σ_i (n_i + a0·N_users)|t|²]
//!
//! Each half step is exact. It first turns the fixed side to its principal axes, where a row of n
//! interactions costs n²·d/2 in place of d³/6: most users have few.

use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fold_in::FoldIn;
use super::principal::turn;
use super::vector::{Dim, Vectors};
use super::{ModelError, parallel};

/// Rows a thread takes at a time: few enough to balance a popular item's row.
const ROWS_AT_ONCE: usize = 64;

/// How to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IalsConfig {
    /// Components of a vector.
    pub dim: Dim,
    /// a0, the weight of what did not happen, > 0. Larger: follows popularity less, ranks better
    /// where users repeat themselves little.
    pub unobserved: f32,
    /// λ, > 0.
    pub regularization: f32,
    /// Passes over both sides, ≥ 1.
    pub epochs: u32,
    /// Of the first item vectors.
    pub seed: u64,
}

impl IalsConfig {
    /// For sessions of clicks, as measured on DIGINETICA.
    pub const SESSIONS: Self =
        Self { dim: Dim::DEFAULT, unobserved: 0.0003, regularization: 0.03, epochs: 4, seed: 1 };
    /// For videos, as measured on KuaiRand.
    pub const VIDEOS: Self =
        Self { unobserved: 0.03, regularization: 0.02, epochs: 6, ..Self::SESSIONS };

    pub(super) fn validate(&self) -> Result<(), ModelError> {
        let positive = [("unobserved", self.unobserved), ("regularization", self.regularization)];
        for (name, value) in positive {
            if !(value > 0.0 && value.is_finite()) {
                return Err(ModelError::NotPositive { name, value });
            }
        }
        let epochs = self.epochs as f32;
        if epochs < 1.0 {
            Err(ModelError::NotPositive { name: "epochs", value: epochs })
        } else {
            Ok(())
        }
    }
}

/// Which users interacted with which items: a sparse matrix of ones, from both sides.
#[derive(Clone, Debug)]
pub struct Interactions {
    by_user: Rows,
    by_item: Rows,
}

/// Compressed rows: those of row r are `columns[starts[r]..starts[r + 1]]`, ascending.
#[derive(Clone, Debug)]
struct Rows {
    starts: Vec<usize>,
    columns: Vec<u32>,
}

impl Rows {
    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.columns[self.starts[row]..self.starts[row + 1]]
    }

    /// From ascending pairs (row, column).
    fn from_sorted(rows: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let (mut starts, mut columns) = (vec![0; rows + 1], Vec::new());
        for (row, column) in pairs {
            starts[row as usize + 1] += 1;
            columns.push(column);
        }
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        Self { starts, columns }
    }
}

impl Interactions {
    /// From pairs (user, item), numbered from 0 and in any order; pairs that come again count
    /// once.
    ///
    /// # Errors
    /// [`ModelError::OutOfRange`] where a number is not below `users` or `items`.
    pub fn new(users: usize, items: usize, mut pairs: Vec<(u32, u32)>) -> Result<Self, ModelError> {
        for &(user, item) in &pairs {
            for (what, number, of) in [("user", user, users), ("item", item, items)] {
                if number as usize >= of {
                    return Err(ModelError::OutOfRange { what, number: number as usize, of });
                }
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        let by_user = Rows::from_sorted(users, pairs.iter().copied());
        pairs.iter_mut().for_each(|pair| *pair = (pair.1, pair.0));
        pairs.sort_unstable();
        let by_item = Rows::from_sorted(items, pairs.into_iter());
        Ok(Self { by_user, by_item })
    }

    /// How many users interacted with an item.
    pub fn count(&self, item: usize) -> u32 {
        self.by_item.row(item).len() as u32
    }
}

/// How far training has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Epochs done.
    pub done: u32,
    /// Epochs in all.
    pub of: u32,
}

/// What training gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// A vector for each item; zero for those without interactions.
    pub items: Vectors,
    /// A vector for each user, along the axes of `items`: as of the half step before their last.
    pub users: Vectors,
}

/// Trains on `threads` threads (at least one); the result does not depend on their number.
/// `progress` is called after each epoch and may break off.
///
/// # Errors
/// Hyperparameters that are not positive; no interactions; [`ModelError::Stopped`] where
/// `progress` broke off.
pub fn train(
    interactions: &Interactions,
    config: &IalsConfig,
    threads: usize,
    mut progress: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Factors, ModelError> {
    config.validate()?;
    let (by_user, by_item) = (&interactions.by_user, &interactions.by_item);
    if by_user.columns.is_empty() {
        return Err(ModelError::NoInteractions);
    }
    let mut items = initial(config, by_item.len());
    let mut users = Vectors::zeros(config.dim, by_user.len());
    for done in 1..=config.epochs {
        half_step(&mut items, &mut users, by_user, config, threads);
        half_step(&mut users, &mut items, by_item, config, threads);
        if progress(Progress { done, of: config.epochs }).is_break() {
            return Err(ModelError::Stopped { done, of: config.epochs });
        }
    }
    Ok(Factors { items, users })
}

/// Solves every row of `solved` against `fixed`.
fn half_step(
    fixed: &mut Vectors,
    solved: &mut Vectors,
    rows: &Rows,
    config: &IalsConfig,
    threads: usize,
) {
    let energies = turn(fixed, threads);
    let fixed: &Vectors = fixed;
    let everywhere = config.unobserved * fixed.len() as f32;
    let d = config.dim.get();
    let work = solved.values_mut().chunks_mut(ROWS_AT_ONCE * d).enumerate();
    let solver = || FoldIn::new(config.dim);
    parallel::each(threads, work, solver, |solver, (block, out)| {
        for (at, out) in out.chunks_exact_mut(d).enumerate() {
            let row = rows.row(block * ROWS_AT_ONCE + at);
            let ridge = config.regularization * (row.len() as f32 + everywhere);
            solver.set_penalty(&energies, config.unobserved, ridge);
            match solver.user(row.iter().map(|&column| (fixed.row(column as usize), 1.0))) {
                Some(solution) => out.copy_from_slice(solution),
                None => out.fill(0.0),
            }
        }
    });
}

/// Item vectors with σ = 0.1/√d. Each component is a sum of four uniform numbers: normal enough,
/// and the same bits everywhere, which a logarithm of the C library would not be.
fn initial(config: &IalsConfig, items: usize) -> Vectors {
    let mut dice = ChaCha8Rng::seed_from_u64(config.seed);
    let mut vectors = Vectors::zeros(config.dim, items);
    // Four 16-bit parts have mean 2·65,535 in sum, and variance 65,536²/3.
    let scale = 0.1 / (config.dim.get() as f32).sqrt() * 3.0f32.sqrt() / 65_536.0;
    for value in vectors.values_mut() {
        let bits = dice.next_u64();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xFFFF).sum();
        *value = (sum as f32 - 131_070.0) * scale;
    }
    vectors
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::vector::dot;
    use super::*;

    fn config(epochs: u32) -> IalsConfig {
        let dim = Dim::new(8).unwrap();
        IalsConfig { dim, unobserved: 0.05, regularization: 0.02, epochs, seed: 7 }
    }

    fn trained(data: &Interactions, epochs: u32, threads: usize) -> Factors {
        train(data, &config(epochs), threads, |_| ControlFlow::Continue(())).unwrap()
    }

    /// One item half step of plain gradient: at the optimum of the items given the users, the
    /// derivative of the objective by each item vector is zero.
    fn item_gradient(data: &Interactions, factors: &Factors, item: usize) -> f64 {
        let c = config(1);
        let t = factors.items.row(item);
        let n = f64::from(data.count(item));
        let ridge = f64::from(c.regularization) * (n + 0.05 * factors.users.len() as f64);
        let mut gradient: Vec<f64> = t.iter().map(|v| ridge * f64::from(*v)).collect();
        for (user, u) in factors.users.rows().enumerate() {
            let score: f64 = u.iter().zip(t).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let seen = data.by_user.row(user).contains(&(item as u32));
            let slope = 0.05 * score + if seen { score - 1.0 } else { 0.0 };
            gradient.iter_mut().zip(u).for_each(|(g, u)| *g += slope * f64::from(*u));
        }
        gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
    }

    fn pairs() -> impl Strategy<Value = Vec<(u32, u32)>> {
        proptest::collection::vec((0u32..30, 0u32..20), 1..400)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn after_a_half_step_no_item_vector_can_be_bettered(pairs in pairs()) {
            let data = Interactions::new(30, 20, pairs).unwrap();
            let factors = trained(&data, 3, 2);
            for item in 0..20 {
                let gradient = item_gradient(&data, &factors, item);
                prop_assert!(gradient < 1e-4, "{item}: {gradient}");
            }
        }

        #[test]
        fn neither_threads_nor_the_order_of_pairs_show(pairs in pairs()) {
            let data = Interactions::new(30, 20, pairs.clone()).unwrap();
            let again: Vec<_> = pairs.iter().rev().chain(&pairs).copied().collect();
            let again = Interactions::new(30, 20, again).unwrap();
            prop_assert_eq!(trained(&data, 2, 1), trained(&again, 2, 5));
        }
    }

    /// Two groups of users who each keep to their own half of the items.
    fn two_groups() -> Interactions {
        let pairs = (0..40u32).flat_map(|user| {
            (0..10u32)
                .filter(move |i| (user / 2 + i) % 4 != 0)
                .map(move |i| (user, (user % 2) * 10 + i))
        });
        Interactions::new(40, 21, pairs.collect()).unwrap()
    }

    #[test]
    fn a_group_is_drawn_to_its_own_items() {
        let data = two_groups();
        let factors = trained(&data, 8, 2);
        for (user, u) in factors.users.rows().enumerate() {
            let score = |item: usize| dot(u, factors.items.row(item));
            let (own, other) = ((user % 2) * 10, (1 - user % 2) * 10);
            let least = (0..10).map(|i| score(own + i)).fold(f32::MAX, f32::min);
            let most = (0..10).map(|i| score(other + i)).fold(f32::MIN, f32::max);
            assert!(least > most + 0.3, "user {user}: {least} {most}");
        }
        assert_eq!(factors.items.row(20), [0.0; 8], "an item without interactions");
        assert_eq!(data.count(20), 0);
    }

    #[test]
    fn first_vectors_have_the_deviation_they_should() {
        let first = initial(&IalsConfig { seed: 3, ..IalsConfig::VIDEOS }, 2_000);
        let values = first.values();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 1e-4, "{mean}");
        assert!((variance.sqrt() / (0.1 / 8.0) - 1.0).abs() < 0.01, "{variance}");
    }

    #[test]
    fn training_can_be_broken_off_and_refuses_what_makes_no_sense() {
        let data = two_groups();
        let stopped = train(&data, &config(5), 1, |p| {
            if p.done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(stopped, Err(ModelError::Stopped { done: 2, of: 5 }));
        for wrong in [
            IalsConfig { unobserved: 0.0, ..config(1) },
            IalsConfig { regularization: f32::NAN, ..config(1) },
            config(0),
        ] {
            assert!(train(&data, &wrong, 1, |_| ControlFlow::Continue(())).is_err());
        }
        let none = Interactions::new(3, 3, Vec::new()).unwrap();
        let refused = train(&none, &config(1), 1, |_| ControlFlow::Continue(()));
        assert_eq!(refused, Err(ModelError::NoInteractions));
        assert!(Interactions::new(3, 3, vec![(0, 3)]).is_err());
    }
}
