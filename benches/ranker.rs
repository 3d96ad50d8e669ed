//! What the online ranker costs, on one thread: features and scores of a request's candidates, learning
//! an example, counting it. `cargo bench --bench ranker`. Made-up traffic: 20,000 items, 5,000 users.

use std::hint::black_box;
use std::time::Instant;

use driftline::ids::stable_hash;
use driftline::ranking::{
    CLICK, Context, Example, Exposures, Features, Globals, History, Item, Kind, LONG_VIEW, Learner,
    Limits, Outcome, Served, UserCounters, Viewer, Watch, user_rate,
};
use driftline::time::EventTime;

const ITEMS: u64 = 20_000;
const USERS: u64 = 5_000;
const EXAMPLES: u64 = 200_000;
const CANDIDATES: usize = 500;
const REQUESTS: usize = 200;

fn key(kind: u8, n: u64) -> u64 {
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&n.to_le_bytes());
    stable_hash(&bytes)
}

/// Numbers without a pattern that matters here, the same in every run.
fn mixed(n: u64) -> u64 {
    key(0, n)
}

#[derive(Default)]
struct Person {
    counters: UserCounters,
    exposures: Exposures,
    watches: Vec<Watch>,
    taken: Vec<u64>,
}

fn micros(begun: Instant, times: usize) -> f64 {
    begun.elapsed().as_secs_f64() * 1e6 / times as f64
}

fn main() {
    let items: Vec<Item> = (0..ITEMS)
        .map(|n| Item {
            id: key(1, n),
            creator: key(2, n / 4),
            category: key(3, n % 100),
            duration_ms: 3_000 + mixed(n) % 200_000,
            published: Some(EventTime::from_millis(0)),
            attributes: vec![key(4, n % 100), key(4, n % 7)],
        })
        .collect();
    let mut people: Vec<Person> = (0..USERS).map(|_| Person::default()).collect();
    let mut globals = Globals::new(Limits::default());
    let mut learners = [Learner::new(Kind::Ftrl), Learner::new(Kind::Kalman)];
    let mut seconds = [0.0; 4];
    for n in 0..EXAMPLES {
        let random = mixed(n);
        let person = &mut people[(random % USERS) as usize];
        // Some items are shown far more often than others.
        let item = &items[((random >> 20) % ITEMS * ((random >> 40) % 1_000) / 1_000) as usize];
        let at = EventTime::from_millis(n as i64 * 500);
        let context =
            Context { user: key(5, random % USERS), surface: key(6, random % 5), at, profile: &[] };
        let clicked = mixed(n + EXAMPLES).is_multiple_of(3);
        let outcome = Outcome { clicked, long_view: clicked && n % 2 == 0, watched_ms: 9_000 };
        let history = History { watches: &person.watches, taken: [&person.taken, &person.taken] };
        let viewer = Viewer::new(&globals, context, &person.counters, &person.exposures, history);
        let mut served = Served::default();
        viewer.features_of(item, &mut served.features);
        let base = served.features.base_rates();
        let example = Example { context, item, base, outcome };
        for (place, learner) in learners.iter_mut().enumerate() {
            let weights = learner.weights();
            served.logged =
                weights.score(&served.features, context.surface, item.duration_ms).logged;
            let begun = Instant::now();
            learner.learn(&served, &example);
            seconds[place] += begun.elapsed().as_secs_f64();
        }
        let begun = Instant::now();
        globals.learn(&example);
        seconds[2] += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        person.counters.learn(&example);
        seconds[3] += begun.elapsed().as_secs_f64();
        person.exposures.learn(context.surface, item.id, at);
        let watch = Watch::of(item, outcome.long_view, at);
        let rate = user_rate(&person.watches, globals.long_view_rate());
        globals.watched(&watch, rate);
        person.watches.insert(0, watch);
        person.watches.truncate(100);
        if clicked {
            globals.co_visits.learn(CLICK, item.id, &person.taken);
            globals.co_visits.learn(LONG_VIEW, item.id, &person.taken);
            person.taken.insert(0, item.id);
            person.taken.truncate(20);
        }
    }
    println!("| what | µs |\n|---|---|");
    for (name, seconds) in [
        "learn an example, both targets: FTRL",
        "learn an example, both targets: Kalman, FTRL",
        "count an example: items, creators, categories, surfaces",
        "count an example: user",
    ]
    .into_iter()
    .zip(seconds)
    {
        println!("| {name} | {:.2} |", seconds * 1e6 / EXAMPLES as f64);
    }
    let at = EventTime::from_millis(EXAMPLES as i64 * 500);
    let request = |n: usize| {
        let context = Context { user: key(5, n as u64), surface: key(6, 1), at, profile: &[] };
        let person = &people[n];
        let history = History { watches: &person.watches, taken: [&person.taken, &person.taken] };
        Viewer::new(&globals, context, &person.counters, &person.exposures, history)
    };
    let begun = Instant::now();
    (0..REQUESTS).for_each(|n| {
        black_box(request(n));
    });
    println!("| read a request | {:.2} |", micros(begun, REQUESTS));
    let mut kept = vec![Features::default(); CANDIDATES];
    let mut taken = [0.0; 3];
    for n in 0..REQUESTS {
        let viewer = request(n);
        let candidates = || {
            (0..CANDIDATES).map(|c| &items[(mixed((n * CANDIDATES + c) as u64) % ITEMS) as usize])
        };
        let given = Default::default();
        let begun = Instant::now();
        for (item, out) in candidates().zip(&mut kept) {
            viewer.features(item, &given, out);
        }
        taken[0] += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        for (item, out) in candidates().zip(&mut kept) {
            viewer.features_of(item, out);
        }
        taken[1] += begun.elapsed().as_secs_f64();
        let weights = learners[1].weights();
        let shift = weights.shift(key(6, 1));
        let begun = Instant::now();
        for (item, features) in candidates().zip(&kept) {
            black_box(weights.score_on(features, &shift, item.duration_ms));
        }
        taken[2] += begun.elapsed().as_secs_f64();
    }
    for (name, seconds) in [
        "features of a candidate, co-visits given",
        "features of a candidate, with co-visits of two times 20 items",
        "score a candidate, both targets and seconds",
    ]
    .into_iter()
    .zip(taken)
    {
        println!("| {name} | {:.2} |", seconds * 1e6 / (REQUESTS * CANDIDATES) as f64);
    }
    let begun = Instant::now();
    let bytes = learners[1].weights().to_bytes();
    println!("\nweights: {} bytes in {:.1} ms", bytes.len(), micros(begun, 1) / 1e3);
    let sizes: Vec<usize> = people.iter().map(|one| one.counters.encode().len()).collect();
    println!(
        "counters of a user: {} bytes of 40 examples",
        sizes.iter().sum::<usize>() / sizes.len()
    );
    println!("items {}, pairs {}", globals.items(), globals.co_visits.len());
}
