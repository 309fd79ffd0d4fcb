//! The program `quipu`: commands in flow order, flags and messages. It decides nothing else: what
//! a command does is in the crates, which stage follows which in `stage`.

mod cli;
mod command;
mod error;
mod recipe;
mod report;
mod run_folder;
mod stage;
mod terminal;

use clap::Parser;
use cli::Cli;
use error::{Error, Kind};
use quipu_store::Cancel;
use std::process::ExitCode;

/// The one exit point: 0 done, 1 a check failed, 2 usage, 3 data, 4 resources, 130 interrupted.
fn main() -> ExitCode {
    // clap ends the process itself with 2 for a wrong flag and 0 for help.
    let cli = Cli::parse();
    let cancel = Cancel::new();
    let result = handle_signals(&cancel).and_then(|()| command::run(cli, &cancel));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match error.kind() {
                Kind::Interrupted => eprintln!("{error}"),
                _ => eprintln!("error: {error}"),
            }
            ExitCode::from(error.kind().code())
        }
    }
}

/// Ctrl-C once asks to stop at the next safe point, twice ends the process at once.
fn handle_signals(cancel: &Cancel) -> Result<(), Error> {
    let cancel = cancel.clone();
    let handler = move || {
        if cancel.request() > 1 {
            eprintln!("aborted");
            std::process::exit(Kind::Interrupted.code().into());
        }
        eprintln!("stopping after the next checkpoint; once more to abort");
    };
    ctrlc::set_handler(handler)
        .map_err(|e| Error::new(Kind::Resource, format!("cannot handle Ctrl-C: {e}")))
}
