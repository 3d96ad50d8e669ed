//! The whole serving pipeline without Kafka: users read from RocksDB, every source, filter, scorer
//! and selector over a million items. Beside it what one component takes.
//!
//! `cargo bench --bench pipeline -- [items, default 1000000] [users, default 100000]`

mod common;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline::catalog::Catalog;
use driftline::config::GlobalConfig;
use driftline::embedding::{ItemFold, ItemState, ItemTables, TablesConfig};
use driftline::event::{CatalogItem, EventKind, Interaction, Request, UserEvent};
use driftline::feature::{FoldEvent, FoldRules, Positives};
use driftline::global::GlobalTables;
use driftline::ids::{ItemId, Surface, UserId, stable_hash};
use driftline::model::{Basis, Dim, Hyperparameters, Position, Training, Vectors};
use driftline::model::{HistoryWeights, ials::IalsConfig};
use driftline::ranking::{
    Context, Example, Globals, History, Item, Kind, LONG_VIEW, Learner, Limits, Outcome, Served,
    UserCounters, Viewer, Weights,
};
use driftline::serving::{BlendLearner, Blends, ListRules, Pipeline, Query, Shown, SourceKind};
use driftline::serving::{RankerRules, Ranking};
use driftline::serving::{World, blend_learner, untrained};
use driftline::state::{Access, Anchor, Origin, Shard, ShardStore, StoreResources};
use driftline::time::EventTime;
use metrics_exporter_prometheus::PrometheusHandle;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const EVENTS_PER_USER: u64 = 100;
const DIMENSION: usize = 64;
const CATEGORIES: u64 = 2_000;
const CREATORS: u64 = 50_000;
/// Newest events that the tables over all users and the items' statistics learn: more than they
/// hold sessions for.
const LEARNT: u64 = 2_000_000;
const START: i64 = 1_760_000_000_000;
const MONTH: i64 = 30 * 86_400_000;
const THREADS: usize = 2;

/// Everything that a request is answered from.
struct Site {
    users: u64,
    shard: Shard,
    global: GlobalTables,
    catalog: Catalog,
    tables: ItemTables,
    blends: Arc<Blends>,
    globals: Globals,
    weights: Weights,
}

fn main() {
    let mut numbers = std::env::args().filter_map(|a| a.parse().ok());
    let items = numbers.next().unwrap_or(1_000_000);
    let users = numbers.next().unwrap_or(100_000);
    let metrics = driftline::telemetry::install_metrics().expect("a recorder");
    let folder = tempfile::tempdir().expect("a folder");
    let begun = Instant::now();
    let site = Site::build(folder.path(), items, users);
    println!("built in {:.0} s", begun.elapsed().as_secs_f64());

    let pipeline = untrained(ListRules::default());
    measure(&site, &pipeline, 1, true, Duration::from_secs(2));
    let before = Components::read(&metrics);
    let rows: Vec<Vec<String>> = [1, THREADS]
        .into_iter()
        .flat_map(|threads| [(threads, false), (threads, true)])
        .map(|(threads, ranks)| measure(&site, &pipeline, threads, ranks, Duration::from_secs(10)))
        .collect();
    let after = Components::read(&metrics);
    common::table(
        &format!(
            "Pipeline, {items} items, {users} users with {EVENTS_PER_USER} events, lists of 20"
        ),
        &[
            "threads",
            "ranker",
            "requests/s (goal 5000 on two)",
            "p50",
            "p99 (goal 10 ms)",
            "items a list",
        ],
        &rows,
    );
    common::table("What a list takes", &["component", "µs"], &after.since(&before));
}

fn measure(
    site: &Site,
    pipeline: &Pipeline,
    threads: usize,
    ranks: bool,
    time: Duration,
) -> Vec<String> {
    let begun = Instant::now();
    let answer = |thread: usize| {
        let mut dice = common::Dice(0x9E37_79B9 + thread as u64);
        let (mut seconds, mut served) = (Vec::new(), 0);
        while begun.elapsed() < time {
            let asked = Instant::now();
            served += site.list(pipeline, dice.below(site.users), ranks);
            seconds.push(asked.elapsed().as_secs_f64());
        }
        (seconds, served)
    };
    let answered: Vec<(Vec<f64>, usize)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|t| scope.spawn(move || answer(t))).collect();
        running.into_iter().map(|thread| thread.join().expect("lists")).collect()
    });
    let took = begun.elapsed().as_secs_f64();
    let served: usize = answered.iter().map(|(_, served)| served).sum();
    let mut seconds: Vec<f64> = answered.into_iter().flat_map(|(seconds, _)| seconds).collect();
    let count = seconds.len() as f64;
    vec![
        threads.to_string(),
        if ranks { "heard" } else { "none" }.into(),
        format!("{:.0}", count / took),
        format!("{:.2} ms", common::median(&mut seconds) * 1e3),
        format!("{:.2} ms", common::quantile(&mut seconds, 0.99) * 1e3),
        format!("{:.1}", served as f64 / count),
    ]
}

impl Site {
    fn build(folder: &std::path::Path, items: u64, users: u64) -> Self {
        let resources = StoreResources::new(256 << 20, 64 << 20);
        let access = Access::Owner { identity: "bench" };
        let store = ShardStore::open(folder, FoldRules::default(), &resources, &access);
        let shard = Shard::new(0, store.expect("a store")).expect("a shard");
        let mut catalog = Catalog::new(true);
        (0..items).for_each(|item| catalog.upsert(&listing(item)));
        let tables = ItemTables::new(TablesConfig::default());
        let mut fold = ItemFold::default();
        fold.add_basis(tables.set_basis(basis(items)).expect("a basis"));
        let global = GlobalConfig::default().tables();
        let mut site = Self {
            users,
            shard,
            global,
            catalog,
            tables,
            blends: Arc::default(),
            globals: Globals::new(Limits::default()),
            weights: Weights::default(),
        };
        site.learn(items, fold);
        site
    }

    /// Folds what all users did, in order of time.
    fn learn(&mut self, items: u64, mut fold: ItemFold) {
        let total = self.users * EVENTS_PER_USER;
        let mut dice = common::Dice(1);
        let mut positives = vec![Positives::default(); self.users as usize];
        let mut states: Vec<Option<ItemState>> = (0..items).map(|_| None).collect();
        let mut blend: BlendLearner = blend_learner(&SourceKind::ALL);
        let mut learner = Some(Learner::new(Kind::Kalman));
        for i in 0..total {
            let (user, event) = event(&mut dice, i, total, items, self.users);
            let hash = stable_hash(event.user.as_bytes());
            let folded = FoldEvent::from_event(&event, hash);
            self.shard.fold(
                &event.user,
                hash,
                &folded.into(),
                Origin::default(),
                Anchor { offset: i as i64, hash: 0 },
            );
            if i % 200_000 == 199_999 || i + 1 == total {
                let frozen = self.shard.freeze().expect("events");
                self.shard.commit(&frozen, &[]).expect("committed");
            }
            let mut one = folded.interaction(hash, i as i64);
            if folded.is_positive() {
                let liked = &mut positives[user as usize];
                one.history = Some(liked.before(event.at));
                liked.learn(stable_hash(event.item.as_bytes()), event.at);
            }
            if i + LEARNT < total {
                continue;
            }
            // Some of the newest: what is learned of a blend's weights, not how fast.
            if i + 20_000 > total && blend.chooses(&one, false) {
                blend.observe(&one, &self.global, &self.catalog, &self.tables);
            }
            self.global.learn_one(&one);
            self.count(&event, &one, learner.as_mut());
            let number: usize = event.item[1..].parse().expect("an item's number");
            let state = states[number].get_or_insert_default();
            fold.learn(state, stable_hash(event.item.as_bytes()), &one);
            if i % 200_000 == 199_999 || i + 1 == total {
                self.global.refresh();
                let shelves = self.catalog.shelve(&self.global.watched(), self.global.watermark());
                self.catalog.set_shelves(shelves);
            }
        }
        for (number, state) in states.iter().enumerate() {
            if let Some(state) = state {
                self.tables.apply_state(&item_name(number as u64), state).expect("a state");
            }
        }
        self.tables.advance().expect("vectors that leak");
        self.shard.store().compact().expect("compacted");
        self.blends = Arc::new(blend.blends().clone());
        self.weights = learner.map(|learner| learner.weights().clone()).unwrap_or_default();
    }

    /// What the ranker learns, as if the event came of a list. A few examples give it weights.
    fn count(
        &mut self,
        event: &UserEvent<'_>,
        one: &Interaction<'_>,
        learner: Option<&mut Learner>,
    ) {
        let item =
            Item { id: stable_hash(event.item.as_bytes()), duration_ms: 60_000, ..Item::default() };
        let context = Context {
            user: one.user as u64,
            surface: stable_hash(b"home"),
            at: event.at,
            profile: &[],
        };
        let outcome = Outcome { clicked: one.event % 3 == 0, long_view: false, watched_ms: 9_000 };
        let example = Example { context, item: &item, base: [0.3, 0.3], outcome };
        self.globals.learn(&example);
        if let Some(history) = &one.history {
            let before: Vec<u64> = history.iter().collect();
            self.globals.co_visits.learn(LONG_VIEW, item.id, &before);
        }
        if let Some(learner) = learner.filter(|learner| learner.weights().learnt() < 10_000) {
            let mut served = Served::default();
            let (user, shown) = Default::default();
            let viewer = Viewer::new(&self.globals, context, &user, &shown, History::default());
            viewer.features_of(&item, &mut served.features);
            learner.learn(&served, &example);
        }
    }

    /// Answers one request as a worker does; returns how many items there are.
    fn list(&self, pipeline: &Pipeline, user: u64, ranks: bool) -> usize {
        let mut request = Request::new("r", UserId::new(user_name(user)), 20);
        request.surface = Surface::from("home");
        let bytes = self.shard.read(request.user.as_str()).expect("a user");
        let counters = UserCounters::default();
        let world = World {
            user: &bytes.state().expect("a state"),
            global: &self.global,
            catalog: &self.catalog,
            items: &self.tables,
            blends: &self.blends,
            shown: &Shown::default(),
            ranking: ranks.then(|| Ranking {
                globals: &self.globals,
                weights: &self.weights,
                user: &counters,
                rules: RankerRules::default(),
            }),
        };
        pipeline.run(Query::new(&request, world)).items.len()
    }
}

fn user_name(user: u64) -> String {
    format!("u{user:07}")
}

fn item_name(item: u64) -> String {
    format!("v{item:07}")
}

/// An item's category: small numbers are large categories.
fn category(item: u64) -> u64 {
    item % CATEGORIES
}

fn listing(item: u64) -> CatalogItem {
    let mut listing = CatalogItem::new(ItemId::new(item_name(item)));
    listing.creator = format!("c{}", stable_hash(&item.to_le_bytes()) % CREATORS);
    listing.categories = vec![format!("category {}", category(item))];
    listing.tags = vec![format!("tag {}", stable_hash(&(item + 1).to_le_bytes()) % 5_000)];
    listing.published =
        Some(EventTime::from_millis(START - MONTH + (item % 4_096) as i64 * 60_000));
    listing
}

/// Vectors about the centre of each category, of lengths that differ, as if they were trained.
fn basis(items: u64) -> Basis {
    let mut dice = ChaCha8Rng::seed_from_u64(7);
    let mut normal = move || {
        let (u, v) = (dice.random::<f32>().max(1e-9), dice.random::<f32>());
        (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    };
    let centres: Vec<f32> = (0..CATEGORIES as usize * DIMENSION).map(|_| normal() / 8.0).collect();
    let mut values = Vec::with_capacity(items as usize * DIMENSION);
    for item in 0..items {
        let centre = category(item) as usize * DIMENSION;
        let length = 0.3 * (0.2 * normal()).exp();
        let around = centres[centre..centre + DIMENSION].iter();
        values.extend(around.map(|x| length * (x + 0.5 * normal() / 8.0)));
    }
    let dim = Dim::new(DIMENSION).expect("a dimension");
    let training = Training {
        items: (0..items).map(|item| ItemId::new(item_name(item))).collect(),
        counts: vec![10; items as usize],
        vectors: Vectors::from_values(dim, values).expect("vectors"),
        hyperparameters: Hyperparameters::new(&IalsConfig::VIDEOS, HistoryWeights::VIDEOS),
        watermark: EventTime::from_millis(START),
    };
    let histories = (0..2_000_u64).map(|user| {
        let mut dice = common::Dice(user + 1);
        let liked: Vec<Position> =
            (0..20).map(|_| Position(choose(&mut dice, user, items) as u32)).collect();
        liked
    });
    Basis::seal(training, histories, THREADS).expect("a basis")
}

/// An item that a user chooses: mostly of their five categories, popular ones rather.
fn choose(dice: &mut common::Dice, user: u64, items: u64) -> u64 {
    let skewed = |dice: &mut common::Dice, n: u64| {
        let place = dice.below(1 << 20) as f64 / f64::from(1 << 20);
        (place * place * place * n as f64) as u64
    };
    if dice.below(5) == 0 {
        return skewed(dice, items);
    }
    let mut own = common::Dice(stable_hash(&(user * 5 + dice.below(5)).to_le_bytes()));
    let category = skewed(&mut own, CATEGORIES);
    (skewed(dice, items / CATEGORIES) * CATEGORIES + category).min(items - 1)
}

/// The `i`-th event of all: users come round in random order, in visits of some ten events.
fn event(
    dice: &mut common::Dice,
    i: u64,
    total: u64,
    items: u64,
    users: u64,
) -> (u64, UserEvent<'static>) {
    let user = dice.below(users);
    let duration_ms = 10_000 + dice.below(200_000);
    let item = choose(dice, user, items);
    let event = UserEvent {
        id: Cow::Owned(format!("e{i:09}")),
        user: Cow::Owned(user_name(user)),
        item: Cow::Owned(item_name(item)),
        at: EventTime::from_millis(START + i as i64 * MONTH / total as i64),
        kind: EventKind::Watch { watched_ms: dice.below(duration_ms), duration_ms },
        surface: Cow::Borrowed("home"),
        session: Cow::Owned(format!("s{}", i * 10 / total)),
        request: None,
        value: 0.0,
        device: None,
    };
    (user, event)
}

/// Seconds and runs of each component, as the product's own metrics say.
struct Components(Vec<(String, f64)>);

impl Components {
    fn read(metrics: &PrometheusHandle) -> Self {
        let text = metrics.render();
        let stages = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("driftline_pipeline_stage_seconds_sum")?;
            let (labels, value) = rest.rsplit_once(' ')?;
            Some((labels.to_owned(), value.parse().ok()?))
        });
        let served = text.lines().filter_map(|line| {
            let rest = line.strip_prefix("driftline_pipeline_stage_seconds_count")?;
            let (labels, value) = rest.rsplit_once(' ')?;
            labels
                .contains("selector")
                .then(|| ("lists".to_owned(), value.parse().ok()))?
                .1
                .map(|count| ("lists".to_owned(), count))
        });
        Self(stages.chain(served).collect())
    }

    fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|(known, _)| known == name).map_or(0.0, |(_, value)| *value)
    }

    /// Microseconds that each component took for a list, the most expensive first.
    fn since(&self, before: &Self) -> Vec<Vec<String>> {
        let lists = self.of("lists") - before.of("lists");
        let mut spent: Vec<(&str, f64)> = self
            .0
            .iter()
            .filter(|(name, _)| name != "lists")
            .map(|(name, value)| (name.as_str(), (value - before.of(name)) * 1e6 / lists))
            .filter(|(_, us)| *us > 0.0)
            .collect();
        spent.sort_by(|a, b| b.1.total_cmp(&a.1));
        spent.into_iter().map(|(name, us)| vec![name.to_owned(), format!("{us:.1}")]).collect()
    }
}
