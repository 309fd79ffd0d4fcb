//! `quipu curate scheduler` and `executor`: the services of a cluster, with this very program.
//!
//! They are there with the feature `cluster` only, whose build is long; without it, a message says
//! how to get it. Not the client, which is a run with `--cluster`.

use crate::cli::Service;
use crate::error::Error;
use crate::terminal::Terminal;

/// Runs a service until it is interrupted.
#[cfg(feature = "cluster")]
pub fn run(service: &Service, terminal: &Terminal) -> Result<(), Error> {
    use quipu_corpus::cluster::service;
    use std::time::Duration;
    match service {
        Service::Scheduler { bind, dead_after } => {
            let dead_after = Duration::from_secs(*dead_after);
            let started = |address: std::net::SocketAddr| {
                let text = format!(
                    "scheduler at {address}; start executors with \
                     `quipu curate executor --scheduler {address} --work FOLDER`"
                );
                say(terminal, "scheduler", address, &text);
            };
            service::scheduler(bind, dead_after, started).map_err(quipu_corpus::Error::from)?;
        }
        Service::Executor { scheduler, work, bind, workers, memory } => {
            let cores = || std::thread::available_parallelism().map_or(1, usize::from);
            let options = service::Executor {
                scheduler: scheduler.clone(),
                bind: *bind,
                work: work.clone(),
                workers: workers.map_or_else(cores, usize::from),
                memory: *memory,
            };
            let started = |address: std::net::SocketAddr| {
                let text = format!("executor at {address}, for the scheduler at {scheduler}");
                say(terminal, "executor", address, &text);
            };
            service::executor(&options, started)?;
        }
    }
    Ok(())
}

/// Says where a service listens: the one line that who starts it waits for.
#[cfg(feature = "cluster")]
fn say(terminal: &Terminal, what: &str, address: std::net::SocketAddr, text: &str) {
    terminal.say(text);
    terminal.result(&serde_json::json!({ what: address.to_string() }));
}

/// Says what is missing.
#[cfg(not(feature = "cluster"))]
pub fn run(_: &Service, _: &Terminal) -> Result<(), Error> {
    Err(Error::usage(
        "this program was built without the services of a cluster; build it with \
         `cargo build --release --features cluster` (a long build), and run that",
    ))
}
