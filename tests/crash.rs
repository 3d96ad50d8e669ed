//! Workers that are killed: the state is that of a worker which was never disturbed, and that of
//! a naive fold.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::dice::Dice;
use common::events::Stream;
use common::installation::Installation;
use common::load::EndOf;
use common::oracle::{self, DEFAULT_RULES, Rules};

const KILLS: usize = 20;
/// Small, so that items leave the histories.
const RULES: Rules = Rules { history_limit: 30, ttl_days: 180 };
const LIMITS: &[(&str, &str)] =
    &[("state.history_limit", "30"), ("state.commit_interval_ms", "100")];

#[test]
fn twenty_killed_workers_leave_the_state_of_one_that_never_died() {
    let mut dice = Dice::printed("crash");
    let site = Installation::new("crash", LIMITS);
    let done = AtomicBool::new(false);
    let stream_dice = Dice::of(dice.next());
    let mut midway = 0;
    let mut folded = Vec::new();
    std::thread::scope(|scope| {
        let produced = scope.spawn(|| stream_until(&site, stream_dice, &done));
        // Ends the stream also where a kill below fails.
        let _end = EndOf(&done);
        for kill in 0..KILLS {
            let mut worker = site.worker("a");
            // Some die before they own anything, most in the middle of folding.
            if kill % 5 != 4 {
                worker.wait_ready();
            }
            std::thread::sleep(Duration::from_millis(dice.below(700)));
            worker.kill();
            let progress = site.progress(&site.data_dir("a"));
            let ends = site.ends();
            let reached: i64 = progress.iter().flat_map(|p| p.values().flatten()).sum();
            let end: i64 = ends.values().flatten().sum();
            midway += usize::from(reached < end && folded.last().is_none_or(|f| reached > *f));
            folded.push(reached);
        }
        done.store(true, Ordering::Release);
        let sent = produced.join().expect("the stream");
        eprintln!("{sent} events, folded at each kill: {folded:?}");
    });
    assert!(folded.is_sorted(), "committed progress was lost: {folded:?}");
    assert!(midway >= KILLS / 2, "only {midway} kills hit a worker that was folding");

    let mut worker = site.worker("a");
    site.wait_folded(&mut worker);
    worker.drain();
    assert!(site.dead_letters().is_empty());
    let expected = oracle::fold(&site.read_events(|_| true), RULES);
    oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);

    let undisturbed = site.second_group();
    let mut worker = undisturbed.worker("b");
    undisturbed.wait_folded(&mut worker);
    worker.drain();
    let killed = site.digest(&site.data_dir("a"));
    assert_eq!(killed, undisturbed.digest(&undisturbed.data_dir("b")));
    assert_eq!(killed["users"], expected.len());
}

/// Sends about 1,500 events a second.
fn stream_until(site: &Installation, dice: Dice, done: &AtomicBool) -> usize {
    let mut stream = Stream::new(dice, 1_500, 80_000);
    let mut sent = 0;
    while !done.load(Ordering::Acquire) {
        for _ in 0..75 {
            drop(site.kafka.send(&site.out(&stream.draw())));
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    site.kafka.flush();
    sent
}

#[test]
fn the_same_events_in_any_order_and_with_duplicates_give_the_same_state() {
    let mut dice = Dice::printed("order");
    let mut stream = Stream::new(Dice::of(dice.next()), 150, 12_000);
    let as_sent: Vec<_> = (0..12_000).map(|_| stream.draw()).collect();
    let mut clicks_first = as_sent.clone();
    clicks_first.sort_by_key(|e| e.source != common::events::Source::Click);
    let mut seen = std::collections::HashSet::new();
    let mut shuffled = as_sent.clone();
    shuffled.retain(|e| seen.insert(e.id.clone()));
    assert!(shuffled.len() < as_sent.len(), "the stream holds duplicates");
    dice.shuffle(&mut shuffled);

    let digests: Vec<_> = [as_sent, clicks_first, shuffled]
        .iter()
        .map(|events| {
            let site = Installation::new("order", &[("state.history_limit", "30")]);
            // Half of it before the worker is there, half while it folds.
            let (before, during) = events.split_at(events.len() / 2);
            site.deliver(before);
            let mut worker = site.worker("a");
            site.deliver(during);
            site.wait_folded(&mut worker);
            worker.drain();
            let read = site.read_events(|_| true);
            assert_eq!(read.len(), events.len());
            oracle::assert_same(&site.dump(&site.data_dir("a")), &oracle::fold(&read, RULES));
            site.digest(&site.data_dir("a"))
        })
        .collect();
    assert_eq!(digests[0], digests[1], "topics interleaved differently");
    assert_eq!(digests[0], digests[2], "all events shuffled, without duplicates");
}

#[test]
fn workers_with_several_ingest_threads_and_the_classic_protocol_fold_the_same() {
    let dice = Dice::printed("threads");
    let site = Installation::new("threads", &[]);
    let mut stream = Stream::new(dice, 200, 8_000);
    let events: Vec<_> = (0..8_000).map(|_| stream.draw()).collect();
    site.deliver(&events);
    let one = site.second_group();
    let variants = [
        (&site, [("worker.ingest_threads", "3"), ("kafka.group_protocol", "consumer")]),
        (&one, [("worker.ingest_threads", "1"), ("kafka.group_protocol", "classic")]),
    ];
    let expected = oracle::fold(&site.read_events(|_| true), DEFAULT_RULES);
    let digests = variants.map(|(site, settings)| {
        let mut worker = site.worker_with("a", &settings);
        site.wait_folded(&mut worker);
        worker.drain();
        oracle::assert_same(&site.dump(&site.data_dir("a")), &expected);
        site.digest(&site.data_dir("a"))
    });
    assert_eq!(digests[0], digests[1]);
}
