//! Work files of the first pass: what deduplication needs of each page, without its text.
//!
//! Little-endian, one block a page: row, verdict, count of line hashes, line hashes. Work files
//! live until the run is over; they are no format that others read.

use crate::Error;
use crate::dedup::Row;
use crate::page::{Candidate, STAYS, Verdict};
use std::path::Path;

const MAGIC: &[u8; 8] = b"quipuR01";
/// Bytes of a page before its line hashes.
const FIXED: usize = 16 + 8 + 8 + 8 + 4 + 2 + 1 + 4 + 4;

/// What is kept of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub row: Row,
    pub verdict: Option<Verdict>,
    pub lines: Vec<u64>,
}

/// Writes the rows of one unit.
pub(crate) fn write(path: &Path, candidates: &[Candidate]) -> Result<(), Error> {
    let mut out = MAGIC.to_vec();
    for Candidate { row, verdict, lines, .. } in candidates {
        out.extend_from_slice(&row.id.to_le_bytes());
        out.extend_from_slice(&row.url.to_le_bytes());
        out.extend_from_slice(&row.text.to_le_bytes());
        out.extend_from_slice(&row.date.to_le_bytes());
        out.extend_from_slice(&row.bytes.to_le_bytes());
        out.extend_from_slice(&row.url_length.to_le_bytes());
        out.push(verdict.map_or(STAYS, |v| v.rule));
        out.extend_from_slice(&verdict.map_or(0.0, |v| v.value).to_le_bytes());
        out.extend_from_slice(&(lines.len() as u32).to_le_bytes());
        lines.iter().for_each(|hash| out.extend_from_slice(&hash.to_le_bytes()));
    }
    Ok(quipu_store::atomic::write_bytes(path, &out)?)
}

/// Reads the rows of one unit, page by page.
pub(crate) fn read(path: &Path, mut each: impl FnMut(Kept)) -> Result<(), Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let broken = || Error::Line {
        path: path.to_owned(),
        line: 1,
        reason: "a damaged work file; remove the folder `work` and run again".into(),
    };
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    while !rest.is_empty() {
        let (fixed, tail) = rest.split_at_checked(FIXED).ok_or_else(broken)?;
        let count = u32::from_le_bytes(array(fixed, 51)) as usize;
        let (hashes, tail) = tail.split_at_checked(count * 8).ok_or_else(broken)?;
        rest = tail;
        let row = Row {
            id: u128::from_le_bytes(array(fixed, 0)),
            url: u64::from_le_bytes(array(fixed, 16)),
            text: u64::from_le_bytes(array(fixed, 24)),
            date: i64::from_le_bytes(array(fixed, 32)),
            bytes: u32::from_le_bytes(array(fixed, 40)),
            url_length: u16::from_le_bytes(array(fixed, 44)),
        };
        let verdict = (fixed[46] != STAYS)
            .then(|| Verdict { rule: fixed[46], value: f32::from_le_bytes(array(fixed, 47)) });
        let lines = hashes.chunks_exact(8).map(|h| u64::from_le_bytes(array(h, 0))).collect();
        each(Kept { row, verdict, lines });
    }
    Ok(())
}

fn array<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[from..from + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_documents::Document;

    #[test]
    fn what_was_written_returns_and_damage_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("u.rows");
        let row = Row { id: 1 << 99, url: 2, text: 3, date: -4, bytes: 5, url_length: 6 };
        let made =
            |verdict, lines| Candidate { document: Document::default(), row, verdict, lines };
        let verdict = Some(Verdict { rule: 7, value: 0.5 });
        write(&path, &[made(None, vec![8, 9]), made(verdict, vec![])]).unwrap();
        let mut found = Vec::new();
        read(&path, |kept| found.push((kept.row, kept.verdict, kept.lines))).unwrap();
        assert_eq!(found, [(row, None, vec![8, 9]), (row, verdict, vec![])]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(read(&path, |_| ()).unwrap_err().to_string().contains("u.rows"));
    }
}
