//! LEB128 variable-length integers: most numbers of a state are small.

use super::Corrupt;

/// Appends `value`, 7 bits a byte, lowest first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads from the front of a slice.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What [`put`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] where the bytes end first or the number has more than 64 bits.
    pub fn varint(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Corrupt("a number is too long"))
    }

    /// A count of things that take at least one byte each, so that a damaged count cannot ask
    /// for more memory than there are bytes.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer bytes left.
    pub fn count(&mut self) -> Result<usize, Corrupt> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|&n| n <= self.rest.len())
            .ok_or(Corrupt("a count exceeds the bytes left"))
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer left.
    pub fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.rest.split_first().ok_or(Corrupt("it ends early"))?;
        self.rest = rest;
        Ok(first)
    }

    /// `n` bytes.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer left.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Corrupt> {
        if n > self.rest.len() {
            return Err(Corrupt("it ends early"));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    /// A count and as many bytes of UTF-8.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer left, or they are no text.
    pub fn text(&mut self) -> Result<&'a str, Corrupt> {
        let n = self.count()?;
        std::str::from_utf8(self.bytes(n)?).map_err(|_| Corrupt("a text is not UTF-8"))
    }

    /// Three bytes, little-endian.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer left.
    pub fn u24(&mut self) -> Result<u32, Corrupt> {
        let bytes = self.bytes(3)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer left.
    pub fn u32(&mut self) -> Result<u32, Corrupt> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`Corrupt`] where there are fewer left.
    pub fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }
}
