//! Files of named tensors in the safetensors format: read through a memory map, which a device may
//! read in place too, and written as a stream. The crate `safetensors` parses and checks the header;
//! nothing here trusts it further. It knows no model: which names there must be is
//! `huggingface.rs`'s business.

use crate::Error;
use half::{bf16, f16};
use memmap2::Mmap;
use quipu_math::Lent;
use quipu_store::atomic;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
    map: Arc<Mmap>,
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
        Ok(TensorFile { path: path.into(), map: Arc::new(map), tensors })
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
        Ok(&self.map[self.place(name)?])
    }

    /// Where in the file they stand. The format promises no alignment.
    ///
    /// # Errors
    /// No tensor of this name.
    pub fn place(&self, name: &str) -> Result<Range<usize>, Error> {
        Ok(self.find(name)?.bytes.clone())
    }

    /// The whole file, mapped, for a device that reads it in place.
    pub fn lent(&self) -> Lent {
        self.map.clone()
    }

    /// What the file holds, to write it again.
    pub fn tensors(&self) -> Vec<Tensor> {
        let tensor = |t: &Located| Tensor {
            name: t.name.clone(),
            shape: t.shape.clone(),
            dtype: format!("{:?}", t.dtype),
            bytes: t.bytes.len(),
        };
        self.tensors.iter().map(tensor).collect()
    }

    /// The elements of a tensor of F32, F64, BF16 or F16; widening is exact.
    ///
    /// # Errors
    /// No tensor of this name, or one of another type.
    pub fn floats(&self, name: &str) -> Result<Vec<f64>, Error> {
        self.some_floats(name, 0..self.find(name)?.shape.iter().product())
    }

    /// Elements `range` of such a tensor.
    ///
    /// # Errors
    /// As [`TensorFile::floats`]; a range that reaches beyond the tensor.
    pub fn some_floats(&self, name: &str, range: Range<usize>) -> Result<Vec<f64>, Error> {
        let tensor = self.find(name)?;
        let all = &self.map[tensor.bytes.clone()];
        let size = all.len() / tensor.shape.iter().product::<usize>().max(1);
        let Some(bytes) = all.get(range.start * size..range.end * size) else {
            return Err(Error::Call {
                what: "range of elements",
                found: format!("{range:?} of {name}"),
                expected: format!("inside shape {:?}", tensor.shape),
            });
        };
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

    /// As a file spells it.
    pub fn name(self) -> &'static str {
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

    /// The bytes of numbers, rounded to the nearest.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Stored::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Stored::BF16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            Stored::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        }
    }
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its element type, as a file spells it.
    pub dtype: String,
    /// Length of its elements.
    pub bytes: usize,
}

impl Tensor {
    /// A tensor of a type that weights are written in.
    pub fn new(name: &str, shape: &[usize], stored: Stored) -> Tensor {
        let bytes = shape.iter().product::<usize>() * stored.size();
        Tensor { name: name.into(), shape: shape.into(), dtype: stored.name().into(), bytes }
    }
}

/// Takes the next bytes of a tensor.
pub type Put<'a> = dyn FnMut(&[u8]) -> Result<(), Error> + 'a;

/// Writes tensors (already in the order wanted) as one file, which appears when it is whole; `fill`
/// gives the bytes of each, piece by piece: none has to be in memory as a whole.
///
/// # Errors
/// What `fill` or the file system reports; more or fewer bytes than a tensor has.
pub fn write(
    path: &Path,
    tensors: &[Tensor],
    fill: &mut dyn FnMut(&Tensor, &mut Put<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut out = atomic::File::create(path)?;
    let mut put = |bytes: &[u8]| {
        let failed = |source| Error::Store(quipu_store::Error::io("write", path, source));
        out.write_all(bytes).map_err(failed)
    };
    let text = header(tensors);
    put(&(text.len() as u64).to_le_bytes())?;
    put(text.as_bytes())?;
    for tensor in tensors {
        let mut given = 0;
        fill(tensor, &mut |bytes| {
            given += bytes.len();
            put(bytes)
        })?;
        if given != tensor.bytes {
            return Err(Error::Call {
                what: "content of a tensor",
                found: format!("{given} bytes of {}", tensor.name),
                expected: tensor.bytes.to_string(),
            });
        }
    }
    Ok(out.commit()?)
}

fn header(tensors: &[Tensor]) -> String {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut at = 0;
    for Tensor { name, shape, dtype, bytes } in tensors {
        let end = at + bytes;
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let mut text = Value::Object(header).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let tensors = [("a", &[2, 3][..]), ("b", &[1])];
        let tensors = tensors.map(|(name, shape)| Tensor::new(name, shape, Stored::F32));
        let mut fill =
            |t: &Tensor, put: &mut Put<'_>| put(&Stored::F32.encode(&vec![1.5; t.bytes / 4]));
        write(&path, &tensors, &mut fill).unwrap();
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
            let tensor = Tensor::new("x", &[1, 2], stored);
            let bytes = stored.encode(&[exact, 3.0]);
            write(&path, std::slice::from_ref(&tensor), &mut |_, put| put(&bytes)).unwrap();
            let file = TensorFile::open(&path).unwrap();
            assert_eq!(file.floats("x").unwrap(), [exact as f64, 3.0]);
            assert_eq!(file.some_floats("x", 1..2).unwrap(), [3.0]);
            assert!(file.some_floats("x", 1..3).is_err());
            assert_eq!(file.shape("x").unwrap(), [1, 2]);
            assert_eq!(file.tensors(), std::slice::from_ref(&tensor));
            let short = write(&path, &[tensor], &mut |_, put| put(&bytes[1..])).unwrap_err();
            assert!(short.to_string().contains("bytes of x"), "{short}");
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
