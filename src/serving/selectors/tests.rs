use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::exploration::{Unproven, explore};
use super::*;
use crate::catalog::Catalog;
use crate::embedding::{ItemTables, TablesConfig};
use crate::event::{CatalogItem, Request};
use crate::feature::UserState;
use crate::global::{GlobalTables, HalfLives, NeighboursConfig};
use crate::ids::{ItemId, UserId};
use crate::serving::{Blends, Shown, World};

fn candidate(n: usize, score: f64) -> Candidate {
    let item: Arc<str> = format!("v{n}").into();
    Candidate {
        hash: stable_hash(item.as_bytes()),
        item,
        contributions: Vec::new(),
        score,
        ranked: None,
    }
}

/// Items with one creator and up to three labels each, by number.
fn catalog(items: &[(u8, Vec<u8>)]) -> Catalog {
    let mut catalog = Catalog::default();
    for (n, (creator, labels)) in items.iter().enumerate() {
        catalog.upsert(&CatalogItem {
            creator: if *creator == 0 { String::new() } else { format!("c{creator}") },
            tags: labels.iter().map(|label| format!("t{label}")).collect(),
            ..CatalogItem::new(ItemId::new(format!("v{n}")))
        });
    }
    catalog
}

fn select(rules: ListRules, catalog: &Catalog, scores: &[f64], count: usize) -> Vec<Scored> {
    let half_lives = HalfLives { default_hours: 24.0, by_surface: Default::default() };
    let global = GlobalTables::new(NeighboursConfig::default(), half_lives);
    let request = Request { seed: Some(7), ..Request::new("r", UserId::from("u"), count) };
    let world = World {
        user: &UserState::default(),
        global: &global,
        catalog,
        items: &ItemTables::new(TablesConfig::default()),
        blends: &Blends::default(),
        shown: &Shown::default(),
        ranking: None,
    };
    let candidates = scores.iter().enumerate().map(|(n, score)| candidate(n, *score)).collect();
    Diverse(rules).select(&Query::new(&request, world), candidates)
}

fn numbers(list: &[Scored]) -> Vec<usize> {
    list.iter().map(|one| one.candidate.item[1..].parse().unwrap()).collect()
}

/// Maximal marginal relevance, word for word.
fn naive(rules: ListRules, items: &[(u8, Vec<u8>)], scores: &[f64], count: usize) -> Vec<usize> {
    let comparable = |a: usize, b: usize| {
        let ((maker_a, a), (maker_b, b)) = (&items[a], &items[b]);
        let [a, b] = [a, b].map(|labels| labels.iter().collect::<BTreeSet<_>>());
        if *maker_a > 0 && maker_a == maker_b {
            Some(1.0)
        } else if !a.is_empty() && !b.is_empty() {
            Some(a.intersection(&b).count() as f64 / a.union(&b).count() as f64)
        } else if *maker_a > 0 && *maker_b > 0 {
            Some(0.0)
        } else {
            None
        }
    };
    let mut left: Vec<usize> = (0..scores.len()).collect();
    left.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    left.truncate(4 * count);
    let mut list: Vec<usize> = Vec::new();
    // What each item on the list was like to those then left, and so is to what cannot be compared.
    let mut means: Vec<f64> = Vec::new();
    while list.len() < count && !left.is_empty() {
        let made = |item: usize| {
            let maker = items[item].0;
            list.iter().filter(|there| maker > 0 && items[**there].0 == maker).count()
        };
        let open: Vec<usize> =
            left.iter().copied().filter(|item| made(*item) < rules.max_per_creator).collect();
        let value = |item: usize| {
            let there = list.iter().zip(&means);
            let like = there.map(|(there, mean)| comparable(item, *there).unwrap_or(*mean));
            let most = like.fold(0.0, f64::max);
            scores[item] / scores[open[0]] - rules.diversity * most
        };
        let mut next = *open.first().unwrap_or(&left[0]);
        for &item in &open {
            if value(item) > value(next) {
                next = item;
            }
        }
        left.retain(|item| *item != next);
        list.push(next);
        let known: Vec<f64> = left.iter().filter_map(|item| comparable(*item, next)).collect();
        means.push(known.iter().sum::<f64>() / known.len().max(1) as f64);
    }
    list
}

fn items() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let labels = proptest::collection::btree_set(0..6u8, 0..3);
    vec((0..5u8, labels.prop_map(|labels| labels.into_iter().collect())), 0..60)
}

proptest! {
    #[test]
    fn the_list_is_maximal_marginal_relevance_under_the_cap(
        items in items(),
        gaps in vec(0.01..0.6f64, 60),
        count in 1..15usize,
        diversity in prop_oneof![Just(0.0), 0.0..1.0f64],
        max_per_creator in 1..6usize,
    ) {
        let rules = ListRules { diversity, max_per_creator, exploration: 0.0 };
        // No two are equal: the seed's order of equals is another test's.
        let scores: Vec<f64> = gaps[..items.len()]
            .iter()
            .scan(1.0, |score, gap| { *score *= 1.0 - gap; Some(*score) })
            .collect();
        let list = select(rules, &catalog(&items), &scores, count);
        prop_assert_eq!(numbers(&list), naive(rules, &items, &scores, count));
        prop_assert!(list.iter().all(|one| one.propensity == 1.0 && !one.explored));
    }

    #[test]
    fn no_creator_has_more_than_the_cap_while_others_could_fill_the_list(
        items in items(),
        count in 1..15usize,
        max_per_creator in 1..4usize,
    ) {
        let rules = ListRules { max_per_creator, exploration: 0.0, ..ListRules::default() };
        let scores: Vec<f64> = (0..items.len()).map(|n| 1.0 / (n + 1) as f64).collect();
        let list = numbers(&select(rules, &catalog(&items), &scores, count));
        let mut left: BTreeMap<u8, usize> = BTreeMap::new();
        let looked_at = items.len().min(4 * count);
        items[..looked_at].iter().for_each(|(maker, _)| *left.entry(*maker).or_default() += 1);
        let fit = |(maker, own): (&u8, &usize)| if *maker == 0 { *own } else { *own.min(&max_per_creator) };
        let could: usize = left.iter().map(fit).sum();
        prop_assert_eq!(list.len(), items.len().min(count));
        if could >= count {
            for maker in 1..5 {
                let own = list.iter().filter(|item| items[**item].0 == maker).count();
                prop_assert!(own <= max_per_creator);
            }
        }
    }

    #[test]
    fn propensities_of_a_place_add_up_to_one_and_nothing_comes_twice(
        weights in vec(0.01..50.0f64, 0..60),
        places in 1..30usize,
        share in 0.0..=1.0f64,
        seed in any::<u64>(),
    ) {
        let list: Vec<Candidate> = (0..places).map(|n| candidate(n, 1.0)).collect();
        let pool = weights.iter().enumerate();
        let pool: Vec<Unproven> = pool
            .map(|(n, weight)| Unproven { candidate: candidate(1_000 + n, 0.1), weight: *weight })
            .collect();
        let explored = explore(share, seed, list, pool);
        prop_assert_eq!(explored.len(), places);
        let names: BTreeSet<&str> = explored.iter().map(|one| &*one.candidate.item).collect();
        prop_assert_eq!(names.len(), places);
        for (place, one) in explored.iter().enumerate() {
            prop_assert!(one.propensity > 0.0 || !one.explored);
            prop_assert_eq!(one.explored, *one.candidate.item != *format!("v{place}"));
        }
        let again = (0..places).map(|n| candidate(n, 1.0)).collect();
        let none = explore(share, seed, again, Vec::new());
        prop_assert!(none.iter().all(|one| one.propensity == 1.0 && !one.explored));
    }
}

#[test]
fn an_item_like_one_on_the_list_gives_way_to_one_of_nearly_its_score() {
    let items = [(1, vec![]), (1, vec![]), (2, vec![])];
    let rules = ListRules { diversity: 0.2, max_per_creator: 9, exploration: 0.0 };
    let order = |scores: &[f64]| numbers(&select(rules, &catalog(&items), scores, 3));
    assert_eq!(order(&[1.0, 0.5, 0.41]), [0, 2, 1]);
    assert_eq!(order(&[1.0, 0.5, 0.39]), [0, 1, 2]);
}

#[test]
fn an_item_of_which_nothing_is_known_is_not_lifted_for_it() {
    // Two of each creator, and in between one that nobody made.
    let items = [(1, vec![]), (1, vec![]), (0, vec![]), (2, vec![])];
    let rules = ListRules { diversity: 0.2, max_per_creator: 9, exploration: 0.0 };
    let order = |scores: &[f64]| numbers(&select(rules, &catalog(&items), scores, 4));
    // Like the first are 1 and 0 of what is known: half. Only what is known to be unlike passes.
    assert_eq!(order(&[1.0, 0.5, 0.42, 0.30]), [0, 1, 2, 3]);
    assert_eq!(order(&[1.0, 0.5, 0.42, 0.41]), [0, 3, 1, 2]);
}

/// Pearson's χ² of counts and what was expected.
fn chi_squared(found: &[(f64, f64)]) -> f64 {
    found.iter().map(|(count, expected)| (count - expected).powi(2) / expected).sum()
}

/// Draws a list of `places` from as many items and a pool, and holds what came against the
/// propensities that were told.
fn hold_against_propensities(places: usize, weights: &[f64], share: f64) {
    const DRAWS: u64 = 60_000;
    // By place and item: how often it was there, and the propensity told.
    let mut found: BTreeMap<(usize, String), (u64, f64)> = BTreeMap::new();
    for seed in 0..DRAWS {
        let list = (0..places).map(|n| candidate(n, 1.0)).collect();
        let pool = weights.iter().enumerate();
        let pool = pool
            .map(|(n, weight)| Unproven { candidate: candidate(1_000 + n, 0.1), weight: *weight })
            .collect();
        for (place, one) in explore(share, seed, list, pool).into_iter().enumerate() {
            let key = (place, one.candidate.item.to_string());
            let entry = found.entry(key).or_insert((0, one.propensity));
            entry.0 += 1;
            assert_eq!(entry.1, one.propensity, "the same item at the same place");
        }
    }
    let possible = places * (weights.len() + 1);
    assert_eq!(found.len(), possible, "every item of the pool comes to every place");
    for place in 0..places {
        let own = found.iter().filter(|((at, _), _)| *at == place);
        let counts: Vec<(f64, f64)> =
            own.map(|(_, (count, p))| (*count as f64, p * DRAWS as f64)).collect();
        let total: f64 = counts.iter().map(|(_, expected)| expected).sum();
        assert!((total - DRAWS as f64).abs() < 1e-3, "propensities of a place add up to 1");
        // Beyond the mean by five standard deviations: once in more than a million.
        let freedom = (counts.len() - 1) as f64;
        let limit = freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0;
        let chi = chi_squared(&counts);
        assert!(chi < limit, "place {place}: χ² {chi:.1}, {freedom} degrees of freedom");
    }
}

#[test]
fn propensities_are_what_happens() {
    hold_against_propensities(8, &[1.0, 2.0, 3.0, 30.0, 5.0, 1.0, 1.0, 8.0, 1.0, 2.0], 0.3);
}

#[test]
fn propensities_are_what_happens_where_the_pool_is_smaller_than_the_list() {
    hold_against_propensities(6, &[1.0, 4.0, 2.0], 0.5);
}
