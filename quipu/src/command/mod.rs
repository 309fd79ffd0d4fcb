//! What each command does, a file each where it is more than a call. Not the stages of a run.

mod doctor;

use crate::cli::{Cli, Command};
use crate::error::Error;
use crate::terminal::Terminal;
use quipu_store::Cancel;

/// Runs the command of the command line.
pub fn run(cli: Cli, _cancel: &Cancel) -> Result<(), Error> {
    let terminal = Terminal { json: cli.global.json, quiet: cli.global.quiet };
    match cli.command {
        Command::Doctor => doctor::run(&terminal),
    }
}
