use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::time::{DAY_MS, HOUR_MS, wall_now};

/// All that nothing names goes at once.
const NOTHING_IS_YOUNG: KeepRules = KeepRules { epochs: 2, young_ms: -DAY_MS, grace_ms: -DAY_MS };

fn fates(found: &[Found]) -> BTreeMap<ModelVersion, Fate> {
    found.iter().map(|found| (found.version, found.fate.clone())).collect()
}

fn with_parent(registry: &Registry, n: u16, parent: Option<ModelVersion>) -> ModelVersion {
    let basis = basis(n);
    registry.register(Manifest { parent, ..told(&basis) }, files(&basis)).unwrap().version
}

#[test]
fn what_goes_and_why_the_others_stay() {
    let (memory, registry) = registry();
    let [root, a, b, c, d] = [0, 1, 2, 3, 4].map(|n| {
        let parent = (n > 0).then(|| ModelVersion::from(basis(n - 1).version()));
        with_parent(&registry, n, parent)
    });
    for (epoch, version) in [root, a, b, c].into_iter().enumerate() {
        registry.set_champion(version, &change(epoch as u64)).unwrap();
    }
    registry.set_challenger(Some(d), &change(4)).unwrap();
    let now = wall_now();
    let young = KeepRules { epochs: 1, young_ms: HOUR_MS, grace_ms: HOUR_MS };
    let all = fates(&registry.survey(&young, now).unwrap());
    assert_eq!(all[&root], Fate::Stays(Kept::Young));
    assert_eq!(all[&d], Fate::Stays(Kept::Alias { name: "challenger", epoch: 5 }));
    // Two hours later the one that only was champion long ago goes.
    let found = registry.survey(&young, now + 2 * HOUR_MS).unwrap();
    let all = fates(&found);
    assert_eq!(all[&c], Fate::Stays(Kept::Alias { name: "champion", epoch: 5 }));
    assert_eq!(all[&b], Fate::Stays(Kept::Alias { name: "previous", epoch: 5 }));
    assert_eq!(all[&a], Fate::Stays(Kept::ParentOf(b)));
    assert_eq!(all[&root], Fate::Goes);
    let kept = registry.get(root).unwrap();
    let done = registry.collect(&young, now + 2 * HOUR_MS).unwrap();
    assert_eq!(
        done.deleted.iter().map(|f| (f.version, f.whole)).collect::<Vec<_>>(),
        [(root, true)]
    );
    assert_eq!(done.deleted[0].bytes, found[all.keys().position(|v| *v == root).unwrap()].bytes);
    assert_eq!((done.spared.len(), done.kept.len(), done.lost), (0, 4, 0));

    // What it was made from is still known, and that it is gone is told.
    assert_eq!(registry.collected(root).unwrap(), Some(kept));
    let error = registry.get(root).unwrap_err().to_string();
    assert!(error.contains("its files were collected"), "{error}");
    assert!(dump(&memory).keys().all(|key| !key.contains(&format!("versions/{root}"))));
    // And it may come back.
    register(&registry, 0);
    registry.verify(&registry.get(root).unwrap()).unwrap();
    assert_eq!(registry.collect(&young, now).unwrap().deleted, []);
}

#[test]
fn what_a_registration_that_died_left_is_collected_when_it_is_old() {
    let (memory, registry) = registry();
    let dying = Registry::open(mortal(&memory, 2, true));
    dying.register(told(&basis(1)), files(&basis(1))).unwrap_err();
    // Its claim and one file.
    assert_eq!(dump(&memory).len(), 2);
    let now = wall_now();
    let rules = KeepRules { epochs: 1, young_ms: 0, grace_ms: 6 * HOUR_MS };
    assert_eq!(registry.survey(&rules, now).unwrap()[0].fate, Fate::Stays(Kept::Claimed));
    let later = now + DAY_MS + HOUR_MS;
    let found = registry.survey(&rules, later).unwrap();
    assert_eq!((found[0].whole, &found[0].fate), (false, &Fate::Goes));
    let done = registry.collect(&rules, later).unwrap();
    assert_eq!((done.deleted.len(), done.lost), (1, 1));
    assert_eq!(dump(&memory).len(), 0);
    assert_eq!(registry.collected(found[0].version).unwrap(), None, "there never was one");
}

#[test]
fn what_a_collector_is_about_to_delete_is_not_relied_on() {
    let (memory, registry) = registry();
    let version = register(&registry, 1).version;
    // It dies when it has written down what it will delete.
    let dying = Registry::open(mortal(&memory, 1, true));
    dying.collect(&NOTHING_IS_YOUNG, wall_now()).unwrap_err();
    let refused = |error: RegistryError| match error {
        RegistryError::Collecting { version: of, .. } => assert_eq!(of, version),
        error => panic!("{error}"),
    };
    refused(registry.set_champion(version, &change(0)).unwrap_err());
    refused(registry.register(told(&basis(1)), files(&basis(1))).unwrap_err());
    let child = Manifest { parent: Some(version), ..told(&basis(2)) };
    refused(registry.register(child, files(&basis(2))).unwrap_err());
    assert!(dump(&memory).keys().all(|key| !key.contains("claims")), "claims are given up");
    // Another one is not in its way, and a day later nobody waits for it.
    let other = register(&registry, 3).version;
    registry.set_champion(other, &change(0)).unwrap();
    let rules = KeepRules { epochs: 1, young_ms: 10 * DAY_MS, grace_ms: 10 * DAY_MS };
    assert_eq!(registry.collect(&rules, wall_now() + 2 * DAY_MS).unwrap().lost, 1);
    registry.set_champion(version, &change(1)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_stays_is_what_aliases_name_and_their_parents(
        parents in prop::collection::vec(prop::option::of(0_u16..12), 12),
        changes in prop::collection::vec((any::<bool>(), 0_usize..12), 0..12),
        epochs in 1_usize..5,
    ) {
        let (_memory, registry) = registry();
        let name = |n: u16| ModelVersion::from(basis(n).version());
        let parents: BTreeMap<ModelVersion, Option<ModelVersion>> = parents
            .iter()
            .zip(0..)
            .map(|(parent, n)| (name(n), parent.map(name)))
            .collect();
        for (n, parent) in (0..).zip((0..12).map(|n| parents[&name(n)])) {
            with_parent(&registry, n, parent);
        }
        for (is_champion, n) in changes {
            let version = name(n as u16);
            let epoch = change(registry.aliases().unwrap().epoch);
            if is_champion {
                registry.set_champion(version, &epoch).unwrap();
            } else {
                registry.set_challenger(Some(version), &epoch).unwrap();
            }
        }
        let mut stays = BTreeSet::new();
        for aliases in registry.history().unwrap().into_iter().take(epochs) {
            for version in [aliases.champion, aliases.challenger, aliases.previous_champion] {
                stays.extend(version);
                stays.extend(version.and_then(|version| parents[&version]));
            }
        }
        let rules = KeepRules { epochs, ..NOTHING_IS_YOUNG };
        let done = registry.collect(&rules, wall_now()).unwrap();
        let left: BTreeSet<_> = registry.versions().unwrap().iter().map(|m| m.version).collect();
        prop_assert_eq!(&left, &stays);
        prop_assert_eq!(done.kept.len() + done.deleted.len(), 12);
        for manifest in registry.versions().unwrap() {
            registry.verify(&manifest).unwrap();
        }
    }
}

/// Tells the collectors to end, also where the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Tries until no collector is in the way.
fn patiently<T>(mut work: impl FnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
    loop {
        match work() {
            Err(RegistryError::Collecting { .. }) => std::thread::yield_now(),
            done => return done,
        }
    }
}

#[test]
fn a_champion_is_whole_while_others_collect_all_that_they_may() {
    let (memory, registry) = registry();
    let done = AtomicBool::new(false);
    let (mut promoted, mut missed) = (0, 0);
    let deleted: usize = std::thread::scope(|scope| {
        let collect = || {
            let registry = in_memory(&memory);
            let mut deleted = 0;
            while !done.load(Ordering::SeqCst) {
                let rules = KeepRules { epochs: 1, ..NOTHING_IS_YOUNG };
                // A version that it looks at may be half gone by another collector.
                deleted += registry.collect(&rules, wall_now()).unwrap().deleted.len();
            }
            deleted
        };
        let collectors = [scope.spawn(collect), scope.spawn(collect)];
        let ends = Ends(&done);
        for round in 0..400_u16 {
            let n = round % 7;
            let version = patiently(|| registry.register(told(&basis(n)), files(&basis(n))));
            let version = version.unwrap().version;
            let epoch = registry.aliases().unwrap().epoch;
            match patiently(|| registry.set_champion(version, &change(epoch))) {
                Ok(aliases) => {
                    promoted += 1;
                    for (_, version) in aliases.named() {
                        registry.verify(&registry.get(version).unwrap()).unwrap();
                    }
                }
                // In between it was nobody's.
                Err(RegistryError::NotFound { .. }) => missed += 1,
                Err(error) => panic!("{error}"),
            }
            for (_, version) in registry.aliases().unwrap().named() {
                registry.verify(&registry.get(version).unwrap()).unwrap();
            }
        }
        drop(ends);
        collectors.into_iter().map(|collector| collector.join().unwrap()).sum()
    });
    assert!(promoted > 20, "{promoted} promoted, {missed} missed");
    assert!(deleted > 20, "{deleted} deleted");
}

#[test]
fn what_is_being_registered_is_not_taken_for_the_rest_of_one_that_died() {
    let (memory, registry) = registry();
    let done = AtomicBool::new(false);
    // What is whole is young, what is not is old at once.
    let rules = KeepRules { epochs: 1, young_ms: DAY_MS, grace_ms: -DAY_MS };
    let deleted: usize = std::thread::scope(|scope| {
        let collect = || {
            let registry = in_memory(&memory);
            let mut deleted = 0;
            while !done.load(Ordering::SeqCst) {
                let collected = registry.collect(&rules, wall_now()).unwrap();
                assert!(collected.deleted.iter().all(|found| !found.whole));
                deleted += collected.deleted.len();
            }
            deleted
        };
        let collectors = [scope.spawn(collect), scope.spawn(collect)];
        let ends = Ends(&done);
        for n in 0..300 {
            let rest = file_key(basis(n).version().into(), BASIS);
            // A rest without a claim, as one that died more than a day ago leaves it.
            mortal(&memory, i64::MAX, false).create(&rest, basis(n).to_bytes().into()).unwrap();
            let made = patiently(|| registry.register(told(&basis(n)), files(&basis(n)))).unwrap();
            registry.verify(&made).unwrap();
        }
        drop(ends);
        collectors.into_iter().map(|collector| collector.join().unwrap()).sum()
    });
    let all = registry.versions().unwrap();
    assert_eq!(all.len(), 300);
    all.iter().for_each(|manifest| registry.verify(manifest).unwrap());
    assert!(deleted > 0, "no rest was collected while it was being taken up");
    assert!(dump(&memory).keys().all(|key| !key.contains("claims") && !key.contains("plans")));
}
