//! What the catalog and the wishes of a request keep out of a list.

use super::*;
use crate::event::{CatalogItem, Device, FeedbackKind, Subject, SubjectKind};
use crate::feature::{FoldRecord, Verdict};
use crate::time::DAY_MS;

/// Records of items by number; none is a tombstone.
type Records = Vec<(u8, Option<CatalogItem>)>;

fn names(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    vec(prop::sample::select(texts).prop_map(str::to_owned), 0..3)
}

fn days(days: std::ops::Range<i64>) -> impl Strategy<Value = Option<EventTime>> {
    let at = days.prop_map(|days| EventTime::from_millis(BASE + days * DAY_MS));
    proptest::option::weighted(0.3, at)
}

fn records() -> impl Strategy<Value = Records> {
    let creator = prop::sample::select(&["", "c1", "c2", "c3"][..]);
    let lists = (names(&["a", "b", "c"]), names(&["de", "de-ch", "fr"]), names(&["CH", "DE"]));
    let times = (proptest::option::of(-9..3i64), days(-3..3), days(-2..9));
    let item = (creator, lists, times, prop::bool::weighted(0.1)).prop_map(
        |(creator, (categories, languages, available_countries), times, blocked)| CatalogItem {
            creator: creator.into(),
            categories,
            languages,
            available_countries,
            published: times.0.map(|days| EventTime::from_millis(BASE + days * DAY_MS)),
            available_from: times.1,
            available_until: times.2,
            blocked,
            ..CatalogItem::new(ItemId::from("to be named"))
        },
    );
    vec((0..25u8, proptest::option::weighted(0.9, item)), 0..40)
}

fn wishes() -> impl Strategy<Value = Request> {
    let country = prop::sample::select(&["", "CH", "ch", "FR"][..]);
    let blocked = (names(&["c1", "c2"]), names(&["a", "b"]));
    let wanted = (names(&["c1", "c2", "c3"]), names(&["a", "b", "c"]));
    let age = proptest::option::of(0..8u32);
    let some = |list: Vec<String>, there: bool| if there { list } else { Vec::new() };
    (request(), country, names(&["de", "de-ch", "fr"]), age, blocked, wanted, any::<[bool; 2]>())
        .prop_map(move |(request, country, languages, age, blocked, wanted, there)| Request {
            device: Some(Device { country: country.into(), ..Device::default() }),
            at: Some(EventTime::from_millis(BASE)),
            languages,
            max_age_days: age,
            blocked_creators: blocked.0,
            blocked_categories: blocked.1,
            creators: some(wanted.0, there[0]),
            categories: some(wanted.1, there[1]),
            ..request
        })
}

/// What the user refused, by kind and id.
type Refusals = Vec<(SubjectKind, String)>;

fn refusals() -> impl Strategy<Value = Refusals> {
    let subject = prop_oneof![
        3 => (0..25u8).prop_map(|n| (SubjectKind::Item, name(n))),
        1 => prop::sample::select(&["c1", "c2", "c3"][..])
            .prop_map(|creator| (SubjectKind::Creator, creator.to_owned())),
        1 => prop::sample::select(&["a", "b", "c"][..])
            .prop_map(|category| (SubjectKind::Category, category.to_owned())),
    ];
    prop_oneof![Just(Vec::new()), vec(subject, 1..6)]
}

/// The operand that says so.
fn refusing(refusals: &Refusals) -> Vec<u8> {
    let mut operand = Vec::new();
    for (kind, id) in refusals {
        let subject = Subject { kind: *kind, id };
        let (at, kind) = (EventTime::from_millis(BASE), FeedbackKind::NotInterested);
        FoldRecord::Verdict(Verdict { at, kind, subject }).encode(&mut operand);
    }
    operand
}

/// Whether an item may be in the list, said as the schemas say it.
fn may_be_served(item: Option<&Option<CatalogItem>>, request: &Request, required: bool) -> bool {
    let unrestricted = request.creators.is_empty()
        && request.categories.is_empty()
        && request.max_age_days.is_none();
    let item = match item {
        None => return !required && unrestricted,
        Some(None) => return false,
        Some(Some(item)) => item,
    };
    let country = request.device.as_ref().map_or("", |d| &*d.country).to_uppercase();
    let (at, has) = (BASE, |list: &[String], name: &str| list.iter().any(|n| n == name));
    let follows = |own: &String| {
        let wanted = request.languages.iter();
        wanted.into_iter().any(|w| w.split('-').zip(own.split('-')).all(|(a, b)| a == b))
    };
    let young =
        |days: u32| item.published.is_some_and(|p| at - p.millis() <= i64::from(days) * DAY_MS);
    let categories = &item.categories;
    !item.blocked
        && item.available_from.is_none_or(|from| from.millis() <= at)
        && item.published.is_none_or(|published| published.millis() <= at)
        && item.available_until.is_none_or(|until| until.millis() > at)
        && (item.available_countries.is_empty() || has(&item.available_countries, &country))
        && (request.languages.is_empty()
            || item.languages.is_empty()
            || item.languages.iter().any(follows))
        && request.max_age_days.is_none_or(young)
        && !has(&request.blocked_creators, &item.creator)
        && (request.creators.is_empty() || has(&request.creators, &item.creator))
        && !categories.iter().any(|c| has(&request.blocked_categories, c))
        && (request.categories.is_empty() || categories.iter().any(|c| has(&request.categories, c)))
}

proptest! {
    #[test]
    fn no_served_item_is_one_that_the_catalog_or_the_request_keeps_out(
        others in others(),
        events in own(),
        request in wishes(),
        records in records(),
        required in any::<bool>(),
        refusals in refusals(),
    ) {
        let global = tables(&others);
        let operand = [operand(&events), refusing(&refusals)].concat();
        let mut user = UserState::default();
        user.fold(&operand, &RULES).unwrap();
        let mut catalog = Catalog::new(required);
        let mut last: BTreeMap<String, Option<CatalogItem>> = BTreeMap::new();
        for (n, record) in records {
            let record = record.map(|r| CatalogItem { item: ItemId::new(name(n)), ..r });
            match &record {
                Some(item) => catalog.upsert(item),
                None => catalog.delist(&name(n)),
            }
            last.insert(name(n), record);
        }
        let world = World { user: &user, global: &global, catalog: &catalog, items: &ItemTables::new(TablesConfig::default()), blends: &Blends::default(), shown: &Shown::default(), ranking: None };
        let outcome = untrained(CERTAIN).run(Query::new(&request, world));
        let is_refused = |item: &str| refusals.iter().any(|(kind, id)| match (kind, last.get(item)) {
            (SubjectKind::Item, _) => id == item,
            (SubjectKind::Creator, Some(Some(listed))) => listed.creator == *id,
            (SubjectKind::Category, Some(Some(listed))) => listed.categories.contains(id),
            _ => false,
        });
        let may = |item: &str| {
            may_be_served(last.get(item), &request, required) && !is_refused(item)
        };
        for item in &outcome.items {
            prop_assert!(may(&item.item), "{}: {:?}", item.item, last.get(&item.item));
            for cause in item.reasons.iter().filter_map(|reason| reason.item.as_deref()) {
                let watching = request.context_item.as_ref().is_some_and(|now| now.as_str() == cause);
                prop_assert!(watching || !is_refused(cause), "{cause} is refused");
            }
        }
        // And nothing else is missing: the catalog and the user keep out no more than they must.
        let expected = scores(&events, &request, &global);
        let expected = expected.keys().filter(|item| may(item)).count().min(request.count);
        if refusals.is_empty() {
            prop_assert_eq!(outcome.items.len(), expected);
        } else {
            // In place of what was begun and refused, something else may be gone on with.
            prop_assert!(outcome.items.len() >= expected);
        }
    }
}

#[test]
fn a_list_is_full_though_most_of_what_is_trending_may_not_be_in_it() {
    let half_lives = HalfLives { default_hours: 24.0, by_surface: HashMap::new() };
    let mut global = GlobalTables::new(NeighboursConfig::default(), half_lives);
    let mut catalog = Catalog::default();
    for n in 0..600 {
        let item = format!("v{n}");
        let one = Interaction { session: n, event: n, item: &item, ..Interaction::default() };
        global.learn_one(&one);
        let creator = if n % 60 == 0 { "rare" } else { "frequent" };
        let creator = creator.to_owned();
        catalog.upsert(&CatalogItem { creator, ..CatalogItem::new(ItemId::new(item)) });
    }
    global.refresh();
    let wish =
        Request { creators: vec!["rare".into()], ..Request::new("r", UserId::from("user"), 10) };
    let answer = |request: &Request, catalog: &Catalog| {
        let world = World {
            user: &UserState::default(),
            global: &global,
            catalog,
            items: &ItemTables::new(TablesConfig::default()),
            blends: &Blends::default(),
            shown: &Shown::default(),
            ranking: None,
        };
        untrained(CERTAIN).run(Query::new(request, world))
    };
    let outcome = answer(&wish, &catalog);
    assert_eq!(outcome.items.len(), 10);
    assert!(outcome.degraded.is_empty());
    (0..600).filter(|n| n % 60 != 0).for_each(|n| catalog.delist(&format!("v{n}")));
    let outcome = answer(&Request { creators: Vec::new(), ..wish }, &catalog);
    assert_eq!(outcome.items.len(), 10);
}
