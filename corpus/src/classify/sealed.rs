//! A classifier at rest: `quipu.classifier`, version 1 (ARCHITECTURE.md, "Formats at rest").
//!
//! Eight bytes `quipuC01`, the length of the header (u32, little-endian), the header (JSON), the
//! weights (f32, little-endian, in one zstd frame), and XXH3 of all that stands before. What a
//! header says is held against bounds before anything is allocated.

use super::Error;
use super::calibrate::Calibration;
use super::features::SHAPE;
use super::linear::{Classifier, Options};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

const MAGIC: &[u8; 8] = b"quipuC01";
/// Bytes of weights that are believed.
const MOST_BYTES: usize = 1 << 30;

#[derive(Serialize, Deserialize)]
struct Header {
    labels: Vec<String>,
    counts: Vec<u64>,
    options: Options,
    scale: Vec<(f32, f32)>,
    calibration: Calibration,
}

impl Classifier {
    /// Writes it under its name when it is whole.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let bytes = self.encode().map_err(Error::io(path))?;
        Ok(quipu_store::atomic::write_bytes(path, &bytes)?)
    }

    /// Reads what [`Classifier::save`] wrote.
    pub fn open(path: &Path) -> Result<Classifier, Error> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let refused = |reason| Error::Model { path: path.to_owned(), reason };
        Classifier::decode(&bytes).map_err(refused)
    }

    /// Whether a file begins as these do.
    pub fn is_one(first_bytes: &[u8]) -> bool {
        first_bytes.starts_with(MAGIC)
    }

    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let header = serde_json::to_vec(&Header {
            labels: self.labels.clone(),
            counts: self.counts.clone(),
            options: self.options.clone(),
            scale: self.scale.clone(),
            calibration: self.calibration.clone(),
        })?;
        let numbers = self.shape.iter().chain(&self.words);
        let weights: Vec<u8> = numbers.flat_map(|weight| weight.to_le_bytes()).collect();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&(header.len() as u32).to_le_bytes());
        out.extend_from_slice(&header);
        out.extend(zstd::encode_all(&weights[..], 9)?);
        let sum = xxhash_rust::xxh3::xxh3_64(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        Ok(out)
    }

    /// Takes the bytes of a classifier.
    pub fn decode(bytes: &[u8]) -> Result<Classifier, String> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or("not a classifier of this program: it does not begin with `quipuC01`")?;
        let cut = || "the classifier is cut off".to_owned();
        let (_, sum) = bytes.split_last_chunk::<8>().ok_or_else(cut)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let rest = &rest[..rest.len().checked_sub(8).ok_or_else(cut)?];
        let found = xxhash_rust::xxh3::xxh3_64(&bytes[..bytes.len() - 8]);
        if found != u64::from_le_bytes(*sum) {
            let expected = u64::from_le_bytes(*sum);
            return Err(format!("damaged: checksum {found:016x}, expected {expected:016x}"));
        }
        let length = u32::from_le_bytes(*length) as usize;
        let (header, packed) = rest.split_at_checked(length).ok_or_else(cut)?;
        let header: Header = serde_json::from_slice(header)
            .map_err(|e| format!("its header does not parse: {e}"))?;
        header.options.validate().map_err(|e| e.to_string())?;
        header.check()?;
        let labels = header.labels.len();
        let shape = (SHAPE + 1) * labels;
        let words = labels << header.options.bucket_bits;
        let weights = unpack(packed, (shape + words) * 4)?;
        let mut numbers = weights
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .map(|w| if w.is_finite() { Ok(w) } else { Err("a weight is not finite".to_owned()) });
        Ok(Classifier {
            shape: numbers.by_ref().take(shape).collect::<Result<_, _>>()?,
            words: numbers.collect::<Result<_, _>>()?,
            options: header.options,
            labels: header.labels,
            counts: header.counts,
            scale: header.scale,
            calibration: header.calibration,
        })
    }
}

impl Header {
    fn check(&self) -> Result<(), String> {
        let labels = self.labels.len();
        let whole = labels >= 2
            && self.labels.is_sorted_by(|a, b| a < b)
            && self.counts.len() == labels
            && self.calibration.0.len() == labels
            && self.scale.len() == SHAPE;
        if !whole {
            return Err(format!("{labels} labels do not fit the rest of the header"));
        }
        let bytes = labels.checked_mul((1 << self.options.bucket_bits) + SHAPE + 1);
        if bytes.and_then(|n| n.checked_mul(4)).is_none_or(|n| n > MOST_BYTES) {
            return Err(format!(
                "{labels} labels with {} bits of buckets are more than {MOST_BYTES} bytes",
                self.options.bucket_bits
            ));
        }
        let sound = |(a, b): &(f32, f32)| a.is_finite() && b.is_finite();
        let scaled = |pair: &(f32, f32)| sound(pair) && pair.1 > 0.0;
        if !self.scale.iter().all(scaled) || !self.calibration.0.iter().all(sound) {
            return Err("a scale or calibration that is no number".to_owned());
        }
        Ok(())
    }
}

fn unpack(packed: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let decoder = zstd::stream::read::Decoder::new(packed).map_err(|e| e.to_string())?;
    let mut weights = Vec::new();
    let mut limited = decoder.take(expected as u64 + 1);
    limited.read_to_end(&mut weights).map_err(|e| format!("its weights do not unpack: {e}"))?;
    if weights.len() == expected {
        return Ok(weights);
    }
    Err(format!("{} bytes of weights, expected {expected}", weights.len()))
}
