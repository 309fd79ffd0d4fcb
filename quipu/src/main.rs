//! The program `quipu`: commands in flow order, flags and messages. It decides nothing else: what
//! a command does is in the crates, which stage follows which in `stage`.

mod cli;
mod command;
mod error;
mod extension;
mod memory;
mod origin;
mod recipe;
mod report;
mod run_folder;
mod stage;
mod terminal;
mod watched;

use clap::Parser;
use cli::{Cli, Command};
use error::{Error, Kind};
use quipu_mesh::World;
use quipu_store::Cancel;
use std::io::Write;
use std::process::ExitCode;

/// The one exit point: 0 done, 1 a check failed, 2 usage, 3 data, 4 resources, 130 interrupted.
fn main() -> ExitCode {
    // Plans, manifests and reports name files as text.
    if let Some(argument) = std::env::args_os().find(|argument| argument.to_str().is_none()) {
        let shown = argument.to_string_lossy();
        let _ = writeln!(
            std::io::stderr(),
            "error: {shown:?} is not UTF-8, and names of files must be: rename it"
        );
        return ExitCode::from(Kind::Usage.code());
    }
    // clap ends the process itself with 2 for a wrong flag and 0 for help.
    let cli = Cli::parse();
    quipu_documents::hush_guarded_panics();
    let cancel = Cancel::new();
    let (world, result) = match command::world(&cli) {
        Ok(world) => {
            // what is only planned has nothing to bring to safety
            let set = match cli.global.dry_run {
                true => Ok(()),
                false => handle_signals(&cli.command, &cancel, world.leads()),
            };
            (world.clone(), set.and_then(|()| command::run(cli, &cancel, world)))
        }
        Err(error) => (World::Threads, Err(error)),
    };
    let result = match result {
        Ok(()) if terminal::lost_results() => Err(Error::new(
            Kind::Resource,
            "standard output could not be written (a full disk?), so that results were lost; what \
             went into files is there",
        )),
        other => other,
    };
    match result {
        Ok(()) => {
            world.leave(None);
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Where nobody can be told, the exit status still says it.
            let stopped = error.kind() == Kind::Interrupted;
            let mark = if stopped { "" } else { "error: " };
            // what all processes of a run find alike, one of them says
            if !error.is_everywhere() || world.leads() {
                let _ = writeln!(std::io::stderr(), "{mark}{error}");
            }
            world.leave(Some(&error.to_string()));
            ExitCode::from(error.kind().code())
        }
    }
}

/// What Ctrl-C does. In a run: once, it asks to stop at the next safe point; twice, it ends the
/// process at once. In a conversation it stops the answer, or ends the program where there is none.
/// Everything else has nothing to bring to safety and ends as the system does it. Of the processes of
/// a run one speaks.
fn handle_signals(command: &Command, cancel: &Cancel, speaks: bool) -> Result<(), Error> {
    let aborted = || std::process::exit(Kind::Interrupted.code().into());
    let set = match command {
        Command::Curate(curate) if curate.about.is_some() => Ok(()),
        Command::Train(train) if train.about.is_some() => Ok(()),
        Command::Speedrun(_)
        | Command::World { .. }
        | Command::Curate(_)
        | Command::Train(_)
        | Command::Tune(_)
        | Command::Eval(_) => {
            let cancel = cancel.clone();
            ctrlc::set_handler(move || {
                if cancel.request() > 1 {
                    eprintln!("aborted");
                    aborted();
                }
                if speaks {
                    eprintln!("stopping at the next safe point; once more to abort");
                }
            })
        }
        Command::Chat { .. } => ctrlc::set_handler(move || {
            if !command::chat::stop_answer() {
                eprintln!();
                aborted();
            }
        }),
        _ => Ok(()),
    };
    set.map_err(|e| Error::new(Kind::Resource, format!("cannot handle Ctrl-C: {e}")))
}
