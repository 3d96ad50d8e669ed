//! Score, then learn: every positive of a test period is ranked among all items by each method
//! before any method hears of it.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};

use driftline::embedding::{ItemVector, Lms, LmsConfig, Origin};
use driftline::ids::stable_hash;
use driftline::model::ials::{self, IalsConfig, Interactions};
use driftline::model::vector::dot;
use driftline::model::{
    Basis, HistoryWeights, Hyperparameters, Position, Training, Vectors, decayed,
};

use crate::data::{Event, Log};

/// Length of the lists.
pub const LIST: f32 = 20.0;

/// How one data set is run.
#[derive(Clone)]
pub struct Protocol {
    pub ials: IalsConfig,
    pub lms: LmsConfig,
    pub history: HistoryWeights,
    /// The exponents of the popularity control; the best of them by recall is reported.
    pub popularity: Vec<f32>,
    /// One user in so many is scored; all teach.
    pub sample: u64,
    /// Whether what a user had before is left out of their lists, as serving does where nobody
    /// watches twice; positives that come again are then not scored.
    pub unseen_only: bool,
    /// One item in so many is hidden from training, 0 for none.
    pub hidden: u64,
}

/// Where new items begin.
pub type Content<'a> = dyn Fn(&Log, &Basis) -> Vec<Option<Vec<f32>>> + Sync + 'a;

/// One scored positive.
pub struct Scored {
    pub user: u32,
    /// Whether the item was there at training.
    pub known: bool,
    /// Rank from 0 by method, ties half.
    pub ranks: Vec<f32>,
}

impl Protocol {
    fn is_hidden(&self, log: &Log, item: u32) -> bool {
        let name = log.items[item as usize].as_str();
        self.hidden > 0 && stable_hash(name.as_bytes()).is_multiple_of(self.hidden)
    }

    /// Methods in the order of [`Scored::ranks`].
    pub fn methods(&self, content: bool) -> Vec<String> {
        let mut names = vec!["frozen".to_owned()];
        names.extend(self.popularity.iter().map(|a| format!("frozen × popularity^{a}")));
        names.push("online LMS".to_owned());
        if content {
            names.push("online LMS, begun from content".to_owned());
        }
        names
    }

    /// Trains on `events`; gives the basis and the position of each item of the log.
    pub fn train(
        &self,
        log: &Log,
        events: &[Event],
        threads: usize,
    ) -> (Basis, Vec<Option<Position>>) {
        let mut places = vec![None; log.items.len()];
        let mut ids = Vec::new();
        let mut pairs = Vec::new();
        for event in events.iter().filter(|event| !self.is_hidden(log, event.item)) {
            let place = *places[event.item as usize].get_or_insert_with(|| {
                ids.push(log.items[event.item as usize].clone());
                Position(ids.len() as u32 - 1)
            });
            pairs.push((event.user, place.0));
        }
        let data = Interactions::new(log.users, ids.len(), pairs).expect("numbers in range");
        let factors = ials::train(&data, &self.ials, threads, |_| ControlFlow::Continue(()));
        let training = Training {
            counts: (0..ids.len()).map(|item| data.count(item)).collect(),
            items: ids,
            vectors: factors.expect("trained").items,
            hyperparameters: Hyperparameters::new(&self.ials, self.history),
            watermark: events.last().map(|event| event.at).unwrap_or_default(),
        };
        let mut histories: BTreeMap<u32, Vec<Position>> = BTreeMap::new();
        for event in events.iter().rev().filter(|event| event.user.is_multiple_of(10)) {
            histories.entry(event.user).or_default().extend(places[event.item as usize]);
        }
        (Basis::seal(training, histories.into_values(), threads).expect("a basis"), places)
    }

    /// Trains on `train`, then scores and learns `test`.
    pub fn run(
        &self,
        log: &Log,
        train: Range<usize>,
        test: Range<usize>,
        content: Option<&Content<'_>>,
    ) -> Vec<Scored> {
        let (basis, places) = self.train(log, &log.events[train.clone()], 1);
        let lms = Lms::new(self.lms, basis.mean_user_norm()).expect("settings");
        let none = || vec![None; log.items.len()];
        let mut tables = vec![Live::new(log, &basis, &places, none(), lms)];
        if let Some(content) = content {
            tables.push(Live::new(log, &basis, &places, content(log, &basis), lms));
        }
        let mut popularity = Popularity::new(log.items.len(), self);
        let mut seen = vec![false; log.items.len()];
        let mut histories: HashMap<u32, Vec<u32>> = HashMap::new();
        for event in &log.events[train] {
            if !self.is_hidden(log, event.item) {
                seen[event.item as usize] = true;
            }
            histories.entry(event.user).or_default().push(event.item);
        }
        let mut solver = basis.solver();
        let mut scored = Vec::new();
        let mut hour = i64::MIN;
        let mut scores = vec![vec![0.0; log.items.len()]; self.methods(content.is_some()).len()];
        for event in &log.events[test] {
            let now = event.at.millis().div_euclid(self.lms.leak_step_ms);
            if now > hour {
                hour = now;
                tables.iter_mut().for_each(|table| table.refresh(event));
                popularity.refresh(event, self);
            }
            let history = histories.entry(event.user).or_default();
            let recent = history.iter().rev().map(|&item| places[item as usize]);
            let user = basis.fold_in(&mut solver, recent);
            let item = event.item as usize;
            let repeat = match self.unseen_only {
                true => history.contains(&event.item),
                false => history.last() == Some(&event.item),
            };
            let sampled = stable_hash(&event.user.to_le_bytes()).is_multiple_of(self.sample);
            if sampled && !history.is_empty() && !repeat && seen[item] {
                let ranks = match user {
                    Some(user) => {
                        fill(&mut scores, user, &basis, &places, &popularity, &tables);
                        let left_out: &[u32] = if self.unseen_only { history } else { &[] };
                        for scores in &mut scores {
                            left_out.iter().for_each(|&i| scores[i as usize] = f32::NEG_INFINITY);
                        }
                        scores.iter().map(|scores| rank(scores, &seen, item)).collect()
                    }
                    // Nothing to go by: any item is as likely as any other.
                    None => vec![log.items.len() as f32 / 2.0; scores.len()],
                };
                let known = places[item].is_some();
                scored.push(Scored { user: event.user, known, ranks });
            }
            if let Some(user) = user {
                tables.iter_mut().for_each(|table| table.learn(user, event));
            }
            popularity.learn(item, self);
            seen[item] = true;
            history.push(event.item);
        }
        scored
    }
}

fn fill(
    scores: &mut [Vec<f32>],
    user: &[f32],
    basis: &Basis,
    places: &[Option<Position>],
    popularity: &Popularity,
    tables: &[Live<'_>],
) {
    let (frozen, rest) = scores.split_at_mut(1);
    let (popular, live) = rest.split_at_mut(popularity.boosts.len());
    for (score, place) in frozen[0].iter_mut().zip(places) {
        *score = place.map_or(0.0, |place| dot(user, basis.trained(place).vector));
    }
    for (scores, boosts) in popular.iter_mut().zip(&popularity.boosts) {
        for ((score, frozen), boost) in scores.iter_mut().zip(&frozen[0]).zip(boosts) {
            *score = frozen * boost;
        }
    }
    for (scores, table) in live.iter_mut().zip(tables) {
        scores.iter_mut().zip(table.rows.rows()).for_each(|(s, row)| *s = dot(user, row));
    }
}

fn rank(scores: &[f32], seen: &[bool], item: usize) -> f32 {
    let own = scores[item];
    let (mut above, mut ties) = (0u32, 0u32);
    for (score, seen) in scores.iter().zip(seen) {
        above += u32::from(*seen && *score > own);
        ties += u32::from(*seen && *score == own);
    }
    above as f32 + (ties - 1) as f32 / 2.0
}

/// Live vectors of all items, and what they are as of the last cut of event time.
struct Live<'a> {
    basis: &'a Basis,
    places: &'a [Option<Position>],
    begun: Vec<Option<Vec<f32>>>,
    lms: Lms,
    vectors: Vec<Option<ItemVector>>,
    rows: Vectors,
}

impl<'a> Live<'a> {
    fn new(
        log: &Log,
        basis: &'a Basis,
        places: &'a [Option<Position>],
        begun: Vec<Option<Vec<f32>>>,
        lms: Lms,
    ) -> Self {
        let rows = Vectors::zeros(basis.dim(), log.items.len());
        let vectors = vec![None; log.items.len()];
        let mut live = Self { basis, places, begun, lms, vectors, rows };
        for item in 0..log.items.len() {
            let first = ItemVector::new(basis.dim(), live.origin(item));
            live.rows.row_mut(item).copy_from_slice(first.live());
        }
        live
    }

    fn origin(&self, item: usize) -> Origin<'_> {
        match (self.places[item], &self.begun[item]) {
            (Some(place), _) => Origin::Trained(self.basis.trained(place)),
            (None, Some(vector)) => Origin::Content(vector),
            (None, None) => Origin::Unknown,
        }
    }

    fn learn(&mut self, user: &[f32], event: &Event) {
        let item = event.item as usize;
        let vector = self.vectors[item].take();
        let origin = self.origin(item);
        let mut vector = vector.unwrap_or_else(|| ItemVector::new(self.basis.dim(), origin));
        vector.learn(&self.lms, origin, user, event.at);
        self.rows.row_mut(item).copy_from_slice(vector.live());
        self.vectors[item] = Some(vector);
    }

    fn refresh(&mut self, event: &Event) {
        let mut row = vec![0.0; self.basis.dim().get()];
        for item in 0..self.vectors.len() {
            if let Some(vector) = &self.vectors[item] {
                vector.at(&self.lms, self.origin(item), event.at, &mut row);
                self.rows.row_mut(item).copy_from_slice(&row);
            }
        }
    }
}

/// The control: decayed counts that lift frozen scores.
struct Popularity {
    counts: Vec<f32>,
    /// (1 + count)^a by exponent and item.
    boosts: Vec<Vec<f32>>,
    cut: Option<i64>,
}

impl Popularity {
    fn new(items: usize, protocol: &Protocol) -> Self {
        let boosts = vec![vec![1.0; items]; protocol.popularity.len()];
        Self { counts: vec![0.0; items], boosts, cut: None }
    }

    fn learn(&mut self, item: usize, protocol: &Protocol) {
        self.counts[item] += 1.0;
        for (boosts, exponent) in self.boosts.iter_mut().zip(&protocol.popularity) {
            boosts[item] = (1.0 + self.counts[item]).powf(*exponent);
        }
    }

    fn refresh(&mut self, event: &Event, protocol: &Protocol) {
        let LmsConfig { leak_step_ms, half_life_ms, .. } = protocol.lms;
        let cut = event.at.millis().div_euclid(leak_step_ms);
        let cuts = cut - self.cut.replace(cut).unwrap_or(cut);
        let kept = decayed((cuts * leak_step_ms) as f64 / half_life_ms as f64) as f32;
        for item in 0..self.counts.len() {
            self.counts[item] *= kept;
            for (boosts, exponent) in self.boosts.iter_mut().zip(&protocol.popularity) {
                boosts[item] = (1.0 + self.counts[item]).powf(*exponent);
            }
        }
    }
}
