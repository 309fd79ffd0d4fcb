//! Files of named tensors in the safetensors format: read through a memory map, written as a
//! stream. The crate `safetensors` parses and checks the header; nothing here trusts it further.
//! It knows no model: which names there must be is `huggingface.rs`'s business.

use crate::Error;
use half::{bf16, f16};
use memmap2::Mmap;
use quipu_store::atomic;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One tensor of a file.
#[derive(Clone, Debug)]
struct Located {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// An open file of tensors.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    tensors: Vec<Located>,
}

impl TensorFile {
    /// Opens a file and checks its header: sizes, types, offsets.
    ///
    /// # Errors
    /// A file that cannot be read, or is no sound safetensors file.
    pub fn open(path: &Path) -> Result<TensorFile, Error> {
        let io = |source| Error::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private to this value; a file that another process
        // truncates while it is mapped would end this one, as with every reader of such weights.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let tensors = locate(&map).map_err(|error| error.in_file(path))?;
        Ok(TensorFile { path: path.into(), map, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names, in the order of the data.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str())
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.iter().any(|tensor| tensor.name == name)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// No tensor of this name.
    pub fn shape(&self, name: &str) -> Result<&[usize], Error> {
        Ok(&self.find(name)?.shape)
    }

    /// The element type of a tensor, as the file spells it: `F32`, `BF16`, …
    ///
    /// # Errors
    /// No tensor of this name.
    pub fn dtype(&self, name: &str) -> Result<String, Error> {
        Ok(format!("{:?}", self.find(name)?.dtype))
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// No tensor of this name.
    pub fn bytes(&self, name: &str) -> Result<&[u8], Error> {
        Ok(&self.map[self.find(name)?.bytes.clone()])
    }

    /// The elements of a tensor of F32, F64, BF16 or F16; widening is exact.
    ///
    /// # Errors
    /// No tensor of this name, or one of another type.
    pub fn floats(&self, name: &str) -> Result<Vec<f64>, Error> {
        let tensor = self.find(name)?;
        let bytes = &self.map[tensor.bytes.clone()];
        match tensor.dtype {
            Dtype::F64 => Ok(each(bytes, f64::from_le_bytes)),
            Dtype::F32 => Ok(each(bytes, |b| f32::from_le_bytes(b) as f64)),
            Dtype::BF16 => Ok(each(bytes, |b| bf16::from_le_bytes(b).to_f64())),
            Dtype::F16 => Ok(each(bytes, |b| f16::from_le_bytes(b).to_f64())),
            other => {
                let found = format!("{other:?}");
                Err(Error::Dtype { name: name.into(), found }.in_file(&self.path))
            }
        }
    }

    /// The elements of a tensor of I64 or I32 that are no negative numbers, as tokens.
    ///
    /// # Errors
    /// No tensor of this name, one of another type, or numbers outside u32.
    pub fn tokens(&self, name: &str) -> Result<Vec<u32>, Error> {
        let tensor = self.find(name)?;
        let bytes = &self.map[tensor.bytes.clone()];
        let wide: Vec<i64> = match tensor.dtype {
            Dtype::I64 => each(bytes, i64::from_le_bytes),
            Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b) as i64),
            Dtype::U32 => each(bytes, |b| u32::from_le_bytes(b) as i64),
            other => {
                return Err(Error::Call {
                    what: "token tensor",
                    found: format!("{name} of {other:?}"),
                    expected: "I64".into(),
                });
            }
        };
        let narrow = |x: i64| {
            u32::try_from(x).map_err(|_| Error::Call {
                what: "token",
                found: format!("{x} in {name}"),
                expected: "a number from 0 to 4294967295".into(),
            })
        };
        wide.into_iter().map(narrow).collect()
    }

    fn find(&self, name: &str) -> Result<&Located, Error> {
        self.tensors.iter().find(|tensor| tensor.name == name).ok_or_else(|| {
            Error::Missing { name: name.into(), shape: Vec::new() }.in_file(&self.path)
        })
    }
}

fn locate(bytes: &[u8]) -> Result<Vec<Located>, Error> {
    let corrupt = |why: String| Error::Corrupt { why };
    if bytes.len() < 8 {
        return Err(corrupt(format!("it is {} bytes long; even an empty one has 10", bytes.len())));
    }
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| corrupt(error.to_string()))?;
    let base = bytes.as_ptr() as usize;
    let mut tensors: Vec<Located> = parsed
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let start = view.data().as_ptr() as usize - base;
            let bytes = start..start + view.data().len();
            Located { name, dtype: view.dtype(), shape: view.shape().to_vec(), bytes }
        })
        .collect();
    tensors.sort_by(|a, b| (a.bytes.start, &a.name).cmp(&(b.bytes.start, &b.name)));
    Ok(tensors)
}

fn each<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| from(*b)).collect()
}

/// The element types in which weights are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// 32 bits.
    F32,
    /// The upper half of those.
    BF16,
    /// IEEE binary16.
    F16,
}

impl Stored {
    /// The type that a configuration's `dtype` or `torch_dtype` names; F32 where it names none.
    pub fn named(name: Option<&str>) -> Stored {
        match name {
            Some("bfloat16") => Stored::BF16,
            Some("float16") => Stored::F16,
            _ => Stored::F32,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Stored::F32 => "F32",
            Stored::BF16 => "BF16",
            Stored::F16 => "F16",
        }
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        if self == Stored::F32 { 4 } else { 2 }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Stored::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Stored::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Stored::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

/// Name and shape of a tensor to be written.
pub type Named = (String, Vec<usize>);

/// Writes tensors (already in the order wanted) as one file, which appears when it is whole; `read`
/// gives the elements of each.
///
/// # Errors
/// What `read` or the file system reports.
pub fn write(
    path: &Path,
    tensors: &[Named],
    stored: Stored,
    mut read: impl FnMut(&str) -> Result<Vec<f32>, Error>,
) -> Result<(), Error> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * stored.size();
        let entry = json!({"dtype": stored.name(), "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    let mut failed = None;
    let written = atomic::write(path, |out| {
        out.write_all(&(text.len() as u64).to_le_bytes())?;
        out.write_all(text.as_bytes())?;
        for (name, _) in tensors {
            match read(name) {
                Ok(values) => out.write_all(&stored.encode(&values))?,
                Err(error) => {
                    failed = Some(error);
                    return Err(std::io::Error::other("the tensor could not be read"));
                }
            }
        }
        Ok(())
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let names = [("a".to_string(), vec![2, 3]), ("b".to_string(), vec![1])];
        write(&path, &names, Stored::F32, |name| Ok(vec![1.5; if name == "a" { 6 } else { 1 }]))
            .unwrap();
        std::fs::read(path).unwrap()
    }

    fn check_refused(bytes: &[u8], what: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let error = TensorFile::open(&path).expect_err(what).to_string();
        assert!(error.contains("bad.safetensors"), "{what}: {error}");
    }

    fn with_header(text: &str, data: usize) -> Vec<u8> {
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(text.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for (stored, exact) in [(Stored::F32, -1.1f32), (Stored::BF16, -1.5), (Stored::F16, 0.25)] {
            let path = dir.path().join("x.safetensors");
            write(&path, &[("x".into(), vec![1, 2])], stored, |_| Ok(vec![exact, 3.0])).unwrap();
            let file = TensorFile::open(&path).unwrap();
            assert_eq!(file.floats("x").unwrap(), [exact as f64, 3.0]);
            assert_eq!(file.shape("x").unwrap(), [1, 2]);
            assert!(file.tokens("x").is_err() && file.floats("y").is_err());
        }
    }

    #[test]
    fn crafted_files_are_refused() {
        check_refused(b"", "empty");
        check_refused(b"\x05\0\0", "shorter than the length");
        check_refused(&u64::MAX.to_le_bytes(), "a header as long as a disk");
        check_refused(
            &[&(1u64 << 40).to_le_bytes()[..], b"{}"].concat(),
            "a header longer than the file",
        );
        check_refused(&with_header("{\"a\":", 0), "no JSON");
        check_refused(&with_header("[]", 0), "no object");
        let tensor = |shape: &str, a: u64, b: u64| {
            format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{a},{b}]}}}}")
        };
        check_refused(&with_header(&tensor("[4]", 0, 16), 12), "offsets beyond the file");
        check_refused(&with_header(&tensor("[4]", 16, 0), 16), "offsets that go backwards");
        check_refused(&with_header(&tensor("[3]", 0, 16), 16), "a shape of another size");
        check_refused(
            &with_header(&tensor("[4294967296,4294967296]", 0, 16), 16),
            "a shape that overflows",
        );
        check_refused(&with_header(&tensor("[-4]", 0, 16), 16), "a negative shape");
        check_refused(&with_header(&tensor("[4]", 4, 20), 20), "a hole before the data");
        check_refused(
            &with_header(&tensor("[4]", 0, 16).replace("F32", "Q7"), 16),
            "an unknown type",
        );
    }

    #[test]
    fn mutated_files_never_panic() {
        let sound = sample();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let mut state = 99u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..1500 {
            let mut bytes = sound.clone();
            for _ in 0..2 {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            bytes.truncate(bytes.len() - next(8) * next(4));
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(file) = TensorFile::open(&path) {
                let names: Vec<String> = file.names().map(String::from).collect();
                names.iter().for_each(|name| drop(file.floats(name)));
            }
        }
    }
}
