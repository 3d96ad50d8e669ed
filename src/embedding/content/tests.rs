use proptest::prelude::*;

use super::ContentFeature::{Category, Creator, DurationMs, Language, Tag};
use super::*;

const CREATORS: [&str; 4] = ["ada", "bo", "cy", "di"];
const TAGS: [&str; 3] = ["cats", "songs", "news"];

fn dim() -> Dim {
    Dim::new(8).unwrap()
}

type Item = (Vec<ContentFeature<'static>>, Vec<f32>, u32);

fn items() -> impl Strategy<Value = Vec<Item>> {
    let features = (0usize..4, proptest::collection::vec(0usize..3, 0..3)).prop_map(|(c, tags)| {
        let tags = tags.into_iter().map(|t| Tag(TAGS[t]));
        std::iter::once(Creator(CREATORS[c])).chain(tags).collect()
    });
    let vector = proptest::collection::vec(-1.0f32..1.0, 8);
    proptest::collection::vec((features, vector, 0u32..50), 1..40)
}

fn fit(items: &[Item], config: &ContentConfig) -> Result<ContentMap, EmbeddingError> {
    ContentMap::fit(dim(), items.iter().map(|(f, v, n)| (&f[..], &v[..], *n)), config)
}

/// Derivative of Σ w (xB − t)² + λ|B|² by each weight, divided by two.
fn largest_gradient(map: &ContentMap, items: &[Item], config: &ContentConfig) -> f64 {
    let mut gradient: Vec<f64> =
        map.weights.values().iter().map(|b| f64::from(config.ridge) * f64::from(*b)).collect();
    for (features, vector, n) in items {
        let trust = f64::from(*n) / (f64::from(*n) + 5.0);
        let predicted = map.predict(features);
        for (column, value) in Hashed::new(features, config.buckets).entries {
            for k in 0..8 {
                let error = f64::from(predicted[k]) - f64::from(vector[k]);
                gradient[column as usize * 8 + k] += trust * f64::from(value) * error;
            }
        }
    }
    gradient.into_iter().fold(0.0, |m, g| f64::max(m, g.abs()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_other_map_fits_better(items in items(), ridge in 0.01f32..5.0) {
        // Few buckets, so that features collide.
        let config = ContentConfig { buckets: 8, ridge };
        let map = fit(&items, &config).unwrap();
        let gradient = largest_gradient(&map, &items, &config);
        prop_assert!(gradient < 1e-2, "{gradient}");
    }
}

#[test]
fn a_new_item_begins_near_those_of_its_creator() {
    let of = |creator: &'static str, sign: f32| {
        let features = vec![Creator(creator), Tag("songs"), Language("pt"), DurationMs(30_000)];
        (features, vec![sign; 8], 100)
    };
    let items: Vec<Item> = (0..20).flat_map(|_| [of("ada", 1.0), of("bo", -1.0)]).collect();
    let map = fit(&items, &ContentConfig::default()).unwrap();
    let ada = map.predict(&[Creator("ada"), Category("unheard of")]);
    let bo = map.predict(&[Creator("bo"), Tag("songs")]);
    assert!(ada.iter().all(|&v| v > 0.4) && bo.iter().all(|&v| v < -0.4), "{ada:?} {bo:?}");
    // Nothing known: the mean.
    assert!(map.predict(&[]).iter().all(|v| v.abs() < 0.1));
}

#[test]
fn items_nobody_saw_teach_nothing() {
    let items: Vec<Item> = vec![(vec![Creator("ada")], vec![1.0; 8], 0)];
    let map = fit(&items, &ContentConfig::default()).unwrap();
    assert_eq!(map.predict(&[Creator("ada")]), [0.0; 8]);
}

#[test]
fn lengths_share_a_feature_within_a_factor_of_root_two() {
    let same = |a: u64, b: u64| DurationMs(a).hash() == DurationMs(b).hash();
    assert!(same(10_000, 10_500) && same(u64::MAX, u64::MAX - 1));
    assert!(!same(10_000, 15_000) && !same(30_000, 60_000) && !same(0, 1));
    // The kind is part of the hash.
    assert_ne!(Tag("x").hash(), Creator("x").hash());
}

#[test]
fn settings_out_of_range_are_refused() {
    for config in [
        ContentConfig { buckets: 1_000, ..ContentConfig::default() },
        ContentConfig { buckets: 0, ..ContentConfig::default() },
        ContentConfig { ridge: 0.0, ..ContentConfig::default() },
    ] {
        assert!(matches!(fit(&[], &config), Err(EmbeddingError::Setting { .. })));
    }
}

#[test]
fn components_that_are_next_to_nothing_are_fitted_too() {
    // As those of a basis are that was trained on fewer users than it has components.
    const LABELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let hash = |n: u64| stable_hash(&n.to_le_bytes());
    // Half of the components are no more than a few of the smallest numbers that there are.
    let smallest = |n: u64| {
        f32::from_bits((hash(n) % 8) as u32) * if n.is_multiple_of(3) { -1.0 } else { 1.0 }
    };
    let item = |n: u64| -> Item {
        let labels = [hash(n), hash(n + 1_000)].map(|hash| Tag(LABELS[(hash % 6) as usize]));
        let large = |n: u64| (hash(n) as f64 / u64::MAX as f64 - 0.5) as f32;
        let vector = (0..8).map(|k| if k < 4 { large(8 * n + k) } else { smallest(8 * n + k) });
        (labels.to_vec(), vector.collect(), 1 + (n % 40) as u32)
    };
    let items: Vec<Item> = (0..500).map(item).collect();
    let config = ContentConfig::default();
    let map = fit(&items, &config).unwrap();
    let gradient = largest_gradient(&map, &items, &config);
    assert!(gradient < 1e-2, "{gradient}");
}
