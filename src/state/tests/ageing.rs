//! What ages, and when it shows.

use super::*;

#[test]
fn what_was_refused_and_what_was_watched_age_apart_and_show_it_before_they_are_swept() {
    let feedback = |user, at, id| Record { topic: EventTopic::Feedback, user, at, id };
    let later = BASE + AGED_MS + DAY_MS;
    let refused = |shard: &Shard| {
        let mut users = BTreeMap::new();
        let note = |user: &str, state: &[u8]| {
            let state = UserState::decode(state).unwrap();
            users.insert(user.to_owned(), (state.totals().watches, state.refused().count()));
            Ok(())
        };
        shard.store().for_each_user(note).unwrap();
        users
    };
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (swept, unswept) = (shard(&one), shard(&two));
    let old = [watch(0, BASE, 1), feedback(0, BASE, 1), feedback(1, BASE, 1)];
    let new = [watch(2, later, 2), click(2, later, 3)];
    let after = [feedback(2, later, 4)];
    // In one commit nobody is looked at; in three those of the commits before are.
    for part in [&old[..], &new, &after] {
        fold(&swept, part);
        commit(&swept);
    }
    fold(&unswept, &[&old[..], &new, &after].concat());
    commit(&unswept);
    assert_eq!(refused(&swept), BTreeMap::from([(name(2), (1, 1))]));
    assert_eq!(swept.store().digest().unwrap(), unswept.store().digest().unwrap());

    // Without newer feedback, what was refused stays, and only what was watched goes.
    let three = TempDir::new().unwrap();
    let half = shard(&three);
    fold(&half, &old);
    commit(&half);
    fold(&half, &new);
    commit(&half);
    let expected = [(name(0), (0, 1)), (name(1), (0, 1)), (name(2), (1, 0))];
    assert_eq!(refused(&half), BTreeMap::from(expected));
    let held = half.store().get(name(0)).unwrap().unwrap();
    assert_eq!(UserState::decode(&held).unwrap().totals().watches, 0, "it is swept");
}
