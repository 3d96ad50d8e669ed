//! The join against a naive one that knows all records at once, and its edges one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::event::{Impression, ShownItem, Source};
use crate::ids::stable_hash;
use crate::time::EventTime;

const RULES: Rules = Rules {
    click_window_ms: 30,
    watch_window_ms: 80,
    lateness_ms: 10,
    idle_ms: 1_000_000,
    correction_ms: 1_000_000,
    max_bytes: 1 << 30,
};

type Examples = Vec<(ListKey, Vec<Labels>)>;
/// List, place, time and id of what came late.
type Corrections = BTreeSet<(ListKey, usize, i64, u32)>;

/// A record of one of the three topics.
#[derive(Clone, Debug)]
enum Record {
    List { user: u8, request: u8, at: i64, items: Vec<u8> },
    Outcome(Outcome),
}

fn hash(name: impl ToString) -> u64 {
    stable_hash(name.to_string().as_bytes())
}

fn outcome(source: Source, user: u8, item: u8, request: Option<u8>, at: i64, id: u32) -> Outcome {
    Outcome {
        source,
        user: hash(user),
        item: hash(item),
        request: request.map_or(0, hash),
        at: EventTime::from_millis(at),
        id,
        watched_ms: if source == Source::Watch { 7 } else { 0 },
        duration_ms: if source == Source::Watch { 9 } else { 0 },
    }
}

impl Record {
    fn at(&self) -> i64 {
        match self {
            Self::List { at, .. } => *at,
            Self::Outcome(outcome) => outcome.at.millis(),
        }
    }
}

fn listed(user: u8, request: u8, at: i64, items: &[u8]) -> Listed {
    let (user, request) = (user.to_string(), request.to_string());
    let names: Vec<String> = items.iter().map(u8::to_string).collect();
    let shown = |(n, item): (usize, &'_ String)| ShownItem {
        item: Box::leak(item.clone().into_boxed_str()),
        position: n as i32,
        ..ShownItem::default()
    };
    let items = names.iter().enumerate().map(shown).collect();
    let list = Impression {
        user: &user,
        request_id: &request,
        event_time: at,
        items,
        ..Default::default()
    };
    Listed::of(&list, &list.encode().unwrap()).unwrap()
}

fn list_key(user: u8, request: u8, at: i64) -> ListKey {
    let both = [hash(user).to_le_bytes(), hash(request).to_le_bytes()].concat();
    ListKey { at: EventTime::from_millis(at), list: stable_hash(&both) }
}

/// A join with what its store would hold: what is not in the rows is lost in a crash.
struct Shard {
    rules: Rules,
    join: Join,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    next: [usize; 3],
    committed: [usize; 3],
    examples: Examples,
    corrections: Corrections,
    counts: Counts,
}

impl Shard {
    fn new(rules: Rules) -> Self {
        Self {
            rules,
            join: Join::new(rules, [0; 3]),
            rows: BTreeMap::new(),
            next: [0; 3],
            committed: [0; 3],
            examples: Vec::new(),
            corrections: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    fn feed(&mut self, topic: usize, record: &Record) {
        self.feed_appended(topic, record, record.at());
    }

    fn feed_appended(&mut self, topic: usize, record: &Record, appended: i64) {
        let appended = EventTime::from_millis(appended);
        let arrival = Arrival { offset: self.next[topic] as i64, appended };
        match record {
            Record::List { user, request, at, items } => {
                self.join.show(listed(*user, *request, *at, items), arrival);
            }
            Record::Outcome(outcome) => self.join.happen(*outcome, arrival),
        }
        self.next[topic] += 1;
    }

    /// What was derived goes out; then, unless it crashes before, the rows are written.
    fn step(&mut self, crashes: bool) {
        if let Some((newest, _)) = self.join.held_up() {
            self.join.read_all(newest);
        }
        let step = self.join.advance(self.next.map(|n| n as i64));
        for closing in step.closings {
            // A reader drops what does not ascend.
            if self.examples.last().is_none_or(|(last, _)| closing.key > *last) {
                self.examples.push((closing.key, closing.labels));
            } else {
                let told = self.examples.iter().find(|(key, _)| *key == closing.key);
                assert_eq!(told.map(|(_, labels)| labels), Some(&closing.labels));
            }
        }
        for c in step.corrections {
            self.corrections.insert((c.key, c.place, c.outcome.at.millis(), c.outcome.id));
        }
        if crashes {
            return self.restart();
        }
        for (key, value) in step.changes {
            match value {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
        self.committed = self.next;
        self.counts = step.counts;
    }

    fn restart(&mut self) {
        let rows = self.rows.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
        let join = Join::load::<Corrupt>(self.rules, rows).unwrap();
        self.join = join.unwrap_or_else(|| Join::new(self.rules, [0; 3]));
        self.next = self.committed;
    }
}

/// The same, from all records at once: each topic's in its order.
fn naive(topics: &[Vec<Record>; 3]) -> (Examples, Corrections) {
    let open = RULES.watch_window_ms + RULES.lateness_ms;
    let mut lists: BTreeMap<ListKey, (u8, u8, i64, Vec<u8>)> = BTreeMap::new();
    let mut clock = i64::MIN;
    for record in &topics[2] {
        let Record::List { user, request, at, items } = record else { unreachable!() };
        if *at >= clock.saturating_sub(RULES.lateness_ms) {
            let key = list_key(*user, *request, *at);
            lists.entry(key).or_insert((*user, *request, *at, items.clone()));
        }
        clock = clock.max(*at);
    }
    let mut labels: BTreeMap<ListKey, Vec<Labels>> =
        lists.iter().map(|(key, list)| (*key, vec![Labels::default(); list.3.len()])).collect();
    let mut corrections = BTreeSet::new();
    for topic in &topics[..2] {
        let mut clock = i64::MIN;
        let mut seen = BTreeSet::new();
        for record in topic {
            let Record::Outcome(o) = record else { unreachable!() };
            let at = o.at.millis();
            let came_at = clock;
            clock = clock.max(at);
            if !seen.insert((at, o.id, o.item)) {
                continue;
            }
            let window = [RULES.watch_window_ms, RULES.click_window_ms][o.source as usize];
            let owner = lists.iter().rev().find_map(|(key, (user, request, t, items))| {
                let named = o.request == 0 || o.request == hash(request);
                let within = *t <= at && at - t <= window;
                let place = items.iter().position(|item| hash(item) == o.item)?;
                (hash(user) == o.user && named && within).then_some((*key, place))
            });
            let Some((key, place)) = owner else { continue };
            if came_at > key.at.millis() + open {
                corrections.insert((key, place, at, o.id));
            } else {
                labels.get_mut(&key).unwrap()[place].add(o, at - key.at.millis());
            }
        }
    }
    (labels.into_iter().collect(), corrections)
}

/// Records of one topic: times that mostly go on, some out of order, some far behind, some twice.
fn topic(topic: usize) -> impl Strategy<Value = Vec<Record>> {
    let items = prop::collection::btree_set(0u8..5, 1..4);
    let one = (0u8..3, 0u8..4, 0i64..12, prop::option::weighted(0.4, 0u8..4), items, 0u8..10);
    prop::collection::vec(one, 0..40).prop_map(move |drawn| {
        let mut now = 0;
        let mut all: Vec<Record> = Vec::new();
        for (n, (user, item, ahead, request, items, luck)) in drawn.into_iter().enumerate() {
            now += ahead;
            let back = match luck {
                0 => 150,
                1..4 => 5,
                _ => 0,
            };
            let at = now - back;
            let source = [Source::Watch, Source::Click][topic.min(1)];
            let record = match topic {
                2 => Record::List { user, request: item, at, items: items.into_iter().collect() },
                _ => Record::Outcome(outcome(source, user, item, request, at, n as u32)),
            };
            let twice = (luck == 9).then(|| record.clone());
            all.push(record);
            all.extend(twice);
        }
        // The end of time, of nobody.
        all.push(match topic {
            2 => Record::List { user: 99, request: 0, at: 10_000, items: vec![1] },
            _ => Record::Outcome(outcome(
                [Source::Watch, Source::Click][topic],
                98,
                1,
                None,
                10_000,
                0,
            )),
        });
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However topics are read next to each other, in whatever steps, over whatever crashes.
    #[test]
    fn what_leaves_is_what_a_naive_join_of_all_records_says(
        topics in [topic(0), topic(1), topic(2)],
        choices in prop::collection::vec((0usize..3, 0u8..12), 1..60),
    ) {
        let (mut examples, corrections) = naive(&topics);
        let last = examples.pop();
        prop_assert_eq!(last.map(|(key, _)| key), Some(list_key(99, 0, 10_000)), "it never closes");
        let mut shard = Shard::new(RULES);
        for (which, what) in choices.iter().cycle().take(2_000) {
            // A topic that is read to its end leaves the turn to the others.
            let left = (0..3).map(|n| (which + n) % 3).find(|n| shard.next[*n] < topics[*n].len());
            let Some(n) = left else { break };
            shard.feed(n, &topics[n][shard.next[n]]);
            match what {
                0..3 => shard.step(false),
                3 => shard.step(true),
                4 => shard.restart(),
                _ => {}
            }
        }
        for n in 0..3 {
            while shard.next[n] < topics[n].len() {
                shard.feed(n, &topics[n][shard.next[n]]);
            }
        }
        shard.step(false);
        prop_assert_eq!(&shard.examples, &examples);
        prop_assert_eq!(&shard.corrections, &corrections);
        shard.restart();
        let size = shard.join.size();
        prop_assert_eq!((size.open_lists, size.closed_lists), (1, examples.len()));
    }
}

fn click(item: u8, at: i64, id: u32) -> Record {
    Record::Outcome(outcome(Source::Click, 1, item, None, at, id))
}

fn list(request: u8, at: i64) -> Record {
    Record::List { user: 1, request, at, items: vec![1, 2] }
}

/// Moves all clocks.
fn pass(shard: &mut Shard, at: i64) {
    shard.feed(0, &Record::Outcome(outcome(Source::Watch, 98, 1, None, at, 0)));
    shard.feed(1, &Record::Outcome(outcome(Source::Click, 98, 1, None, at, 0)));
    shard.feed(2, &Record::List { user: 99, request: 0, at, items: vec![1] });
    shard.step(false);
}

#[test]
fn an_outcome_that_is_read_before_its_list_waits_for_it_over_a_restart() {
    let mut shard = Shard::new(RULES);
    shard.feed(1, &click(2, 105, 1));
    shard.step(false);
    assert_eq!(shard.join.size().held_outcomes, 1);
    shard.restart();
    shard.feed(2, &list(0, 100));
    pass(&mut shard, 300);
    let labels = Labels { click_delay_ms: Some(5), ..Labels::default() };
    assert_eq!(shard.examples, [(list_key(1, 0, 100), vec![Labels::default(), labels])]);
    assert!(!shard.rows.contains_key(&list_key(1, 0, 100).record_row()));
    assert_eq!(shard.join.size().held_outcomes, 2, "those that moved the clocks");
    pass(&mut shard, 400);
    assert_eq!(shard.rows.keys().filter(|key| key[0] == b'h').count(), 1);
}

#[test]
fn what_comes_late_corrects_once_and_then_is_only_counted() {
    let mut shard = Shard::new(Rules { correction_ms: 100, ..RULES });
    shard.feed(2, &list(0, 100));
    pass(&mut shard, 200);
    assert_eq!(shard.examples.len(), 1);
    for _ in 0..2 {
        shard.feed(1, &click(1, 120, 7));
    }
    shard.step(false);
    assert_eq!((shard.counts.corrected, shard.counts.duplicates), (1, 1));
    shard.restart();
    shard.feed(1, &click(1, 120, 7));
    shard.step(false);
    assert_eq!((shard.counts.corrected, shard.counts.duplicates), (0, 1));
    assert_eq!(shard.corrections.len(), 1);
    pass(&mut shard, 1_000);
    shard.feed(1, &click(1, 120, 8));
    shard.step(false);
    assert_eq!((shard.counts.corrected, shard.counts.too_late), (0, 1));
    let rows = |kind| shard.rows.keys().filter(|key| key[0] == kind).count();
    assert_eq!([b'l', b'r', b'o'].map(rows), [1, 1, 0], "the newest list is left");
}

#[test]
fn of_an_outcome_that_names_another_list_nothing_is_guessed() {
    let mut shard = Shard::new(RULES);
    shard.feed(2, &list(0, 100));
    shard.feed(1, &Record::Outcome(outcome(Source::Click, 1, 1, Some(5), 101, 1)));
    shard.feed(1, &Record::Outcome(outcome(Source::Click, 1, 9, Some(0), 101, 2)));
    shard.feed(1, &Record::Outcome(outcome(Source::Click, 1, 1, Some(0), 99, 3)));
    shard.feed(1, &Record::Outcome(outcome(Source::Click, 1, 1, Some(0), 131, 4)));
    shard.feed(0, &Record::Outcome(outcome(Source::Watch, 1, 1, Some(0), 131, 4)));
    pass(&mut shard, 150);
    assert_eq!((shard.counts.orphans, shard.counts.joined), (4, 1));
}

#[test]
fn a_clock_that_is_ahead_closes_nothing_before_its_time() {
    let mut shard = Shard::new(RULES);
    shard.feed(2, &list(0, 100));
    shard.feed_appended(0, &Record::Outcome(outcome(Source::Watch, 98, 1, None, 9_000, 0)), 101);
    shard.feed_appended(1, &click(1, 9_000, 0), 101);
    shard.feed_appended(2, &Record::List { user: 99, request: 0, at: 9_000, items: vec![1] }, 101);
    shard.step(false);
    assert!(shard.examples.is_empty());
}

#[test]
fn a_topic_that_brings_nothing_is_waited_for_no_longer_than_said_and_only_once_it_is_read() {
    let mut shard = Shard::new(Rules { idle_ms: 50, ..RULES });
    shard.feed(2, &list(0, 100));
    shard.feed(2, &list(1, 100 + 80 + 10 + 50));
    let advance = |shard: &mut Shard| shard.join.advance(shard.next.map(|n| n as i64)).closings;
    assert!(advance(&mut shard).is_empty());
    let (newest, behind) = shard.join.held_up().expect("nothing came of watches and clicks");
    assert_eq!((newest.millis(), behind.collect()), (240, vec![Input::Watch, Input::Click]));
    shard.join.read_all(newest);
    assert!(advance(&mut shard).is_empty(), "not yet past");
    shard.feed(2, &list(2, 100 + 80 + 10 + 51));
    assert!(advance(&mut shard).is_empty());
    assert!(shard.join.held_up().is_none(), "one millisecond is not worth a question");
    shard.feed(2, &list(3, 100 + 80 + 10 + 60));
    assert!(advance(&mut shard).is_empty());
    let (newest, _) = shard.join.held_up().expect("they are still behind");
    shard.join.read_all(newest);
    assert_eq!(advance(&mut shard).len(), 1);
}

#[test]
fn memory_is_bounded_and_what_has_none_is_counted() {
    let mut shard = Shard::new(Rules { max_bytes: 2_000, ..RULES });
    for n in 0..100 {
        shard.feed(2, &list(n, 100));
        shard.feed(1, &click(1 + n / 10 * 10, 100, u32::from(n)));
    }
    shard.step(false);
    let size = shard.join.size();
    assert!(size.bytes <= 2_000 + 300 + 10 * 100, "{size:?}");
    let counts = shard.counts;
    assert!(counts.refused_lists > 80 && counts.lists + counts.refused_lists == 100, "{counts:?}");
    assert!(counts.hurried > 60, "{counts:?}");
}

#[test]
fn damaged_rows_are_found() {
    let mut shard = Shard::new(RULES);
    shard.feed(2, &list(0, 100));
    shard.feed(1, &click(1, 105, 7));
    shard.feed(1, &click(1, 1_105, 7));
    shard.feed(2, &list(1, 1_000));
    shard.step(false);
    let load = |rows: &BTreeMap<Vec<u8>, Vec<u8>>| {
        let rows = rows.iter().map(|(k, v)| Ok((k.clone().into(), v.clone().into())));
        Join::load::<Corrupt>(RULES, rows).map(|join| join.map(|join| join.size()))
    };
    assert_eq!(load(&shard.rows), Ok(Some(shard.join.size())));
    for (key, value) in &shard.rows {
        if key[0] == b'r' {
            continue;
        }
        let mut rows = shard.rows.clone();
        rows.insert(key.clone(), value[..value.len() - 1].to_vec());
        assert!(load(&rows).is_err(), "a shorter value of {key:?}");
    }
}

#[test]
fn a_long_view_is_long_enough_or_whole() {
    let labels = |watched_ms, duration_ms| Labels {
        watches: 1,
        watched_ms,
        duration_ms,
        ..Labels::default()
    };
    assert!(labels(18_000, 60_000).is_long_view(18_000));
    assert!(!labels(17_999, 60_000).is_long_view(18_000));
    assert!(labels(5_000, 5_000).is_long_view(18_000));
    assert!(!labels(4_000, 0).is_long_view(18_000), "its length is not known");
    assert!(!Labels::default().is_long_view(18_000));
}
