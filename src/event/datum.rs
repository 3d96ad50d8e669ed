//! Avro data of the newest schemas, read field by field without looking at the schema.
//!
//! The general decoder finds every field by its name, which is two thirds of what decoding costs.
//! Nearly all records are of the newest schema, whose fields come in an order known here. What
//! cannot be read this way goes to the general decoder, which alone says what is wrong; tests
//! hold the two together.

use std::borrow::Cow;

/// A wire type that knows the order of its newest schema's fields.
pub(super) trait Positional<'a>: Sized {
    /// Reads one datum; `None` where it is none.
    fn read(datum: &mut Datum<'a>) -> Option<Self>;
}

/// Reads from the front of a datum. Every method gives `None` where the bytes are none of what was
/// asked for; the datum is then of no use.
pub struct Datum<'a> {
    rest: &'a [u8],
}

impl<'a> Datum<'a> {
    /// A datum without any header.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all of it is read.
    pub fn is_read(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads a whole datum: `None` where bytes are missing or left over.
    pub(super) fn read<T: Positional<'a>>(bytes: &'a [u8]) -> Option<T> {
        let mut datum = Self::new(bytes);
        T::read(&mut datum).filter(|_| datum.rest.is_empty())
    }

    /// An `int` is written in the same way.
    pub fn long(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                // Zigzag: the sign is the lowest bit.
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    /// An `int`.
    pub fn int(&mut self) -> Option<i32> {
        self.long().and_then(|long| i32::try_from(long).ok())
    }

    /// A `boolean`.
    pub fn boolean(&mut self) -> Option<bool> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        (byte <= 1).then_some(byte == 1)
    }

    /// A `float`.
    pub fn float(&mut self) -> Option<f32> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(f32::from_le_bytes(*bytes))
    }

    /// A `double`.
    pub fn double(&mut self) -> Option<f64> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    /// `bytes`.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.long()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    /// A `string`.
    pub fn text(&mut self) -> Option<Cow<'a, str>> {
        std::str::from_utf8(self.bytes()?).ok().map(Cow::Borrowed)
    }

    /// The number of items in the next block of an array or a map; 0 ends it.
    pub fn block(&mut self) -> Option<u64> {
        let count = self.long()?;
        if count < 0 {
            // The block's size in bytes follows, for those who skip it.
            self.long()?;
        }
        Some(count.unsigned_abs())
    }

    /// A union of null and something, in this order.
    pub fn optional<T>(&mut self, some: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.long()? {
            0 => Some(None),
            1 => some(self).map(Some),
            _ => None,
        }
    }
}
