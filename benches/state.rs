//! Bytes and time of a user's state: 100 events each, folded and compacted.
//!
//! `cargo bench --bench state -- [users, default 20000]`

mod common;

use std::time::Instant;

use driftline::event::UserEvent;
use driftline::feature::{FoldEvent, FoldRules};
use driftline::ids::stable_hash;
use driftline::state::{Access, Anchor, Origin, Shard, ShardStore, StoreResources};
use driftline::time::wall_now;

const EVENTS_PER_USER: u64 = 100;

fn main() {
    let users = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(20_000);
    let folder = tempfile::tempdir().expect("a folder");
    let resources = StoreResources::new(64 << 20, 64 << 20);
    let access = Access::Owner { identity: "bench" };
    let store = ShardStore::open(folder.path(), FoldRules::default(), &resources, &access)
        .expect("a store");
    let shard = Shard::new(0, store).expect("a shard");

    let mut dice = common::Dice(1);
    let start = wall_now() - 30 * 86_400_000;
    let total = users * EVENTS_PER_USER;
    let begun = Instant::now();
    for i in 0..total {
        // Thirty days of events; users come round in random order.
        let mut event: UserEvent<'_> = common::watch_event(&mut dice, i, users, start);
        event.at = event.at.plus_millis((i as i64) * (30 * 86_400_000 / total as i64 - 1));
        let user = stable_hash(event.user.as_bytes());
        let fold = FoldEvent::from_event(&event, user).into();
        shard.fold(
            &event.user,
            user,
            &fold,
            Origin::default(),
            Anchor { offset: i as i64, hash: 0 },
        );
        if i % 200_000 == 199_999 || i + 1 == total {
            let frozen = shard.freeze().expect("events");
            shard.commit(&frozen, &[]).expect("committed");
        }
    }
    let fold = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    shard.store().compact().expect("compacted");
    let compact = begun.elapsed().as_secs_f64();
    let bytes = shard.store().stats().expect("stats").file_bytes;

    let begun = Instant::now();
    let reads = 20_000;
    let mut known = 0;
    for _ in 0..reads {
        let user = format!("u{:07}", dice.below(users));
        let read = shard.read(&user).expect("read");
        known += read.state().expect("a state").recent(driftline::event::Source::Watch).len();
    }
    let read = begun.elapsed().as_secs_f64();
    common::table(
        &format!("State, {users} users with {EVENTS_PER_USER} watch events each"),
        &["what", "figure"],
        &[
            vec![
                "bytes a user on disk, compacted".into(),
                format!("{:.0}", bytes as f64 / users as f64),
            ],
            vec![
                "fold and commit, µs an event".into(),
                format!("{:.2}", fold * 1e6 / total as f64),
            ],
            vec![
                "full compaction, µs a user".into(),
                format!("{:.2}", compact * 1e6 / users as f64),
            ],
            vec![
                "read and decode a user, µs".into(),
                format!("{:.1}", read * 1e6 / f64::from(reads)),
            ],
            vec![
                "events in a history read".into(),
                format!("{:.1}", known as f64 / f64::from(reads)),
            ],
        ],
    );
}
