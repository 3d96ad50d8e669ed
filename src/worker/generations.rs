//! A table of users within a budget of memory: those who come back are kept, the others go.

use hashbrown::HashTable;

/// What is held of a user.
pub trait Held: Default {
    /// Memory beside the value itself, in bytes.
    fn bytes(&self) -> usize;
}

/// Values by the hash of a user, in two generations. Who is changed is young; when the young fill
/// half of the budget, they become old and the old go.
pub struct Generations<V> {
    /// Looked up here first; what is found in `old` becomes young.
    young: HashTable<(u64, V)>,
    old: HashTable<(u64, V)>,
    young_bytes: usize,
    old_bytes: usize,
    /// Bytes of a generation.
    limit: usize,
}

impl<V: Held> Generations<V> {
    /// Nobody yet; `bytes` of memory at most, but for the one user that is beyond it.
    pub fn new(bytes: usize) -> Self {
        Self {
            young: HashTable::new(),
            old: HashTable::new(),
            young_bytes: 0,
            old_bytes: 0,
            limit: bytes / 2,
        }
    }

    /// What is held of a user.
    pub fn get(&self, user: u64) -> Option<&V> {
        let young = self.young.find(user, |held| held.0 == user);
        young.or_else(|| self.old.find(user, |held| held.0 == user)).map(|held| &held.1)
    }

    /// Changes what is held of a user, which is the default for who was not there.
    pub fn change<R>(&mut self, user: u64, change: impl FnOnce(&mut V) -> R) -> R {
        let held = match self.young.find_mut(user, |held| held.0 == user) {
            Some(held) => held,
            None => {
                let held = match self.old.find_entry(user, |held| held.0 == user) {
                    Ok(held) => {
                        let held = held.remove().0;
                        self.old_bytes -= bytes(&held);
                        held
                    }
                    Err(_) => (user, V::default()),
                };
                self.young_bytes += bytes(&held);
                self.young.insert_unique(user, held, |held| held.0).into_mut()
            }
        };
        self.young_bytes -= bytes(held);
        let result = change(&mut held.1);
        self.young_bytes += bytes(held);
        if self.young_bytes > self.limit {
            // As large as the last one became: growing moves everybody.
            let next = HashTable::with_capacity(self.young.len());
            self.old = std::mem::replace(&mut self.young, next);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        result
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }
}

/// With its place in the table.
fn bytes<V: Held>(held: &(u64, V)) -> usize {
    size_of::<(u64, V)>() + 8 + held.1.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Held for Vec<u8> {
        fn bytes(&self) -> usize {
            self.capacity()
        }
    }

    #[test]
    fn memory_is_bounded_and_those_who_come_back_are_kept() {
        let mut users: Generations<Vec<u8>> = Generations::new(64 << 10);
        for n in 1..5_000u64 {
            users.change(n, |bytes| bytes.push(1));
            users.change(0, |bytes| bytes.truncate(0));
            users.change(0, |bytes| bytes.push(7));
            let held = users.young.iter().chain(&users.old).map(bytes).sum::<usize>();
            assert_eq!(held, users.bytes());
            assert!(held <= (64 << 10) + 1_000, "{held} bytes");
        }
        assert_eq!(users.get(0), Some(&vec![7]));
        assert_eq!(users.get(1), None);
        assert_eq!(users.get(4_999), Some(&vec![1]));
    }
}
