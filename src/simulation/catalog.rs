//! The catalogue: categories, creators, items. Enters: the configuration. Leaves: items with
//! what a platform would publish about them, and the latent vector only the world knows.
//! Never changes after it is made; what is published when is a matter of asking with a time.

use std::collections::{HashMap, HashSet};

use crate::ids::ItemId;
use crate::time::{DAY_MS, EventTime, MINUTE_MS, SECOND_MS};

use super::config::WorldConfig;
use super::dice::{Dice, Purpose, cumulative};
use super::taste::Taste;

/// How far a creator's own style moves its items from the pure category.
const CREATOR_STYLE: f64 = 0.30;
/// How far an item moves from its creator's style. With the style, items of a category keep a
/// cosine of about 0.8 to each other: alike, but not the same.
const ITEM_NOISE: f64 = 0.40;
/// Share of creators that work in a second category.
const SECOND_CATEGORY: f64 = 0.35;
/// Exponent of the long tail: the item of rank r is found r^-0.9 as often as the first.
const TAIL_EXPONENT: f64 = 0.9;
/// How much quality, in its standard deviations, decides popularity against luck (1).
const QUALITY_IN_POPULARITY: f64 = 0.8;
/// Median length of a video; lengths are log-normal with spread 0.8.
const MEDIAN_DURATION_MS: f64 = 90_000.0;
/// Days before the start in which the older part of the catalogue was published.
const OLD_CATALOGUE_DAYS: f64 = 120.0;
/// A new item is found more often, `1 + NOVELTY` times on its first day, fading by a factor e
/// every [`NOVELTY_DAYS`]; otherwise nothing new would ever be discovered.
const NOVELTY: f64 = 3.0;
/// See [`NOVELTY`].
const NOVELTY_DAYS: f64 = 2.0;

/// One video.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its id, `v` and seven digits.
    pub id: ItemId,
    /// Its creator, `c` and seven digits.
    pub creator: String,
    /// Its category names, one or two, the main one first.
    pub categories: Vec<String>,
    /// Length in milliseconds, 10 seconds to 30 minutes.
    pub duration_ms: u64,
    /// When it can first be seen.
    pub published: EventTime,
    /// When it was taken away, where it was.
    pub withdrawn: Option<EventTime>,
    /// How good it is apart from taste, in standard deviations around 0.
    pub quality: f64,
    /// How often it is found without a recommender, as a share of the best-known item, (0, 1].
    pub popularity: f64,
    pub(super) taste: Taste,
}

impl Item {
    /// Whether it can be seen at `at`: it is published, and not taken away.
    pub fn is_there(&self, at: EventTime) -> bool {
        self.published <= at && self.withdrawn.is_none_or(|gone| at < gone)
    }
}

/// All categories, creators and items of a world.
pub(super) struct Catalog {
    pub(super) categories: Vec<Taste>,
    /// Running sums of how common each category is among people and creators.
    pub(super) category_weights: Vec<f64>,
    pub(super) items: Vec<Item>,
}

struct Creator {
    main: usize,
    second: Option<usize>,
    style: Taste,
    quality: f64,
}

/// The name of category `index`.
pub(super) fn category_name(index: usize) -> String {
    format!("category-{index:02}")
}

impl Catalog {
    pub(super) fn new(config: &WorldConfig) -> Self {
        let mut dice = Dice::new(config.seed, Purpose::Categories, [0; 4]);
        let categories: Vec<Taste> =
            (0..config.categories).map(|_| Taste::random(&mut dice)).collect();
        let ranks = 1..=config.categories;
        let category_weights = cumulative(ranks.map(|rank| 1.0 / (rank as f64).sqrt()));
        let creators: Vec<Creator> = (0..config.creators)
            .map(|index| Creator::new(config.seed, index, &category_weights))
            .collect();
        let mut items: Vec<Item> =
            (0..config.items).map(|index| item(config, index, &creators, &categories)).collect();
        rank_by_popularity(config.seed, &mut items);
        Self { categories, category_weights, items }
    }

    /// The index of an item's id, where it is one of this world's.
    pub(super) fn index(&self, id: &ItemId) -> Option<usize> {
        member_index(id.as_str(), 'v').filter(|&index| index < self.items.len())
    }

    /// Takes away all items of the best-known creators, until `share` of what is found has gone.
    pub(super) fn withdraw(&mut self, at: EventTime, share: f64) {
        let mut known: HashMap<&str, f64> = HashMap::new();
        for item in &self.items {
            *known.entry(&item.creator).or_default() += item.popularity;
        }
        let all: f64 = self.items.iter().map(|item| item.popularity).sum();
        let mut creators: Vec<(&str, f64)> = known.into_iter().collect();
        creators.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        let mut gone = 0.0;
        let leaving: HashSet<String> = creators
            .into_iter()
            .take_while(|(_, popularity)| {
                let goes_on = gone < share * all;
                gone += popularity;
                goes_on
            })
            .map(|(creator, _)| creator.to_owned())
            .collect();
        for item in self.items.iter_mut().filter(|item| leaving.contains(&item.creator)) {
            item.withdrawn = item.withdrawn.or(Some(at));
        }
    }

    /// The best item that is there at `at` and has less than `known` of the best-known one's
    /// popularity; none where there is none.
    pub(super) fn discovery_of_a_crowd(&self, at: EventTime, known: f64) -> Option<usize> {
        let fits = |item: &Item| item.is_there(at) && item.popularity < known;
        let unknown = (0..self.items.len()).filter(|&index| fits(&self.items[index]));
        unknown.max_by(|&a, &b| self.items[a].quality.total_cmp(&self.items[b].quality))
    }

    /// Running sums of how often each item is found at `at` without a recommender: its
    /// popularity, more while it is new, nothing before it is published.
    pub(super) fn discovery(&self, at: EventTime) -> Vec<f64> {
        cumulative(self.items.iter().map(|item| {
            if !item.is_there(at) {
                return 0.0;
            }
            let age = at.since(item.published);
            let days = age as f64 / DAY_MS as f64;
            item.popularity * (1.0 + NOVELTY * (-days / NOVELTY_DAYS).exp())
        }))
    }
}

/// Reads an id made of `letter` and seven digits back into its number.
pub(super) fn member_index(id: &str, letter: char) -> Option<usize> {
    let digits = id.strip_prefix(letter)?;
    let plain = digits.len() == 7 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

impl Creator {
    fn new(seed: u64, index: usize, category_weights: &[f64]) -> Self {
        let mut dice = Dice::new(seed, Purpose::Creator, [index as u64, 0, 0, 0]);
        let main = dice.weighted(category_weights);
        let other = dice.weighted(category_weights);
        let second = (dice.chance(SECOND_CATEGORY) && other != main).then_some(other);
        Self { main, second, style: Taste::random(&mut dice), quality: dice.normal() }
    }
}

fn item(config: &WorldConfig, index: usize, creators: &[Creator], categories: &[Taste]) -> Item {
    let mut dice = Dice::new(config.seed, Purpose::Item, [index as u64, 0, 0, 0]);
    // Squaring the draw gives a few creators most of the catalogue.
    let by = ((dice.unit().powi(2) * creators.len() as f64) as usize).min(creators.len() - 1);
    let creator = &creators[by];
    let mut names = vec![category_name(creator.main)];
    let mut direction = categories[creator.main];
    if let Some(second) = creator.second.filter(|_| dice.chance(0.5)) {
        names.push(category_name(second));
        direction = direction.plus(0.5, categories[second]);
    }
    let taste = direction
        .unit()
        .plus(CREATOR_STYLE, creator.style)
        .plus(ITEM_NOISE, Taste::random(&mut dice))
        .unit();
    let quality = 0.6 * creator.quality + 0.8 * dice.normal();
    let duration = dice.log_normal(MEDIAN_DURATION_MS, 0.8);
    let published = if dice.chance(config.new_item_share) {
        (dice.unit() * config.length_ms()) as i64
    } else {
        -((dice.unit() * OLD_CATALOGUE_DAYS * DAY_MS as f64) as i64) - 1
    };
    Item {
        id: ItemId::new(format!("v{index:07}")),
        creator: format!("c{by:07}"),
        categories: names,
        duration_ms: duration.clamp(10.0 * SECOND_MS as f64, 30.0 * MINUTE_MS as f64) as u64,
        published: config.start.plus_millis(published),
        withdrawn: None,
        quality,
        popularity: 1.0,
        taste,
    }
}

/// Orders items by quality and luck, and gives each the popularity of its rank.
fn rank_by_popularity(seed: u64, items: &mut [Item]) {
    let mut ranked: Vec<(f64, usize)> = items
        .iter()
        .enumerate()
        .map(|(index, item)| {
            let mut luck = Dice::new(seed, Purpose::PopularityRank, [index as u64, 0, 0, 0]);
            (QUALITY_IN_POPULARITY * item.quality + luck.normal(), index)
        })
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (rank, (_, index)) in ranked.into_iter().enumerate() {
        items[index].popularity = (rank as f64 + 1.0).powf(-TAIL_EXPONENT);
    }
}
