//! The three levels of deduplication, in the paper's order (§3.1.1): URL, document, line.
//!
//! Each works on rows of fixed size, never on text: [`url`] and [`exact`] say which row of a group
//! stays, [`lines`] which line hashes are too frequent. Not here: near-duplicates.

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
    /// Hash of its normalised text.
    pub text: u64,
    /// Milliseconds since 1970; `i64::MIN` where unknown, which is older than any.
    pub date: i64,
    /// Bytes of its text.
    pub bytes: u32,
    /// Length of its URL.
    pub url_length: u16,
}

/// For each row the number of the row that is kept instead of it, or none for a row that stays.
/// `key` groups rows; `better` says whether the first row is to be kept rather than the second.
pub(crate) fn keep_one(
    rows: &[Row],
    alive: &[bool],
    key: impl Fn(&Row) -> u64,
    better: impl Fn(&Row, &Row) -> bool,
) -> Vec<Option<u32>> {
    let mut order: Vec<u32> = (0..rows.len() as u32).filter(|n| alive[*n as usize]).collect();
    order.sort_unstable_by_key(|n| (key(&rows[*n as usize]), *n));
    let mut instead = vec![None; rows.len()];
    for group in order.chunk_by(|a, b| key(&rows[*a as usize]) == key(&rows[*b as usize])) {
        let mut best = group[0];
        for n in &group[1..] {
            if better(&rows[*n as usize], &rows[best as usize]) {
                best = *n;
            }
        }
        for n in group.iter().filter(|n| **n != best) {
            instead[*n as usize] = Some(best);
        }
    }
    instead
}
