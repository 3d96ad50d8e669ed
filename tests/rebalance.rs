//! Workers that join and leave under load: every request is answered, every event counts once.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::dice::Dice;
use common::installation::Installation;
use common::load;
use common::oracle::{self, DEFAULT_RULES};
use common::requests::Client;
use common::worker::Worker;

fn a_while() {
    std::thread::sleep(Duration::from_millis(1_500));
}

/// Waits until a worker owns shards and the others know: a new member is given its part only
/// once the old owners have let go.
fn wait_owns(site: &Installation, worker: &mut Worker) {
    worker.wait_ready();
    common::eventually("the worker owns shards", || {
        let owned = worker.metric("driftline_shards");
        assert!(owned <= f64::from(site.partitions));
        (owned >= 1.0).then_some(())
    });
}

/// Each shard's users, wherever it is folded to the end, are those of the oracle.
fn assert_owned_state(site: &Installation, folders: &[&str]) {
    let expected = oracle::fold(&site.read_events(|_| true), DEFAULT_RULES);
    let shards = site.shards_of_users();
    let ends = site.ends();
    let mut owners: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for folder in folders {
        let data_dir = site.data_dir(folder);
        let progress = site.progress(&data_dir).expect("a store");
        for (shard, next) in &progress {
            let end = ends[shard];
            assert!(next[0] <= end[0] && next[1] <= end[1], "{folder} is ahead of the log");
        }
        let complete = |user: &str| {
            let shard = shards.get(user).unwrap_or_else(|| panic!("{user} never sent an event"));
            progress.get(shard) == Some(&ends[shard])
        };
        let mut found = site.dump(&data_dir);
        found.retain(|user, _| complete(user));
        let mut here = expected.clone();
        here.retain(|user, _| complete(user));
        oracle::assert_same(&found, &here);
        for shard in progress.keys().filter(|shard| progress[shard] == ends[shard]) {
            owners.entry(*shard).or_default().push(folder);
        }
    }
    assert_eq!(owners.len(), site.partitions as usize, "every shard has an owner: {owners:?}");
}

#[test]
fn workers_join_leave_and_die_under_load_and_nothing_is_lost_or_counted_twice() {
    let mut dice = Dice::printed("rebalance");
    let site = Installation::new("rebalance", &[]);
    let client = Client::new(&site);
    let mut left = Vec::new();
    let sent = load::during(&site, &client, &mut dice, || {
        let mut a = site.ready_worker("a");
        a_while();
        let mut b = site.worker("b");
        wait_owns(&site, &mut b);
        a_while();
        let mut c = site.worker("c");
        wait_owns(&site, &mut c);
        a_while();
        b.kill();
        a_while();
        // Back with a store that the log has left behind meanwhile.
        let mut b = site.worker("b");
        wait_owns(&site, &mut b);
        a_while();
        a.drain();
        a_while();
        a = site.worker("a");
        wait_owns(&site, &mut a);
        a_while();
        a.kill();
        b.drain();
        a_while();
        let mut d = site.worker("d");
        wait_owns(&site, &mut d);
        a_while();
        left = vec![c, d];
    });
    site.wait_folded_by_any(&left.iter().collect::<Vec<_>>());
    let lists = load::assert_answered(&client, &sent.requests);
    eprintln!("{} events; {lists} of {} requests got a list", sent.events, sent.requests.len());
    assert!(lists * 2 > sent.requests.len(), "most requests were answered with a list");
    left.into_iter().for_each(Worker::drain);
    assert!(site.dead_letters().is_empty());
    assert_owned_state(&site, &["a", "b", "c", "d"]);
}

#[test]
fn a_worker_started_over_the_folder_of_one_that_still_runs_takes_over_when_it_leaves() {
    let mut dice = Dice::printed("handover");
    let site = Installation::new("handover", &[]);
    let client = Client::new(&site);
    let mut last = None;
    let sent = load::during(&site, &client, &mut dice, || {
        let old = site.ready_worker("same");
        a_while();
        let mut new = site.worker("same");
        a_while();
        old.drain();
        new.wait_ready();
        a_while();
        last = Some(new);
    });
    let mut new = last.expect("a worker");
    site.wait_folded(&mut new);
    load::assert_answered(&client, &sent.requests);
    assert!(!new.log_text().contains("set aside"), "a store in use is not a broken one");
    new.drain();
    assert_owned_state(&site, &["same"]);
}
