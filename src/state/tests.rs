mod ageing;

use std::collections::BTreeMap;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::event::{EventTopic, FeedbackKind, Source, Subject, SubjectKind};
use crate::feature::{FoldEvent, FoldRecord, FoldRules, UserState, Verdict, fold_records};
use crate::ids::stable_hash;
use crate::time::{DAY_MS, EventTime, HOUR_MS};

/// Some day in 2023.
const BASE: i64 = 1_700_000_000_000;
const RULES: FoldRules = FoldRules { history_limit: 5, ttl_days: 30 };
/// After this many milliseconds without an event a user has aged out.
const AGED_MS: i64 = (2 * 30 + 28) * DAY_MS;

/// What is told of the `n`th event beside.
fn origin(n: usize) -> Origin {
    Origin { request: u64::MAX - n as u64, ahead_ms: n as u32 }
}

/// One record of a user's topic: user, time, id.
#[derive(Clone, Copy, Debug)]
struct Record {
    topic: EventTopic,
    user: u8,
    at: i64,
    id: u32,
}

impl Record {
    fn user(self) -> String {
        name(self.user)
    }

    fn hash(self) -> u64 {
        stable_hash(self.user().as_bytes())
    }

    fn with<R>(self, run: impl FnOnce(&FoldRecord<'_>) -> R) -> R {
        let item = format!("item-{}", self.id % 7);
        let source = match self.topic {
            EventTopic::Watch => Source::Watch,
            EventTopic::Click => Source::Click,
            EventTopic::Feedback => return run(&FoldRecord::Verdict(self.verdict(&item))),
        };
        run(&FoldRecord::Event(FoldEvent {
            source,
            at: EventTime::from_millis(self.at),
            id: self.id,
            session: u64::from(self.user),
            watched_ms: u64::from(self.id) * 100,
            duration_ms: 10_000,
            item: &item,
            surface: "home",
        }))
    }

    fn verdict(self, id: &str) -> Verdict<'_> {
        let kind = if self.id.is_multiple_of(3) {
            FeedbackKind::Undo
        } else {
            FeedbackKind::NotInterested
        };
        let subject = Subject { kind: SubjectKind::Item, id };
        Verdict { at: EventTime::from_millis(self.at), kind, subject }
    }

    fn operand(self) -> Vec<u8> {
        let mut operand = Vec::new();
        self.with(|e| e.encode(&mut operand));
        operand
    }
}

/// Short ids, ids that differ late, and ids too long for a slot of the pending events.
fn name(user: u8) -> String {
    match user {
        4 => format!("user-{}-{user}", "x".repeat(41)),
        5.. => format!("user-{}-{user}", "x".repeat(60)),
        _ => format!("user-{user}"),
    }
}

fn watch(user: u8, at: i64, id: u32) -> Record {
    Record { topic: EventTopic::Watch, user, at, id }
}

fn click(user: u8, at: i64, id: u32) -> Record {
    Record { topic: EventTopic::Click, user, at, id }
}

fn resources() -> StoreResources {
    StoreResources::new(1 << 20, 8 << 20)
}

fn open(path: &Path) -> ShardStore {
    let access = Access::Owner { identity: "cluster/topics/0" };
    ShardStore::open(path, RULES, &resources(), &access).unwrap()
}

fn shard(dir: &TempDir) -> Shard {
    Shard::new(0, open(dir.path())).unwrap()
}

/// Folds records, each at the next offset of its source.
fn fold(shard: &Shard, records: &[Record]) {
    for &record in records {
        let offset = shard.position(record.topic);
        let anchor = Anchor { offset, hash: record.id.into() };
        let folding = record
            .with(|e| shard.fold(&record.user(), record.hash(), e, Origin::default(), anchor));
        if matches!(folding, Folding::TooLate { .. }) {
            shard.skip(record.topic, anchor);
        }
    }
}

fn commit(shard: &Shard) {
    if let Some(frozen) = shard.freeze() {
        shard.commit(&frozen, &[]).unwrap();
    }
}

/// What the user's state is made of, as the store or the shard tells it.
fn counts(shard: &Shard, user: u8) -> (u64, u64) {
    let bytes = shard.read(&name(user)).unwrap();
    let totals = bytes.state().unwrap().totals();
    (totals.watches, totals.clicks)
}

fn log() -> impl Strategy<Value = Vec<Record>> {
    let at = prop_oneof![3 => 0..100i64 * HOUR_MS, 2 => 0..40 * DAY_MS, 1 => 0..300 * DAY_MS];
    vec((0..5usize, 0..4u8, at, 0..12u32), 0..60).prop_map(|rows| {
        rows.into_iter()
            .map(|(which, user, at, id)| {
                // Watches and clicks are more than feedback.
                let topic = EventTopic::ALL[[0, 0, 1, 1, 2][which]];
                Record { topic, user, at: BASE + at, id }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_digest_depends_neither_on_commits_nor_on_how_topics_interleave(
        log in log(),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
        compact_at in any::<prop::sample::Index>(),
    ) {
        // Once in one commit; once topic by topic, in many commits, reopened on the way.
        let (one, many) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let whole = shard(&one);
        fold(&whole, &log);
        commit(&whole);

        let sorted: Vec<Record> = EventTopic::ALL
            .iter()
            .flat_map(|s| log.iter().filter(move |r| r.topic == *s).copied())
            .collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(log.len() + 1)).collect();
        cuts.push(log.len());
        cuts.sort_unstable();
        let mut from = 0;
        for (n, &to) in cuts.iter().enumerate() {
            let part = shard(&many);
            fold(&part, &sorted[from..to]);
            commit(&part);
            if n == compact_at.index(cuts.len()) {
                part.store().compact().unwrap();
            }
            from = to;
        }
        let cut = shard(&many);
        prop_assert_eq!(whole.progress(), cut.progress());
        prop_assert_eq!(whole.store().digest().unwrap(), cut.store().digest().unwrap());
        cut.store().compact().unwrap();
        prop_assert_eq!(whole.store().digest().unwrap(), cut.store().digest().unwrap());
    }

    #[test]
    fn a_read_is_the_same_before_during_and_after_a_commit(
        log in log(),
        freeze_at in any::<prop::sample::Index>(),
        commit_at in any::<prop::sample::Index>(),
    ) {
        let dir = TempDir::new().unwrap();
        let shard = shard(&dir);
        // A user's accepted operands, one after the other.
        let mut naive: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let freeze_at = freeze_at.index(log.len() + 1);
        let commit_at = freeze_at + commit_at.index(log.len() + 1 - freeze_at);
        let mut frozen = None;
        for (n, &record) in log.iter().enumerate() {
            if n == freeze_at {
                frozen = shard.freeze();
                prop_assert!(frozen.is_none() || shard.freeze().is_none(), "one at a time");
            }
            if n == commit_at && let Some(frozen) = frozen.take() {
                shard.commit(&frozen, &[]).unwrap();
            }
            let before = shard.waiting().0;
            fold(&shard, &[record]);
            if shard.waiting().0 > before {
                naive.entry(record.user).or_default().extend(record.operand());
            }
            for user in 0..4 {
                let read = shard.read(&name(user)).unwrap();
                let mut expected = UserState::default();
                if let Some(operands) = naive.get(&user) {
                    expected.fold(operands, &RULES).unwrap();
                }
                prop_assert_eq!(read.state().unwrap().encode(), expected.encode());
            }
        }
    }

    #[test]
    fn pending_events_are_a_map_of_logs(
        log in vec((0..6u8, 0..50i64, 0..1u32 << 24, any::<bool>()), 0..80),
    ) {
        let mut pending = Pending::default();
        let mut naive: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut order = Vec::new();
        for (n, (user, at, id, is_watch)) in log.into_iter().enumerate() {
            let record = if is_watch { watch(user, at, id) } else { click(user, at, id) };
            record.with(|e| pending.push(&record.user(), record.hash(), n as i64 - 3, origin(n), e));
            naive.entry(record.user()).or_default().extend(record.operand());
            order.push((record.hash(), n as i64 - 3, origin(n), record.operand()));
        }
        let mut found = Vec::new();
        pending.for_each_user(|user, operand| {
            found.push((String::from_utf8(user.to_vec()).unwrap(), operand.to_vec()));
        });
        prop_assert_eq!(&found, &naive.clone().into_iter().collect::<Vec<_>>(), "in key order");
        prop_assert_eq!((pending.len(), pending.users()), (order.len(), naive.len()));
        prop_assert_eq!(pending.is_empty(), order.is_empty());
        for user in 0..7 {
            let name = name(user);
            let mut operand = vec![9];
            pending.append_operand(&name, &mut operand);
            prop_assert_eq!(&operand[1..], naive.get(&name).map_or(&[][..], |o| o));
        }
        let events: Vec<_> = pending
            .events()
            .map(|e| {
                let mut operand = Vec::new();
                e.record.encode(&mut operand);
                (e.user_hash, e.offset, e.origin, operand)
            })
            .collect();
        prop_assert_eq!(events, order);
    }
}

#[test]
fn what_was_committed_is_there_after_reopening_and_what_was_not_is_not() {
    let dir = TempDir::new().unwrap();
    let first = shard(&dir);
    fold(&first, &[watch(1, BASE, 1), click(1, BASE + 1, 2), watch(2, BASE, 3)]);
    commit(&first);
    let committed = first.progress();
    fold(&first, &[watch(1, BASE + 5, 4)]);
    assert_eq!(counts(&first, 1), (2, 1));
    drop(first);
    let second = shard(&dir);
    assert_eq!(second.progress(), committed);
    assert_eq!(second.position(EventTopic::Watch), 2);
    assert_eq!(second.position(EventTopic::Click), 1);
    assert_eq!(counts(&second, 1), (1, 1));
    assert_eq!(counts(&second, 2), (1, 0));
    assert_eq!(counts(&second, 3), (0, 0));
    assert_eq!(committed.watch.anchor, Some(Anchor { offset: 1, hash: 3 }));
    assert_eq!(committed.watch.watermark, Some(BASE));
}

#[test]
fn a_replayed_batch_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let first = shard(&dir);
    let log: Vec<_> = (0..4).map(|n| watch(1, BASE + i64::from(n), n)).collect();
    fold(&first, &log);
    commit(&first);
    let before = first.store().digest().unwrap();
    fold(&first, &log);
    commit(&first);
    assert_eq!(first.store().digest().unwrap(), before);
}

#[test]
fn a_freeze_takes_what_is_there_and_leaves_what_comes_later() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    assert!(shard.freeze().is_none(), "nothing moved");
    fold(&shard, &[watch(1, BASE, 1)]);
    let frozen = shard.freeze().unwrap();
    fold(&shard, &[watch(1, BASE + 1, 2)]);
    assert!(shard.freeze().is_none(), "the last one is not committed yet");
    assert_eq!((frozen.pending.len(), shard.waiting().0), (1, 1));
    assert_eq!(frozen.progress.watch.next_offset, 1);
    assert_eq!(shard.position(EventTopic::Watch), 2);
    shard.commit(&frozen, &[]).unwrap();
    assert_eq!(shard.store().progress().unwrap().watch.next_offset, 1);
    let rest = shard.freeze().unwrap();
    assert_eq!((rest.pending.len(), rest.progress.watch.next_offset), (1, 2));
    shard.commit(&rest, &[]).unwrap();
    assert!(shard.freeze().is_none());
    assert_eq!(counts(&shard, 1), (2, 0));
}

#[test]
fn skipped_records_move_the_offset_and_not_the_state() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    shard.start_at(EventTopic::Click, 40);
    shard.skip(EventTopic::Click, Anchor { offset: 42, hash: 9 });
    assert_eq!(shard.position(EventTopic::Click), 43);
    commit(&shard);
    let progress = shard.store().progress().unwrap();
    assert_eq!(progress.click.next_offset, 43);
    assert_eq!(progress.click.watermark, None);
    assert_eq!(shard.store().digest().unwrap().users, 0);
}

#[test]
fn an_event_older_than_the_time_to_live_is_too_late_by_its_own_topic() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    let old = BASE - 30 * DAY_MS;
    fold(&shard, &[watch(1, BASE, 1)]);
    let late = |record: Record| {
        let anchor = Anchor { offset: shard.position(record.topic), hash: 0 };
        record.with(|e| shard.fold(&record.user(), record.hash(), e, Origin::default(), anchor))
    };
    let watermark = EventTime::from_millis(BASE);
    assert_eq!(late(watch(2, old - 1, 2)), Folding::TooLate { watermark });
    assert_eq!(shard.position(EventTopic::Watch), 1, "it is the caller who moves on");
    assert!(matches!(late(watch(2, old, 3)), Folding::Done { .. }));
    assert!(matches!(late(click(2, old - 1, 4)), Folding::Done { .. }));
}

#[test]
fn a_store_of_another_log_or_other_rules_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    drop(open(dir.path()));
    let refused = |rules, identity: &str| {
        let access = Access::Owner { identity };
        ShardStore::open(dir.path(), rules, &resources(), &access).err().unwrap()
    };
    let error = refused(RULES, "cluster/topics/1");
    assert!(matches!(error, StoreError::OtherIdentity { .. }), "{error}");
    assert_eq!(error.reason(), "other_identity");
    let text = error.to_string();
    assert!(text.contains("cluster/topics/0") && text.contains("cluster/topics/1"), "{text}");
    for rules in [FoldRules { history_limit: 6, ..RULES }, FoldRules { ttl_days: 31, ..RULES }] {
        let error = refused(rules, "cluster/topics/0");
        assert!(matches!(error, StoreError::OtherIdentity { .. }), "{error}");
    }
    drop(open(dir.path()));
}

#[test]
fn a_store_that_is_held_open_says_so() {
    let dir = TempDir::new().unwrap();
    let _held = open(dir.path());
    let access = Access::Owner { identity: "cluster/topics/0" };
    let error = ShardStore::open(dir.path(), RULES, &resources(), &access).err().unwrap();
    assert!(error.spares_store(), "{error}");
}

#[test]
fn a_reader_sees_what_the_owner_has_committed_without_disturbing_it() {
    let (dir, scratch) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let owner = shard(&dir);
    fold(&owner, &[watch(1, BASE, 1), click(2, BASE, 1)]);
    commit(&owner);
    fold(&owner, &[watch(3, BASE, 1)]);
    let reader = |n: u8| {
        let notes = scratch.path().join(n.to_string());
        std::fs::create_dir(&notes).unwrap();
        let access = Access::Reader { scratch: &notes };
        // A reader takes the rules from the store.
        ShardStore::open(dir.path(), FoldRules::default(), &resources(), &access).unwrap()
    };
    let first = reader(1);
    assert_eq!(*first.rules(), RULES);
    assert_eq!(first.digest().unwrap(), owner.store().digest().unwrap());
    assert_eq!(first.digest().unwrap().users, 2);
    assert_eq!(first.get("user-3").unwrap(), None);
    commit(&owner);
    owner.store().compact().unwrap();
    let second = reader(2);
    assert_eq!(second.progress().unwrap(), owner.progress());
    assert_eq!(second.digest().unwrap(), owner.store().digest().unwrap());
    assert_eq!(second.get("user-3").unwrap(), owner.store().get("user-3").unwrap());
}

#[test]
fn users_that_aged_out_are_in_neither_the_digest_nor_the_store() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    fold(&shard, &[watch(1, BASE, 1), click(1, BASE, 1)]);
    commit(&shard);
    let just_not = BASE + AGED_MS;
    fold(&shard, &[watch(2, just_not, 1), click(2, just_not, 1)]);
    commit(&shard);
    assert_eq!(shard.store().digest().unwrap().users, 2);
    let much_later = just_not + 7 * DAY_MS;
    fold(&shard, &[watch(3, much_later, 1), click(3, much_later, 1)]);
    let before = shard.store().digest().unwrap();
    assert_eq!(before.users, 2);
    commit(&shard);
    assert_eq!(shard.store().digest().unwrap().users, 2, "user-1 has aged out, user-3 is new");
    assert_eq!(shard.store().get("user-1").unwrap(), None);
    assert!(shard.store().get("user-2").unwrap().is_some());
}

#[test]
fn a_user_who_comes_back_in_the_commit_that_would_drop_them_stays() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    fold(&shard, &[watch(1, BASE, 1), click(1, BASE, 1)]);
    commit(&shard);
    let back = BASE + AGED_MS + 7 * DAY_MS;
    fold(&shard, &[watch(1, back, 2), click(2, back, 1)]);
    commit(&shard);
    assert_eq!(counts(&shard, 1), (1, 0));
}

#[test]
fn a_store_larger_than_one_look_is_swept_over_several_commits() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    let people: Vec<_> = (0..=250).map(|user| watch(user, BASE, 1)).collect();
    fold(&shard, &people);
    fold(&shard, &[click(0, BASE, 1)]);
    commit(&shard);
    let later = BASE + AGED_MS + 30 * DAY_MS;
    fold(&shard, &[watch(254, later, 1), click(254, later, 1)]);
    commit(&shard);
    for id in 2..5 {
        fold(&shard, &[watch(254, later, id)]);
        commit(&shard);
    }
    let left = people.iter().filter(|r| shard.store().get(r.user()).unwrap().is_some());
    assert_eq!(left.count(), 0);
}

/// The digest after these commits, each followed by what drops users, or by nothing.
fn digest_after(commits: &[Vec<Record>], drop_users: bool) -> Digest {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    for records in commits {
        fold(&shard, records);
        commit(&shard);
        if drop_users {
            // A shard that is opened begins to look for aged-out users at its first commit.
            shard.skip(EventTopic::Watch, Anchor { offset: 100, hash: 0 });
            commit(&shard);
            shard.store().compact().unwrap();
        }
    }
    shard.store().digest().unwrap()
}

#[test]
fn nobody_is_forgotten_while_one_topic_has_had_no_event() {
    // Clicks begin late, and with old ones: nothing is too late in a topic without events.
    let commits = [
        vec![watch(1, BASE, 1)],
        vec![watch(2, BASE + AGED_MS + 1, 1)],
        vec![click(1, BASE + DAY_MS, 1)],
    ];
    assert_eq!(digest_after(&commits, true), digest_after(&commits, false));
}

#[test]
fn an_old_state_under_a_newer_event_is_not_dropped() {
    let run = |compact: bool| {
        let dir = TempDir::new().unwrap();
        let shard = shard(&dir);
        fold(&shard, &[watch(0, BASE, 1), watch(1, BASE, 1), click(1, BASE, 1)]);
        commit(&shard);
        // The state lies in the lowest level.
        shard.store().compact().unwrap();
        // The user comes back within the time to live, then others move the time on until the
        // state below, looked at alone, would have aged out.
        let back = BASE + 20 * DAY_MS;
        let others = BASE + AGED_MS + 1;
        fold(&shard, &[watch(1, back, 2)]);
        fold(&shard, &[watch(2, others, 1), click(2, others, 1)]);
        commit(&shard);
        if compact {
            shard.store().compact_around("user-0");
        }
        assert_eq!(counts(&shard, 1), (2, 1));
        shard.store().digest().unwrap()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn damaged_bytes_are_an_error_and_not_a_panic() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    let bytes = UserBytes::of(Some(vec![7, 7, 7]), Vec::new(), RULES);
    assert!(bytes.state().is_err());
    let bytes = UserBytes::of(None, vec![9], RULES);
    assert!(bytes.state().is_err());
    assert!(fold_records(&[0, 0xFF]).next().unwrap().is_err());
    assert_eq!(counts(&shard, 1), (0, 0));
}

#[test]
fn reads_beside_commits_neither_lose_nor_double_events() {
    let dir = TempDir::new().unwrap();
    let shard = shard(&dir);
    const EVENTS: u32 = 20_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 0..EVENTS {
                fold(&shard, &[watch(1, BASE + i64::from(id), id)]);
                // The window of ids holds what a commit in the middle of a read shows twice.
                if id % 2 == 0 {
                    commit(&shard);
                }
            }
        });
        let mut reads = 0;
        while shard.position(EventTopic::Watch) < i64::from(EVENTS) {
            let least = shard.position(EventTopic::Watch) as u64;
            let found = counts(&shard, 1).0;
            let most = shard.position(EventTopic::Watch) as u64 + 1;
            assert!((least..=most).contains(&found), "{least} <= {found} <= {most}");
            reads += 1;
        }
        assert!(reads > 10, "{reads} reads");
    });
    commit(&shard);
    assert_eq!(counts(&shard, 1).0, u64::from(EVENTS));
}

#[test]
fn a_large_commit_leaves_the_same_state_as_many_small_ones() {
    let record = |n: u32| (format!("user-{}", n % 7_000), BASE + i64::from(n) * 1_000);
    let fold = |shard: &Shard, n: u32| {
        let (user, at) = record(n);
        let hash = stable_hash(user.as_bytes());
        watch(0, at, n).with(|event| {
            shard.fold(
                &user,
                hash,
                event,
                Origin::default(),
                Anchor { offset: i64::from(n), hash: 0 },
            );
        });
    };
    let (large, small) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let digests: Vec<_> = [(&large, 10_000), (&small, 1_000)]
        .map(|(dir, events_per_commit)| {
            let shard = shard(dir);
            for n in 0..20_000 {
                fold(&shard, n);
                if (n + 1) % events_per_commit == 0 {
                    shard.commit(&shard.freeze().unwrap(), &[]).unwrap();
                }
            }
            drop(shard);
            let store = open(dir.path());
            assert_eq!(store.progress().unwrap().watch.next_offset, 20_000);
            store.digest().unwrap()
        })
        .into();
    assert_eq!(digests[0].users, 7_000);
    assert_eq!(digests[0], digests[1]);
}
