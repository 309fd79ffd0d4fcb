//! Merges sorted runs into one sorted sequence of distinct rows, of a range of first words.
//!
//! Memory: one block of each run. A binary heap of the runs' next rows; the top is replaced, not
//! popped and pushed. Not here: what is made of the rows.

use super::run::Run;
use super::{Runs, run::BLOCK};
use crate::Error;

/// Where the reading of one run stands.
struct Cursor<const W: usize> {
    run: Run,
    block: usize,
    rows: Vec<[u64; W]>,
    at: usize,
}

impl<const W: usize> Cursor<W> {
    /// At the first row with a first word of at least `from`; `None` where there is none.
    fn new(run: Run, from: u64) -> Result<Option<Cursor<W>>, Error> {
        let block = run.block_of(from);
        let mut cursor = Cursor { run, block, rows: Vec::new(), at: 0 };
        cursor.run.read(block, &mut cursor.rows)?;
        cursor.at = cursor.rows.partition_point(|row| row[0] < from);
        if cursor.at == cursor.rows.len() && !cursor.next()? {
            return Ok(None);
        }
        Ok(Some(cursor))
    }

    fn row(&self) -> [u64; W] {
        self.rows[self.at]
    }

    /// Goes to the next row; `false` behind the last.
    fn next(&mut self) -> Result<bool, Error> {
        self.at += 1;
        if self.at >= self.rows.len() {
            self.block += 1;
            self.at = 0;
            self.run.read(self.block, &mut self.rows)?;
        }
        Ok(!self.rows.is_empty())
    }
}

/// The merged rows.
pub struct Merge<const W: usize> {
    cursors: Vec<Cursor<W>>,
    /// The next row of each cursor and its number; no row is larger than those of its two children.
    heap: Vec<([u64; W], u32)>,
    to: u64,
    last: Option<[u64; W]>,
}

impl<const W: usize> Merge<W> {
    /// Bytes of memory a run takes while it is merged: a block as read and as rows.
    pub(crate) const MEMORY_A_RUN: u64 = 2 * BLOCK as u64;

    /// All rows.
    ///
    /// # Errors
    /// A run that is missing or damaged.
    pub fn all(runs: &Runs) -> Result<Merge<W>, Error> {
        Merge::between(runs, 0, u64::MAX)
    }

    /// The rows whose first word lies in `from..=to`.
    ///
    /// # Errors
    /// A run that is missing or damaged.
    pub fn between(runs: &Runs, from: u64, to: u64) -> Result<Merge<W>, Error> {
        let open = |path: &std::path::PathBuf| Run::open(path, W);
        Merge::of(runs.paths.iter().map(open), from, to)
    }

    /// The rows of open runs whose first word lies in `from..=to`.
    pub(crate) fn of(
        runs: impl Iterator<Item = Result<Run, Error>>,
        from: u64,
        to: u64,
    ) -> Result<Merge<W>, Error> {
        let (mut cursors, mut heap) = (Vec::new(), Vec::new());
        for run in runs {
            if let Some(cursor) = Cursor::new(run?, from)?
                && cursor.row()[0] <= to
            {
                heap.push((cursor.row(), cursors.len() as u32));
                cursors.push(cursor);
            }
        }
        heap.sort_unstable();
        Ok(Merge { cursors, heap, to, last: None })
    }

    /// Restores the order of the heap after its top grew.
    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let left = 2 * at + 1;
            let Some(first) = self.heap.get(left) else { return };
            let second = self.heap.get(left + 1).is_some_and(|right| right < first);
            let child = left + usize::from(second);
            if self.heap[at] <= self.heap[child] {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }

    fn take(&mut self) -> Result<Option<[u64; W]>, Error> {
        loop {
            let Some((row, number)) = self.heap.first().copied() else { return Ok(None) };
            let cursor = &mut self.cursors[number as usize];
            if cursor.next()? && cursor.row()[0] <= self.to {
                self.heap[0].0 = cursor.row();
            } else {
                // Its block is no longer needed; the others' may be many.
                cursor.rows = Vec::new();
                self.heap.swap_remove(0);
            }
            self.sink();
            if self.last != Some(row) {
                self.last = Some(row);
                return Ok(Some(row));
            }
        }
    }
}

impl<const W: usize> Iterator for Merge<W> {
    type Item = Result<[u64; W], Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take().transpose()
    }
}
