//! `quipu train simulate`: a step on machines that nobody has, with overlap and without, as `train`'s
//! `simulate` finds it.

use crate::error::Error;
use crate::recipe::Recipe;
use crate::stage::{self, device};
use crate::terminal::Terminal;
use quipu_mesh::{AXES, Sharing};
use quipu_train::Parallel;
use quipu_train::simulate::{Machine, simulate, step_of};
use serde_json::json;

/// Prints what each axis and purpose takes.
pub fn run(recipe: &Recipe, machine: &str, terminal: &Terminal) -> Result<(), Error> {
    let machine: Machine =
        machine.parse().map_err(|e: quipu_train::Error| Error::usage(e.to_string()))?;
    let (parallel, config) = (device::parallel(recipe)?, stage::config(recipe)?);
    let parallel = Parallel { sharing: Sharing { overlap: true, ..parallel.sharing }, ..parallel };
    let step = step_of(&recipe.train);
    let batches = step.batch_tokens.div_ceil(step.micro_batch_tokens.max(1));
    let fewer = match recipe.train.ramp.is_empty() {
        true => "train.batch_tokens makes them fewer",
        false => "the largest step of train.ramp; without it, train.batch_tokens makes them fewer",
    };
    terminal.say(&format!(
        "going twice through a step of {} tokens: {batches} micro-batches in sequences of {}, on {} ranks \
         ({fewer})",
        step.batch_tokens,
        step.sequence_length,
        parallel.axes.world()
    ));
    let of = |overlap| simulate(&config, &recipe.train, &parallel, &machine, overlap);
    let (on, off) = (of(true)?, of(false)?);
    let ms = |seconds: f64| seconds * 1e3;
    terminal.say(&format!(
        "a step of {} on {parallel}: {:.3} ms, {:.3} without overlap; a rank computes {:.3} ms",
        recipe.name,
        ms(on.seconds),
        ms(off.seconds),
        ms(on.computed)
    ));
    let head = ["axis", "purpose", "on the way", "waited", "without overlap", "for others"];
    let [axis, what, wire, exposed, without, idle] = head;
    terminal.say(&format!(
        "{axis:4} {what:18} {wire:>12} {exposed:>12} {without:>16} {idle:>12}  (ms, mean of ranks)"
    ));
    for axis in AXES {
        for row in on.passed.iter().filter(|row| row.axis == axis.name()) {
            let same = off.passed.iter().find(|r| (r.axis, &r.what) == (row.axis, &row.what));
            let without = same.map_or(0.0, |row| row.exposed);
            let [wire, exposed, idle] = [row.wire, row.exposed, row.idle].map(ms);
            terminal.say(&format!(
                "{:4} {:18} {wire:12.3} {exposed:12.3} {:16.3} {idle:12.3}",
                row.axis,
                row.what,
                ms(without)
            ));
        }
    }
    terminal.result(&json!({
        "mesh": parallel.to_string(), "overlap": on, "no_overlap": off,
        "batch_tokens": step.batch_tokens, "sequence_length": step.sequence_length,
    }));
    Ok(())
}
