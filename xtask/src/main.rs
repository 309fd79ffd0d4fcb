//! The automation, in Rust: `cargo xtask COMMAND`. Not part of the product: it imports no crate
//! of it and runs the program as a user would. The idea is matklad's `cargo xtask`.

mod bench;
mod docs;
mod fuzz;
mod mutants;
mod peers;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  test [--full] [--setup]   formatting, clippy, tidy, all tests, docs; a table of time by part
                            --full also runs what is marked as long;
                            --setup installs what is missing (with CI=true an MPI always)
  tidy                      only the house rules: import table, headers, lengths, names, reasons
  bench train [--rounds N] [--steps N] [--python PATH]
                            the training step and PyTorch's side by side; writes
                            bench/<date>-<machine>-train/
  bench tokens [--rounds N] Parquet to token shards beside bare encoding, the training of a
                            vocabulary, the loader; writes bench/<date>-<machine>-tokens/
  bench corpus [PART…] [--rounds N] [--python PATH] [--full] [--small] [--rust-peers]
                            curation and its peers; writes bench/<date>-<machine>-corpus/. Parts:
                            extraction pipeline text near language quality world, and memory, which
                            runs when it is named or with --full; --small only tries that it works;
                            --rust-peers also builds the extractors written in Rust
  peers [--python PATH]     what needs a Python peer: training step, export, extraction score,
                            curated documents in other programs, tiktoken's ids
  fuzz [TARGET…] [--seconds N]
                            each reader of bytes from outside under libFuzzer, 60 seconds each;
                            needs a nightly toolchain and cargo-fuzz
  mutants [NAME…]           plants each mistake of xtask/mutants in a scratch copy: the test that it
                            names has to fail there; some two minutes each
  docs [--run DIR]          runs the speedrun and pastes its transcript into README.md;
                            --run takes a finished run of it instead
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let flags: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("test") => test::run(&flags),
        Some("tidy") => tidy::run(&flags),
        Some("bench") => bench::run(&flags),
        Some("fuzz") => fuzz::run(&flags),
        Some("mutants") => mutants::run(&flags),
        Some("peers") => peers::run(&flags),
        Some("docs") => docs::run(&flags),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(true)
        }
        other => {
            let what = other.map_or("no command".into(), |c| format!("unknown command {c:?}"));
            eprint!("{what}\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::from(1)
        }
    }
}
