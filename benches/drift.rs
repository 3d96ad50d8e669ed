//! Drift detection: what a window costs, and what the main alarm finds and how often it is wrong,
//! beside raw ADWIN and a fixed threshold on the same streams.
//!
//! `cargo bench --bench drift -- [months] [costs] [rest] [drops]`; without any of the three, all. A
//! simulated metric: clicks of 1,000 impressions a minute at 5 %, ±20 % over the day, and 2 % of
//! noise from hour to hour. Months are of four weeks.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::hint::black_box;
use std::time::Instant;

use driftline::drift::detectors::{Detector, NAMES, Parameters, Verdict};
use driftline::drift::seasonal::{Config, Seasonal, Window, pool};
use driftline::time::{EventTime, MINUTE_MS};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Metrics in a pool.
const METRICS: usize = 20;
/// Impressions a minute.
const IMPRESSIONS: u64 = 1_000;
/// Their mean click rate.
const RATE: f64 = 0.05;
/// How far the rate goes up and down over a day, and the noise of an hour: both relative.
const SWING: f64 = 0.2;
const NOISE: f64 = 0.02;
/// Minutes of a day and of a month.
const DAY: i64 = 24 * 60;
const MONTH: i64 = 28 * DAY;
/// 2026-06-01, a Monday.
const BEGIN: i64 = 1_780_272_000_000;
/// Drops tried in a month.
const DROPS: usize = 15;
/// Minutes without one after which an alarm is another.
const APART: i64 = 60;
/// Minutes after which a drop counts as not found.
const PATIENCE: i64 = 3 * DAY;

/// What the noise of hours and the week are like.
#[derive(Clone, Copy, PartialEq)]
enum World {
    /// All days alike.
    Mild,
    /// Days differ by 2 % as well, and weekends are 20 % lower.
    Rough,
}

/// A metric that is as it always was, until it is told to be otherwise.
#[derive(Clone)]
struct Stream {
    draws: ChaCha8Rng,
    world: World,
    minute: i64,
    hour_noise: f64,
    day_noise: f64,
    /// What the rate is multiplied by.
    factor: f64,
}

impl Stream {
    fn new(world: World, seed: u64) -> Self {
        let draws = ChaCha8Rng::seed_from_u64(seed);
        Self { draws, world, minute: 0, hour_noise: 0.0, day_noise: 0.0, factor: 1.0 }
    }

    /// Standard normal (Box–Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.draws.random::<f64>()).ln()).sqrt();
        radius * (TAU * self.draws.random::<f64>()).cos()
    }

    /// Binomial, by the gaps between successes.
    fn successes(&mut self, rate: f64) -> u64 {
        let per_gap = 1.0 / (1.0 - rate).ln();
        let (mut place, mut found) = (0.0, 0);
        loop {
            place += ((1.0 - self.draws.random::<f64>()).ln() * per_gap).floor() + 1.0;
            if place > IMPRESSIONS as f64 {
                return found;
            }
            found += 1;
        }
    }

    /// Clicks of the next minute, and when it begins.
    fn next(&mut self) -> (EventTime, u64) {
        let start = EventTime::from_millis(BEGIN + self.minute * MINUTE_MS);
        if self.minute % 60 == 0 {
            self.hour_noise = NOISE * self.normal();
        }
        let mut season = 1.0 + SWING * (TAU * self.minute as f64 / DAY as f64).sin();
        if self.world == World::Rough {
            if self.minute % DAY == 0 {
                self.day_noise = NOISE * self.normal();
            }
            let is_weekend = self.minute / DAY % 7 >= 5;
            season *= if is_weekend { 0.8 } else { 1.0 };
        }
        self.minute += 1;
        let noise = (1.0 + self.hour_noise) * (1.0 + self.day_noise);
        (start, self.successes(RATE * season * noise * self.factor))
    }

    fn next_window(&mut self) -> Window {
        let (start, clicks) = self.next();
        Window::rate(start, clicks, IMPRESSIONS).expect("a rate")
    }
}

/// What looks at one metric.
#[derive(Clone)]
enum Watch {
    Seasonal(Box<Seasonal>),
    /// Of each minute's value, in units of this many clicks.
    Adwin(Detector, f64),
    /// The mean of the last hour below a share of the mean of the first month.
    Fixed {
        below: f64,
        hour: VecDeque<f64>,
        sum: f64,
        n: u64,
    },
}

impl Watch {
    /// Whether this window makes an alarm.
    fn fires(&mut self, start: EventTime, clicks: u64) -> bool {
        let rate = clicks as f64 / IMPRESSIONS as f64;
        match self {
            Self::Seasonal(own) => {
                let window = Window::rate(start, clicks, IMPRESSIONS).expect("a rate");
                own.update(&window).expect("in order").fires
            }
            Self::Adwin(own, unit) => {
                own.update(clicks as f64 / *unit).expect("a number") == Verdict::Drift
            }
            Self::Fixed { below, hour, sum, n } => {
                if *n < MONTH as u64 {
                    (*sum, *n) = (*sum + rate, *n + 1);
                }
                hour.push_back(rate);
                if hour.len() > 60 {
                    hour.pop_front();
                }
                let mean = hour.iter().sum::<f64>() / hour.len() as f64;
                hour.len() == 60 && mean < *below * *sum / *n as f64
            }
        }
    }
}

/// How a pool is set: a name, windows to a false alarm, and the share of the first metric; the
/// others have what is left alike.
#[derive(Clone, Copy)]
struct Setting(&'static str, f64, f64);

const SETTINGS: [Setting; 3] = [
    Setting("e-detector, ARL 1 day, a quarter of the pool", 1_440.0, 0.25),
    Setting("e-detector, ARL 1 day, one of 20 alike", 1_440.0, 1.0 / METRICS as f64),
    Setting("e-detector, ARL 4 weeks, one of 20 alike", MONTH as f64, 1.0 / METRICS as f64),
];

impl Setting {
    fn metric(self, place: usize) -> Seasonal {
        let others = (1.0 - self.2) / (METRICS - 1) as f64;
        let share = if place == 0 { self.2 } else { others };
        let config = Config { windows_to_false_alarm: self.1, share, ..Config::default() };
        Seasonal::new(config).expect("a configuration")
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let months = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(20);
    let parts = ["costs", "rest", "drops"];
    let none = !arguments.iter().any(|argument| parts.contains(&argument.as_str()));
    let wanted = |part: &str| none || arguments.iter().any(|argument| argument == part);
    if wanted("costs") {
        costs();
    }
    if wanted("rest") {
        at_rest(months);
    }
    if wanted("drops") {
        drops(months);
    }
}

fn drops(months: usize) {
    println!("\nOne metric, {months} months after one to learn from, {DROPS} drops in each:\n");
    println!(
        "| alarm | false alarms in 4 weeks | −20 % found | mean, minutes | p95 | −10 % found | mean | p95 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for setting in SETTINGS {
        row(setting.0, months, &Watch::Seasonal(Box::new(setting.metric(0))));
    }
    let adwin = || Detector::new(&Parameters::by_name("adwin").expect("a name")).expect("defaults");
    let fixed = |below| Watch::Fixed { below, hour: VecDeque::new(), sum: 0.0, n: 0 };
    row("raw ADWIN, clicks a minute", months, &Watch::Adwin(adwin(), 1.0));
    row("raw ADWIN, click rate a minute", months, &Watch::Adwin(adwin(), IMPRESSIONS as f64));
    row("last hour below 85 % of the first month", months, &fixed(0.85));
    row("last hour below 75 % of the first month", months, &fixed(0.75));
}

fn at_rest(months: usize) {
    let worlds = [World::Mild, World::Rough];
    let [mild, rough] = std::thread::scope(|scope| {
        let threads = worlds.map(|world| scope.spawn(move || false_alarms(world, months)));
        threads.map(|thread| thread.join().expect("no panic"))
    });
    println!("\n{METRICS} metrics, {} months, all of them at rest:\n", months + 1);
    println!(
        "| alarm of the pool | false alarms | most evidence, of threshold | with weekends and noise of days: false alarms | most evidence |"
    );
    println!("|---|---|---|---|---|");
    for ((setting, mild), rough) in SETTINGS.iter().zip(mild).zip(rough) {
        println!("| {} | {} | {} |", setting.0, mild.cell(), rough.cell());
    }
}

fn row(name: &str, months: usize, watch: &Watch) {
    let alarms = false_alarms_alone(watch, months);
    let (twenty, ten) = (delays(watch, 0.8, months), delays(watch, 0.9, months));
    let cells = [&twenty, &ten].map(|delays| {
        let found: Vec<i64> = delays.iter().flatten().copied().collect();
        let mean = found.iter().sum::<i64>() as f64 / found.len().max(1) as f64;
        let mut all: Vec<i64> = delays.iter().map(|delay| delay.unwrap_or(PATIENCE)).collect();
        all.sort_unstable();
        let p95 = all[(all.len() * 95).div_ceil(100) - 1];
        format!("{} of {} | {mean:.0} | {p95}", found.len(), all.len())
    });
    println!("| {name} | {alarms:.2} | {} |", cells.join(" | "));
}

/// What a pool did at rest.
#[derive(Clone, Copy)]
struct AtRest {
    alarms: u32,
    /// When it last fired.
    fired: i64,
    most: f64,
    threshold: f64,
}

impl AtRest {
    fn cell(&self) -> String {
        format!("{} | {:.1} of {:.1} nats", self.alarms, self.most, self.threshold)
    }
}

/// Alarms of pools where nothing is wrong, over the months and the one before them.
fn false_alarms(world: World, months: usize) -> [AtRest; SETTINGS.len()] {
    let mut streams: Vec<_> = (0..METRICS).map(|n| Stream::new(world, n as u64)).collect();
    let pool_of = |setting: Setting| (0..METRICS).map(|n| setting.metric(n)).collect();
    let mut pools: [Vec<Seasonal>; SETTINGS.len()] = SETTINGS.map(pool_of);
    let mut told = SETTINGS.map(|setting| {
        let threshold = setting.1.ln();
        AtRest { alarms: 0, fired: -APART, most: f64::NEG_INFINITY, threshold }
    });
    for minute in 0..MONTH * (months as i64 + 1) {
        let windows: Vec<Window> = streams.iter_mut().map(Stream::next_window).collect();
        for ((setting, metrics), told) in SETTINGS.iter().zip(&mut pools).zip(&mut told) {
            for (metric, window) in metrics.iter_mut().zip(&windows) {
                metric.update(window).expect("in order");
            }
            let pooled = pool(setting.1, metrics.iter()).expect("shares");
            if pooled.fires {
                told.alarms += u32::from(minute - told.fired >= APART);
                told.fired = minute;
            }
            told.most = told.most.max(pooled.log_e);
        }
        if minute % (5 * MONTH) == 0 {
            eprintln!("at rest: month {}", minute / MONTH);
        }
    }
    told
}

/// Alarms of one metric by itself in four weeks, after the first month.
fn false_alarms_alone(watch: &Watch, months: usize) -> f64 {
    let mut alarms = 0;
    let (mut watch, mut stream, mut fired) = (watch.clone(), Stream::new(World::Mild, 1), 0);
    for minute in 0..MONTH * (months as i64 + 1) {
        let (start, clicks) = stream.next();
        if watch.fires(start, clicks) {
            alarms += i64::from(minute >= MONTH && minute - fired >= APART);
            fired = minute;
        }
    }
    alarms as f64 / months as f64
}

/// Minutes until a drop is told, each at another time of another month, after at least one month.
fn delays(watch: &Watch, factor: f64, months: usize) -> Vec<Option<i64>> {
    let mut delays = Vec::new();
    for month in 0..months {
        let (mut watch, mut stream) =
            (watch.clone(), Stream::new(World::Mild, 1_000 + month as u64));
        for minute in 0..2 * MONTH {
            let drop_at = MONTH + MONTH / DROPS as i64 * (delays.len() % DROPS) as i64 + 777;
            if minute == drop_at && delays.len() < (month + 1) * DROPS {
                delays.push(delay(watch.clone(), stream.clone(), factor));
            }
            let (start, clicks) = stream.next();
            watch.fires(start, clicks);
        }
    }
    delays
}

fn delay(mut watch: Watch, mut stream: Stream, factor: f64) -> Option<i64> {
    stream.factor = factor;
    (1..=PATIENCE).find(|_| {
        let (start, clicks) = stream.next();
        watch.fires(start, clicks)
    })
}

fn costs() {
    let windows: Vec<Window> = {
        let mut stream = Stream::new(World::Mild, 7);
        std::iter::repeat_with(|| stream.next_window()).take(2 * MONTH as usize).collect()
    };
    let mut one = Seasonal::new(Config::default()).expect("a configuration");
    let begun = Instant::now();
    for window in &windows {
        black_box(one.update(window).expect("in order"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("| what takes in a window | windows a second, one core |");
    println!("|---|---|");
    println!("| seasonal e-detector | {:.2}M |", windows.len() as f64 / seconds / 1e6);
    for name in NAMES {
        let parameters = Parameters::by_name(name).expect("a name");
        let mut one = Detector::new(&parameters).expect("defaults");
        let n = if name == "kswin" { 20_000 } else { 1_000_000 };
        let mut stream = ChaCha8Rng::seed_from_u64(3);
        let values: Vec<f64> = (0..n).map(|_| f64::from(stream.random::<f64>() < 0.1)).collect();
        let begun = Instant::now();
        for value in &values {
            black_box(one.update(*value).expect("a bit"));
        }
        let rate = f64::from(n) / begun.elapsed().as_secs_f64() / 1e6;
        println!("| `{name}` | {rate:.2}M |");
    }
}
