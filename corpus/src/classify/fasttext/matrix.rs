//! The matrices of a fastText model: rows of f32, or rows quantised by parts.
//!
//! A quantised row is one byte a part, which names one of 256 centroids of that part, and where
//! norms were split off, one more byte for the norm (Jégou et al., "Product Quantization for
//! Nearest Neighbor Search", 2011; Joulin et al., "FastText.zip", 2016). Numbers stay in the bytes
//! of the file; nothing is unpacked. Shapes are held against the file's length when read.

use super::cursor::Cursor;
use std::ops::Range;

/// Centroids of a part: its code is a byte.
const CENTROIDS: usize = 256;
/// Columns that are believed; models have 8 to 300.
const MOST_COLUMNS: usize = 1 << 16;

/// Rows of numbers somewhere in a file.
pub(super) enum Matrix {
    Dense {
        rows: usize,
        columns: usize,
        data: Range<usize>,
    },
    Quantised {
        rows: usize,
        columns: usize,
        codes: Range<usize>,
        parts: Parts,
        norms: Option<Norms>,
    },
}

/// The norm of each row, and what its code means.
pub(super) struct Norms {
    codes: Range<usize>,
    parts: Parts,
}

/// How a row is cut into parts, and their centroids.
pub(super) struct Parts {
    columns: usize,
    count: usize,
    width: usize,
    last: usize,
    centroids: Range<usize>,
}

fn float(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn taken(cursor: &mut Cursor, count: Option<usize>, what: &str) -> Result<Range<usize>, String> {
    let count = count.ok_or_else(|| format!("{what} is larger than memory"))?;
    let start = cursor.position();
    cursor.take(count, what)?;
    Ok(start..start + count)
}

impl Parts {
    fn read(cursor: &mut Cursor) -> Result<Parts, String> {
        let columns = cursor.count32("the width of a quantiser")?;
        let count = cursor.count32("the parts of a quantiser")?;
        let width = cursor.count32("the width of a part")?;
        let last = cursor.count32("the width of the last part")?;
        let fits = width > 0
            && count > 0
            && columns <= MOST_COLUMNS
            && count == columns.div_ceil(width)
            && last == columns - (count - 1) * width;
        if !fits {
            return Err(format!(
                "a quantiser of {columns} columns in {count} parts of {width}, the last of {last}"
            ));
        }
        let centroids = taken(cursor, Some(columns * CENTROIDS * 4), "the centroids")?;
        Ok(Parts { columns, count, width, last, centroids })
    }

    /// The numbers of a part's centroid.
    fn centroid<'a>(&self, file: &'a [u8], part: usize, code: u8) -> &'a [u8] {
        let code = usize::from(code);
        let (start, width) = if part + 1 == self.count {
            (part * CENTROIDS * self.width + code * self.last, self.last)
        } else {
            ((part * CENTROIDS + code) * self.width, self.width)
        };
        let start = self.centroids.start + start * 4;
        &file[start..start + width * 4]
    }
}

impl Matrix {
    pub fn read(cursor: &mut Cursor, quantised: bool) -> Result<Matrix, String> {
        let normed = quantised && cursor.flag("whether norms are apart")?;
        let rows = cursor.count64("the rows of a matrix")?;
        let columns = cursor.count64("the columns of a matrix")?;
        if columns == 0 || columns > MOST_COLUMNS {
            return Err(format!("a matrix of {rows} rows has {columns} columns"));
        }
        if !quantised {
            let bytes = rows.checked_mul(columns).and_then(|n| n.checked_mul(4));
            let what = format!("a matrix of {rows} x {columns}");
            return Ok(Matrix::Dense { rows, columns, data: taken(cursor, bytes, &what)? });
        }
        let length = cursor.count32("the length of the codes")?;
        let codes = taken(cursor, Some(length), "the codes of a matrix")?;
        let parts = Parts::read(cursor)?;
        if parts.columns != columns || rows.checked_mul(parts.count) != Some(length) {
            let (count, width) = (parts.count, parts.columns);
            return Err(format!(
                "{length} codes for {rows} x {columns} in {count} parts, {width} columns wide"
            ));
        }
        let norms = match normed {
            false => None,
            true => {
                let codes = taken(cursor, Some(rows), "the norms of a matrix")?;
                let parts = Parts::read(cursor)?;
                if parts.columns != 1 {
                    return Err(format!("norms of {} columns", parts.columns));
                }
                Some(Norms { codes, parts })
            }
        };
        Ok(Matrix::Quantised { rows, columns, codes, parts, norms })
    }

    pub fn shape(&self) -> (usize, usize) {
        match self {
            Matrix::Dense { rows, columns, .. } | Matrix::Quantised { rows, columns, .. } => {
                (*rows, *columns)
            }
        }
    }

    /// Adds a row to `sum`, which is as wide as the matrix.
    pub fn add(&self, file: &[u8], row: usize, sum: &mut [f32]) {
        match self {
            Matrix::Dense { columns, data, .. } => {
                let start = data.start + row * columns * 4;
                let numbers = file[start..start + columns * 4].chunks_exact(4);
                sum.iter_mut().zip(numbers).for_each(|(sum, bytes)| *sum += float(bytes));
            }
            Matrix::Quantised { codes, parts, norms, .. } => {
                let norm = norm(file, norms.as_ref(), row);
                let start = codes.start + row * parts.count;
                let row = &file[start..start + parts.count];
                for (part, sums) in sum.chunks_mut(parts.width).enumerate() {
                    let numbers = parts.centroid(file, part, row[part]).chunks_exact(4);
                    sums.iter_mut().zip(numbers).for_each(|(s, bytes)| *s += norm * float(bytes));
                }
            }
        }
    }

    /// The product of a row and a vector as wide as the matrix.
    pub fn dot(&self, file: &[u8], row: usize, vector: &[f32]) -> f32 {
        match self {
            Matrix::Dense { columns, data, .. } => {
                let start = data.start + row * columns * 4;
                dot(&file[start..start + columns * 4], vector)
            }
            Matrix::Quantised { codes, parts, norms, .. } => {
                let start = codes.start + row * parts.count;
                let code = &file[start..start + parts.count];
                let of_part = |(part, vector): (usize, &[f32])| {
                    dot(parts.centroid(file, part, code[part]), vector)
                };
                let sum: f32 = vector.chunks(parts.width).enumerate().map(of_part).sum();
                sum * norm(file, norms.as_ref(), row)
            }
        }
    }
}

fn norm(file: &[u8], norms: Option<&Norms>, row: usize) -> f32 {
    norms.map_or(1.0, |norms| float(norms.parts.centroid(file, 0, file[norms.codes.start + row])))
}

/// Sums eight lanes apart, so that it runs at the width of the processor in one fixed order.
fn dot(bytes: &[u8], vector: &[f32]) -> f32 {
    let mut lanes = [0f32; 8];
    let (rows, vectors) = (bytes.chunks_exact(32), vector.chunks_exact(8));
    let (bytes_left, vector_left) = (rows.remainder(), vectors.remainder());
    for (row, part) in rows.zip(vectors) {
        let products = row.chunks_exact(4).zip(part).map(|(bytes, v)| float(bytes) * v);
        lanes.iter_mut().zip(products).for_each(|(lane, product)| *lane += product);
    }
    let left = bytes_left.chunks_exact(4).zip(vector_left).map(|(b, v)| float(b) * v);
    lanes.iter().sum::<f32>() + left.sum::<f32>()
}
