//! Reads little-endian numbers from the bytes of a model, never past their end.
//!
//! Every error says what was to be read and where, so that a cut file names the place of its cut.

/// A place in the bytes of a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// Where the next byte is read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8], String> {
        if count > self.left() {
            let (at, left) = (self.at, self.left());
            return Err(format!("{what} needs {count} bytes at byte {at}, {left} are left"));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The bytes up to the next NUL, which is passed over.
    pub fn until_nul(&mut self, what: &str) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let Some(length) = memchr::memchr(0, rest) else {
            return Err(format!("{what} at byte {} does not end", self.at));
        };
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn number<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(bytes)
    }

    pub fn i32(&mut self, what: &str) -> Result<i32, String> {
        Ok(i32::from_le_bytes(self.number(what)?))
    }

    pub fn i64(&mut self, what: &str) -> Result<i64, String> {
        Ok(i64::from_le_bytes(self.number(what)?))
    }

    pub fn byte(&mut self, what: &str) -> Result<u8, String> {
        Ok(self.number::<1>(what)?[0])
    }

    /// A byte that must be 0 or 1.
    pub fn flag(&mut self, what: &str) -> Result<bool, String> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(format!("{what} at byte {} is {other}, expected 0 or 1", self.at - 1)),
        }
    }

    /// A number of 32 bits that counts something.
    pub fn count32(&mut self, what: &str) -> Result<usize, String> {
        let at = self.at;
        let number = self.i32(what)?;
        usize::try_from(number).map_err(|_| format!("{what} at byte {at} is {number}"))
    }

    /// A number of 64 bits that counts something.
    pub fn count64(&mut self, what: &str) -> Result<usize, String> {
        let at = self.at;
        let number = self.i64(what)?;
        usize::try_from(number).map_err(|_| format!("{what} at byte {at} is {number}"))
    }
}
