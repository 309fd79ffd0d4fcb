//! What a Parquet file claims of itself, at its end and at the head of each page, held against its
//! bytes before the Parquet reader sees it. That reader makes room for as many children as a column
//! claims to have, for as many values as a dictionary claims and for as many bytes as a page, and passes
//! over as many values as a list that it does not know claims to hold, be there bytes or not: so a
//! kilobyte of claims asks for gigabytes, which ends a process that does not get them, or for hours.
//!
//! Both are Thrift structures in the compact protocol, in which each field says its own type; the
//! Parquet reader takes a field that it knows for what it should be, whatever it says. So a field
//! that says something else is refused here, else the two would read the same bytes differently. What
//! ends too early is left to the reader, which says so. Source: parquet-format, `parquet.thrift`.

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as Parquet};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes behind the metadata: their length, and `PAR1`.
const END: u64 = 8;
/// How deep structures may stand in one another; Parquet's own go seven deep.
const DEEPEST: u32 = 32;

// Types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;
const UUID: u8 = 13;

/// Bytes of a page, inflated, above which it is no page: others write a megabyte, and a single value of
/// this length would not fit a document either.
const PAGE: u64 = 1 << 30;

/// How much is read of a page for its head, until it is all there; most are shorter than the first.
const HEADS: [u64; 3] = [4 << 10, 256 << 10, 16 << 20];

/// A file whose pages are read only where their heads hold.
pub(crate) struct Pages<T>(pub T);

impl<T: ChunkReader> Length for Pages<T> {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl<T: ChunkReader> ChunkReader for Pages<T> {
    type T = T::T;

    /// The reader of pages asks for one from its head on.
    fn get_read(&self, start: u64) -> Parquet<T::T> {
        self.check(start).map_err(ParquetError::General)?;
        self.0.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Parquet<Bytes> {
        self.0.get_bytes(start, length)
    }
}

impl<T: ChunkReader> Pages<T> {
    fn check(&self, start: u64) -> Result<(), String> {
        let left = self.0.len().saturating_sub(start);
        for most in HEADS {
            let length = most.min(left);
            let bytes = self.0.get_bytes(start, length as usize).map_err(|e| e.to_string())?;
            let mut thrift = Thrift::new(&bytes);
            match thrift.structure(Shape::PageHeader, 0) {
                Ok(()) => return thrift.claimed.page(start),
                Err(_) if length < left => {}
                Err(_) => break,
            }
        }
        Err(format!("the page at byte {start} has a head that is not what Parquet says"))
    }
}

/// Says what is wrong with the claims of a file, if anything is.
pub(crate) fn check<T: ChunkReader>(bytes: &T) -> Result<(), String> {
    let Some(metadata) = metadata(bytes) else { return Ok(()) };
    let mut thrift = Thrift::new(&metadata);
    let walked = thrift.structure(Shape::File, 0);
    let Claimed { elements, children, .. } = thrift.claimed;
    // A tree of so many elements has one child fewer.
    if children >= elements.max(1) {
        return Err(format!(
            "its schema has {elements} elements, which claim to have {children} children"
        ));
    }
    match walked {
        Ok(()) | Err(Stop::Short) => Ok(()),
        Err(Stop::Odd) => Err("its metadata has a field that is not what Parquet says".into()),
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

/// Why reading ends before the end of the metadata.
#[derive(Debug, PartialEq)]
enum Stop {
    /// So do the bytes.
    Short,
    /// A field says of itself what no such field is, holds more than there are bytes, or counts or
    /// places something below zero.
    Odd,
}

/// A structure of which it is known what its fields are, by its name in `parquet.thrift`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    File,
    SchemaElement,
    LogicalType,
    /// the member of a logical type of a number
    Member(i64),
    KeyValue,
    RowGroup,
    SortingColumn,
    ColumnChunk,
    ColumnMetaData,
    Statistics,
    PageEncodingStats,
    SizeStatistics,
    GeospatialStatistics,
    BoundingBox,
    PageHeader,
    DataPageHeader,
    DictionaryPageHeader,
    DataPageHeaderV2,
    /// any other
    Other,
}

/// What a known field is.
#[derive(Clone, Copy)]
enum Field {
    Plain(u8),
    Struct(Shape),
    /// a list of a type, of structures of a shape
    List(u8, Shape),
}

impl Shape {
    /// What a field is; `None` for one that the reader passes over by the type that it says.
    fn field(self, id: i64) -> Option<Field> {
        use Field::{List, Plain, Struct};
        use Shape::*;
        let field = match (self, id) {
            (File, 2) => List(STRUCT, SchemaElement),
            (File, 4) => List(STRUCT, RowGroup),
            (File, 5) | (ColumnMetaData, 8) => List(STRUCT, KeyValue),
            (File, 7) => List(STRUCT, Other),
            (File, 8) | (ColumnChunk, 8) => Struct(Other),
            (SchemaElement, 10) => Struct(LogicalType),
            (LogicalType, 1..=18) => Struct(Member(id)),
            (Member(7 | 8), 2) => Struct(Other),
            (RowGroup, 1) => List(STRUCT, ColumnChunk),
            (RowGroup, 4) => List(STRUCT, SortingColumn),
            (ColumnChunk, 3) => Struct(ColumnMetaData),
            (ColumnMetaData, 2) | (GeospatialStatistics, 2) => List(I32, Other),
            (ColumnMetaData, 3) => List(BINARY, Other),
            (ColumnMetaData, 12) => Struct(Statistics),
            (ColumnMetaData, 13) => List(STRUCT, PageEncodingStats),
            (ColumnMetaData, 16) => Struct(SizeStatistics),
            (ColumnMetaData, 17) => Struct(GeospatialStatistics),
            (SizeStatistics, 2 | 3) => List(I64, Other),
            (GeospatialStatistics, 1) => Struct(BoundingBox),
            (BoundingBox, 1..=8) => Plain(DOUBLE),
            (PageHeader, 5) => Struct(DataPageHeader),
            (PageHeader, 6) => Struct(Other),
            (PageHeader, 7) => Struct(DictionaryPageHeader),
            (PageHeader, 8) => Struct(DataPageHeaderV2),
            (DataPageHeader, 5) | (DataPageHeaderV2, 8) => Struct(Statistics),
            (DictionaryPageHeader, 3) | (DataPageHeaderV2, 7) => Plain(TRUE),
            (PageHeader | DataPageHeader, 1..=4) => Plain(I32),
            (DictionaryPageHeader, 1 | 2) | (DataPageHeaderV2, 1..=6) => Plain(I32),
            (Member(7 | 8), 1) | (Member(10), 2) | (Statistics, 7 | 8) => Plain(TRUE),
            (SortingColumn, 2 | 3) => Plain(TRUE),
            (Member(10 | 16), 1) => Plain(BYTE),
            (RowGroup, 7) => Plain(I16),
            (File, 1) | (SchemaElement, 1..=3 | 5..=9) | (Member(5), 1 | 2) => Plain(I32),
            (Member(18), 2) | (SortingColumn, 1) | (PageEncodingStats, 1..=3) => Plain(I32),
            (ColumnChunk, 5 | 7) | (ColumnMetaData, 1 | 4 | 15) => Plain(I32),
            (File, 3) | (RowGroup, 2 | 3 | 5 | 6) | (ColumnChunk, 2 | 4 | 6) => Plain(I64),
            (ColumnMetaData, 5..=7 | 9..=11 | 14) | (Statistics, 3 | 4) => Plain(I64),
            (SizeStatistics, 1) => Plain(I64),
            (File, 6 | 9) | (SchemaElement, 4) | (Member(17 | 18), 1) => Plain(BINARY),
            (KeyValue, 1 | 2) | (ColumnChunk, 1 | 9) | (Statistics, 1 | 2 | 5 | 6) => Plain(BINARY),
            _ => return None,
        };
        Some(field)
    }
}

/// What was found of numbers by which the reader makes room.
#[derive(Default)]
struct Claimed {
    /// Elements of the schema, and the children that they claim to have, all together.
    elements: u64,
    children: u64,
    /// Bytes of a page, inflated, and the values of a dictionary.
    page: u64,
    dictionary: u64,
}

impl Claimed {
    /// Takes a number of a structure. Counts, lengths and places are not below zero: where the reader
    /// reads on from one that is, it panics.
    fn take(&mut self, shape: Shape, id: i64, number: i64) -> Result<(), Stop> {
        use Shape::{ColumnMetaData, DictionaryPageHeader, PageHeader, SchemaElement};
        let count = u64::try_from(number).map_err(|_| Stop::Odd);
        match (shape, id) {
            // As the reader takes it: the lower half.
            (SchemaElement, 5) => self.children += (number as i32).max(0) as u64,
            (PageHeader, 2) => self.page = count?,
            (DictionaryPageHeader, 1) => self.dictionary = count?,
            (PageHeader, 3) | (ColumnMetaData, 5..=7 | 9 | 11) => drop(count?),
            _ => {}
        }
        Ok(())
    }

    /// Says what is wrong with a page of such a head. A value of a dictionary takes a byte at least.
    fn page(&self, start: u64) -> Result<(), String> {
        let (page, dictionary) = (self.page, self.dictionary);
        if page > PAGE {
            return Err(format!(
                "the page at byte {start} claims {page} bytes, inflated; at most {PAGE} are read"
            ));
        }
        if dictionary > page {
            return Err(format!(
                "the dictionary at byte {start} claims {dictionary} values in {page} bytes"
            ));
        }
        Ok(())
    }
}

/// Bytes of the compact protocol that are still to be read, and what was found in them.
struct Thrift<'a> {
    rest: &'a [u8],
    claimed: Claimed,
}

impl<'a> Thrift<'a> {
    fn new(rest: &'a [u8]) -> Thrift<'a> {
        Thrift { rest, claimed: Claimed::default() }
    }

    /// Passes over a structure.
    fn structure(&mut self, shape: Shape, depth: u32) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::Odd);
        }
        self.claimed.elements += u64::from(shape == Shape::SchemaElement);
        let mut last = 0;
        while let Some((id, kind)) = self.field(&mut last)? {
            let said = if kind == FALSE { TRUE } else { kind };
            match shape.field(id) {
                Some(Field::Plain(known @ (I32 | I64))) if known == said => {
                    let number = self.number()?;
                    self.claimed.take(shape, id, number)?;
                }
                Some(Field::Plain(known)) if known == said => self.skip(kind, depth)?,
                Some(Field::Struct(inner)) if said == STRUCT => self.structure(inner, depth + 1)?,
                Some(Field::List(known, inner)) if said == LIST => {
                    let (count, kind) = self.list()?;
                    // Some writers give an empty list no type.
                    if count > 0 && kind != known {
                        return Err(Stop::Odd);
                    }
                    self.all(count, &[kind], inner, depth)?;
                }
                Some(_) => return Err(Stop::Odd),
                None => self.skip(kind, depth)?,
            }
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.rest.split_first().ok_or(Stop::Short)?;
        self.rest = rest;
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
        let rest = usize::try_from(count).ok().and_then(|count| self.rest.get(count..));
        self.rest = rest.ok_or(Stop::Short)?;
        Ok(())
    }

    /// Passes over a value; within a list a truth takes a byte, as a field it takes none.
    fn skip(&mut self, kind: u8, depth: u32) -> Result<(), Stop> {
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.pass(1),
            I16 | I32 | I64 => self.varint().map(|_| ()),
            DOUBLE => self.pass(8),
            BINARY => {
                let length = self.varint()?;
                self.pass(length)
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                self.all(count, &[kind], Shape::Other, depth)
            }
            MAP => {
                let count = self.varint()?;
                if count == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                self.all(count, &[kinds >> 4, kinds & 15], Shape::Other, depth)
            }
            STRUCT => self.structure(Shape::Other, depth + 1),
            UUID => self.pass(16),
            _ => Err(Stop::Odd),
        }
    }

    /// Passes over values of these types, one after the other, `count` times. Each takes a byte at
    /// least, but the reader passes over a truth without: a claim of more than there is, is odd.
    fn all(&mut self, count: u64, kinds: &[u8], shape: Shape, depth: u32) -> Result<(), Stop> {
        if depth > DEEPEST || count > self.rest.len() as u64 {
            return Err(Stop::Odd);
        }
        for _ in 0..count {
            for kind in kinds {
                match *kind {
                    TRUE | FALSE => self.pass(1)?,
                    STRUCT => self.structure(shape, depth + 1)?,
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
    use crate::{Document, Reader, Scores, write_file};

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
        assert!(!refused(found).is_empty());
        let found = include_bytes!("../../fuzz/attacks/truths.parquet").to_vec();
        assert!(refused(found).contains("not what Parquet says"));
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
        let walk = |bytes: &[u8]| Thrift::new(bytes).structure(Shape::File, 0);
        let deep = [vec![0x15, 2, 0xfc, 0x1c], [0x1c].repeat(1 << 16)].concat();
        assert_eq!(walk(&deep), Err(Stop::Odd));
        // A list of 2^31 elements, and one of as many truths in a field that nobody knows.
        let end = [0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0];
        assert_eq!(walk(&[&[0x15, 2, 0x19, 0xfc], &end[..]].concat()), Err(Stop::Odd));
        assert_eq!(walk(&[&[0x15, 2, 0xf9, 0xf1], &end[..]].concat()), Err(Stop::Odd));
        assert_eq!(walk(&[0x15, 2, 0xf9, 0x21, 1, 1, 0]), Ok(()));
    }

    #[test]
    fn counts_and_places_below_zero_are_refused() {
        use Shape::{ColumnMetaData, DictionaryPageHeader, PageHeader};
        for (shape, id) in [(PageHeader, 2), (PageHeader, 3), (DictionaryPageHeader, 1)]
            .into_iter()
            .chain([5, 6, 7, 9, 11].map(|id| (ColumnMetaData, id)))
        {
            let mut claimed = Claimed::default();
            assert_eq!(claimed.take(shape, id, 0), Ok(()));
            assert_eq!(claimed.take(shape, id, -1), Err(Stop::Odd), "{shape:?} {id}");
        }
        let found = include_bytes!("../../fuzz/attacks/negative-lengths.parquet").to_vec();
        assert!(refused(found).contains("not what Parquet says"));
        let page = |page, dictionary| Claimed { page, dictionary, ..Claimed::default() }.page(4);
        assert_eq!(page(PAGE, PAGE), Ok(()));
        assert!(page(PAGE + 1, 0).unwrap_err().contains("claims 1073741825 bytes"));
        assert!(page(10, 11).unwrap_err().contains("claims 11 values in 10 bytes"));
    }

    #[test]
    fn a_page_whose_head_claims_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let found = include_bytes!("../../fuzz/attacks/page-header.parquet");
        std::fs::write(&path, found).unwrap();
        let read = Scores::open(&path).and_then(|scores| scores.collect::<Result<Vec<_>, _>>());
        let said = read.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("has a head that is not what Parquet says"), "{said}");
        let found = include_bytes!("../../fuzz/attacks/dictionary.parquet");
        std::fs::write(&path, found).unwrap();
        let read = Reader::open(&path).and_then(|reader| reader.collect::<Result<Vec<_>, _>>());
        let said = read.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(said.contains("the dictionary at byte") && said.contains("values in"), "{said}");
        // The head of a page may be long: it holds the least and the greatest value.
        let text = "word ".repeat(200_000);
        write_file(&path, &[Document { text: text.clone(), ..Document::default() }]).unwrap();
        let back: Vec<Document> = Reader::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back[0].text, text);
    }
}
