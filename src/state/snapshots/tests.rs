use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::objects::mortal::{Memory, mortal};

const IDENTITY: &str = "cluster c, topics t and u, partition 3 of 4 (history_limit 100)";
/// All that nothing uses may go at once.
const NO_GRACE: Retention = Retention { keep: 2, grace_ms: -1 };

fn shard() -> ShardName {
    ShardName { kind: ShardKind::User, partition: 3 }
}

fn depot(objects: &Arc<Objects>) -> Depot {
    Depot::new(Arc::clone(objects), "staging-", shard(), IDENTITY)
}

fn in_memory(memory: &Memory) -> Arc<Objects> {
    mortal(memory, i64::MAX, false)
}

/// What a store's folder holds at a position: tables that come and go, and files that change.
fn contents(position: u64) -> Vec<(String, Vec<u8>)> {
    let table = |n: u64| (format!("{n:06}.sst"), format!("table {n} ").repeat(50).into_bytes());
    let mut all: Vec<_> = (position / 3..=position).map(table).collect();
    all.push(("CURRENT".into(), b"MANIFEST-000001\n".to_vec()));
    all.push(("MANIFEST-000001".into(), format!("up to {position}").into_bytes()));
    all.sort();
    all
}

fn write(folder: &Path, contents: &[(String, Vec<u8>)]) {
    contents.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
}

fn read(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut all: Vec<_> =
        entries.map(|e| (name(&e.path()), std::fs::read(e.path()).unwrap())).collect();
    all.sort();
    all
}

fn upload(
    depot: &Depot,
    position: u64,
    author: (&str, u64),
    known: &mut Known,
) -> Result<Uploaded, SnapshotError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &contents(position));
    // RocksDB's own, which stay.
    std::fs::write(folder.path().join("LOG"), b"diary").unwrap();
    std::fs::write(folder.path().join("LOCK"), b"").unwrap();
    let next_offset = i64::try_from(position).unwrap();
    let sources = vec![SourcePosition { topic: "t".into(), next_offset, anchor: None }];
    let checkpoint = Checkpoint { folder: folder.path(), sources };
    depot.upload(checkpoint, author, known, &mut |_| true)
}

fn download(depot: &Depot, manifest: &Manifest) -> Result<Vec<(String, Vec<u8>)>, SnapshotError> {
    let folder = tempfile::tempdir().unwrap();
    depot.download(manifest, folder.path(), &mut |_| true)?;
    Ok(read(folder.path()))
}

/// The position of the first snapshot that can be had, and that it is what was uploaded there.
fn newest_good(depot: &Depot) -> Option<u64> {
    for key in depot.manifests().unwrap() {
        let Ok(manifest) = depot.read(&key) else { continue };
        let Ok(found) = download(depot, &manifest) else { continue };
        assert_eq!(found, contents(manifest.position()));
        return Some(manifest.position());
    }
    None
}

/// Every manifest that can be read names parts that are there and whole.
fn assert_all_whole(depot: &Depot) {
    for key in depot.manifests().unwrap() {
        let manifest = depot.read(&key).unwrap();
        assert_eq!(download(depot, &manifest).unwrap(), contents(manifest.position()), "{key}");
    }
}

#[test]
fn what_is_there_already_is_not_sent_again_by_whoever_comes_next() {
    let objects = in_memory(&Memory::default());
    let depot = depot(&objects);
    assert_eq!(newest_good(&depot), None);
    let mut known = Known::default();
    let first = upload(&depot, 6, ("a", 1), &mut known).unwrap();
    assert_eq!(first.new_bytes, first.bytes);
    let table = |n: u64| contents(n).into_iter().find(|(name, _)| *name == format!("{n:06}.sst"));
    let small = |n: u64| format!("up to {n}").len() as u64;
    let second = upload(&depot, 7, ("a", 2), &mut known).unwrap();
    assert_eq!(second.new_bytes, table(7).unwrap().1.len() as u64 + small(7));
    // Another worker, which remembers nothing.
    let third = upload(&depot, 8, ("b", 1), &mut Known::default()).unwrap();
    assert_eq!(third.new_bytes, table(8).unwrap().1.len() as u64 + small(8));
    assert_eq!(newest_good(&depot), Some(8));
    assert_all_whole(&depot);
}

#[test]
fn the_newest_is_what_has_come_furthest_whenever_it_was_made() {
    let objects = in_memory(&Memory::default());
    let depot = depot(&objects);
    upload(&depot, 1_000, ("owner", 1), &mut Known::default()).unwrap();
    // Somebody who was thought dead, and has not come as far.
    upload(&depot, 999, ("zombie", 1), &mut Known::default()).unwrap();
    assert_eq!(newest_good(&depot), Some(1_000));
    // The same position twice is two snapshots, of which either will do.
    upload(&depot, 1_000, ("zombie", 2), &mut Known::default()).unwrap();
    assert_eq!(depot.manifests().unwrap().len(), 3);
    assert_all_whole(&depot);
}

#[test]
fn a_large_file_is_sent_in_parts_and_only_those_that_are_new() {
    let objects = in_memory(&Memory::default());
    let depot = depot(&objects);
    let folder = tempfile::tempdir().unwrap();
    let mut bytes: Vec<u8> = (0..PART_BYTES * 2 + 1_234).map(|n| (n % 251) as u8).collect();
    std::fs::write(folder.path().join("WAL"), &bytes).unwrap();
    let checkpoint = || Checkpoint { folder: folder.path(), sources: Vec::new() };
    let mut known = Known::default();
    let sent = depot.upload(checkpoint(), ("a", 1), &mut known, &mut |_| true).unwrap();
    assert_eq!(sent.new_bytes, bytes.len() as u64);
    bytes[PART_BYTES * 2] ^= 1;
    std::fs::write(folder.path().join("WAL"), &bytes).unwrap();
    let sent = depot.upload(checkpoint(), ("a", 2), &mut known, &mut |_| true).unwrap();
    assert_eq!(sent.new_bytes, 1_234);
    let manifest = depot.read(&sent.key).unwrap();
    assert_eq!(download(&depot, &manifest).unwrap(), [("WAL".to_owned(), bytes)]);
    let stopped = depot.upload(checkpoint(), ("a", 3), &mut Known::default(), &mut |_| false);
    assert!(matches!(stopped, Err(SnapshotError::Stopped)));
}

#[test]
fn snapshots_of_another_log_or_other_rules_lie_apart_and_are_told() {
    let objects = in_memory(&Memory::default());
    upload(&depot(&objects), 5, ("a", 1), &mut Known::default()).unwrap();
    let other = Depot::new(Arc::clone(&objects), "staging-", shard(), "other rules");
    assert_eq!(newest_good(&other), None);
    let foreign: Vec<_> = other.foreign().unwrap().into_iter().collect();
    assert_eq!(foreign.len(), 1);
    assert!(foreign[0].0.starts_with("_snapshots/staging-user-3/") && foreign[0].1 == 1);
    assert!(depot(&objects).foreign().unwrap().is_empty());
    // One that was put here by hand is not taken either.
    let key = depot(&objects).manifests().unwrap().remove(0);
    let bytes = objects.get(&key).unwrap().unwrap();
    let name = key.rsplit('/').next().unwrap();
    objects.create(&other.key(&format!("manifests/{name}")), bytes).unwrap();
    let moved = other.manifests().unwrap().remove(0);
    let refused = other.read(&moved).unwrap_err();
    assert!(refused.to_string().contains("put here by hand"), "{refused}");
    let found = find_all(&objects, "staging-").unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.shard == shard() && found.manifest.is_ok()));
    assert!(find_all(&objects, "").unwrap().is_empty());
}

#[test]
fn whatever_object_is_damaged_an_older_snapshot_does_and_none_is_believed() {
    let reference = in_memory(&Memory::default());
    for position in [4, 9] {
        upload(&depot(&reference), position, ("a", position), &mut Known::default()).unwrap();
    }
    let all = reference.list("_snapshots").unwrap();
    let newest: BTreeSet<String> = {
        let of = depot(&reference);
        let keys = of.manifests().unwrap();
        let [nine, four] = [0, 1].map(|n| of.read(&keys[n]).unwrap());
        let old: BTreeSet<_> = four.parts().map(|part| part.key.clone()).collect();
        let own = nine.parts().map(|part| part.key.clone()).filter(|key| !old.contains(key));
        own.chain([keys[0].clone()]).collect()
    };
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let flipped: Damage = |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        Some(bytes)
    };
    let half: Damage = |mut bytes| {
        bytes.truncate(bytes.len() / 2);
        Some(bytes)
    };
    let damages: [Damage; 3] = [flipped, half, |_| None];
    let mut fell_back = 0;
    for victim in &all {
        for damage in damages {
            let objects = in_memory(&Memory::default());
            for object in &all {
                let bytes = reference.get(&object.key).unwrap().unwrap();
                let bytes = match object.key == victim.key {
                    true => damage(bytes.to_vec()),
                    false => Some(bytes.to_vec()),
                };
                bytes.map(|bytes| objects.create(&object.key, Bytes::from(bytes)).unwrap());
            }
            let found = newest_good(&depot(&objects));
            if newest.contains(&victim.key) {
                assert_eq!(found, Some(4), "{}", victim.key);
                fell_back += 1;
            } else {
                // What both use costs both; the manifest of the older one costs only that.
                assert!(found == Some(9) || (found.is_none() && victim.key.contains("/parts/")));
            }
        }
    }
    assert!(fell_back >= 6, "{fell_back}");
}

/// Snapshots of ten positions by two authors in turn, old ones given up as they come. Positions of
/// those that were told to be made.
fn life(objects: &Arc<Objects>) -> (Vec<u64>, Result<(), SnapshotError>) {
    let depot = depot(objects);
    let mut known = [Known::default(), Known::default()];
    let mut made = Vec::new();
    for position in 1..=10 {
        let who = (position % 2) as usize;
        let author = (["a", "b"][who], position);
        if let Err(error) = upload(&depot, position, author, &mut known[who]) {
            return (made, Err(error));
        }
        made.push(position);
        if let Err(error) = depot.collect(NO_GRACE, &format!("{}-{position}", author.0)) {
            return (made, Err(error));
        }
    }
    (made, Ok(()))
}

#[test]
fn killed_at_any_step_the_newest_is_found_and_whoever_comes_next_goes_on() {
    let mut deaths = 0;
    for after in [false, true] {
        for step in 1.. {
            let memory = Memory::default();
            let (made, ended) = life(&mortal(&memory, step, after));
            let objects = in_memory(&memory);
            let depot = depot(&objects);
            let found = newest_good(&depot);
            // Killed after the manifest there is one more than was told.
            let told = made.last().copied();
            let next = told.unwrap_or(0) + 1;
            assert!(found == told || found == Some(next), "{found:?} after {told:?}, step {step}");
            assert_all_whole(&depot);
            upload(&depot, 20, ("c", 1), &mut Known::default()).unwrap();
            depot.collect(NO_GRACE, "c-1").unwrap();
            assert_eq!(newest_good(&depot), Some(20));
            assert_all_whole(&depot);
            if ended.is_ok() {
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 100, "{deaths}");
}

#[test]
fn what_no_kept_snapshot_uses_goes_once_it_is_old_and_nothing_else() {
    let objects = in_memory(&Memory::default());
    let depot = depot(&objects);
    let mut known = Known::default();
    for position in [3, 6, 9, 30] {
        upload(&depot, position, ("a", position), &mut known).unwrap();
    }
    let young = Retention { keep: 2, grace_ms: 3_600_000 };
    let gone = depot.collect(young, "a-1").unwrap();
    assert_eq!((gone.manifests, gone.parts), (2, 0), "their parts are young");
    let gone = depot.collect(NO_GRACE, "a-2").unwrap();
    assert_eq!(gone.manifests, 0);
    assert_eq!(depot.manifests().unwrap().len(), 2);
    assert_all_whole(&depot);
    let used: BTreeSet<String> = depot
        .manifests()
        .unwrap()
        .iter()
        .flat_map(|key| depot.read(key).unwrap().parts().map(|p| p.key.clone()).collect::<Vec<_>>())
        .collect();
    let there: BTreeSet<String> = depot.list().unwrap().parts.into_keys().collect();
    assert_eq!(there, used);
    assert!(gone.parts > 0 && depot.list().unwrap().plans.is_empty());
}

#[test]
fn while_a_manifest_cannot_be_read_no_part_goes() {
    let objects = in_memory(&Memory::default());
    let depot = depot(&objects);
    upload(&depot, 3, ("a", 1), &mut Known::default()).unwrap();
    objects.create(&depot.key("manifests/1-x-0.json"), Bytes::from("{")).unwrap();
    objects.create(&depot.key("parts/left-behind"), Bytes::from("part")).unwrap();
    let keeps_manifests = Retention { keep: 2, grace_ms: 3_600_000 };
    assert_eq!(depot.collect(keeps_manifests, "a-1").unwrap(), Collected::default());
    // Old, it goes itself, and then the part.
    let gone = depot.collect(NO_GRACE, "a-2").unwrap();
    assert_eq!((gone.manifests, gone.parts), (1, 1));
    assert_eq!(newest_good(&depot), Some(3));
}

#[test]
fn an_uploader_does_not_rely_on_what_a_collector_is_about_to_delete() {
    let objects = in_memory(&Memory::default());
    let depot = depot(&objects);
    let mut known = Known::default();
    let first = upload(&depot, 3, ("a", 1), &mut known).unwrap();
    let parts: Vec<String> =
        depot.read(&first.key).unwrap().parts().map(|part| part.key.clone()).collect();
    // A collector that sleeps between writing down and deleting.
    let plan = serde_json::to_vec(&parts).unwrap();
    objects.create(&depot.key("plans/b-1.json"), plan.into()).unwrap();
    let second = upload(&depot, 3, ("a", 2), &mut known).unwrap();
    assert_eq!(second.new_bytes, second.bytes);
    parts.iter().for_each(|key| objects.delete(key).unwrap());
    assert_eq!(download(&depot, &depot.read(&second.key).unwrap()).unwrap(), contents(3));
}

#[test]
fn uploaders_and_collectors_that_race_never_leave_a_manifest_without_its_parts() {
    let memory = Memory::default();
    let objects = in_memory(&memory);
    let conflicts: usize = std::thread::scope(|scope| {
        let authors = ["a", "b", "c"].map(|author| {
            let objects = in_memory(&memory);
            scope.spawn(move || {
                let depot = depot(&objects);
                let mut known = Known::default();
                let mut conflicts = 0;
                for attempt in 1..=40 {
                    // Mostly the same contents, which the others give up all the time.
                    match upload(&depot, attempt % 4 + 1, (author, attempt), &mut known) {
                        Ok(_) => {}
                        Err(SnapshotError::Conflict(_)) => conflicts += 1,
                        Err(error) => panic!("{error}"),
                    }
                    let keep = Retention { keep: 1, grace_ms: -1 };
                    depot.collect(keep, &format!("{author}-{attempt}")).unwrap();
                }
                conflicts
            })
        });
        authors.into_iter().map(|author| author.join().unwrap()).sum()
    });
    println!("{conflicts} conflicts");
    let depot = depot(&objects);
    assert_all_whole(&depot);
    assert!(!depot.manifests().unwrap().is_empty());
}

proptest! {
    #[test]
    fn names_sort_as_positions_do(a in 0..i64::MAX, b in 0..i64::MAX) {
        let name = |next_offset| {
            let sources = vec![SourcePosition { topic: "t".into(), next_offset, anchor: None }];
            let manifest = Manifest {
                format: manifest::FORMAT,
                shard: "user-3".into(),
                identity: IDENTITY.into(),
                sources,
                author: "a".into(),
                writer: "w".into(),
                files: Vec::new(),
            };
            let (name, bytes) = manifest.encode().unwrap();
            assert_eq!(read_manifest(&name, Some(bytes)).unwrap(), manifest);
            name
        };
        prop_assume!(a != b);
        prop_assert_eq!(name(a) < name(b), a < b);
    }

    #[test]
    fn names_of_shards_are_read_as_they_are_written(partition in 0..i32::MAX, is_item: bool) {
        let kind = if is_item { ShardKind::Item } else { ShardKind::User };
        let shard = ShardName { kind, partition };
        prop_assert_eq!(ShardName::parse(&shard.to_string()), Some(shard));
        prop_assert_eq!(ShardName::parse(&format!("{shard}x")), None);
    }
}
