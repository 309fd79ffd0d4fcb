//! The event file that TensorBoard reads, beside `metrics.jsonl` and made of it: one event a step,
//! with its scalars and the hour. Not a second source: what it lacks, or says otherwise than
//! `metrics.jsonl`, is written anew when a run goes on, so that a killed run ends with the events
//! of an uninterrupted one but for what is the machine's.
//!
//! The framing is TFRecord's (length, masked CRC32C of it, bytes, masked CRC32C of those), the
//! bytes are TensorFlow's `Event` message, of which seven fields are needed: both are written by
//! hand here, since they are smaller than what would write them.
//!
//! After a resume the file is cut back to the checkpoint, not marked: TensorBoard's mark
//! (`SessionLog.START`) hides what came after a step, but only one of its two readers heeds it. An
//! event has the same length when its step is done again, so that a TensorBoard that was further
//! goes on at the border of a record, with the values that it has: they have the same bits.

use crate::Error;
use crate::metrics::Record;
use quipu_store::growing::Growing;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the file: TensorBoard takes what has `tfevents` in it.
pub const NAME: &str = "events.out.tfevents.quipu";

/// What the first event says, so that readers know the form of the others.
const VERSION: &str = "brain.Event:2";

/// Longest event that is read: ours have some hundred bytes.
const LONGEST: u64 = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Seconds since 1970.
    pub wall: f64,
    /// The step, 0 for the first event.
    pub step: u64,
    /// The version of the file, in its first event.
    pub version: Option<String>,
    /// What was measured, by tag.
    pub scalars: Vec<(String, f32)>,
}

/// The scalars of a step, in the order in which they are written.
fn scalars(record: &Record) -> Vec<(String, f32)> {
    let mut found = Vec::new();
    let mut put = |tag: &str, value: f64| found.push((tag.to_owned(), value as f32));
    put("train/loss", record.loss);
    put("train/gradient_norm", record.grad_norm);
    put("train/learning_rate", record.lr);
    put("train/tokens_per_s", record.machine.tokens_per_s);
    if let Some(share) = record.machine.share_of_ceiling {
        put("train/share_of_ceiling", share);
    }
    for (name, value) in &record.more {
        put(&format!("train/{name}"), *value);
    }
    if let Some(validation) = &record.validation {
        put("validation/loss", validation.loss);
        if let Some(bits) = validation.bits_per_byte {
            put("validation/bits_per_byte", bits);
        }
    }
    found
}

/// The open file.
pub struct Events {
    file: Growing,
}

impl Events {
    /// Opens `path` for a run that has `behind` behind it: keeps what says the same of its first
    /// steps, and writes what is missing there. The hour of such steps is reckoned back from now.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Io`]; a damaged file is none.
    pub fn open(path: &Path, behind: &[Record]) -> Result<Self, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(Error::io(path)(e)),
        };
        let (kept, steps, last) = kept(&bytes, behind);
        let mut new = Self { file: Growing::open(path, kept)? };
        let (missing, end) = (&behind[steps..], now());
        let seconds: f64 = missing.iter().map(|r| r.machine.seconds).sum();
        let mut wall = (end - seconds).max(last);
        if kept == 0 {
            let version = Some(VERSION.to_owned());
            new.write(&Event { wall, version, ..Event::default() })?;
        }
        for record in missing {
            // No step is done before another that comes after it, nor later than now.
            wall = (wall + record.machine.seconds).min(end);
            new.write(&Event { wall, ..of(record) })?;
        }
        Ok(new)
    }

    /// Appends the event of a step that has just been done.
    ///
    /// # Errors
    /// [`Error::Store`], also where the disk is full.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        self.write(&Event { wall: now(), ..of(record) })
    }

    /// Brings what was appended to the disk.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn sync(&mut self) -> Result<(), Error> {
        Ok(self.file.sync()?)
    }

    fn write(&mut self, event: &Event) -> Result<(), Error> {
        Ok(self.file.append(&frame(&encode(event)))?)
    }
}

fn of(record: &Record) -> Event {
    Event { step: record.step, scalars: scalars(record), ..Event::default() }
}

fn now() -> f64 {
    // A clock before 1970 is wrong, and only the curves' other axis suffers from it.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// How many bytes, and how many steps in them, are as this program would write them; the hour of
/// the last.
fn kept(bytes: &[u8], behind: &[Record]) -> (u64, usize, f64) {
    let length = |rest: &[u8]| (bytes.len() - rest.len()) as u64;
    let Ok((first, mut rest)) = event(bytes) else { return (0, 0, 0.0) };
    if first.version.as_deref() != Some(VERSION) {
        return (0, 0, 0.0);
    }
    let (mut steps, mut wall) = (0, first.wall);
    while let (Some(record), Ok((found, after))) = (behind.get(steps), event(rest)) {
        if (found.step, found.scalars) != (record.step, scalars(record)) {
            break;
        }
        (steps, rest, wall) = (steps + 1, after, found.wall);
    }
    (length(rest), steps, wall)
}

/// Reads all events of a file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Events`] with the first event that is damaged or cut.
pub fn read(path: &Path) -> Result<Vec<Event>, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let (mut rest, mut found) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let (event, after) = event(rest).map_err(|what| {
            let offset = (bytes.len() - rest.len()) as u64;
            Error::Events { path: path.to_owned(), offset, what }
        })?;
        found.push(event);
        rest = after;
    }
    Ok(found)
}

/// The events of a file as text, without what belongs to the machine and the hour: equal for equal
/// runs.
///
/// # Errors
/// As [`read`].
pub fn comparable(path: &Path) -> Result<String, Error> {
    let of_machine = ["train/tokens_per_s", "train/share_of_ceiling"];
    let line = |event: Event| {
        let scalars = event.scalars.iter().filter(|(tag, _)| !of_machine.contains(&tag.as_str()));
        let scalars: Vec<String> = scalars.map(|(tag, v)| format!(" {tag} {v}")).collect();
        let version = event.version.unwrap_or_default();
        format!("{}{version}{}\n", event.step, scalars.concat())
    };
    Ok(read(path)?.into_iter().map(line).collect())
}

/// The first event in `bytes`, and what comes after it.
fn event(bytes: &[u8]) -> Result<(Event, &[u8]), &'static str> {
    let (data, rest) = unframe(bytes)?;
    Ok((decode(data).ok_or("is whole but no event")?, rest))
}

fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend(data);
    out.extend(masked(data).to_le_bytes());
    out
}

fn unframe(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    const CUT: &str = "is cut";
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or(CUT)?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or(CUT)?;
    if masked(length) != u32::from_le_bytes(*sum) {
        return Err("has a length whose checksum is another");
    }
    let length = u64::from_le_bytes(*length);
    if length > LONGEST {
        return Err("is longer than any event");
    }
    let (data, rest) = rest.split_at_checked(length as usize).ok_or(CUT)?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or(CUT)?;
    if masked(data) != u32::from_le_bytes(*sum) {
        return Err("has bytes whose checksum is another");
    }
    Ok((data, rest))
}

/// TFRecord's checksum: CRC32C, turned and moved, so that one of bytes that hold one is not 0.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32 of Castagnoli's polynomial, a byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    static TABLE: [u32; 256] = table();
    let step = |crc: u32, byte: &u8| TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8);
    !bytes.iter().fold(!0, step)
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

// Protocol buffers: a field is its number and kind in a varint, then a varint (kind 0), 8 bytes
// (1), a length and as many bytes (2), or 4 bytes (5). `Event`: wall_time double 1, step int64 2,
// file_version string 3, summary 5. `Summary`: value 1, repeated. `Value`: tag string 1,
// simple_value float 2.

fn encode(event: &Event) -> Vec<u8> {
    let mut out = vec![(1 << 3) | 1];
    out.extend(event.wall.to_le_bytes());
    if event.step > 0 {
        out.push(2 << 3);
        put_varint(&mut out, event.step);
    }
    if let Some(version) = &event.version {
        put_bytes(&mut out, 3, version.as_bytes());
    }
    let mut summary = Vec::new();
    for (tag, scalar) in &event.scalars {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, tag.as_bytes());
        value.push((2 << 3) | 5);
        value.extend(scalar.to_le_bytes());
        put_bytes(&mut summary, 1, &value);
    }
    if !summary.is_empty() {
        put_bytes(&mut out, 5, &summary);
    }
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push((field << 3) | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// The content of a field of each kind.
enum Field<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Bytes(&'a [u8]),
    Four([u8; 4]),
}

fn decode(mut bytes: &[u8]) -> Option<Event> {
    let mut event = Event::default();
    while !bytes.is_empty() {
        match take_field(&mut bytes)? {
            (1, Field::Eight(wall)) => event.wall = f64::from_le_bytes(wall),
            (2, Field::Varint(step)) => event.step = step,
            (3, Field::Bytes(text)) => event.version = Some(String::from_utf8(text.into()).ok()?),
            (5, Field::Bytes(mut summary)) => {
                while !summary.is_empty() {
                    if let (1, Field::Bytes(value)) = take_field(&mut summary)? {
                        event.scalars.push(scalar(value)?);
                    }
                }
            }
            // What others write besides is none of ours.
            _ => {}
        }
    }
    Some(event)
}

fn scalar(mut bytes: &[u8]) -> Option<(String, f32)> {
    let (mut tag, mut value) = (String::new(), 0.0);
    while !bytes.is_empty() {
        match take_field(&mut bytes)? {
            (1, Field::Bytes(text)) => tag = String::from_utf8(text.into()).ok()?,
            (2, Field::Four(number)) => value = f32::from_le_bytes(number),
            _ => {}
        }
    }
    Some((tag, value))
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let key = take_varint(bytes)?;
    let field = match key & 7 {
        0 => Field::Varint(take_varint(bytes)?),
        1 => Field::Eight(*take(bytes)?),
        2 => {
            let length = usize::try_from(take_varint(bytes)?).ok()?;
            let (content, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Field::Bytes(content)
        }
        5 => Field::Four(*take(bytes)?),
        _ => return None,
    };
    Some((key >> 3, field))
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (found, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(found)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take::<1>(bytes)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Machine, Validation};
    use std::collections::BTreeMap;

    fn sample(step: u64, speed: f64) -> Record {
        let validation = Validation { loss: 0.5, bits_per_byte: Some(1.5), tokens: 7 };
        Record {
            step,
            loss: 1.0 / (step as f64 + 2.0),
            grad_norm: 0.1,
            lr: 1e-3,
            tokens: step * 100,
            more: BTreeMap::from([("accuracy".into(), 0.5)]),
            validation: step.is_multiple_of(2).then_some(validation),
            samples: None,
            gate: None,
            machine: Machine {
                seconds: 2.0,
                tokens_per_s: speed,
                share_of_ceiling: Some(0.5),
                ..Machine::default()
            },
        }
    }

    fn behind(steps: u64) -> Vec<Record> {
        (1..=steps).map(|step| sample(step, step as f64)).collect()
    }

    /// Does the steps up to `to` after those up to `from`.
    fn write(path: &Path, from: u64, to: u64, speed: f64) {
        let mut events = Events::open(path, &behind(from)).unwrap();
        for step in from + 1..=to {
            events.append(&sample(step, speed + step as f64)).unwrap();
        }
        events.sync().unwrap();
    }

    /// As TensorBoard 2.21's own RecordWriter and event_pb2 write them.
    #[test]
    fn the_bytes_are_those_of_tensorboards_own_writer() {
        let golden = "1800000000000000a37f4b2209000000c00b5ad6411a0d627261696e2e4576656e743a324c\
            a9a46439000000000000008b0737f109000010c00b5ad64110ac022a2b0a110a0a747261696e2f6c6f7373\
            15000020400a160a0f76616c69646174696f6e2f6c6f73731500000000b05f81da";
        let version = Some(VERSION.to_owned());
        let first = Event { wall: 1.5e9, version, ..Event::default() };
        let scalars = vec![("train/loss".into(), 2.5), ("validation/loss".into(), 0.0)];
        let second = Event { wall: 1.5e9 + 0.25, step: 300, version: None, scalars };
        let bytes = [frame(&encode(&first)), frame(&encode(&second))].concat();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        let (found, rest) = event(&bytes).unwrap();
        assert_eq!((found, event(rest).unwrap().0), (first, second));
    }

    #[test]
    fn checksums_are_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn a_killed_and_resumed_file_has_each_step_once_and_its_records_where_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
        write(&whole, 0, 300, 0.0);
        let length = std::fs::metadata(&whole).unwrap().len() as usize;
        write(&parts, 0, 299, 0.0);
        let bytes = std::fs::read(&parts).unwrap();
        for cut in [0, 1, 12, 40, 41, 1000, bytes.len() - 1, bytes.len()] {
            std::fs::write(&parts, &bytes[..cut]).unwrap();
            write(&parts, 200, 300, 7.0);
            assert_eq!(comparable(&parts).unwrap(), comparable(&whole).unwrap(), "{cut}");
            let found = read(&parts).unwrap();
            assert_eq!(found.len(), 301);
            assert_eq!(std::fs::metadata(&parts).unwrap().len() as usize, length);
            let steps: Vec<u64> = found.iter().map(|e| e.step).collect();
            assert_eq!(steps, (0..=300).collect::<Vec<_>>());
            assert!(found.windows(2).all(|w| w[0].wall <= w[1].wall), "{cut}");
        }
    }

    #[test]
    fn what_the_metrics_say_otherwise_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        write(&path, 0, 9, 5.0);
        // The speeds of the steps behind it are others: those of another process, in the metrics.
        write(&path, 4, 6, 0.0);
        let speed = |e: &Event| e.scalars.iter().find(|s| s.0 == "train/tokens_per_s").unwrap().1;
        let found: Vec<f32> = read(&path).unwrap()[1..].iter().map(speed).collect();
        assert_eq!(found, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        std::fs::write(&path, "no events").unwrap();
        write(&path, 3, 3, 0.0);
        assert_eq!(read(&path).unwrap().len(), 4);
        let walls: Vec<f64> = read(&path).unwrap().iter().map(|e| e.wall).collect();
        assert!((walls[3] - walls[1] - 4.0).abs() < 1e-3, "{walls:?}");
    }

    fn damaged(bytes: &[u8], says: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        std::fs::write(&path, bytes).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(NAME), "{error}");
        write(&path, 2, 3, 0.0);
        assert_eq!(read(&path).unwrap().len(), 4);
    }

    #[test]
    fn damage_is_told_by_its_place_and_mended_by_a_resume() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        write(&path, 0, 3, 0.0);
        let bytes = std::fs::read(&path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            bytes
        };
        damaged(&bytes[..30], "byte 0");
        damaged(&flipped(2), "length");
        damaged(&flipped(50), "checksum");
        damaged(&flipped(bytes.len() - 1), "checksum");
        damaged(&frame(&[0xff; 20]), "no event");
        let long = u64::MAX.to_le_bytes();
        damaged(&[&long[..], &masked(&long).to_le_bytes()].concat(), "longer than any");
    }

    /// Flipped and cut bytes, with and without sound checksums: an error, never a panic.
    #[test]
    fn mutations_never_panic() {
        let valid = encode(&Event { wall: 1.0, ..of(&sample(2, 1.0)) });
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize
            };
            let mut bytes = valid.clone();
            for _ in 0..1 + next() % 3 {
                let at = next() % bytes.len();
                bytes[at] = next() as u8;
            }
            bytes.truncate(1 + next() % bytes.len());
            let _ = decode(&bytes);
            let framed = frame(&bytes);
            let _ = (event(&framed), event(&framed[..next() % framed.len()]));
        }
    }
}
