//! What is known of each user of a log: what a shard would keep of them.

use std::collections::HashMap;

use super::RankerRun;
use crate::dataset::{Past, Profile};
use crate::evaluation::Log;
use crate::ids::stable_hash;
use crate::ranking::{
    CLICK, Exposures, Globals, Item, LONG_VIEW, Limits, NEWEST, TARGETS, UserCounters, Watch,
    user_rate,
};

/// Watches kept of a user, as `state.history_limit` has it.
const WATCHES: usize = 100;

/// A user.
#[derive(Default)]
pub(super) struct Person {
    pub key: u64,
    pub profile: Vec<u64>,
    pub counters: UserCounters,
    pub exposures: Exposures,
    /// The newest first, as all that follows.
    pub watches: Vec<Watch>,
    pub taken: [Vec<u64>; TARGETS],
}

impl Person {
    pub fn watched(&mut self, globals: &mut Globals, watch: Watch) {
        globals.watched(&watch, user_rate(&self.watches, globals.long_view_rate()));
        self.watches.truncate(WATCHES - 1);
        self.watches.insert(0, watch);
    }

    pub fn took(&mut self, globals: &mut Globals, target: usize, item: u64) {
        globals.co_visits.learn(target, item, &self.taken[target]);
        self.taken[target].truncate(NEWEST - 1);
        self.taken[target].insert(0, item);
    }
}

/// What is known of users before a log begins.
#[derive(Default)]
pub struct People {
    pasts: Vec<Past>,
    profiles: HashMap<String, Vec<u64>>,
}

impl People {
    /// What a user did before. Of what they only watched there is no saying whether it was clicked: in
    /// the app of KuaiRand a watch that was kept is a click.
    pub fn add_past(&mut self, past: Past) {
        self.pasts.push(past);
    }

    /// Who a user is.
    pub fn add_profile(&mut self, profile: &Profile) {
        let hash = |(column, value): &(String, String)| {
            stable_hash(format!("{column}={value}").as_bytes())
        };
        let values = profile.values.iter().map(hash).collect();
        self.profiles.insert(profile.user.to_string(), values);
    }

    /// The state of all users of the log, by number, and what they did together before it.
    pub(super) fn into_state(mut self, run: &RankerRun<'_>) -> (Globals, Vec<Person>) {
        let log = run.log;
        let mut globals = Globals::new(Limits::default());
        let mut people: Vec<Person> = (0..log.users() as u32)
            .map(|number| {
                let user = log.user_of(number);
                let profile = self.profiles.remove(user).unwrap_or_default();
                let key = stable_hash(user.as_bytes());
                Person { key, profile, ..Person::default() }
            })
            .collect();
        for past in &self.pasts {
            let mut stranger = Person::default();
            let known = log.find_user(past.user.as_str());
            let person = match known {
                Some(number) => &mut people[number as usize],
                None => &mut stranger,
            };
            relive(past, person, &mut globals, log, run.items);
        }
        (globals, people)
    }
}

fn relive(past: &Past, person: &mut Person, globals: &mut Globals, log: &Log, items: &[Item]) {
    for item in &past.watched {
        let unknown = Item { id: stable_hash(item.as_str().as_bytes()), ..Item::default() };
        let number = log.items.find(item.as_str());
        let item_known = number.map_or(&unknown, |number| &items[number as usize]);
        let long_view = past.viewed_long.contains(item);
        person.watched(globals, Watch::of(item_known, long_view, past.last));
        person.took(globals, CLICK, item_known.id);
    }
    for item in &past.viewed_long {
        person.took(globals, LONG_VIEW, stable_hash(item.as_str().as_bytes()));
    }
}
