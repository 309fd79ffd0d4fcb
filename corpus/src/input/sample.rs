//! The sample of an input: which pages a budget admits.
//!
//! Pages are ordered by a hash of what they are called and admitted until the budget is full. So
//! the sample is spread over the whole input, is the same on every machine, and a larger budget
//! only adds to it. Not here: what becomes of the pages.

use super::{Found, Input};
use crate::remote::Access;
use crate::{Error, Kind, Sample};
use quipu_store::{Cancel, Progress};
use serde::{Deserialize, Serialize};

/// What a sample admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Admission {
    /// Pages with a hash up to this are admitted.
    pub limit: u64,
    /// Pages that the input holds.
    pub pages: u64,
    /// Pages that are left out.
    pub left_out: u64,
}

/// Everything is admitted.
pub(crate) const ALL: Admission = Admission { limit: u64::MAX, pages: 0, left_out: 0 };

/// Reads through the inputs (of HTML folders only the list of files) and finds the limit.
pub(crate) fn admission(
    inputs: &[Input],
    sample: Sample,
    piece_bytes: usize,
    progress: &dyn Progress,
    access: &Access,
    cancel: &Cancel,
) -> Result<Admission, Error> {
    progress.begin("sample", 0);
    let mut pages = Vec::new();
    for input in inputs {
        if input.kind == Kind::Html && !input.files.is_empty() {
            for (file, bytes) in input.files.iter().zip(input.sizes()?) {
                pages.push((xxhash_rust::xxh3::xxh3_64(file.as_bytes()), bytes));
            }
            continue;
        }
        for found in input.open(piece_bytes, access)? {
            cancel.check()?;
            if let Found::Page(page) = found? {
                pages.push((page.key(), page.bytes()));
                progress.advance(1);
            }
        }
    }
    progress.finish("");
    Ok(limit(pages, sample))
}

fn limit(mut pages: Vec<(u64, u64)>, sample: Sample) -> Admission {
    pages.sort_unstable();
    let total = pages.len() as u64;
    let (mut bytes, mut count, mut limit) = (0, 0, 0);
    for (key, size) in pages {
        bytes += size;
        let full = sample.bytes.is_some_and(|b| bytes > b && count > 0)
            || sample.documents.is_some_and(|d| count >= d);
        // Pages of one name are admitted or left out together.
        if full && key != limit {
            return Admission { limit, pages: total, left_out: total - count };
        }
        count += 1;
        limit = key;
    }
    Admission { limit: u64::MAX, pages: total, left_out: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: Option<u64>, documents: Option<u64>, left_out: u64) {
        let pages = (0..100u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15), 10)).collect();
        let found = limit(pages, Sample { bytes, documents });
        assert_eq!((found.pages, found.left_out), (100, left_out));
    }

    #[test]
    fn budgets_are_filled_and_not_passed() {
        check(Some(1000), None, 0);
        check(Some(250), None, 75);
        check(None, Some(30), 70);
        check(Some(250), Some(30), 75);
        check(None, Some(1000), 0);
        check(Some(1), None, 99);
    }
}
