//! The newest rows, and what is solved from them.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::map::TransitionMap;
use super::{SCALES, TransitionsConfig, Waiting, weights};
use crate::ids::Prehashed;
use crate::model::ridge::{NormalEquations, Unsolved};
use crate::time::EventTime;

/// A map is due when this part of its rows is new: at a fifth more the sums have hardly moved, and
/// solving is a small part of a worker's work whatever the rate.
const GROWTH: f64 = 0.2;
/// Rows that make the first map. The blend judges a source by the first events too, so it should not
/// be silent for long; fewer rows hardly say anything.
const FIRST: usize = 250;
/// Rows beyond the budget, as a part of it, before the oldest go: they go in one pass.
const SLACK: f64 = 0.1;
/// Rows that an item has to be the next item of. Next to λ, fewer say nothing.
const LEAST: u32 = 5;
/// No item.
const NONE: u32 = u32::MAX;

/// What was liked after what.
#[derive(Clone, Copy)]
struct Row {
    at: EventTime,
    event: u64,
    /// Where its items begin: the next item, then the history, the newest first.
    begin: usize,
    /// Items of the history.
    length: u32,
}

/// Holds the newest rows. Whoever owns it takes the waiting ones from the tables, asks whether a
/// map is due, solves and publishes it.
pub struct TransitionLearner {
    config: TransitionsConfig,
    /// In the order of arrival.
    rows: Vec<Row>,
    /// The items of all rows, by number.
    items: Vec<u32>,
    numbers: HashMap<u64, u32, Prehashed>,
    hashes: Vec<u64>,
    /// Rows taken since a map was begun.
    new: usize,
    /// Rows of that map.
    solved: usize,
}

impl TransitionLearner {
    /// No rows yet.
    pub fn new(config: TransitionsConfig) -> Self {
        Self {
            config,
            rows: Vec::new(),
            items: Vec::new(),
            numbers: HashMap::default(),
            hashes: Vec::new(),
            new: 0,
            solved: 0,
        }
    }

    /// Takes rows in.
    pub fn learn(&mut self, waiting: &Waiting) {
        let mut histories = &waiting.histories[..];
        for row in &waiting.rows {
            let (history, rest) = histories.split_at(row.length);
            histories = rest;
            let begin = self.items.len();
            for &hash in std::iter::once(&row.item).chain(history) {
                let number = *self.numbers.entry(hash).or_insert_with(|| {
                    self.hashes.push(hash);
                    (self.hashes.len() - 1) as u32
                });
                self.items.push(number);
            }
            let (at, event, length) = (row.at, row.event, row.length as u32);
            self.rows.push(Row { at, event, begin, length });
        }
        self.new += waiting.rows.len();
        if self.rows.len() as f64 >= self.config.rows as f64 * (1.0 + SLACK) {
            self.forget();
        }
    }

    /// Rows held.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// New rows that are missing until the next map is due; 0 where it is.
    pub fn missing(&self) -> usize {
        let wanted = ((self.solved as f64 * GROWTH) as usize).max(FIRST);
        wanted.saturating_sub(self.new)
    }

    /// Whether there are rows that no map has been begun with.
    pub fn has_new(&self) -> bool {
        self.new > 0 && self.rows.len() >= FIRST
    }

    /// Memory held between two maps, in bytes, estimated.
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<Row>()
            + (self.items.capacity() + 3 * self.numbers.capacity()) * size_of::<u32>()
            + self.hashes.capacity() * size_of::<u64>()
    }

    /// Lets the oldest rows go, and items that no row names. In place: rows lie in the order in
    /// which they came.
    fn forget(&mut self) {
        if self.rows.len() > self.config.rows {
            let mut keys: Vec<_> =
                self.rows.iter().map(|row| Reverse((row.at, row.event))).collect();
            let (_, oldest, _) = keys.select_nth_unstable(self.config.rows - 1);
            let oldest = oldest.0;
            self.rows.retain(|row| (row.at, row.event) >= oldest);
        }
        let mut renumbered = vec![NONE; self.hashes.len()];
        let mut hashes = Vec::new();
        let mut end = 0;
        for row in &mut self.rows {
            let begin = std::mem::replace(&mut row.begin, end);
            for from in begin..=begin + row.length as usize {
                let number = self.items[from] as usize;
                if renumbered[number] == NONE {
                    renumbered[number] = hashes.len() as u32;
                    hashes.push(self.hashes[number]);
                }
                self.items[end] = renumbered[number];
                end += 1;
            }
        }
        self.items.truncate(end);
        self.numbers = hashes.iter().zip(0..).map(|(hash, number)| (*hash, number)).collect();
        self.hashes = hashes;
    }

    /// Begins a map from the rows held: sums them up. A second for each few hundred thousand.
    pub fn begin(&mut self) -> Solving {
        self.forget();
        self.new = 0;
        self.solved = self.rows.len();
        let mut counts = vec![0u32; self.hashes.len()];
        self.rows.iter().for_each(|row| counts[self.items[row.begin] as usize] += 1);
        let (head, places) = self.head(&counts);
        // One order of adding up, whatever the order of arrival.
        let mut order: Vec<&Row> = self.rows.iter().collect();
        order.sort_unstable_by_key(|row| (row.at, row.event));
        let rarity: Vec<f32> =
            counts.iter().map(|count| (*count as f32).powf(-self.config.rarity_power)).collect();
        let weight = |row: &Row| rarity[self.items[row.begin] as usize];
        // Weights are 1 in the mean, so that λ is measured in rows.
        let sum: f64 = order.iter().map(|row| f64::from(weight(row))).sum();
        let mean = (sum / order.len().max(1) as f64) as f32;
        let mut equations = NormalEquations::new(head.len() * SCALES.len(), head.len());
        let mut x = Vec::new();
        for row in order {
            let items = &self.items[row.begin..=row.begin + row.length as usize];
            x.clear();
            for (place, item) in items[1..].iter().enumerate() {
                let number = places[*item as usize];
                if number != NONE {
                    let scales = (0..).zip(weights(place)).filter(|(_, weight)| *weight > 0.0);
                    x.extend(scales.map(|(scale, value)| (feature(number, scale), value)));
                }
            }
            x.sort_unstable_by_key(|(feature, _)| *feature);
            let target = places[items[0] as usize];
            equations.add(&x, (target != NONE).then_some(target as usize), weight(row) / mean);
        }
        Solving { equations, head, lambda: self.config.lambda, kept: self.config.kept }
    }

    /// The hashes of the items that are predicted, the most frequent first, and the place there of
    /// each number.
    fn head(&self, counts: &[u32]) -> (Vec<u64>, Vec<u32>) {
        let known = 0..self.hashes.len();
        let mut head: Vec<usize> = known.filter(|number| counts[*number] >= LEAST).collect();
        head.sort_unstable_by_key(|number| (Reverse(counts[*number]), self.hashes[*number]));
        head.truncate(self.config.items);
        let mut places = vec![NONE; self.hashes.len()];
        head.iter().zip(0..).for_each(|(number, place)| places[*number] = place);
        (head.into_iter().map(|number| self.hashes[number]).collect(), places)
    }
}

/// The number of the feature that is an item on a scale.
pub(super) fn feature(place: u32, scale: usize) -> u32 {
    place * SCALES.len() as u32 + scale as u32
}

/// Rows that are summed up, and not yet solved.
pub struct Solving {
    equations: NormalEquations,
    head: Vec<u64>,
    lambda: f32,
    kept: usize,
}

impl Solving {
    /// The items that are predicted, as hashes.
    pub fn items(&self) -> &[u64] {
        &self.head
    }

    /// Solves. `go_on` is asked many times whether to: what must not wait for the end is done there.
    ///
    /// # Errors
    /// [`Unsolved`] where it said no; the rows may be solved again.
    pub fn solve(self, go_on: impl FnMut() -> bool) -> Result<TransitionMap, Unsolved> {
        let coefficients = self.equations.solve(self.lambda, go_on)?;
        Ok(TransitionMap::new(self.head, self.kept, &coefficients))
    }
}
