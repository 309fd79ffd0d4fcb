//! Flags and commands, in the order in which data flows. Not what they do.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// The Llama 3 recipe as one program: crawl, corpus, tokens, model, chat.
#[derive(Debug, Parser)]
#[command(name = "quipu", version, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// what every command takes
    #[command(flatten)]
    pub global: Global,
    /// the command
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Change a value of the recipe, such as train.steps=100; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// A recipe file instead of the one in the program
    #[arg(long, value_name = "FILE", global = true)]
    pub recipe: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long, global = true)]
    pub dry_run: bool,
    /// Print one JSON object as result; lines for people go to standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// The folder of the run [default: runs/NAME]
    #[arg(long, value_name = "DIR", global = true)]
    pub run_dir: Option<PathBuf>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", global = true)]
    pub seed: Option<u64>,
    /// Print errors and the result only
    #[arg(long, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From a crawl to a model that answers: all stages, one command
    Speedrun {
        /// What to read instead of the simulated world: WARC, HTML, text, Markdown, JSON Lines or
        /// Parquet, files or folders, recognised by content; `rust-docs` is the installed one
        #[arg(long, value_name = "PATH", num_args = 1..)]
        input: Vec<PathBuf>,
        /// Dialogues to tune on, JSON Lines of {"messages": […]}, instead of made ones
        #[arg(long, value_name = "FILE")]
        dialogues: Option<PathBuf>,
    },
    /// Write a simulated world: a crawl with the truth about each page, for any pipeline
    World {
        /// The folder to write
        dir: PathBuf,
        /// Multiples of the default world of some 6,200 pages
        #[arg(long, default_value_t = 1.0)]
        size: f64,
    },
    /// Say what this machine has
    Doctor,
}
