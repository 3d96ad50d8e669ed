//! What was shown in vain makes room, and is told.

use std::sync::{Arc, Mutex};

use super::*;
use crate::event::Impression;
use crate::serving::shown::HALF_LIFE_MS;

/// Thirty items, the first watched by most.
fn trending() -> GlobalTables {
    let watched = |n: u8| (0..40 - n).map(move |s| (u64::from(n) * 100 + u64::from(s), n, "home"));
    tables(&(0..30).flat_map(watched).collect())
}

fn ask(count: usize) -> Request {
    let at = Some(EventTime::from_millis(BASE + 100 * 60 * MINUTE_MS));
    Request { at, surface: Surface::from("home"), ..Request::new("r", UserId::from("user"), count) }
}

fn hashes(items: &[RecommendedItem]) -> Vec<u64> {
    items.iter().map(|item| stable_hash(item.item.as_bytes())).collect()
}

#[test]
fn a_list_that_was_shown_in_vain_makes_room_for_another_and_the_same_state_gives_the_same_list() {
    let global = trending();
    let user = UserState::default();
    let request = ask(5);
    let first = answer(&request, &user, &global);
    let mut shown = Shown::default();
    (0..6).for_each(|n| {
        shown.note(
            &n.to_string(),
            "home",
            request.at.unwrap(),
            hashes(&first.items).into_iter().map(|hash| (hash, 1.0)),
        );
    });
    let next = answer_after(&request, &user, &global, &shown);
    assert!(next.items.iter().all(|item| first.items.iter().all(|old| old.item != item.item)));
    assert_eq!(next.items, answer_after(&request, &user, &global, &shown).items);
    let reasons = |list: &Outcome| list.items[0].reasons[0].text.clone();
    assert_eq!(reasons(&first), reasons(&next));
    // Nothing is left out: where there is no other, it is shown again.
    let all = answer_after(&ask(30), &user, &global, &shown);
    assert_eq!(all.items.len(), 30);
    let last: BTreeSet<&str> = all.items[25..].iter().map(|i| i.item.as_str()).collect();
    assert!(first.items.iter().all(|item| last.contains(item.item.as_str())), "{last:?}");
}

/// Keeps the record of the list.
struct Keep(Arc<Mutex<Vec<u8>>>);

impl SideEffect for Keep {
    fn name(&self) -> &'static str {
        "keep"
    }

    fn after(&self, query: &Query<'_>, list: &[Scored]) {
        *self.0.lock().unwrap() = impression(query, list).encode().unwrap();
    }
}

#[test]
fn a_record_says_what_each_source_said_and_how_often_the_item_was_shown() {
    let global = trending();
    let request = ask(31);
    let mut shown = Shown::default();
    let at = request.at.unwrap();
    shown.note("before", "home", at.plus_millis(-HALF_LIFE_MS), [(stable_hash(b"v3"), 1.0)]);
    let kept = Arc::default();
    let outcome = untrained(CERTAIN).side_effect(Keep(Arc::clone(&kept))).run(Query::new(
        &request,
        World {
            user: &UserState::default(),
            global: &global,
            catalog: &Catalog::default(),
            items: &ItemTables::new(TablesConfig::default()),
            blends: &Blends::default(),
            shown: &shown,
            ranking: None,
        },
    ));
    let bytes = kept.lock().unwrap();
    let record = Impression::decode(&bytes).unwrap();
    assert_eq!((record.blend, record.blend_observed), ("newcomer", 0));
    assert_eq!(record.degraded, ["count"], "what is missing is known before it is told");
    assert_eq!(record.weights.len(), SourceKind::ALL.len());
    assert_eq!(record.items.len(), 30);
    for (told, served) in record.items.iter().zip(&outcome.items) {
        assert_eq!((told.item, told.score), (served.item.as_str(), served.score));
        assert_eq!(told.sources.len(), served.reasons.len());
        assert_eq!(told.features.len(), 13);
        let mixture: f32 = told.features[..9].iter().flatten().sum();
        let (times, discount) = if told.item == "v3" { (0.5, 0.5f64.sqrt()) } else { (0.0, 1.0) };
        assert!((told.score - f64::from(mixture) * discount).abs() < 1e-6 * told.score, "{told:?}");
        assert_eq!(told.features[9..], [Some(0.0), None, None, Some(times)]);
    }
}
