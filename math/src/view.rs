//! A matrix of rows inside a buffer: the only form in which ops see memory. Not an n-dimensional
//! tensor: heads are columns, tokens are rows, and a per-token number is a matrix of one column.

use std::ops::Range;

use crate::buffer::Buffer;
use crate::dtype::DType;
use crate::error::Error;

/// `rows` × `cols` elements of `buffer`; element (r, c) is number `offset + r * stride + c`.
///
/// A view always lies inside its buffer: the constructors refuse everything else. Conventions:
/// per-token scalars (ids, positions, weights, log-sum-exp) have one row a token and one column;
/// parameters that are vectors (norm weights, biases) have one row; a single number is 1 × 1.
#[derive(Clone, Debug)]
pub struct View {
    buffer: Buffer,
    offset: usize,
    rows: usize,
    cols: usize,
    stride: usize,
    dtype: DType,
}

fn wrong(what: &'static str, found: String, expected: String) -> Error {
    Error::View { what, found, expected }
}

impl View {
    /// A view with rows `stride` elements apart, starting at element `offset` of `buffer`.
    ///
    /// # Errors
    /// [`Error::View`] if `stride < cols` (with more than one row) or the last element lies beyond
    /// the buffer.
    pub fn new(
        buffer: Buffer,
        dtype: DType,
        offset: usize,
        (rows, cols): (usize, usize),
        stride: usize,
    ) -> Result<View, Error> {
        if rows > 1 && stride < cols {
            return Err(wrong("stride", stride.to_string(), format!("at least {cols} columns")));
        }
        let end = if rows == 0 || cols == 0 {
            Some(offset)
        } else {
            (rows - 1)
                .checked_mul(stride)
                .and_then(|n| n.checked_add(cols))
                .and_then(|n| n.checked_add(offset))
        };
        let have = buffer.bytes() / dtype.size();
        match end {
            Some(end) if end <= have => Ok(View { buffer, offset, rows, cols, stride, dtype }),
            _ => Err(wrong(
                "extent",
                format!("{rows} x {cols} {dtype}, stride {stride}, at element {offset}"),
                format!("inside a buffer of {have} elements"),
            )),
        }
    }

    /// A dense view (stride = cols) starting at element `offset`.
    ///
    /// # Errors
    /// As [`View::new`].
    pub fn dense(
        buffer: Buffer,
        dtype: DType,
        offset: usize,
        rows: usize,
        cols: usize,
    ) -> Result<View, Error> {
        View::new(buffer, dtype, offset, (rows, cols), cols)
    }

    /// The buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
    /// First element, in elements of [`View::dtype`] from the start of the buffer.
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }
    /// Elements from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }
    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// rows × cols.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }
    /// Whether the view has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Bytes of the elements (without the gaps between rows).
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype.size()
    }
    /// Whether rows follow each other without gaps.
    pub fn is_dense(&self) -> bool {
        self.rows <= 1 || self.stride == self.cols
    }

    /// The rows `range` of this view.
    ///
    /// # Errors
    /// [`Error::View`] if the range does not lie inside this view.
    pub fn slice_rows(&self, range: Range<usize>) -> Result<View, Error> {
        if range.start > range.end || range.end > self.rows {
            return Err(wrong("rows", format!("{range:?}"), format!("inside 0..{}", self.rows)));
        }
        let offset =
            if range.is_empty() { self.offset } else { self.offset + range.start * self.stride };
        Ok(View { offset, rows: range.len(), ..self.clone() })
    }

    /// The columns `range` of this view; the stride stays.
    ///
    /// # Errors
    /// [`Error::View`] if the range does not lie inside this view.
    pub fn slice_cols(&self, range: Range<usize>) -> Result<View, Error> {
        if range.start > range.end || range.end > self.cols {
            return Err(wrong("columns", format!("{range:?}"), format!("inside 0..{}", self.cols)));
        }
        let offset = if range.is_empty() || self.rows == 0 {
            self.offset
        } else {
            self.offset + range.start
        };
        Ok(View { offset, cols: range.len(), ..self.clone() })
    }

    /// The same elements of a dense view in another shape.
    ///
    /// # Errors
    /// [`Error::View`] if the view has gaps or the product of rows and columns differs.
    pub fn reshape(&self, rows: usize, cols: usize) -> Result<View, Error> {
        if !self.is_dense() {
            return Err(wrong("stride", self.stride.to_string(), format!("{} (dense)", self.cols)));
        }
        if rows.checked_mul(cols) != Some(self.len()) {
            let found = format!("{rows} x {cols}");
            return Err(wrong("shape", found, format!("{} elements", self.len())));
        }
        Ok(View { rows, cols, stride: cols, ..self.clone() })
    }

    /// The same bytes of a dense view as elements of another type, in one row.
    ///
    /// # Errors
    /// [`Error::View`] if the view has gaps, or its start or length is no multiple of the new size.
    pub fn reinterpret(&self, dtype: DType) -> Result<View, Error> {
        let start = self.offset * self.dtype.size();
        if !self.is_dense()
            || !start.is_multiple_of(dtype.size())
            || !self.bytes().is_multiple_of(dtype.size())
        {
            let found = format!("{} bytes at byte {start}", self.bytes());
            return Err(wrong("bytes", found, format!("dense multiples of {}", dtype.size())));
        }
        let cols = self.bytes() / dtype.size();
        View::dense(self.buffer.clone(), dtype, start / dtype.size(), 1, cols)
    }

    /// The same place in another buffer.
    ///
    /// # Errors
    /// As [`View::new`], if that buffer is too small.
    pub fn on(&self, buffer: &Buffer) -> Result<View, Error> {
        let shape = (self.rows, self.cols);
        View::new(buffer.clone(), self.dtype, self.offset, shape, self.stride)
    }

    /// Whether both views are the very same elements in the same shape and type.
    pub fn same(&self, other: &View) -> bool {
        self.buffer.same(&other.buffer)
            && (self.offset, self.rows, self.cols, self.dtype)
                == (other.offset, other.rows, other.cols, other.dtype)
            && (self.rows <= 1 || self.stride == other.stride)
    }

    /// Whether any byte belongs to both views. Exact for views with equal row distance in bytes
    /// (columns of one matrix) and for single rows; otherwise the enclosing ranges are compared.
    pub fn overlaps(&self, other: &View) -> bool {
        if self.is_empty() || other.is_empty() || !self.buffer.same(&other.buffer) {
            return false;
        }
        let (a, b) = (self.span(), other.span());
        if a.end <= b.start || b.end <= a.start {
            return false;
        }
        let pitch = self.pitch(other);
        let fits = |v: &View| if v.rows > 1 { v.row_bytes() == pitch } else { v.width() <= pitch };
        if pitch == 0 || !fits(self) || !fits(other) {
            return true;
        }
        lanes_meet((a.start, self.rows, self.width()), (b.start, other.rows, other.width()), pitch)
    }

    fn width(&self) -> usize {
        self.cols * self.dtype.size()
    }

    fn row_bytes(&self) -> usize {
        self.stride * self.dtype.size()
    }

    /// The row distance both can be described with: that of whichever has more than one row.
    fn pitch(&self, other: &View) -> usize {
        match (self.rows > 1, other.rows > 1) {
            (true, _) => self.row_bytes(),
            (false, true) => other.row_bytes(),
            (false, false) => 0,
        }
    }

    /// First byte and the byte after the last.
    fn span(&self) -> Range<usize> {
        let start = self.offset * self.dtype.size();
        start..start + (self.rows - 1) * self.row_bytes() + self.width()
    }
}

/// Whether two sets of byte runs (start, runs, width), `pitch` apart, meet; no run is wider than
/// the pitch.
fn lanes_meet(a: (usize, usize, usize), b: (usize, usize, usize), pitch: usize) -> bool {
    let (low, high) = if a.0 <= b.0 { (a, b) } else { (b, a) };
    let (skip, shift) = ((high.0 - low.0) / pitch, (high.0 - low.0) % pitch);
    // run j of `high` begins `shift` bytes into lane j + skip of `low`, and may reach into the next
    (shift < low.2 && skip < low.1) || (shift + high.2 > pitch && skip + 1 < low.1)
}
