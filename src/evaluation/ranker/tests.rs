use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::dataset::{Past, Profile, RowKind, Sessions};
use crate::ids::{ItemId, Surface, UserId};
use crate::time::MINUTE_MS;

const STEP_MS: i64 = 7 * MINUTE_MS;

/// Exposures seven minutes apart of (user, item, clicked), sessions ending after half an hour.
fn log(shown: &[(u8, u8, bool)]) -> Log {
    let mut log = Log::with_exposures();
    for (number, &(user, item, clicked)) in shown.iter().enumerate() {
        let row = |kind| crate::dataset::Row {
            user: UserId::new(format!("u{user}")),
            item: ItemId::new(format!("i{item}")),
            at: EventTime::from_millis(number as i64 * STEP_MS),
            surface: Some(Surface::from("feed")),
            session: None,
            kind,
            source: Arc::from("test"),
            number: number as u64,
        };
        log.push(&row(RowKind::Impression));
        if clicked {
            log.push(&row(RowKind::Click));
            log.push(&row(RowKind::Watch { watched_ms: 30_000, duration_ms: Some(60_000) }));
        }
    }
    log.finish(Some(Sessions::new(std::time::Duration::from_secs(30 * 60))));
    log
}

fn items(log: &Log) -> Vec<Item> {
    let id = |n: u32| stable_hash(log.item_of(n).as_bytes());
    (0..log.items.len() as u32)
        .map(|n| Item { id: id(n), category: u64::from(n % 2 + 1), ..Item::default() })
        .collect()
}

/// What is found where all is judged, and the dense features of what sessions are taken for, by
/// session.
fn evaluate(log: &Log) -> (RankerEvaluation, HashMap<u64, Vec<Vec<f32>>>) {
    let items = items(log);
    let (test_from, until) = (EventTime::from_millis(0), EventTime::from_millis(i64::MAX));
    let run = RankerRun { log, items: &items, test_from, until };
    let mut people = People::default();
    people.add_profile(&Profile {
        user: UserId::from("u1"),
        values: vec![("age".into(), "30".into())],
    });
    people.add_past(Past {
        user: UserId::from("u1"),
        last: EventTime::from_millis(-1),
        watched: vec![ItemId::from("i1"), ItemId::from("elsewhere")],
        viewed_long: vec![ItemId::from("i1")],
    });
    let mut requests: HashMap<u64, Vec<Vec<f32>>> = HashMap::new();
    let row = |row: Row<'_>| {
        if row.part == Part::Request {
            let dense = row.features.dense.to_vec();
            requests.entry(row.exposure.session).or_default().push(dense);
        }
        Ok::<(), Infallible>(())
    };
    let found = run.evaluate(people, row, |_| true).unwrap_or_else(|never| match never {});
    (found.unwrap(), requests)
}

fn shown() -> impl Strategy<Value = Vec<(u8, u8, bool)>> {
    prop::collection::vec((0u8..3, 0u8..5, any::<bool>()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_came_of_an_exposure_changes_no_score_of_the_next_half_hour(
        shown in shown(), place in any::<prop::sample::Index>()
    ) {
        let place = place.index(shown.len());
        let mut other = shown.clone();
        other[place].2 ^= true;
        let (ours, theirs) = (evaluate(&log(&shown)).0, evaluate(&log(&other)).0);
        let pairs = ours.tested.iter().zip(&theirs.tested).enumerate();
        for (n, (ours, theirs)) in pairs {
            let known = n as i64 * STEP_MS >= place as i64 * STEP_MS + KNOWN_AFTER_MS;
            // Everything moves once it is known, by the constant alone.
            prop_assert_eq!(ours.scores != theirs.scores, known, "exposure {}", n);
        }
    }

    #[test]
    fn every_exposure_is_judged_once_and_once_in_the_request_of_its_session(shown in shown()) {
        let (found, requests) = evaluate(&log(&shown));
        prop_assert_eq!(found.tested.len(), shown.len());
        prop_assert_eq!(requests.values().map(Vec::len).sum::<usize>(), shown.len());
        for target in 0..TARGETS {
            prop_assert_eq!(found.impressions[target].shown.len(), shown.len());
            prop_assert_eq!(found.requests[target].shown.len(), shown.len());
        }
        // What is of user and moment comes first, and is held.
        let names = crate::ranking::names();
        let held = names.iter().position(|name| name == "base.click").unwrap();
        for rows in requests.values() {
            prop_assert!(rows.iter().all(|row| row[..held] == rows[0][..held]));
        }
    }
}

#[test]
fn rows_and_log_odds_come_back_from_the_file() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let log = log(&[(1, 1, true), (2, 2, false), (1, 2, true)]);
    let items = items(&log);
    let (test_from, until) = (EventTime::from_millis(STEP_MS), EventTime::from_millis(i64::MAX));
    let run = RankerRun { log: &log, items: &items, test_from, until };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.parquet");
    let mut columns = Columns::new(std::fs::File::create(&path).unwrap()).unwrap();
    let found = run.evaluate(People::default(), |row| columns.push(&row), |_| true);
    assert_eq!(found.unwrap().unwrap().learnt_before, 0);
    columns.finish().unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    // One to learn from, two judged, and these two again in requests.
    assert_eq!(rows.len(), 5);
    let column = |row: &parquet::record::Row, name: &str| {
        row.get_column_iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
    };
    let parts: Vec<_> = rows.iter().map(|row| column(row, "part").unwrap()).collect();
    assert_eq!(parts.iter().filter(|part| *part == "2").count(), 2);
    assert_eq!(column(&rows[0], "click"), Some("1".to_owned()));
    assert_eq!(column(&rows[0], "f_constant"), Some("1.0".to_owned()));
    let log_odds: f32 = column(&rows[0], "model_0_click").unwrap().parse().unwrap();
    assert_eq!(log_odds, -0.3);
}
