//! Hashes small integer keys: they are handles or hashes already, and the default hasher would
//! take longer than the rest of a look-up.

use std::hash::{BuildHasherDefault, Hasher};

pub(super) type MixBuilder = BuildHasherDefault<MixHasher>;

/// Mixes by one multiplication.
#[derive(Default)]
pub(super) struct MixHasher(u64);

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_i64(&mut self, word: i64) {
        self.write_u64(word as u64);
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        // An odd constant of the golden ratio's digits; the product's high half brings the
        // mixed bits down to where the table looks.
        let product = u128::from(self.0 ^ word) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}
