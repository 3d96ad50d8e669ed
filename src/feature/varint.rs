//! LEB128 variable-length integers: most numbers of a state are small.

use super::Corrupt;

/// Appends `value`, 7 bits a byte, lowest first.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads from the front of a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, Corrupt> {
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
    pub(super) fn count(&mut self) -> Result<usize, Corrupt> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|&n| n <= self.rest.len())
            .ok_or(Corrupt("a count exceeds the bytes left"))
    }

    pub(super) fn byte(&mut self) -> Result<u8, Corrupt> {
        let (&first, rest) = self.rest.split_first().ok_or(Corrupt("it ends early"))?;
        self.rest = rest;
        Ok(first)
    }

    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Corrupt> {
        if n > self.rest.len() {
            return Err(Corrupt("it ends early"));
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Corrupt> {
        let n = self.count()?;
        std::str::from_utf8(self.bytes(n)?).map_err(|_| Corrupt("a text is not UTF-8"))
    }

    pub(super) fn u24(&mut self) -> Result<u32, Corrupt> {
        let bytes = self.bytes(3)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Corrupt> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Corrupt> {
        Ok(u64::from(self.u32()?) | u64::from(self.u32()?) << 32)
    }
}
