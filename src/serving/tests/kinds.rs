//! Requests about an item, and those of sessions without a user.

use super::*;
use crate::event::{CatalogItem, FeedbackKind, RequestKind, Subject, SubjectKind};
use crate::feature::{FoldRecord, Verdict};

fn ids(numbers: &[u8]) -> Vec<ItemId> {
    numbers.iter().map(|n| ItemId::new(name(*n))).collect()
}

fn clicks(numbers: &[u8]) -> Vec<Own> {
    numbers.iter().map(|&item| Own { source: Source::Click, item, part: 0, seconds: 0 }).collect()
}

/// The list and what was missing, of a world with this user.
fn of_user(request: &Request, events: &[Own], global: &GlobalTables) -> Outcome {
    let operand = operand(events);
    let mut user = UserState::default();
    user.fold(&operand, &RULES).unwrap();
    answer(request, &user, global)
}

fn seen_by_an_anonymous_session(request: &Request) -> BTreeSet<String> {
    request.recent_items.iter().flatten().map(ToString::to_string).collect()
}

proptest! {
    #[test]
    fn an_anonymous_session_is_answered_from_its_own_items_and_nothing_of_the_user(
        others in others(),
        events in own(),
        request in request(),
        recent in vec(0..30u8, 0..12),
    ) {
        let global = tables(&others);
        let request = Request { recent_items: Some(ids(&recent)), ..request };
        let outcome = of_user(&request, &events, &global);
        let stranger = answer(&request, &UserState::default(), &global);
        prop_assert_eq!(&outcome.items, &stranger.items);
        let seen = seen_by_an_anonymous_session(&request);
        for item in &outcome.items {
            prop_assert!(request.include_seen || !seen.contains(&item.item), "{item:?}");
            let is = |other: &ItemId| other.as_str() == item.item;
            prop_assert!(!request.exclude.iter().chain(&request.context_item).any(is));
            for reason in item.reasons.iter().filter(|r| r.kind == "because_you_watched") {
                let cause = reason.item.clone().unwrap_or_default();
                prop_assert!(seen.contains(&cause), "{reason:?}");
            }
        }
    }

    #[test]
    fn what_is_related_to_an_item_is_the_same_for_everybody_but_for_what_they_have_seen(
        others in others(),
        events in own(),
        request in request(),
        about in 0..25u8,
    ) {
        let global = tables(&others);
        let context_item = Some(ItemId::new(name(about)));
        let request = Request { kind: RequestKind::Related, context_item, ..request };
        let everything = Request { count: 60, ..request.clone() };
        let all = answer(&everything, &UserState::default(), &global).items;
        let own = of_user(&everything, &events, &global).items;
        let seen = seen(&events);
        let expected: Vec<&str> = list(&all)
            .into_iter()
            .filter(|item| request.include_seen || !seen.contains(*item))
            .collect();
        // Scores are shares of what is left, so that only the set is the same.
        let set = |items: &[&str]| items.iter().map(|i| (*i).to_owned()).collect::<BTreeSet<_>>();
        prop_assert_eq!(set(&list(&own)), set(&expected));
        for item in &own {
            prop_assert_eq!(&item.reasons[0].kind, "because_you_are_watching");
            prop_assert_eq!(item.reasons[0].item.clone(), Some(name(about)));
            prop_assert!(item.item != name(about));
        }
    }
}

#[test]
fn what_an_anonymous_session_watched_leads_to_what_goes_with_it() {
    let others: Others = (0..5).flat_map(|s| [(s, 1, "home"), (s, 2, "home")]).collect();
    let request =
        Request { recent_items: Some(ids(&[1])), ..Request::new("r", UserId::from(""), 1) };
    let outcome = of_user(&request, &clicks(&[2]), &tables(&others));
    assert_eq!(list(&outcome.items), ["v2"], "what the user clicked is not read");
    assert_eq!(outcome.items[0].reasons[0].text, "Because you watched v1");
}

#[test]
fn what_a_user_refused_is_left_out_of_an_anonymous_session_and_of_what_is_related_too() {
    let others: Others = (0..5).flat_map(|s| [1, 2, 3].map(|n| (s, n, "home"))).collect();
    let global = tables(&others);
    let subject = Subject { kind: SubjectKind::Item, id: "v2" };
    let (at, kind) = (EventTime::from_millis(BASE), FeedbackKind::NotInterested);
    let mut operand = Vec::new();
    FoldRecord::Verdict(Verdict { at, kind, subject }).encode(&mut operand);
    let mut user = UserState::default();
    user.fold(&operand, &RULES).unwrap();
    let personal = Request::new("r", UserId::from("user"), 5);
    let session = Request { recent_items: Some(ids(&[1])), ..personal.clone() };
    let about = Some(ItemId::from("v1"));
    let related = Request { kind: RequestKind::Related, context_item: about, ..personal.clone() };
    for (request, expected) in [(personal, 2), (session, 1), (related, 1)] {
        let items = answer(&request, &user, &global).items;
        assert_eq!(items.len(), expected, "{items:?}");
        assert!(items.iter().all(|item| item.item != "v2"), "{items:?}");
        let before = answer(&request, &UserState::default(), &global).items;
        assert!(before.iter().any(|item| item.item == "v2"), "{before:?}");
    }
}

#[test]
fn a_visitor_who_has_watched_nothing_gets_what_trends() {
    let request =
        Request { recent_items: Some(Vec::new()), ..Request::new("r", UserId::from(""), 1) };
    let outcome = of_user(&request, &clicks(&[1]), &tables(&vec![(1, 1, "home")]));
    assert_eq!(list(&outcome.items), ["v1"]);
    assert_eq!(outcome.items[0].source, "trending");
}

#[test]
fn what_is_related_is_not_filled_up_with_what_trends() {
    let mut others: Others = vec![(1, 1, "home"), (1, 2, "home")];
    others.extend((10..30).map(|session| (session, 3, "home")));
    let request = Request {
        kind: RequestKind::Related,
        context_item: Some(ItemId::from("v1")),
        ..Request::new("r", UserId::from(""), 5)
    };
    let outcome = of_user(&request, &[], &tables(&others));
    assert_eq!(list(&outcome.items), ["v2"]);
    assert_eq!(outcome.items[0].reasons[0].text, "Because you are watching v1");
    let parts: Vec<_> = outcome.degraded.iter().map(|d| d.part.as_str()).collect();
    assert_eq!(parts, ["count"]);
}

#[test]
fn an_item_that_nobody_watched_leads_to_its_labels_and_its_creator() {
    let global = tables(&vec![(1, 9, "home")]);
    let mut catalog = Catalog::default();
    for (item, creator, tag) in [("new", "c", "t"), ("own", "c", ""), ("alike", "d", "t")] {
        let tags = Some(tag.to_owned()).filter(|tag| !tag.is_empty()).into_iter().collect();
        let creator = creator.to_owned();
        catalog.upsert(&CatalogItem { creator, tags, ..CatalogItem::new(ItemId::from(item)) });
    }
    catalog.set_shelves(catalog.shelve(&global.watched(), global.watermark()));
    let request = Request {
        kind: RequestKind::Related,
        context_item: Some(ItemId::from("new")),
        ..Request::new("r", UserId::from(""), 5)
    };
    let world = World {
        user: &UserState::default(),
        global: &global,
        catalog: &catalog,
        items: &ItemTables::new(TablesConfig::default()),
        blends: &Blends::default(),
        shown: &Shown::default(),
        ranking: None,
    };
    let outcome = untrained(CERTAIN).run(Query::new(&request, world));
    let found: BTreeSet<&str> = list(&outcome.items).into_iter().collect();
    assert_eq!(found, BTreeSet::from(["alike", "own"]), "and not what trends");
}

#[test]
fn the_score_of_an_item_is_that_of_the_list_and_that_any_item_may_come() {
    let others: Others = (0..60).map(|n| (n % 12, (n % 7) as u8, "home")).collect();
    let global = tables(&others);
    let user = UserState::default();
    let mut request = Request::new("r", UserId::from("user"), 30);
    request.include_seen = true;
    let items = ItemTables::new(TablesConfig::default());
    let (catalog, blends, shown) = (Catalog::default(), Blends::default(), Shown::default());
    let (global, items, catalog, blends, shown) = (&global, &items, &catalog, &blends, &shown);
    let user = &user;
    let world = || World { user, global, catalog, items, blends, shown, ranking: None };
    let query = || Query::new(&request, world());
    let pipeline = untrained(CERTAIN);
    let score = |item: &str| pipeline.score_of(query(), stable_hash(item.as_bytes()));
    let chance = score("nobody knows it");
    assert!(chance > 0.0 && chance < 1e-3, "{chance}");
    let list = pipeline.run(query()).items;
    assert!(!list.is_empty());
    for item in &list {
        assert!((score(&item.item) - item.score - chance).abs() < 1e-12, "{}", item.item);
    }
}
