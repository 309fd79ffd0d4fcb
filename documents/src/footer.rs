//! What the end of a Parquet file claims about its schema, held against itself before the Parquet
//! reader sees it: that reader makes room for as many children as a column claims to have, so that a
//! kilobyte of claims asks for gigabytes, and a process that gets none ends at once.
//!
//! The metadata is a Thrift structure in the compact protocol, in which each field says its own type;
//! the Parquet reader takes a field that it knows for what it should be, whatever it says. So a field
//! that says something else is refused here, else the two would read the same bytes differently. What
//! ends too early is left to the reader, which says so. Source: parquet-format, `parquet.thrift`.

use parquet::file::reader::ChunkReader;

/// Bytes behind the metadata: their length, and `PAR1`.
const END: u64 = 8;
/// How deep structures may stand in one another; Parquet's own go six deep.
const DEEPEST: u32 = 32;

// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I32: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Says what is wrong with the claims of a file, if anything is.
pub(crate) fn check<T: ChunkReader>(bytes: &T) -> Result<(), String> {
    let Some(metadata) = metadata(bytes) else { return Ok(()) };
    match Thrift(&metadata).schema() {
        // A tree of so many elements has one child fewer.
        Ok((elements, children)) if children >= elements.max(1) => Err(format!(
            "its schema has {elements} elements, which claim to have {children} children"
        )),
        Ok(_) | Err(Stop::Short) => Ok(()),
        Err(Stop::Odd) => Err("its schema has a field that is not what Parquet says".into()),
    }
}

/// The bytes of the metadata, where there are some.
fn metadata<T: ChunkReader>(bytes: &T) -> Option<Vec<u8>> {
    let length = bytes.len();
    let end = bytes.get_bytes(length.checked_sub(END)?, END as usize).ok()?;
    if end.get(4..) != Some(b"PAR1") {
        return None;
    }
    let size = u64::from(u32::from_le_bytes(end.get(..4)?.try_into().ok()?));
    let start = length.checked_sub(END)?.checked_sub(size)?;
    Some(bytes.get_bytes(start, size as usize).ok()?.to_vec())
}

/// Why reading ends before the end of the schema.
#[derive(Debug, PartialEq)]
enum Stop {
    /// So do the bytes.
    Short,
    /// A field says of itself what no such field is.
    Odd,
}

/// A structure of which it is known what its fields are.
#[derive(Clone, Copy)]
enum Shape {
    /// `SchemaElement`
    Element,
    /// `LogicalType`, and the member of it of a number
    Logical,
    Member(i64),
    /// any other
    Other,
}

impl Shape {
    /// The type of a field and, of a structure, its shape; `None` for one that the reader passes over
    /// by the type that it says.
    fn field(self, id: i64) -> Option<(u8, Shape)> {
        let kind = match (self, id) {
            (Shape::Element, 4) | (Shape::Member(17 | 18), 1) => BINARY,
            (Shape::Element, 1..=9) | (Shape::Member(5), 1 | 2) | (Shape::Member(18), 2) => I32,
            (Shape::Element, 10) => return Some((STRUCT, Shape::Logical)),
            (Shape::Logical, 1..=18) => return Some((STRUCT, Shape::Member(id))),
            (Shape::Member(7 | 8), 1) | (Shape::Member(10), 2) => TRUE,
            (Shape::Member(7 | 8), 2) => STRUCT,
            (Shape::Member(10 | 16), 1) => BYTE,
            _ => return None,
        };
        Some((kind, Shape::Other))
    }
}

/// Bytes of the compact protocol that are still to be read.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    /// Elements of the schema, and the children that they claim to have, all together.
    fn schema(&mut self) -> Result<(u64, u64), Stop> {
        // The version, then the schema.
        let mut last = 0;
        if self.field(&mut last)? != Some((1, I32)) {
            return Err(Stop::Odd);
        }
        self.varint()?;
        if self.field(&mut last)? != Some((2, LIST)) {
            return Err(Stop::Odd);
        }
        let (count, kind) = self.list()?;
        if count > 0 && kind != STRUCT {
            return Err(Stop::Odd);
        }
        let mut children = 0;
        for _ in 0..count {
            self.structure(Shape::Element, 0, &mut children)?;
        }
        Ok((count, children))
    }

    /// Passes over a structure, adding up the children that it claims to have.
    fn structure(&mut self, shape: Shape, depth: u32, children: &mut u64) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::Odd);
        }
        let mut last = 0;
        while let Some((id, kind)) = self.field(&mut last)? {
            let known = shape.field(id);
            let said = if kind == FALSE { TRUE } else { kind };
            if known.is_some_and(|(expected, _)| expected != said) {
                return Err(Stop::Odd);
            }
            match (shape, id, kind) {
                // As the reader takes it: the lower half.
                (Shape::Element, 5, _) => *children += (self.number()? as i32).max(0) as u64,
                (.., STRUCT) => {
                    let inner = known.map_or(Shape::Other, |(_, inner)| inner);
                    self.structure(inner, depth + 1, children)?;
                }
                _ => self.skip(kind, depth)?,
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.0.split_first().ok_or(Stop::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Stop::Odd)
    }

    /// A number whose sign is its last bit.
    fn number(&mut self) -> Result<i64, Stop> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Number and type of the next field of a structure; `None` at its end.
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, Stop> {
        let head = self.byte()?;
        if head & 15 == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.number()?,
            step => last.wrapping_add(i64::from(step)),
        };
        Ok(Some((*last, head & 15)))
    }

    /// Length and type of a list.
    fn list(&mut self) -> Result<(u64, u8), Stop> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((count, head & 15))
    }

    /// Passes over `count` bytes.
    fn pass(&mut self, count: u64) -> Result<(), Stop> {
        let rest = usize::try_from(count).ok().and_then(|count| self.0.get(count..));
        self.0 = rest.ok_or(Stop::Short)?;
        Ok(())
    }

    /// Passes over a value; within a list a truth takes a byte, as a field it takes none.
    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), Stop> {
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.pass(8),
            BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                self.skip_all(count, &[kind], depth)
            }
            11 => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                self.skip_all(count, &[kinds >> 4, kinds & 15], depth)
            }
            STRUCT => self.structure(Shape::Other, depth + 1, &mut 0),
            13 => self.pass(16),
            _ => Err(Stop::Odd),
        }
    }

    /// Passes over values of these types, one after the other, `count` times. Each takes a byte at
    /// least, so that a claim of more than there is ends with the bytes.
    fn skip_all(&mut self, count: u64, kinds: &[u8], depth: u32) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::Odd);
        }
        for _ in 0..count {
            for kind in kinds {
                match *kind {
                    TRUE | FALSE => self.pass(1)?,
                    kind => self.skip(kind, depth + 1)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, write_file};
    use bytes::Bytes;

    /// A file with documents, and where in it the root of the schema says how many children it has.
    fn file() -> (Vec<u8>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        write_file(&path, &[Document { text: "words".into(), ..Document::default() }]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        // "arrow_schema", the name of the root, then field 5.
        let name = b"arrow_schema";
        let at = bytes.windows(name.len()).rposition(|w| w == name).unwrap() + name.len();
        assert_eq!(bytes[at], 0x15, "one field on, a number");
        (bytes, at + 1)
    }

    #[test]
    fn claims_that_fit_pass() {
        let (bytes, _) = file();
        assert_eq!(check(&Bytes::from(bytes)), Ok(()));
    }

    fn refused(bytes: Vec<u8>) -> String {
        check(&Bytes::from(bytes)).unwrap_err()
    }

    #[test]
    fn more_children_than_elements_are_refused() {
        let (mut bytes, at) = file();
        bytes[at] = 0x7e;
        assert!(refused(bytes).contains("elements, which claim to have"));
        let found = include_bytes!("../../fuzz/attacks/children.parquet").to_vec();
        assert!(refused(found).contains("its schema has"));
    }

    #[test]
    fn a_field_that_says_it_is_another_is_refused() {
        let (mut bytes, at) = file();
        bytes[at - 1] = 0x16;
        assert!(refused(bytes).contains("not what Parquet says"));
    }

    #[test]
    fn what_does_not_parse_is_left_to_the_reader() {
        let (bytes, _) = file();
        for end in 0..bytes.len() {
            let mut cut = bytes[..end].to_vec();
            assert_eq!(check(&Bytes::from(cut.clone())), Ok(()), "{end}");
            cut.extend_from_slice(&[0xff; 8]);
            let _ = check(&Bytes::from(cut));
        }
        let deep = [vec![0x15, 2, 0x19, 0x1c], [0xbc].repeat(1 << 16)].concat();
        assert_eq!(Thrift(&deep).schema(), Err(Stop::Odd));
        let many = [0x15, 2, 0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0];
        assert_eq!(Thrift(&many).schema(), Err(Stop::Short));
    }
}
