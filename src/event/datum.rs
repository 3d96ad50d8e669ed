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

/// Reads from the front of a datum.
pub(super) struct Datum<'a> {
    rest: &'a [u8],
}

impl<'a> Datum<'a> {
    /// Reads a whole datum: `None` where bytes are missing or left over.
    pub fn read<T: Positional<'a>>(bytes: &'a [u8]) -> Option<T> {
        let mut datum = Self { rest: bytes };
        T::read(&mut datum).filter(|_| datum.rest.is_empty())
    }

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

    pub fn int(&mut self) -> Option<i32> {
        self.long().and_then(|long| i32::try_from(long).ok())
    }

    pub fn double(&mut self) -> Option<f64> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    pub fn text(&mut self) -> Option<Cow<'a, str>> {
        let len = usize::try_from(self.long()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
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
