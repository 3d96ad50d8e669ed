//! Ridge regression of many targets on many sparse features, from its normal equations
//!
//! ```text
//! B = (G + λI)⁻¹ C,   G = Σ w x xᵀ (features × features),   C = Σ w x yᵀ (features × targets)
//! ```
//!
//! solved by a blocked Cholesky factorisation G + λI = UᵀU (Golub and Van Loan, "Matrix
//! Computations", 4.2), which takes C along as further columns: U and U⁻ᵀC are one sweep down, B
//! one sweep up. Both are products of small blocks, compiled for what the machine has. Sums run in
//! one order and are never fused, so the same rows give the same bits on every machine.
//!
//! Of G only the upper triangle is held: see [`NormalEquations::bytes`]. f32 is enough, since λ
//! keeps the condition number of what is solved to some thousands.

use std::mem::{size_of, take};

use fearless_simd::{Level, dispatch};

use super::vector::axpy;

/// Rows of a panel. At 64 a block of coefficients and a tile fit the first-level cache together.
const PANEL: usize = 64;
/// Columns of a tile. With [`ROWS`], as many sums as the registers of AVX-512 hold, which was two to
/// ten times as fast as half or twice as many.
const TILE: usize = 64;
/// Rows that are updated together, so that a tile is read once for all of them.
const ROWS: usize = 4;

/// G and C. Rows of G from its diagonal on, each followed by its row of C, in panels of [`PANEL`]
/// rows which begin at one column, padded with zeros to whole panels and tiles.
pub struct NormalEquations {
    panels: Vec<Panel>,
    /// Columns of C, padded.
    targets: usize,
}

/// [`PANEL`] rows of one width.
#[derive(Default)]
struct Panel {
    width: usize,
    values: Vec<f32>,
}

impl Panel {
    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..][..self.width]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.width..][..self.width]
    }

    /// A row, and another one below it to change.
    fn pair(&mut self, upper: usize, lower: usize) -> (&[f32], &mut [f32]) {
        let (above, below) = self.values.split_at_mut(lower * self.width);
        (&above[upper * self.width..][..self.width], &mut below[..self.width])
    }
}

/// Why there is no solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsolved {
    /// The caller broke off.
    #[error("solving was stopped")]
    Stopped,
    /// A pivot was not positive: λ is 0 or too small for the sums, or they are not finite.
    #[error("the normal equations are not positive definite: use a larger λ")]
    NotPositiveDefinite,
}

impl NormalEquations {
    /// All zero.
    pub fn new(features: usize, targets: usize) -> Self {
        let features = features.next_multiple_of(PANEL);
        let targets = targets.next_multiple_of(TILE);
        let panels = (0..features / PANEL).map(|panel| {
            let width = features - panel * PANEL + targets;
            Panel { width, values: vec![0.0; PANEL * width] }
        });
        Self { panels: panels.collect(), targets }
    }

    /// What so many take: 4 bytes each of features² / 2 + features × targets.
    pub fn bytes(features: usize, targets: usize) -> usize {
        let (features, targets) =
            (features.next_multiple_of(PANEL), targets.next_multiple_of(TILE));
        (features * (features + PANEL) / 2 + features * targets) * size_of::<f32>()
    }

    /// Adds w x xᵀ and w x yᵀ, where y is 1 at `target`, or 0 where there is none. The features of
    /// x ascend, each once.
    pub fn add(&mut self, x: &[(u32, f32)], target: Option<usize>, weight: f32) {
        for (n, &(feature, value)) in x.iter().enumerate() {
            let feature = feature as usize;
            let first = feature / PANEL * PANEL;
            let panel = &mut self.panels[feature / PANEL];
            let diagonal_to_end = panel.width - self.targets;
            let row = panel.row_mut(feature % PANEL);
            let scaled = weight * value;
            for &(other, value) in &x[n..] {
                row[other as usize - first] += scaled * value;
            }
            if let Some(target) = target {
                row[diagonal_to_end + target] += scaled;
            }
        }
    }

    /// B. `go_on` is asked before each panel, twice a panel, whether to.
    ///
    /// # Errors
    /// [`Unsolved`] where it said no, or there is no solution.
    pub fn solve(
        mut self,
        lambda: f32,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Coefficients, Unsolved> {
        let mut tiles = Vec::new();
        for panel in &mut self.panels {
            (0..PANEL).for_each(|row| panel.row_mut(row)[row] += lambda);
        }
        for at in 0..self.panels.len() {
            if !go_on() {
                return Err(Unsolved::Stopped);
            }
            let mut panel = take(&mut self.panels[at]);
            eliminate(&mut panel)?;
            pack(&panel, 0, &mut tiles);
            for (n, below) in self.panels[at + 1..].iter_mut().enumerate() {
                let from = (n + 1) * PANEL;
                let coefficients = block(|step, row| panel.row(step)[from + row]);
                subtract(&coefficients, &tiles[from * PANEL..], below, 0);
            }
            self.panels[at] = panel;
        }
        for at in (0..self.panels.len()).rev() {
            if !go_on() {
                return Err(Unsolved::Stopped);
            }
            let mut panel = take(&mut self.panels[at]);
            let own = panel.width - self.targets;
            substitute(&mut panel, own);
            pack(&panel, own, &mut tiles);
            for (n, above) in self.panels[..at].iter_mut().enumerate() {
                let from = (at - n) * PANEL;
                let coefficients = block(|step, row| above.row(row)[from + step]);
                let own = above.width - self.targets;
                subtract(&coefficients, &tiles, above, own);
            }
            self.panels[at] = panel;
        }
        Ok(Coefficients(self))
    }
}

/// B of [`NormalEquations::solve`].
pub struct Coefficients(NormalEquations);

impl Coefficients {
    /// What a feature adds to each target; as many as there are targets, and zeros that fill up.
    pub fn row(&self, feature: usize) -> &[f32] {
        let panel = &self.0.panels[feature / PANEL];
        &panel.row(feature % PANEL)[panel.width - self.0.targets..]
    }
}

/// Makes the rows of a panel rows of U and U⁻ᵀC, once those above have been subtracted.
fn eliminate(panel: &mut Panel) -> Result<(), Unsolved> {
    for k in 0..PANEL {
        let row = &mut panel.row_mut(k)[k..];
        let pivot = row[0].sqrt();
        if !(pivot > 0.0 && pivot.is_finite()) {
            return Err(Unsolved::NotPositiveDefinite);
        }
        row.iter_mut().for_each(|value| *value /= pivot);
        for below in k + 1..PANEL {
            let (row, target) = panel.pair(k, below);
            axpy(-row[below], &row[below..], &mut target[below..]);
        }
    }
    Ok(())
}

/// Makes the columns from `own` on rows of B, once those below have been subtracted.
fn substitute(panel: &mut Panel, own: usize) {
    for k in (0..PANEL).rev() {
        let pivot = panel.row(k)[k];
        panel.row_mut(k)[own..].iter_mut().for_each(|value| *value /= pivot);
        for above in 0..k {
            let width = panel.width;
            let (head, tail) = panel.values.split_at_mut(k * width);
            let target = &mut head[above * width..][..width];
            axpy(-target[k], &tail[own..width], &mut target[own..]);
        }
    }
}

/// The columns of a panel from `from` on, tile by tile: one after the other in memory, for steps of
/// a power of two would fall on the same lines of the cache.
fn pack(panel: &Panel, from: usize, tiles: &mut Vec<f32>) {
    tiles.clear();
    for column in (from..panel.width).step_by(TILE) {
        for row in 0..PANEL {
            tiles.extend_from_slice(&panel.row(row)[column..column + TILE]);
        }
    }
}

/// Coefficients by group of [`ROWS`] rows, then step.
type Block = Vec<[f32; ROWS]>;

fn block(of: impl Fn(usize, usize) -> f32) -> Block {
    let groups = (0..PANEL).step_by(ROWS);
    let steps = groups.flat_map(|first| (0..PANEL).map(move |step| (first, step)));
    steps.map(|(first, step)| std::array::from_fn(|row| of(step, first + row))).collect()
}

/// Subtracts, from each row of `target` from column `from` on, the sum over the steps of a tile's
/// row times its coefficient.
fn subtract(coefficients: &Block, tiles: &[f32], target: &mut Panel, from: usize) {
    dispatch!(Level::new(), _simd => subtract_tiles(coefficients, tiles, target, from));
}

#[inline(always)]
fn subtract_tiles(coefficients: &Block, tiles: &[f32], target: &mut Panel, from: usize) {
    let width = target.width;
    let columns = (from..width).step_by(TILE);
    for (column, tile) in columns.zip(tiles.chunks_exact(PANEL * TILE)) {
        let steps = tile.as_chunks::<TILE>().0;
        let groups = coefficients.chunks_exact(PANEL);
        for (group, rows) in groups.zip(target.values.chunks_exact_mut(ROWS * width)) {
            let mut sums = [[0.0f32; TILE]; ROWS];
            for (coefficients, step) in group.iter().zip(steps) {
                for row in 0..ROWS {
                    for lane in 0..TILE {
                        sums[row][lane] += coefficients[row] * step[lane];
                    }
                }
            }
            for (row, sums) in rows.chunks_exact_mut(width).zip(&sums) {
                for (value, sum) in row[column..column + TILE].iter_mut().zip(sums) {
                    *value -= sum;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = (Vec<(u32, f32)>, Option<usize>, f32);

    fn rows(features: usize, targets: usize) -> impl Strategy<Value = Vec<Row>> {
        let x = proptest::collection::btree_map(0..features as u32, 0.1f32..1.0, 0..12);
        let x = x.prop_map(|x| x.into_iter().collect());
        let target = proptest::option::of(0..targets);
        proptest::collection::vec((x, target, 0.1f32..2.0), 0..80)
    }

    /// G + λI beside C, in f64.
    fn dense(rows: &[Row], features: usize, targets: usize, lambda: f64) -> Vec<Vec<f64>> {
        let mut all = vec![vec![0.0; features + targets]; features];
        (0..features).for_each(|i| all[i][i] = lambda);
        for (x, target, weight) in rows {
            for &(i, a) in x {
                let scaled = f64::from(a) * f64::from(*weight);
                let row = &mut all[i as usize];
                x.iter().for_each(|&(j, b)| row[j as usize] += scaled * f64::from(b));
                target.iter().for_each(|target| row[features + target] += scaled);
            }
        }
        all
    }

    /// By Gauss-Jordan elimination.
    fn solved(mut all: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
        let features = all.len();
        for k in 0..features {
            let pivot = all[k][k];
            all[k].iter_mut().for_each(|value| *value /= pivot);
            let row = all[k].clone();
            for other in (0..features).filter(|other| *other != k) {
                let by = all[other][k];
                all[other].iter_mut().zip(&row).for_each(|(value, own)| *value -= by * own);
            }
        }
        all.into_iter().map(|row| row[features..].to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn sums_and_solution_are_those_of_the_naive_way(
            (features, targets, rows) in (1usize..150, 1usize..50)
                .prop_flat_map(|(f, t)| (Just(f), Just(t), rows(f, t))),
        ) {
            let mut equations = NormalEquations::new(features, targets);
            rows.iter().for_each(|(x, target, weight)| equations.add(x, *target, *weight));
            let expected = dense(&rows, features, targets, 0.0);
            for (i, expected) in expected.iter().enumerate() {
                let panel = &equations.panels[i / PANEL];
                let (row, first) = (panel.row(i % PANEL), i / PANEL * PANEL);
                let (sums, crossed) = expected.split_at(features);
                let held = row[i - first..].iter().zip(&sums[i..]);
                let targets = row[panel.width - equations.targets..].iter().zip(crossed);
                for (value, expected) in held.chain(targets) {
                    prop_assert!((f64::from(*value) - expected).abs() < 1e-4);
                }
            }
            let found = equations.solve(0.5, || true).unwrap();
            let expected = solved(dense(&rows, features, targets, 0.5));
            for (i, expected) in expected.iter().enumerate() {
                for (target, expected) in expected.iter().enumerate() {
                    let value = f64::from(found.row(i)[target]);
                    prop_assert!((value - expected).abs() < 1e-4, "{value} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_solved_or_is_broken_off_says_so() {
        let unsolved =
            |lambda, go_on: bool| NormalEquations::new(70, 3).solve(lambda, || go_on).err();
        assert_eq!(unsolved(0.0, true), Some(Unsolved::NotPositiveDefinite));
        assert_eq!(unsolved(f32::NAN, true), Some(Unsolved::NotPositiveDefinite));
        assert_eq!(unsolved(1.0, false), Some(Unsolved::Stopped));
        assert_eq!(unsolved(1.0, true), None);
    }

    #[test]
    fn its_bytes_are_what_it_holds() {
        for (features, targets) in [(1, 1), (64, 32), (200, 77), (640, 320)] {
            let held = NormalEquations::new(features, targets);
            let floats: usize = held.panels.iter().map(|panel| panel.values.len()).sum();
            assert_eq!(NormalEquations::bytes(features, targets), floats * 4);
        }
    }
}
