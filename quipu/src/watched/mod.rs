//! What others can ask of a run while it trains, with `--metrics`: its figures (`figures`) over
//! HTTP (`endpoint`). Not the terminal, which is `stage::screen`'s, and not the files of metrics.

pub mod endpoint;
pub mod figures;

use crate::error::Error;
use crate::terminal::Terminal;
use endpoint::Endpoint;
use figures::Figures;
use std::path::Path;
use std::sync::Arc;

/// The figures of a run, and the endpoint at which they are read.
pub struct Watched {
    /// what is shown
    pub figures: Arc<Figures>,
    endpoint: Endpoint,
}

impl Watched {
    /// Listens at `address` for who asks about the run in `dir`.
    pub fn open(address: &str, dir: &Path, name: &str) -> Result<Self, Error> {
        let run = dir.file_name().map_or(name.into(), |n| n.to_string_lossy().into_owned());
        let figures = Arc::new(Figures::new(run));
        let shown = figures.clone();
        let endpoint = Endpoint::open(address, move || shown.text())?;
        Ok(Self { figures, endpoint })
    }

    /// Says where it listens. A port that the system chose is said even where little is said,
    /// since nobody could find it.
    pub fn announce(&self, asked: &str, terminal: &Terminal) {
        let line = format!("metrics http://{}/metrics", self.endpoint.address());
        if terminal.quiet && asked.ends_with(":0") {
            eprintln!("{line}");
        } else {
            terminal.comment(&line);
        }
    }
}
