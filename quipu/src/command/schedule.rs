//! `quipu train schedule`: what each rank of a pipeline does, as text, as a picture, as JSON. The
//! schedule is the one that a run of these sizes takes.

use crate::error::Error;
use crate::terminal::Terminal;
use quipu_mesh::schedule::{Kind, Schedule, Shape, Timed, Work};
use quipu_store::atomic;
use serde_json::{Value, json};
use std::path::Path;

/// Forwards of a schedule that somebody may look at.
const MOST: usize = 1 << 20;

/// Prints it, and draws it where that was asked for.
pub fn run(shape: Shape, svg: Option<&Path>, terminal: &Terminal) -> Result<(), Error> {
    if shape.micro_batches == 0 {
        return Err(Error::usage("--micro-batches is 0; a step has at least one"));
    }
    let shown = shape.stages().saturating_mul(shape.micro_batches);
    if shown > MOST {
        return Err(Error::usage(format!(
            "{} ranks × {} chunks × {} micro-batches are more forwards than anybody looks at; a schedule \
             that is shown has at most {MOST}",
            shape.ranks, shape.chunks, shape.micro_batches
        )));
    }
    let wrong = |e: quipu_mesh::Error| Error::usage(e.to_string());
    let schedule = Schedule::new(shape).map_err(wrong)?;
    let timeline = schedule.timeline().map_err(wrong)?;
    if let Some(path) = svg {
        atomic::write_bytes(path, schedule.svg(&timeline).as_bytes())?;
    }
    if !terminal.json {
        terminal.stream(&schedule.text(&timeline));
    }
    let ranks = timeline.ranks.iter().enumerate();
    terminal.result(&json!({
        "pp": shape.ranks, "v": shape.chunks, "micro_batches": shape.micro_batches, "n": shape.contiguous(),
        "zero_bubble": shape.kind == Kind::ZeroBubble, "end": timeline.end, "bubble": timeline.bubble(),
        "ranks": ranks.map(|(rank, list)| json!({
            "live": schedule.peak(rank),
            "actions": list.iter().map(action).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    }));
    Ok(())
}

fn action(timed: &Timed) -> Value {
    let work = match timed.action.work {
        Work::Forward => "forward",
        Work::Backward => "backward",
        Work::Weight => "weight",
    };
    json!({
        "work": work, "micro_batch": timed.action.micro_batch, "chunk": timed.action.chunk,
        "start": timed.start, "end": timed.end,
    })
}
