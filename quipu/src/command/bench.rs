//! `quipu bench`: what this machine reaches at one part of the work. Its peers are run beside it
//! by `cargo xtask bench`, not here.

mod checkpoint;
mod clock;
mod text;
mod tokens;

use crate::cli::{Bench, TrainStep};
use crate::command::Setting;
use crate::error::Error;
use crate::stage::device;
use crate::terminal::Terminal;
use quipu_corpus::{encoding, html};
use quipu_math::{Cpu, DType};
use quipu_train::bench::Bench as TrainBench;
use quipu_train::recipe::Dtype;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Measures and prints.
pub fn run(what: Bench, setting: &Setting) -> Result<(), Error> {
    let terminal = &setting.terminal;
    match what {
        Bench::Train(step) => train(&step, setting),
        Bench::Kernels { dtype, threads, budget } => {
            let threads = threads.unwrap_or_else(device::cores);
            kernels(dtype.into(), threads, Duration::from_millis(budget), terminal)
        }
        Bench::Extract { dir } => extract(&dir, terminal),
        Bench::Text { input, passes } => text::run(&input, passes, terminal),
        Bench::Tokens { input, passes, vocabulary } => {
            tokens::run(&input, (passes, vocabulary), terminal)
        }
        Bench::Save { dir, sizes } => save(&dir, &sizes, terminal),
        Bench::Checkpoint(told) => checkpoint::run(&told, terminal),
    }
}

/// The sizes that flags give, as far as they can be any model's.
fn bench_of(sizes: &TrainStep) -> Result<TrainBench, Error> {
    let numbers = [
        ("--steps", sizes.steps),
        ("--threads", sizes.threads.unwrap_or(1)),
        ("--vocab", sizes.vocab),
        ("--batch", sizes.batch),
        ("--micro-batch", sizes.micro_batch.unwrap_or(1)),
        ("--seq", sizes.seq),
    ];
    if let Some((flag, _)) = numbers.into_iter().find(|(_, number)| *number == 0) {
        return Err(Error::usage(format!("{flag} is 0; it must be at least 1")));
    }
    if sizes.seq < 2 {
        return Err(Error::usage("--seq is 1; it must be at least 2, a token and the next"));
    }
    Ok(TrainBench {
        vocab: sizes.vocab,
        dim: sizes.dim,
        layers: sizes.layers,
        heads: sizes.heads,
        kv_heads: sizes.kv_heads,
        ffn: sizes.ffn,
        seq: sizes.seq,
        batch: sizes.batch,
        micro_batch: sizes.micro_batch.unwrap_or(sizes.batch),
        steps: sizes.steps,
        dtype: sizes.dtype.into(),
    })
}

/// What a checkpoint keeps a step waiting for.
fn save(dir: &Path, sizes: &TrainStep, terminal: &Terminal) -> Result<(), Error> {
    let bench = bench_of(sizes)?;
    quipu_store::atomic::create_dir(dir)?;
    let device = device::of_threads(sizes.threads.unwrap_or_else(device::cores));
    let saved = quipu_train::bench::save(device, bench, dir)?;
    let ratio = saved.held_s / saved.copied_s;
    terminal.say(&format!(
        "{} saved: a step waits {:.3} s, a plain copy takes {:.3} s (ratio {ratio:.2}); copied, written \
         and on disk after {:.3} s",
        crate::memory::size(saved.bytes as u64),
        saved.held_s,
        saved.copied_s,
        saved.written_s
    ));
    terminal.result(&json!({"saved": saved, "ratio": ratio}));
    Ok(())
}

fn train(sizes: &TrainStep, setting: &Setting) -> Result<(), Error> {
    let (terminal, world) = (&setting.terminal, &setting.world);
    let bench = bench_of(sizes)?;
    let parallel = device::parallel_of(&sizes.mesh, world, &bench.config()?)?;
    let (threads, dtype) = (sizes.threads.unwrap_or_else(device::cores), bench.dtype);
    let (ranks, here) = (parallel.axes.world(), world.beside(parallel.axes));
    let each = (threads / here).max(1);
    // nothing of the other processes runs beside it
    let ceiling = || world.alone(|| Ok::<_, Error>(device::ceiling(threads, dtype)));
    let before = ceiling()?;
    let (timing, spent) = match sizes.by_op {
        true if ranks > 1 => {
            return Err(Error::usage("--by-op looks at one rank; leave out --mesh"));
        }
        true => quipu_train::bench::run_by_op(device::of_threads(threads), bench)?,
        false => {
            let device = |_: usize| Arc::new(Cpu::new(each));
            let timings = quipu_train::bench::run(&parallel, bench, &device, &|| ())?;
            (
                timings.into_iter().next().ok_or_else(|| Error::usage("a mesh without ranks"))?,
                vec![],
            )
        }
    };
    let (Some(before), Some(after)) = (before, ceiling()?) else { return Ok(()) };
    let hosts = ranks as f64 / here as f64;
    let share = timing.flop_per_s / (hosts * before.max(after));
    terminal.say(&format!(
        "{:.0} tokens/s (best {:.0}) · {:.1} GFLOP/s, {:.0} % of the {dtype} ceiling · {} parameters \
         · {}, {parallel} · peak {:.0} MiB",
        timing.tokens_per_s,
        timing.tokens_per_s_best,
        timing.flop_per_s / 1e9,
        100.0 * share,
        timing.params,
        timing.mode,
        timing.peak_rss_mib
    ));
    for row in &spent {
        let (op, often, ms) = (&row.op, row.per_step, 1e3 * row.seconds);
        terminal.say(&format!("{op:32} {often:>6.0} a step {ms:>9.3} ms"));
    }
    let mut result = json!(timing);
    result["share_of_ceiling"] = json!(share);
    result["mesh"] = json!(parallel.to_string());
    result["plan_mib"] = json!(bench.plan(&parallel, each)?.total_bytes as f64 / (1 << 20) as f64);
    if sizes.by_op {
        result["by_op"] = json!(spent);
    }
    terminal.result(&result);
    Ok(())
}

/// The ops of a training step at their shapes, and what share of the peak each reaches.
fn kernels(
    dtype: Dtype,
    threads: usize,
    budget: Duration,
    terminal: &Terminal,
) -> Result<(), Error> {
    if threads == 0 {
        return Err(Error::usage("--threads is 0; it must be at least 1"));
    }
    let narrow = if dtype == Dtype::Bf16 { DType::BF16 } else { DType::F32 };
    let (peak, rows) = quipu_math::bench::ops(threads, narrow, budget)?;
    terminal
        .say(&format!("{dtype} ceiling {peak:.1} GFLOP/s on {threads} threads; by op, best run:"));
    let header = ("op", "a step", "ms", "GFLOP/s", "GB/s", "of the ceiling");
    let (op, often, ms, flops, bytes, share) = header;
    terminal.say(&format!("{op:28} {often:>6} {ms:>9} {flops:>9} {bytes:>7} {share:>15}"));
    for row in &rows {
        terminal.say(&format!(
            "{:28} {:>6} {:>9.3} {:>9.1} {:>7.1} {:>13.0} %",
            row.name,
            row.per_step,
            row.seconds * 1e3,
            row.gflops,
            row.gbytes,
            row.share * 100.0
        ));
    }
    let of = |row: &quipu_math::bench::Row| {
        json!({
            "op": row.name, "per_step": row.per_step, "seconds": row.seconds,
            "gflops": row.gflops, "gbytes": row.gbytes, "share_of_ceiling": row.share,
        })
    };
    let ops: Vec<_> = rows.iter().map(of).collect();
    terminal.result(&json!({"ceiling_gflops": peak, "threads": threads, "ops": ops}));
    Ok(())
}

/// Pages a second of the calling thread by its processor time, pages in memory, the median of three
/// passes.
fn extract(dir: &Path, terminal: &Terminal) -> Result<(), Error> {
    let mut files = Vec::new();
    pages(dir, &mut files)?;
    if files.is_empty() {
        return Err(Error::data(format!("{} holds no .html or .html.gz", dir.display())));
    }
    let pages = files.iter().map(|f| read(f)).collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = pages.iter().map(Vec::len).sum();
    let text_of = |page: &[u8]| html::extract(&encoding::decode(page, None), None).text.len();
    let mut text = 0;
    let seconds = clock::seconds(3, || text = pages.iter().map(|page| text_of(page)).sum());
    let seconds = clock::median(&seconds);
    let rate = pages.len() as f64 / seconds;
    let megabytes = bytes as f64 / seconds / 1e6;
    terminal.say(&format!(
        "{rate:.0} pages/s on one core ({} pages, {megabytes:.1} MB/s of markup, {text} bytes of text)",
        pages.len()
    ));
    terminal.result(&json!({
        "pages": pages.len(), "pages_per_s": rate, "mb_per_s": megabytes, "text_bytes": text,
    }));
    Ok(())
}

fn pages(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let entries = std::fs::read_dir(dir)
        .map_err(|e| Error::data(format!("cannot list {}: {e}", dir.display())))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        let name = path.to_string_lossy();
        if path.is_dir() {
            pages(&path, files)?;
        } else if name.ends_with(".html") || name.ends_with(".html.gz") {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let bytes = std::fs::read(path)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut out)?;
    Ok(out)
}
