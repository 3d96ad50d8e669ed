//! Randomness from a printed seed.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// From `DRIFTLINE_TEST_SEED` where it is set, else from the clock; says which on standard
    /// error, where a failed test shows it.
    pub fn printed(what: &str) -> Self {
        static SALT: AtomicU64 = AtomicU64::new(0);
        let given = std::env::var("DRIFTLINE_TEST_SEED").ok().and_then(|s| s.parse().ok());
        let salt = SALT.fetch_add(1, Ordering::Relaxed);
        let seed: u64 = given.unwrap_or_else(|| super::now_ms() as u64 * 1_000 + salt);
        eprintln!("{what}: DRIFTLINE_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to, and without, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from) as u64) as i64
    }

    /// One in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }

    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}
