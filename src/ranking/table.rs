//! A table of keyed values in bounded memory.

use std::collections::HashMap;

use crate::ids::Prehashed;
use crate::time::EventTime;

/// Values by key, at most so many. When one too many comes, a quarter goes: what was touched the
/// longest ago in event time, of one time the larger keys. So what it holds is a function of what
/// was put into it and in which order, and the cost of forgetting is spread.
#[derive(Clone, Debug)]
pub(super) struct Table<V> {
    values: HashMap<u64, V, Prehashed>,
    limit: usize,
}

/// What a table orders its values by when it forgets.
pub(super) trait Touched {
    /// When it was last touched.
    fn touched(&self) -> EventTime;
}

impl<V: Default + Touched> Table<V> {
    /// An empty table of at most `limit` values, at least one.
    pub fn new(limit: usize) -> Self {
        Self { values: HashMap::default(), limit: limit.max(1) }
    }

    pub fn get(&self, key: u64) -> Option<&V> {
        self.values.get(&key)
    }

    /// The value of a key, made where there is none.
    pub fn entry(&mut self, key: u64) -> &mut V {
        if self.values.len() >= self.limit && !self.values.contains_key(&key) {
            self.forget();
        }
        self.values.entry(key).or_default()
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Brings another table's values in, those touched longest ago first, by what `merge` makes of
    /// two of one key.
    pub fn merge(&mut self, other: &Self, merge: impl Fn(&mut V, &V)) {
        let mut theirs: Vec<(EventTime, u64)> =
            other.iter().map(|(key, value)| (value.touched(), key)).collect();
        theirs.sort_unstable();
        for (_, key) in theirs {
            if let Some(value) = other.get(key) {
                merge(self.entry(key), value);
            }
        }
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.values.iter().map(|(key, value)| (*key, value))
    }

    fn forget(&mut self) {
        let mut order: Vec<(EventTime, u64)> =
            self.values.iter().map(|(key, value)| (value.touched(), !key)).collect();
        let going = (order.len() / 4).max(1);
        order.select_nth_unstable(going - 1);
        for (_, key) in &order[..going] {
            self.values.remove(&!key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Stamp(EventTime);

    impl Touched for Stamp {
        fn touched(&self) -> EventTime {
            self.0
        }
    }

    #[test]
    fn what_was_touched_the_longest_ago_is_forgotten_whatever_came_first() {
        let mut table = Table::new(8);
        for (key, at) in [(3, 30), (1, 10), (2, 20), (8, 80), (7, 70), (6, 60), (5, 50), (4, 40)] {
            *table.entry(key) = Stamp(EventTime::from_millis(at));
        }
        // There already: nothing has to go.
        table.entry(1).0 = EventTime::from_millis(90);
        assert_eq!(table.len(), 8);
        table.entry(9).0 = EventTime::from_millis(95);
        let mut keys: Vec<u64> = table.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        assert_eq!(keys, vec![1, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_table_never_holds_more_than_its_limit() {
        let mut table = Table::<Stamp>::new(10);
        for key in 0..1_000u64 {
            table.entry(key).0 = EventTime::from_millis((key % 7) as i64);
            assert!(table.len() <= 10);
        }
    }
}
