//! `quipu bench checkpoint`: a random bf16 checkpoint is written, imported with its weights where they
//! lie, exported, and asked for a few tokens; how long each takes, and how much anonymous memory the
//! process had at most (`RssAnon` of Linux, looked at every few milliseconds: pages of mapped files,
//! which give way when somebody needs them, do not count). Not a test of what is computed: that a
//! mapped model has the bits of a copied one is tested in `model`.

use crate::cli::Checkpoint;
use crate::command::doctor;
use crate::command::export::check_target;
use crate::error::{Error, Kind};
use crate::memory;
use crate::stage::device;
use crate::terminal::{Terminal, anonymous_memory_mib, thousands};
use quipu_infer::{Engine, Request, Sampling};
use quipu_math::Random;
use quipu_mesh::Mesh;
use quipu_model::tensor_file::{Put, Stored, Tensor};
use quipu_model::{Capacity, Config, Init, Model, Sizes, Table, huggingface};
use quipu_store::atomic;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Disk beside the weights: headers, indices, what the file system needs for itself.
const MARGIN: u64 = 64 << 20;
/// Random numbers that are made at once.
const PIECE: usize = 1 << 18;

/// Measures and prints.
pub fn run(told: &Checkpoint, terminal: &Terminal) -> Result<(), Error> {
    let config = config(told)?;
    let threads = told.threads.unwrap_or_else(device::cores);
    if threads == 0 {
        return Err(Error::usage("--threads is 0; it must be at least 1"));
    }
    let (from, to) = (told.dir.join("from"), told.dir.join("to"));
    check_target(&to)?;
    let there = is_there(&from, &config)?;
    atomic::create_dir(&told.dir)?;
    let parameters = Table::new(&config).parameters();
    let bytes = (parameters * Stored::BF16.size()) as u64;
    check_room(&told.dir, if there { 1 } else { 2 }, bytes, terminal)?;
    let _made =
        Made([(!told.keep && !there).then(|| from.clone()), (!told.keep).then(|| to.clone())]);
    let mut parts = Parts::default();
    if !there {
        parts.time("write", || random(&from, &config))?;
    }
    let device = device::of_threads(threads);
    let capacity = Capacity::generating(&*device, 1);
    let mut model =
        parts.time("import", || Ok(Model::map(&from, device, Mesh::one(), capacity)?))?;
    parts.time("export", || Ok(huggingface::copy(&from, &to)?))?;
    let ids = parts.time("decode", || decode(&mut model, told.tokens))?;
    parts.say(terminal, bytes, ids.len());
    let mut result = json!({
        "params": parameters, "bytes": bytes, "tokens": ids.len(), "threads": threads,
        "peak_anonymous_mib": parts.peak(), "files": files(&to)?,
    });
    for part in &parts.0 {
        result[format!("{}_s", part.name)] = json!(part.seconds);
        result[format!("{}_peak_anonymous_mib", part.name)] = json!(part.anonymous_mib);
    }
    terminal.result(&result);
    Ok(())
}

fn config(told: &Checkpoint) -> Result<Config, Error> {
    let mut config = Config::new(Sizes {
        vocab_size: told.vocab,
        hidden_size: told.dim,
        intermediate_size: told.ffn,
        layers: told.layers,
        heads: told.heads,
        kv_heads: told.kv_heads,
        max_positions: 8192,
        tied: false,
    })
    .map_err(|e| Error::usage(format!("the sizes make no model: {e}")))?;
    config.rope_theta = 500_000.0;
    config.keep("dtype", json!("bfloat16"))?;
    Ok(config)
}

/// Whether this very checkpoint is there already. `config.json` is written last.
fn is_there(from: &Path, config: &Config) -> Result<bool, Error> {
    if !from.join("config.json").exists() {
        return Ok(false);
    }
    if Config::load(from)? == *config {
        return Ok(true);
    }
    let from = from.display();
    Err(Error::usage(format!("{from} holds a model of other sizes; name another folder")))
}

fn check_room(dir: &Path, copies: u64, bytes: u64, terminal: &Terminal) -> Result<(), Error> {
    let needed = copies * bytes + MARGIN;
    let (room, size, dir) = (doctor::room(dir), memory::size(needed), dir.display());
    let Some(room) = room else {
        terminal.comment(&format!("{size} of disk are needed below {dir}"));
        return Ok(());
    };
    let free = memory::size(room);
    terminal.comment(&format!("{size} of disk are needed below {dir}; {free} are free"));
    if needed <= room {
        return Ok(());
    }
    let change = "make room, or name a folder on another disk";
    Err(Error::new(Kind::Resource, format!("{dir}: {free} are free, {size} are needed; {change}")))
}

/// Folders that this run made and takes away again, however it ends.
struct Made([Option<PathBuf>; 2]);

impl Drop for Made {
    fn drop(&mut self) {
        for folder in self.0.iter().flatten() {
            // where it was not made there is nothing to take away
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Writes the checkpoint: matrices uniform with the deviation that they have before training, norms
/// one; each number is a function of its place.
fn random(from: &Path, config: &Config) -> Result<(), Error> {
    let table = Table::new(config);
    let mut piece = Vec::with_capacity(2 * PIECE);
    let mut fill = |tensor: &Tensor, put: &mut Put<'_>| {
        let place = table.entries().iter().position(|entry| entry.name == tensor.name);
        let init = place.map_or(Init::Zeros, |place| table.entries()[place].init);
        let numbers = Random::new(1, place.unwrap_or_default() as u64);
        let elements = tensor.bytes / 2;
        for first in (0..elements).step_by(PIECE) {
            draw(&numbers, init, first..elements.min(first + PIECE), &mut piece);
            put(&piece)?;
        }
        Ok(())
    };
    let files = (Stored::BF16, huggingface::SHARD_BYTES);
    Ok(huggingface::write(from, config, files, &mut fill)?)
}

/// Numbers `range` of a tensor, as bytes of bf16; eight of each 128 random bits.
fn draw(numbers: &Random, init: Init, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    let upper = |x: f32| ((x.to_bits() >> 16) as u16).to_le_bytes();
    out.clear();
    let deviation = match init {
        Init::Normal(deviation) => deviation,
        Init::Ones => return range.for_each(|_| out.extend(upper(1.0))),
        Init::Zeros => return range.for_each(|_| out.extend(upper(0.0))),
    };
    // a uniform number of -1 to 1 has the deviation 1/√3
    let scale = (deviation * 3f64.sqrt()) as f32 / 32768.0;
    for index in range.start / 8..range.end.div_ceil(8) {
        let mut bytes = [[0; 2]; 8];
        for (pair, word) in bytes.chunks_mut(2).zip(numbers.bits(index as u64)) {
            pair[0] = upper(f32::from(word as u16 as i16) * scale);
            pair[1] = upper(f32::from((word >> 16) as u16 as i16) * scale);
        }
        out.extend_from_slice(bytes.as_flattened());
    }
    out.truncate(2 * range.len());
}

/// The most likely tokens after token 1.
fn decode(model: &mut Model, tokens: usize) -> Result<Vec<u32>, Error> {
    let request = Request {
        prompt: vec![1],
        max_new: tokens,
        stop: Vec::new(),
        sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 },
        sequence: 0,
    };
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let (answers, _) = Engine::new(model, 1).generate(&[request], go_on, &|| false)?;
    Ok(answers.into_iter().flat_map(|answer| answer.ids).collect())
}

fn files(folder: &Path) -> Result<usize, Error> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<Result<Vec<_>, std::io::Error>>()?;
    Ok(names.iter().filter(|name| name.to_string_lossy().ends_with(".safetensors")).count())
}

struct Part {
    name: &'static str,
    seconds: f64,
    anonymous_mib: f64,
}

/// What was done so far.
#[derive(Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn time<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let peak = AtomicU64::new(0);
        let look = || peak.fetch_max(anonymous_memory_mib().to_bits(), Ordering::Relaxed);
        let start = Instant::now();
        let result = std::thread::scope(|scope| {
            // dropped when the work ends, however it ends
            let working = Arc::new(());
            let seen = Arc::downgrade(&working);
            let look = &look;
            scope.spawn(move || {
                while seen.strong_count() > 0 {
                    look();
                    std::thread::sleep(LOOK);
                }
            });
            work()
        });
        look();
        let seconds = start.elapsed().as_secs_f64();
        // bits of floats that are not negative are in the order of the floats
        let anonymous_mib = f64::from_bits(peak.load(Ordering::Relaxed));
        self.0.push(Part { name, seconds, anonymous_mib });
        result
    }

    fn peak(&self) -> f64 {
        self.0.iter().map(|part| part.anonymous_mib).fold(0.0, f64::max)
    }

    fn say(&self, terminal: &Terminal, bytes: u64, tokens: usize) {
        for Part { name, seconds, anonymous_mib } in &self.0 {
            let rate = match *name {
                "decode" => format!("{:.2} s a token", seconds / tokens.max(1) as f64),
                "import" => String::new(),
                _ => format!("{:.0} MB/s", bytes as f64 / seconds / 1e6),
            };
            terminal.say(&format!("{name:8} {seconds:>8.1} s  {anonymous_mib:>6.0} MiB  {rate}"));
        }
        terminal.say(&format!(
            "{} bytes of weights, {tokens} tokens; anonymous memory {:.0} MiB at most",
            thousands(bytes),
            self.peak()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn told(line: &[&str]) -> Checkpoint {
        let words = ["quipu", "bench", "checkpoint"].iter().chain(line);
        match crate::cli::Cli::parse_from(words).command {
            crate::cli::Command::Bench { what: crate::cli::Bench::Checkpoint(told) } => told,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn as_it_stands_it_is_8b_in_four_files() {
        let config = config(&told(&["x"])).unwrap();
        let parameters = Table::new(&config).parameters();
        assert_eq!(parameters, 8_030_261_248);
        assert_eq!((2 * parameters).div_ceil(huggingface::SHARD_BYTES), 4);
    }

    #[test]
    fn numbers_do_not_depend_on_the_piece() {
        let numbers = Random::new(1, 3);
        let (mut all, mut some, mut joined) = (Vec::new(), Vec::new(), Vec::new());
        draw(&numbers, Init::Normal(0.02), 0..5000, &mut all);
        for first in (0..5000).step_by(800) {
            draw(&numbers, Init::Normal(0.02), first..5000.min(first + 800), &mut some);
            joined.extend_from_slice(&some);
        }
        assert!(all == joined && all.len() == 10_000);
        let value =
            |b: &[u8]| f64::from(f32::from_bits(u32::from(b[0]) << 16 | u32::from(b[1]) << 24));
        let squares: f64 = all.chunks(2).map(|b| value(b).powi(2)).sum();
        let deviation = (squares / 5000.0).sqrt();
        assert!((0.019..0.021).contains(&deviation), "{deviation}");
    }

    #[test]
    fn a_small_one_leaves_nothing_or_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let sizes = "--vocab 96 --dim 32 --layers 2 --heads 4 --kv-heads 2 --threads 1";
        let path = dir.path().join("bench").to_string_lossy().into_owned();
        let line = |more: &'static str| {
            let words = [path.as_str()].into_iter().chain(sizes.split(' '));
            told(&words.chain(more.split(' ')).collect::<Vec<_>>())
        };
        let terminal = Terminal { json: false, quiet: true, mute: false };
        let there = || ["from", "to"].map(|name| dir.path().join("bench").join(name).exists());
        run(&line("--ffn 48"), &terminal).unwrap();
        assert_eq!(there(), [false, false]);
        run(&line("--ffn 48 --keep"), &terminal).unwrap();
        assert_eq!(there(), [true, true]);
        let error = run(&line("--ffn 48"), &terminal).unwrap_err().to_string();
        assert!(error.contains("new or an empty folder"), "{error}");
        std::fs::remove_dir_all(dir.path().join("bench/to")).unwrap();
        let error = run(&line("--ffn 64"), &terminal).unwrap_err().to_string();
        assert!(error.contains("other sizes"), "{error}");
        // what was there before stays
        run(&line("--ffn 48"), &terminal).unwrap();
        assert_eq!(there(), [true, false]);
    }

    #[test]
    fn too_little_disk_is_said_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let terminal = Terminal { json: false, quiet: true, mute: false };
        let error = check_room(dir.path(), 2, 1 << 60, &terminal).unwrap_err().to_string();
        assert!(error.contains("are free") && error.contains("are needed"), "{error}");
    }

    #[test]
    fn the_peak_of_memory_is_seen() {
        let mut parts = Parts::default();
        let hold = |mib: usize| {
            let bytes = std::hint::black_box(vec![1u8; mib << 20]);
            std::thread::sleep(8 * LOOK);
            Ok(bytes.len())
        };
        parts.time("small", || hold(1)).unwrap();
        parts.time("large", || hold(200)).unwrap();
        let [small, large] = [0, 1].map(|i| parts.0[i].anonymous_mib);
        assert!(!cfg!(target_os = "linux") || large > small + 150.0, "{small} {large}");
    }
}
