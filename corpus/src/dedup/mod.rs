//! The three levels of deduplication, in the paper's order (§3.1.1): URL, document, line.
//!
//! Each works on rows of fixed size, never on text. [`url`] says what one address is, [`minhash`]
//! and [`near`] what a near copy is, [`exact`] when two texts are the same, [`lines`] what one line
//! is. Not here: how the rows of all documents come together ([`crate::shuffle`]).

pub mod exact;
pub mod lines;
pub mod minhash;
pub mod near;
pub mod url;

/// What deduplication knows of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Identity of the document.
    pub id: u128,
    /// Hash of its canonical URL.
    pub url: u64,
    /// Hash of its registrable domain; 0 where there is none.
    pub domain: u64,
    /// Hash of its normalised text.
    pub text: u64,
    /// Milliseconds since 1970; `i64::MIN` where unknown, which is older than any.
    pub date: i64,
    /// Bytes of its text.
    pub bytes: u32,
    /// Length of its URL.
    pub url_length: u16,
    /// Seed of its language; see [`lines::language_seed`].
    pub language: u64,
}

impl Row {
    /// The newest first: a smaller word for a later date.
    fn newest(&self) -> u64 {
        // The order of signed numbers as that of unsigned ones, turned around.
        !(self.date as u64 ^ 1 << 63)
    }

    /// Which copy of a text is kept, smaller is better: the newest, then that of the shortest URL,
    /// then of the smallest identity.
    pub fn rank(&self) -> [u64; 2] {
        let id = (self.id >> 80) as u64;
        [self.newest(), u64::from(self.url_length) << 48 | id]
    }

    /// Which visit of a URL is kept, smaller is better: the newest, then the longest text, then the
    /// smallest identity.
    pub fn visit_rank(&self) -> [u64; 2] {
        let id = (self.id >> 96) as u64;
        [self.newest(), u64::from(!self.bytes) << 32 | id]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(better: Row, worse: Row, rank: fn(&Row) -> [u64; 2]) {
        assert!(rank(&better) < rank(&worse), "{better:?} before {worse:?}");
    }

    #[test]
    fn which_copy_is_kept() {
        let row = |date, bytes, url_length, id: u128| Row {
            id: id << 96,
            date,
            bytes,
            url_length,
            ..Row::default()
        };
        check(row(6, 10, 20, 3), row(5, 10, 9, 1), Row::rank);
        check(row(6, 10, 10, 3), row(6, 10, 20, 1), Row::rank);
        check(row(6, 10, 10, 1), row(6, 99, 10, 2), Row::rank);
        check(row(-5, 0, 0, 0), row(i64::MIN, 0, 0, 0), Row::rank);
        check(row(6, 11, 0, 3), row(6, 10, 0, 1), Row::visit_rank);
        check(row(7, 1, 0, 3), row(6, 10, 0, 1), Row::visit_rank);
        check(row(6, 10, 9, 1), row(6, 10, 0, 2), Row::visit_rank);
    }
}
