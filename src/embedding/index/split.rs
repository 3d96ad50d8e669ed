//! Cuts a cell in two.

use super::directory::Place;
use super::kernel;

/// Rounds of Lloyd's algorithm; cells settle within a handful.
const ROUNDS: usize = 8;

/// The smaller half holds at least one part in so many, or a cell is cut at its middle instead.
pub(super) const SMALLEST_HALF: usize = 16;

/// Mean and spread of vectors of `width` components, one after the other; zeros where there is
/// none.
pub(super) fn place_of(vectors: &[f32], width: usize) -> Place {
    let rows = vectors.chunks_exact(width);
    let centroid = mean(rows.clone(), width);
    let square: f32 = rows.clone().map(|row| distance(row, &centroid)).sum();
    let spread = (square / rows.len().max(1) as f32 / width as f32).sqrt();
    Place { centroid, spread }
}

fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, width: usize) -> Vec<f32> {
    let mut mean = vec![0.0f32; width];
    let mut count = 0usize;
    for row in rows {
        count += 1;
        mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    mean.iter_mut().for_each(|sum| *sum /= count.max(1) as f32);
    mean
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Which of two halves each row belongs to: 2-means, from two rows that lie far apart.
pub(super) fn halves(vectors: &[f32], width: usize) -> Vec<bool> {
    let rows = || vectors.chunks_exact(width);
    let farthest = |from: &[f32]| {
        let far = rows().map(|row| distance(row, from)).enumerate();
        far.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(row, _)| row)
    };
    let row = |at: usize| &vectors[at * width..(at + 1) * width];
    let first = farthest(&mean(rows(), width));
    let mut centres = [row(first).to_vec(), row(farthest(row(first))).to_vec()];
    let mut right = Vec::new();
    for _ in 0..ROUNDS {
        let sides: Vec<bool> = projections(rows(), &centres).map(|side| side > 0.0).collect();
        if sides == right {
            break;
        }
        right = sides;
        for (side, centre) in [(false, 0), (true, 1)] {
            let mine = rows().zip(&right).filter(|(_, r)| **r == side).map(|(row, _)| row);
            if mine.clone().next().is_some() {
                centres[centre] = mean(mine, width);
            }
        }
    }
    let count = right.iter().filter(|r| **r).count();
    if count.min(right.len() - count) * SMALLEST_HALF >= right.len() {
        return right;
    }
    let along: Vec<f32> = projections(rows(), &centres).collect();
    let mut order: Vec<usize> = (0..along.len()).collect();
    order.sort_unstable_by(|a, b| along[*a].total_cmp(&along[*b]).then(a.cmp(b)));
    for (rank, row) in order.iter().enumerate() {
        right[*row] = rank >= along.len() / 2;
    }
    right
}

/// For each row, how far it lies beyond the plane between the centres, on the second one's side.
fn projections<'a>(
    rows: impl Iterator<Item = &'a [f32]>,
    [a, b]: &[Vec<f32>; 2],
) -> impl Iterator<Item = f32> {
    let normal: Vec<f32> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    let middle = (kernel::dot(b, b) - kernel::dot(a, a)) / 2.0;
    rows.map(move |row| kernel::dot(row, &normal) - middle)
}
