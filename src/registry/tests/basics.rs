use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_version_comes_back_as_it_was_registered() {
    let (_memory, registry) = registry();
    let draft = Manifest { seed: Some(u64::MAX), parent: Some(ModelVersion(7)), ..told(&basis(1)) };
    let made = registry.register(draft, files(&basis(1))).unwrap();
    let version = ModelVersion::from(basis(1).version());
    assert_eq!(made.version, version);
    assert_eq!(made.files.keys().collect::<Vec<_>>(), ["basis.bin", "report.md"]);
    assert_eq!(registry.get(version).unwrap(), made);
    assert_eq!(registry.versions().unwrap(), std::slice::from_ref(&made));
    assert_eq!(registry.file(&made, BASIS).unwrap(), basis(1).to_bytes());
    registry.verify(&made).unwrap();
    let error = registry.file(&made, "basis").unwrap_err().to_string();
    assert!(error.ends_with("has no file \"basis\"; it has basis.bin, report.md"), "{error}");
}

#[test]
fn the_same_version_twice_is_one_and_of_other_files_is_refused() {
    let (_memory, registry) = registry();
    let first = registry.register(told(&basis(1)), files(&basis(1))).unwrap();
    let later = Manifest { created_at_ms: 99, ..told(&basis(1)) };
    assert_eq!(registry.register(later.clone(), files(&basis(1))).unwrap(), first);
    let mut other = files(&basis(1));
    other[1].1 = Bytes::from("# Another report\n");
    let error = registry.register(later.clone(), other).unwrap_err();
    assert!(
        matches!(&error, RegistryError::Differs { what, .. } if what == "report.md"),
        "{error}"
    );
    let more = [files(&basis(1)), vec![("more.bin".into(), Bytes::from("x"))]].concat();
    let error = registry.register(later, more).unwrap_err();
    assert!(matches!(error, RegistryError::Differs { .. }), "{error}");
    assert_eq!(registry.versions().unwrap(), [first]);
}

#[test]
fn what_does_not_fit_together_is_not_registered() {
    let (_memory, registry) = registry();
    let refused = |draft: Manifest, files, says: &str| {
        let error = registry.register(draft, files).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    let (one, two) = (basis(1), basis(2));
    refused(told(&one), files(&two), "a version is named by its basis");
    refused(Manifest { dimension: 16, ..told(&one) }, files(&one), "tells of 16 dimensions");
    refused(told(&one), vec![], "it has no file basis.bin");
    let mut flipped = files(&one);
    flipped[0].1 = flip(&one.to_bytes(), 100);
    refused(told(&one), flipped, "its checksum is wrong");
    for name in ["", ".hidden", "a/b", "..", "manifest.json", "ä"] {
        let more = [files(&one), vec![(name.into(), Bytes::from("x"))]].concat();
        refused(told(&one), more, "is no name of a file");
    }
    refused(told(&one), [files(&one), files(&one)].concat(), "is given twice");
    let mut unknown = told(&one);
    unknown.validation.as_mut().unwrap().metrics[0].candidate = f64::NAN;
    refused(unknown, files(&one), "may not be finite");
    assert!(registry.versions().unwrap().is_empty());
}

#[test]
fn versions_are_found_by_their_first_digits_and_by_what_they_are() {
    let (_memory, registry) = registry();
    let all: Vec<Manifest> = (0..40).map(|n| register(&registry, n)).collect();
    let first = all[0].version;
    for version in all.iter().map(|manifest| manifest.version) {
        let text = version.to_string();
        assert_eq!(registry.resolve(&text).unwrap(), version);
        for digits in 1..16 {
            let alike = all.iter().filter(|m| m.version.to_string().starts_with(&text[..digits]));
            let found = registry.resolve(&text[..digits]);
            match alike.count() {
                1 => assert_eq!(found.unwrap(), version),
                n => assert!(matches!(found.unwrap_err(),
                    RegistryError::Ambiguous { versions, .. } if versions.len() == n)),
            }
        }
    }
    assert!(matches!(registry.resolve("champion"), Err(RegistryError::NotFound { .. })));
    registry.set_champion(first, &change(0)).unwrap();
    assert_eq!(registry.resolve("champion").unwrap(), first);
    assert!(matches!(registry.resolve("xyz"), Err(RegistryError::NotFound { .. })));
    assert_eq!(registry.versions().unwrap()[0].version, all[39].version);
}

#[test]
fn a_flipped_byte_is_found_in_every_object() {
    let (memory, registry) = registry();
    let made = register(&registry, 1);
    registry.set_champion(made.version, &change(0)).unwrap();
    registry.quarantine(made.version, "it is too good", 1).unwrap();
    let whole = dump(&memory);
    assert_eq!(whole.len(), 5, "{:?}", whole.keys());
    for (key, bytes) in &whole {
        let step = (bytes.len() / 50).max(1);
        for at in (0..bytes.len()).step_by(step) {
            let (memory, registry) = restored(&whole);
            overwrite(&memory, key, flip(bytes, at));
            let looked = registry.get(made.version).and_then(|manifest| registry.verify(&manifest));
            let looked = looked.and(registry.aliases().map(drop));
            let looked = looked.and(registry.quarantined(made.version).map(drop));
            // White space between fields means nothing.
            let is_text = key.ends_with(".json");
            let means_nothing = is_text && bytes[at].is_ascii_whitespace();
            let error = match looked {
                Ok(()) if means_nothing => continue,
                looked => looked.unwrap_err(),
            };
            assert!(matches!(error, RegistryError::Damaged { .. }), "{key} at {at}: {error}");
        }
    }
}

#[test]
fn a_field_of_a_later_version_is_passed_over_and_a_later_format_is_told() {
    let (memory, registry) = registry();
    let made = register(&registry, 1);
    let key = manifest_key(made.version);
    let mut value = serde_json::to_value(&made).unwrap();
    value["golden"] = json!({ "requests": 7 });
    value["training"]["batches"] = json!(3);
    overwrite(&memory, &key, record::seal(&value).unwrap());
    assert_eq!(registry.get(made.version).unwrap(), made);
    value["format"] = json!(2);
    overwrite(&memory, &key, record::seal(&value).unwrap());
    let error = registry.get(made.version).unwrap_err();
    assert!(matches!(&error, RegistryError::Format { found, .. } if found == "2"), "{error}");
    // It does not hide the others.
    register(&registry, 2);
    let all = registry.scan().unwrap();
    assert!(all[0].1.is_ok() && all[1].1.is_err());
    assert!(registry.versions().is_err());
}

#[test]
fn only_what_is_blessed_whole_and_not_in_quarantine_becomes_champion() {
    let (memory, registry) = registry();
    let bare = registry.register(unblessed(&basis(1)), files(&basis(1))).unwrap().version;
    let error = registry.set_champion(bare, &change(0)).unwrap_err().to_string();
    assert!(error.contains("validation: clicks fell; loading: not tried"), "{error}");
    let forced = AliasChange { force: Some("the old one is broken"), ..change(0) };
    let aliases = registry.set_champion(bare, &forced).unwrap();
    assert_eq!((aliases.epoch, aliases.champion), (1, Some(bare)));
    assert_eq!(aliases.forced.as_deref(), Some("the old one is broken"));

    let good = register(&registry, 2);
    // Force that was not needed is none.
    let aliases =
        registry.set_champion(good.version, &AliasChange { force: Some("so"), ..change(1) });
    assert_eq!(aliases.unwrap().forced, None);
    let mut bytes = dump(&memory)[&file_key(good.version, "report.md")].clone();
    bytes = flip(&bytes, 0);
    let bad = register(&registry, 3);
    overwrite(&memory, &file_key(bad.version, "report.md"), bytes);
    let error = registry.set_champion(bad.version, &change(2)).unwrap_err();
    assert!(matches!(error, RegistryError::Damaged { .. }), "{error}");

    registry.quarantine(bare, "lists of one item", 5).unwrap();
    let again = registry.quarantine(bare, "another reason", 6).unwrap();
    assert_eq!(again.why, "lists of one item");
    let error =
        registry.set_champion(bare, &AliasChange { expected_epoch: 2, ..forced }).unwrap_err();
    assert!(error.to_string().ends_with("is in quarantine: lists of one item"), "{error}");
    assert_eq!(registry.quarantines().unwrap().len(), 1);
    assert!(registry.quarantine(ModelVersion(5), "why", 5).is_err());
    assert_eq!(registry.aliases().unwrap().champion, Some(good.version));
}

#[test]
fn aliases_are_a_history_that_says_who_and_why() {
    let (_memory, registry) = registry();
    let [a, b, c] = [1, 2, 3].map(|n| register(&registry, n).version);
    assert_eq!(registry.aliases().unwrap(), Aliases::default());
    registry.set_champion(a, &change(0)).unwrap();
    registry.set_challenger(Some(b), &change(1)).unwrap();
    assert_eq!(registry.set_challenger(Some(b), &change(2)).unwrap().epoch, 2, "nothing to change");
    registry.set_champion(b, &change(2)).unwrap();
    registry.set_champion(c, &change(3)).unwrap();
    let back = registry.set_champion(b, &change(4)).unwrap();
    let told = |aliases: &Aliases| {
        (aliases.epoch, aliases.champion, aliases.challenger, aliases.previous_champion)
    };
    let history: Vec<_> = registry.history().unwrap().iter().map(told).collect();
    let expected = [
        (5, Some(b), None, Some(c)),
        (4, Some(c), None, Some(b)),
        (3, Some(b), None, Some(a)),
        (2, Some(a), Some(b), None),
        (1, Some(a), None, None),
    ];
    assert_eq!(history, expected);
    assert_eq!(registry.aliases().unwrap(), back);
    assert_eq!((back.by.as_str(), back.why.as_str(), back.at_ms), ("ann", "it is better", 4));
    let unsaid = AliasChange { why: " ", ..change(5) };
    assert!(matches!(registry.set_champion(a, &unsaid), Err(RegistryError::Unsaid("why"))));
}

#[test]
fn one_of_many_writers_of_an_epoch_wins_and_the_others_learn_it() {
    let (_memory, registry) = registry();
    let all: Vec<ModelVersion> = (0..6).map(|n| register(&registry, n).version).collect();
    for epoch in 0..10 {
        let wins: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = all
                .iter()
                .map(|version| {
                    let registry = &registry;
                    scope.spawn(move || registry.set_challenger(Some(*version), &change(epoch)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // Whoever finds its version there already changes nothing, and epochs are not skipped.
        let changed = |made: &&Result<Aliases, _>| made.as_ref().is_ok_and(|a| a.epoch > epoch);
        let won: Vec<_> = wins.iter().filter(changed).collect();
        assert!(won.len() <= 1);
        let now = registry.aliases().unwrap();
        for made in &wins {
            match made {
                Ok(aliases) if aliases.epoch > epoch => assert_eq!(*aliases, now),
                Ok(aliases) => assert_eq!(aliases.epoch, epoch),
                Err(RegistryError::Conflict { expected, .. }) => assert_eq!(*expected, epoch),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(now.epoch, epoch + 1);
    }
    assert_eq!(registry.history().unwrap().len(), 10);
}

proptest! {
    #[test]
    fn a_version_is_sixteen_digits_and_nothing_else(number: u64, text in "[0-9a-fA-F+ ]{0,18}") {
        let version = ModelVersion(number);
        prop_assert_eq!(version.to_string().parse::<ModelVersion>(), Ok(version));
        let plain = text.len() == 16 && !text.contains(|c: char| c.is_uppercase() || "+ ".contains(c));
        prop_assert_eq!(text.parse::<ModelVersion>().is_ok(), plain);
    }
}

#[test]
fn what_a_snapshot_of_the_lake_lists_is_the_lineage() {
    let file = |n| crate::lake::DataFile {
        key: format!("t/{n}.parquet"),
        rows: 5,
        bytes: 9,
        sha256: format!("{n:064x}"),
    };
    let topic = |watermark| crate::lake::TopicSnapshot {
        files: vec![file(1), file(2)],
        rows: 10,
        watermark_ms: Some(watermark),
        offsets: vec![(0, 0, 0, 7), (1, 2, 3, 6)],
        schemas: vec![],
    };
    let topics = [("t".to_owned(), topic(5)), ("u".to_owned(), topic(9))].into();
    let lineage = Lineage::of("run-7", &crate::lake::Snapshot { topics });
    assert_eq!(lineage.snapshot.as_deref(), Some("run-7"));
    assert_eq!(lineage.watermark_ms, Some(9));
    let t = &lineage.topics["t"];
    assert_eq!((t.rows, t.watermark_ms, t.files.len()), (10, Some(5), 2));
    assert_eq!(t.files[1].sha256.as_deref(), Some(&*format!("{:064x}", 2)));
    let second = OffsetRange { partition: 1, generation: 2, start: 3, end: 6 };
    assert_eq!(t.offsets[1], second);
}
