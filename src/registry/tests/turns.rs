//! A collector beside somebody else, step by step in every order of up to four changes of turn.

use std::sync::{Condvar, Mutex};

use super::*;
use crate::objects::staged::staged;
use crate::time::{DAY_MS, wall_now};

const COLLECTOR: usize = 0;
const OTHER: usize = 1;

/// Says whose turn it is.
struct Baton {
    state: Mutex<State>,
    passed: Condvar,
}

struct State {
    turn: usize,
    left: usize,
    /// Turns to come: whose, and how many steps.
    legs: Vec<(usize, usize)>,
    ended: [bool; 2],
    steps: [usize; 2],
}

impl Baton {
    fn new(legs: &[(usize, usize)]) -> Arc<Self> {
        let legs: Vec<_> = legs.iter().rev().copied().collect();
        let state = State { turn: OTHER, left: 0, legs, ended: [false; 2], steps: [0; 2] };
        Arc::new(Self { state: Mutex::new(state), passed: Condvar::new() })
    }

    /// Waits for the turn of `me`, and takes a step of it.
    fn step(&self, me: usize) {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.ended[1 - me] || (state.turn == me && state.left > 0) {
                state.left = state.left.saturating_sub(1);
                state.steps[me] += 1;
                return;
            }
            if state.left == 0 || state.ended[state.turn] {
                (state.turn, state.left) = state.legs.pop().unwrap_or((1 - state.turn, usize::MAX));
                self.passed.notify_all();
                continue;
            }
            state = self.passed.wait(state).unwrap();
        }
    }

    fn end(&self, me: usize) {
        self.state.lock().unwrap().ended[me] = true;
        self.passed.notify_all();
    }
}

/// How many steps each takes at most in what follows.
const STEPS: usize = 16;

/// Lets a collector and `work` go on in turns, in every order, each time over what `begin` makes. `check`
/// is told what came of the work and of the collection. Fails where nothing was ever deleted, or the
/// work never got through.
fn in_every_order<T: Send>(
    rules: KeepRules,
    begin: impl Fn(&Memory),
    work: impl Fn(&Registry) -> Result<T, RegistryError> + Sync,
    check: impl Fn(&Registry, &Result<T, RegistryError>, &Collected),
) {
    let (mut done, mut deleted) = (0, 0);
    for first in 0..STEPS {
        for second in 0..STEPS {
            for third in 1..STEPS - first {
                let memory = Memory::default();
                begin(&memory);
                let legs = [(COLLECTOR, first), (OTHER, second), (COLLECTOR, third)];
                let baton = Baton::new(&legs);
                let of = |me| {
                    let baton = Arc::clone(&baton);
                    Registry::open(staged(&memory, move || baton.step(me)))
                };
                let (collector, other) = (of(COLLECTOR), of(OTHER));
                let (collected, worked) = std::thread::scope(|scope| {
                    let collected = scope.spawn(|| {
                        let collected = collector.collect(&rules, wall_now());
                        baton.end(COLLECTOR);
                        collected
                    });
                    let worked = work(&other);
                    baton.end(OTHER);
                    (collected.join().unwrap().unwrap(), worked)
                });
                done += usize::from(worked.is_ok());
                deleted += collected.deleted.len();
                let steps = baton.state.lock().unwrap().steps;
                assert!(steps.iter().all(|steps| *steps <= STEPS), "{steps:?} steps");
                check(&in_memory(&memory), &worked, &collected);
            }
        }
    }
    assert!(done > 0 && deleted > 0, "{done} done, {deleted} deleted");
}

#[test]
fn what_becomes_champion_stays_whenever_a_collector_comes() {
    let version = ModelVersion::from(basis(1).version());
    let check =
        |registry: &Registry, worked: &Result<Aliases, _>, collected: &Collected| match worked {
            Ok(_) => {
                assert_eq!(collected.deleted, []);
                registry.verify(&registry.get(version).unwrap()).unwrap();
            }
            Err(RegistryError::NotFound { .. }) => assert_eq!(collected.deleted.len(), 1),
            Err(RegistryError::Collecting { .. }) => {}
            Err(error) => panic!("{error}"),
        };
    in_every_order(
        KeepRules { epochs: 1, young_ms: -DAY_MS, grace_ms: DAY_MS },
        |memory| drop(register(&in_memory(memory), 1)),
        |registry| registry.set_champion(version, &change(0)),
        check,
    );
}

#[test]
fn what_is_registered_over_a_rest_stays_whenever_a_collector_comes() {
    let version = ModelVersion::from(basis(1).version());
    let check = |registry: &Registry, worked: &Result<Manifest, _>, collected: &Collected| {
        assert!(collected.deleted.iter().all(|found| !found.whole));
        match worked {
            Ok(made) => registry.verify(&registry.get(made.version).unwrap()).unwrap(),
            Err(RegistryError::Collecting { .. }) => {
                assert!(registry.versions().unwrap().is_empty());
            }
            Err(error) => panic!("{error}"),
        }
    };
    in_every_order(
        KeepRules { epochs: 1, young_ms: DAY_MS, grace_ms: -DAY_MS },
        |memory| overwrite(memory, &file_key(version, BASIS), basis(1).to_bytes()),
        |registry| registry.register(told(&basis(1)), files(&basis(1))),
        check,
    );
}
