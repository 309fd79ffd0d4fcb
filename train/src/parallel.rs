//! How a run is divided over ranks: the mesh and the pipeline in one line of text, as a recipe's `mesh`
//! and the flag `--mesh` have it: `tp=2,pp=4,v=2,n=5,dp=2`. Not whether a model fits on it, which the
//! model says.

use crate::Error;
use quipu_mesh::schedule::Kind;
use quipu_mesh::{Axes, Axis, Mesh, Sharing, World};
use quipu_model::{Config, Pipeline, Shard};
use std::fmt;
use std::str::FromStr;

/// The ranks of a run and the division of its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parallel {
    /// Sizes of the axes.
    pub axes: Axes,
    /// How layers and micro-batches go over the pipeline.
    pub pipeline: Pipeline,
    /// What of parameters and states each rank keeps, and whether anybody waits sooner than needed.
    pub sharing: Sharing,
    /// Whether what several ranks hold is compared bit by bit after each step. Not in the text.
    pub check: bool,
    /// Where the ranks live. Not in the text.
    pub world: World,
}

impl Default for Parallel {
    fn default() -> Self {
        Self::from(Axes::ONE)
    }
}

impl From<Axes> for Parallel {
    fn from(axes: Axes) -> Self {
        let pipeline = Pipeline { chunks: 1, ..Pipeline::default() };
        let (sharing, world) = (Sharing::default(), World::Threads);
        Self { axes, pipeline, sharing, check: false, world }
    }
}

impl FromStr for Parallel {
    type Err = Error;

    /// Any order; axes that are left out are 1. Of a pipeline: `v`, chunks of each rank; `n`,
    /// contiguous micro-batches; `layers`, those of each stage, as `3/4/4/3`; `schedule`, `1f1b` or
    /// `zero-bubble`. Of the ranks that hold the same parameters: `sharing`, `states` or `full`;
    /// `group`, how many share out one copy; `overlap`, `on` or `off`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (mut pipeline, mut axes) = (Pipeline::default(), Vec::new());
        let (mut sharing, mut said) = (Sharing::default(), Vec::new());
        let (mut parts, mut chunks) = (text.split(',').map(str::trim).peekable(), false);
        if text.trim().is_empty() {
            parts.next();
        }
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim(), value.trim());
            if said.contains(&key) {
                return wrong(part, &format!("{key} is given twice"), "write each once");
            }
            said.push(key);
            match key {
                "" => return wrong(text, "a part of it is empty", "write tp=2,pp=4,v=2"),
                "v" => (pipeline.chunks, chunks) = (number("v", value)?, true),
                "n" => pipeline.contiguous = Some(number("n", value)?),
                "layers" => pipeline.layers = Some(layers(value)?),
                "schedule" => pipeline.kind = kind(value)?,
                "sharing" => sharing.full = either("sharing", value, ["states", "full"])?,
                "group" => sharing.group = Some(number("group", value)?),
                "overlap" => sharing.overlap = either("overlap", value, ["off", "on"])?,
                "tp" | "cp" | "pp" | "dp" => axes.push(part),
                _ => return wrong(part, EXPECTED, "write tp=2,pp=4,v=2, with a comma between"),
            }
        }
        pipeline.chunks = pipeline.chunks.max(1);
        let axes = Axes::parse(&axes.join(","))?;
        let zero_bubble = pipeline.kind == Kind::ZeroBubble;
        let stages =
            [chunks, pipeline.contiguous.is_some(), pipeline.layers.is_some(), zero_bubble];
        if axes.size(Axis::Pp) == 1 && stages.contains(&true) {
            let change = "name its ranks: pp=2";
            return wrong(text, "v, n, layers and zero-bubble are of a pipeline", change);
        }
        if sharing.full && zero_bubble {
            let expected = "with full sharding gradients of weights that wait have no place";
            return wrong(text, expected, "leave out sharing=full or schedule=zero-bubble");
        }
        Ok(Self { pipeline, sharing, ..Self::from(axes) })
    }
}

impl fmt::Display for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.axes)?;
        let Pipeline { chunks, layers, contiguous, kind } = &self.pipeline;
        if *chunks > 1 {
            write!(f, ",v={chunks}")?;
        }
        if let Some(n) = contiguous {
            write!(f, ",n={n}")?;
        }
        if let Some(layers) = layers {
            let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
            write!(f, ",layers={}", layers.join("/"))?;
        }
        match kind {
            Kind::OneForwardOneBackward => {}
            Kind::ZeroBubble => write!(f, ",schedule=zero-bubble")?,
        }
        let Sharing { full, group, overlap } = self.sharing;
        if full {
            write!(f, ",sharing=full")?;
        }
        if let Some(group) = group {
            write!(f, ",group={group}")?;
        }
        if overlap { Ok(()) } else { write!(f, ",overlap=off") }
    }
}

impl Parallel {
    /// Refuses what a model does not fit on, and groups that do not divide the ranks.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Mesh`].
    pub fn check(&self, config: &Config) -> Result<(), Error> {
        Shard::check(config, self.axes, &self.pipeline)?;
        Ok(self.sharing.check(self.axes)?)
    }

    /// A rank's mesh as these ranks share it.
    ///
    /// # Errors
    /// [`Error::Mesh`].
    pub fn mesh(&self, mesh: &Mesh) -> Result<Mesh, Error> {
        Ok(mesh.sharing_as(self.sharing)?)
    }

    /// The ranks of one axis.
    #[must_use]
    pub fn size(&self, axis: Axis) -> usize {
        self.axes.size(axis)
    }
}

/// What there is to say.
const EXPECTED: &str = "it is tp, cp, pp, dp, v, n, layers, schedule, sharing, group or overlap";

fn wrong<T>(found: &str, expected: &str, change: &str) -> Result<T, Error> {
    let (expected, change) = (expected.to_owned(), change.to_owned());
    Err(Error::Recipe { key: "mesh", found: found.to_owned(), expected, change })
}

fn number(key: &str, value: &str) -> Result<usize, Error> {
    match value.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => {
            let change = format!("write {key}=2");
            wrong(&format!("{key}={value}"), "it is a whole number ≥ 1", &change)
        }
    }
}

fn layers(value: &str) -> Result<Vec<usize>, Error> {
    let all = value.split('/').map(|n| n.trim().parse::<usize>().ok());
    all.collect::<Option<Vec<_>>>().map_or_else(
        || {
            let expected = "it holds the layers of each stage";
            wrong(&format!("layers={value}"), expected, "write layers=3/4/4/3")
        },
        Ok,
    )
}

fn kind(value: &str) -> Result<Kind, Error> {
    match value {
        "1f1b" => Ok(Kind::OneForwardOneBackward),
        "zero-bubble" => Ok(Kind::ZeroBubble),
        _ => wrong(&format!("schedule={value}"), "it is 1f1b or zero-bubble", "leave it out: 1f1b"),
    }
}

/// Whether it is the second of two words.
fn either(key: &str, value: &str, words: [&str; 2]) -> Result<bool, Error> {
    match words.iter().position(|word| *word == value) {
        Some(place) => Ok(place == 1),
        None => {
            let [a, b] = words;
            let expected = format!("it is {a} or {b}");
            wrong(&format!("{key}={value}"), &expected, &format!("write {key}={b}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str) {
        let parallel: Parallel = text.parse().unwrap();
        assert_eq!(parallel.to_string(), shown);
        assert_eq!(shown.parse::<Parallel>().unwrap(), parallel);
    }

    #[test]
    fn texts_and_back() {
        check("", "tp=1,cp=1,pp=1,dp=1");
        check("dp=2", "tp=1,cp=1,pp=1,dp=2");
        check(" pp=4, v=2 ,n=5", "tp=1,cp=1,pp=4,dp=1,v=2,n=5");
        check(
            "pp=2,layers=1/3,schedule=zero-bubble",
            "tp=1,cp=1,pp=2,dp=1,layers=1/3,schedule=zero-bubble",
        );
        check("pp=2,v=3", "tp=1,cp=1,pp=2,dp=1,v=3");
        check("dp=4,sharing=full,group=2", "tp=1,cp=1,pp=1,dp=4,sharing=full,group=2");
        check("dp=2,sharing=states,overlap=on", "tp=1,cp=1,pp=1,dp=2");
        check("cp=2,overlap=off", "tp=1,cp=2,pp=1,dp=1,overlap=off");
    }

    #[test]
    fn what_is_no_mesh() {
        for text in [
            "v=0",
            "n=x",
            "layers=1/",
            "schedule=gpipe",
            "ep=2",
            "tp=0",
            "sharing=some",
            "group=0",
            "v=2",
            "n=4,dp=2",
            "layers=3,tp=2",
            "tp=2,,cp=2",
            "tp=2 cp=2",
        ] {
            let error = text.parse::<Parallel>().unwrap_err().to_string();
            assert!(error.contains(text.split('=').next().unwrap()), "{text}: {error}");
        }
    }
}
