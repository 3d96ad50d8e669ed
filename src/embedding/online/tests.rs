use proptest::prelude::*;

use super::*;

const D: usize = 8;

fn dim() -> Dim {
    Dim::new(D).unwrap()
}

fn lms(new_half_life_ms: Option<i64>) -> Lms {
    let config = LmsConfig { min_gain: 0.2, new_half_life_ms, ..LmsConfig::SESSIONS };
    Lms::new(config, 0.3).unwrap()
}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-1.0f32..1.0, D)
}

fn events() -> impl Strategy<Value = Vec<(Vec<f32>, i64)>> {
    proptest::collection::vec((vector(), -5 * DAY_MS..5 * DAY_MS), 1..30)
}

#[derive(Clone, Debug)]
enum Owned {
    Trained(Vec<f32>, u32),
    Content(Vec<f32>),
    Unknown,
}

impl Owned {
    fn origin(&self) -> Origin<'_> {
        match self {
            Owned::Trained(vector, count) => Origin::Trained(Trained { vector, count: *count }),
            Owned::Content(vector) => Origin::Content(vector),
            Owned::Unknown => Origin::Unknown,
        }
    }
}

fn origin() -> impl Strategy<Value = Owned> {
    prop_oneof![
        (vector(), 0u32..20).prop_map(|(vector, count)| Owned::Trained(vector, count)),
        vector().prop_map(Owned::Content),
        Just(Owned::Unknown),
    ]
}

fn learnt(lms: &Lms, origin: &Owned, events: &[(Vec<f32>, i64)]) -> ItemVector {
    let mut vector = ItemVector::new(dim(), origin.origin());
    for (user, at) in events {
        vector.learn(lms, origin.origin(), user, EventTime::from_millis(*at));
    }
    vector
}

/// The recipe word by word, in f64, with the C library's powers.
fn naive(origin: &Owned, events: &[(Vec<f32>, i64)], new_half_life: Option<i64>) -> Vec<f64> {
    let (t, n_tr, half_life) = match origin {
        Owned::Trained(t, n_tr) => (t.clone(), *n_tr, Some(DAY_MS)),
        Owned::Content(t) => (t.clone(), 0, new_half_life),
        Owned::Unknown => (vec![0.0; D], 0, new_half_life),
    };
    let t: Vec<f64> = t.into_iter().map(f64::from).collect();
    let (mut v, mut hour) = (t.clone(), i64::MIN);
    for (n, (user, at)) in events.iter().enumerate() {
        let this = at.div_euclid(HOUR_MS);
        if let (true, true, Some(h)) = (n > 0, this > hour, half_life) {
            let kept = 0.5f64.powf((this - hour) as f64 * HOUR_MS as f64 / h as f64);
            v.iter_mut().zip(&t).for_each(|(v, t)| *v = t + kept * (*v - t));
        }
        hour = hour.max(this);
        let u: Vec<f64> = user.iter().map(|&x| f64::from(x)).collect();
        let seen = n as f64 + f64::from(n_tr);
        let g = if seen == 0.0 { 0.85 } else { f64::max(0.2, 0.85 / seen) };
        let score: f64 = u.iter().zip(&v).map(|(u, v)| u * v).sum();
        let norm: f64 = u.iter().map(|u| u * u).sum();
        v.iter_mut().zip(&u).for_each(|(v, u)| *v += g * (1.0 - score) / (norm + 0.3) * u);
    }
    v
}

proptest! {
    #[test]
    fn a_vector_learns_as_the_recipe_says(
        origin in origin(),
        events in events(),
        new_half_life in proptest::option::of(HOUR_MS..20 * DAY_MS),
    ) {
        let vector = learnt(&lms(new_half_life), &origin, &events);
        for (got, wanted) in vector.live().iter().zip(naive(&origin, &events, new_half_life)) {
            prop_assert!((f64::from(*got) - wanted).abs() < 1e-4, "{got} {wanted}");
        }
    }

    #[test]
    fn bytes_read_back_are_the_same_vector(origin in origin(), events in events()) {
        let vector = learnt(&lms(None), &origin, &events);
        let bytes = vector.to_bytes();
        prop_assert_eq!(bytes.len(), 13 + 4 * D);
        prop_assert_eq!(ItemVector::from_bytes(dim(), &bytes), Ok(vector));
        let fresh = ItemVector::new(dim(), origin.origin());
        prop_assert_eq!(ItemVector::from_bytes(dim(), &fresh.to_bytes()), Ok(fresh));
    }

    #[test]
    fn a_vector_stored_half_way_goes_on_as_if_it_had_not_been(
        origin in origin(), events in events(), cut in any::<prop::sample::Index>(),
    ) {
        let (lms, cut) = (lms(Some(DAY_MS)), cut.index(events.len()));
        let half = learnt(&lms, &origin, &events[..cut]);
        let mut half = ItemVector::from_bytes(dim(), &half.to_bytes()).unwrap();
        for (user, at) in &events[cut..] {
            half.learn(&lms, origin.origin(), user, EventTime::from_millis(*at));
        }
        prop_assert_eq!(half, learnt(&lms, &origin, &events));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(vector) = ItemVector::from_bytes(dim(), &bytes) {
            prop_assert_eq!(vector.to_bytes(), bytes);
        }
    }

    #[test]
    fn an_update_takes_part_of_the_error_away_and_never_overshoots(
        origin in origin(), user in vector(),
    ) {
        let before = ItemVector::new(dim(), origin.origin());
        let after = learnt(&lms(None), &origin, &[(user.clone(), 0)]);
        let [old, new] = [&before, &after].map(|v| 1.0 - dot(&user, v.live()));
        prop_assert!(new.abs() <= old.abs() + 1e-6 && new * old >= -1e-6, "{old} {new}");
    }

    #[test]
    fn a_reader_sees_what_the_next_event_will_find(
        origin in origin(), events in events(), later in 0..30 * DAY_MS,
    ) {
        let lms = lms(Some(2 * DAY_MS));
        let mut vector = learnt(&lms, &origin, &events);
        let now = vector.newest().unwrap().plus_millis(later);
        let mut read = [0.0; D];
        vector.at(&lms, origin.origin(), now, &mut read);
        // A user of zeros teaches nothing, but its event makes the vector leak.
        vector.learn(&lms, origin.origin(), &[0.0; D], now);
        prop_assert_eq!(vector.live(), read);
    }
}

#[test]
fn nothing_leaks_between_two_cuts() {
    let lms = lms(Some(DAY_MS));
    let vector = learnt(&lms, &Owned::Unknown, &[(vec![0.5; D], 10 * HOUR_MS)]);
    let read = |ms: i64| {
        let mut out = [0.0; D];
        vector.at(&lms, Origin::Unknown, EventTime::from_millis(ms), &mut out);
        out[0]
    };
    let live = vector.live()[0];
    assert_eq!([read(0), read(10 * HOUR_MS), read(11 * HOUR_MS - 1)], [live; 3]);
    assert!(read(11 * HOUR_MS) < live);
    assert_eq!(read(34 * HOUR_MS), live / 2.0);
    assert_eq!(read(i64::MAX), 0.0);
}

#[test]
fn a_late_event_is_learnt_and_does_not_turn_time_back() {
    let lms = lms(Some(DAY_MS));
    let events = [(vec![0.5; D], 5 * DAY_MS), (vec![0.5; D], 0)];
    let vector = learnt(&lms, &Owned::Unknown, &events);
    assert_eq!(vector.newest(), Some(EventTime::from_millis(5 * DAY_MS)));
    assert_eq!(vector.updates(), 2);
    assert!(vector.live()[0] > learnt(&lms, &Owned::Unknown, &events[..1]).live()[0]);
}

#[test]
fn new_items_may_forget_nothing() {
    let lms = lms(None);
    let vector = learnt(&lms, &Owned::Unknown, &[(vec![0.5; D], 0)]);
    let mut read = [0.0; D];
    vector.at(&lms, Origin::Unknown, EventTime::from_millis(1_000 * DAY_MS), &mut read);
    assert_eq!(read, vector.live());
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let good = LmsConfig::SESSIONS;
    for (config, norm, name) in [
        (LmsConfig { min_gain: 0.0, ..good }, 0.3, "min_gain"),
        (LmsConfig { min_gain: f32::NAN, ..good }, 0.3, "min_gain"),
        (LmsConfig { half_life_ms: 0, ..good }, 0.3, "half_life_ms"),
        (LmsConfig { new_half_life_ms: Some(-1), ..good }, 0.3, "new_half_life_ms"),
        (LmsConfig { leak_step_ms: 0, ..good }, 0.3, "leak_step_ms"),
        (good, 0.0, "mean_user_norm"),
    ] {
        let text = Lms::new(config, norm).unwrap_err().to_string();
        assert!(text.starts_with(name), "{text}");
    }
}
