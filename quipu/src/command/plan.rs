//! What a run will need, said before it begins: the section of `--dry-run`, and the refusal of a
//! run that this machine has too little memory for. What is needed, `train` knows; here it is put
//! beside what the machine has.

use crate::error::{Error, Kind};
use crate::memory;
use crate::recipe::Recipe;
use crate::stage::{self, device};
use crate::terminal::{Terminal, peak_memory_mib, thousands};
use quipu_store::progress::duration;
use quipu_train::Plan;
use serde_json::{Value, json};

/// The share of the machine's ceiling at which a run's time is reckoned. Assumed: the speedrun
/// comes to 0.69 (README.md); what memory is too slow for comes to less.
const SHARE: f64 = 0.7;

/// The plan of a run's training; `others` where its input is not the world.
pub fn of(recipe: &Recipe, others: bool) -> Result<Plan, Error> {
    let mut train = recipe.train.clone();
    if others && train.sample_prompts.is_empty() {
        // As the stage will do: words of the documents are completed, which takes memory.
        train.sample_prompts.push(String::new());
    }
    Ok(Plan::new(&stage::config(recipe)?, &train, device::axes(recipe)?)?)
}

/// Refuses a run that would need more memory than this process may hold.
pub fn check(recipe: &Recipe, others: bool) -> Result<(), Error> {
    let Some(limit) = memory::limit() else { return Ok(()) };
    fits(&of(recipe, others)?, limit)
}

fn fits(plan: &Plan, limit: u64) -> Result<(), Error> {
    if plan.total_bytes <= limit {
        return Ok(());
    }
    let largest = plan.memory.iter().max_by_key(|row| row.bytes);
    let largest = largest.map_or(String::new(), |row| {
        format!(" (the most for {}, {})", row.kind, memory::size(row.bytes))
    });
    Err(Error::new(
        Kind::Resource,
        format!(
            "training takes {}{largest}, and this process may hold {}, which is the machine's \
             memory or its control group's limit; use a smaller model, a smaller \
             train.micro_batch_tokens, or a machine with more; --dry-run says what takes how much",
            memory::size(plan.total_bytes),
            memory::size(limit),
        ),
    ))
}

/// Prints a plan beside what this machine has; the same as JSON.
pub fn say(recipe: &Recipe, plan: &Plan, terminal: &Terminal) -> Value {
    let dtype = recipe.train.dtype;
    let (limit, ceiling) = (memory::limit(), device::ceiling(device::cores(), dtype));
    let ranks = if plan.ranks == 1 { "rank" } else { "ranks" };
    terminal.say(&format!(
        "model: {} parameters, {dtype}, {} {ranks}",
        thousands(plan.parameters as u64),
        plan.ranks
    ));
    say_memory(plan, limit, terminal);
    say_levels(plan, terminal);
    let seconds = plan.seconds(SHARE * ceiling);
    terminal.say(&format!(
        "work: {:.3e} FLOP a token, {:.3e} in all; at {SHARE} (assumed) of this machine's {dtype} \
         ceiling of {:.0} GFLOP/s: {}",
        plan.flop_per_token,
        plan.flop_per_token * plan.tokens as f64,
        ceiling / 1e9,
        long(seconds)
    ));
    let mut value = json!(plan);
    value["dtype"] = json!(dtype);
    value["machine_bytes"] = json!(limit);
    value["fits"] = json!(limit.map(|limit| plan.total_bytes <= limit));
    value["ceiling_flop_per_s"] = json!(ceiling);
    value["assumed_share_of_ceiling"] = json!(SHARE);
    value["seconds"] = json!(seconds);
    value["peak_mib"] = json!(peak_memory_mib());
    value
}

fn say_memory(plan: &Plan, limit: Option<u64>, terminal: &Terminal) {
    terminal.say("memory of training:");
    let row = |kind: &str, bytes: u64| {
        let (said, exact) = (memory::size(bytes), thousands(bytes));
        terminal.say(&format!("  {kind:16} {said:>12} {exact:>22}"));
    };
    plan.memory.iter().for_each(|kind| row(kind.kind, kind.bytes));
    row("in all", plan.total_bytes);
    if plan.ranks > 1 {
        terminal.say("  not counted: copies of gradients and weights that ranks hand each other");
    }
    terminal.say(&match limit {
        None => "  how much this machine has, it does not say".into(),
        Some(limit) if plan.total_bytes <= limit => {
            format!("  it fits: this process may hold {}", memory::size(limit))
        }
        Some(limit) => format!(
            "  too little memory: this process may hold {}, {:.1} times less",
            memory::size(limit),
            plan.total_bytes as f64 / limit as f64
        ),
    });
}

fn say_levels(plan: &Plan, terminal: &Terminal) {
    terminal.say(&format!(
        "run: {} steps, {} tokens",
        thousands(plan.steps),
        thousands(plan.tokens)
    ));
    let header = ("from step", "steps", "tokens", "a batch", "a sequence", "a micro-batch");
    let line =
        |(from, steps, tokens, batch, sequence, micro): (&str, &str, &str, &str, &str, &str)| {
            terminal.say(&format!(
                "  {from:>10} {steps:>10} {tokens:>20} {batch:>12} {sequence:>10} {micro:>13}"
            ));
        };
    line(header);
    for stretch in &plan.levels {
        let level = &stretch.level;
        let size = |tokens: usize| thousands(tokens as u64);
        line((
            &thousands(stretch.first_step),
            &thousands(stretch.steps),
            &thousands(stretch.tokens),
            &size(level.batch_tokens),
            &size(level.sequence_length),
            &size(level.micro_batch_tokens),
        ));
    }
}

/// A time that may be long beyond reason.
fn long(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    const YEAR: f64 = 365.25 * DAY;
    if seconds < 2.0 * DAY {
        duration(seconds)
    } else if seconds < 2.0 * YEAR {
        format!("{:.0} days", seconds / DAY)
    } else {
        format!("{} years", thousands((seconds / YEAR) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_an_error_of_the_machine() {
        let recipe = Recipe::resolve(None, &[]).unwrap();
        let plan = of(&recipe, false).unwrap();
        assert!(fits(&plan, plan.total_bytes).is_ok());
        let error = fits(&plan, plan.total_bytes - 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Resource);
        let said = error.to_string();
        for part in [&memory::size(plan.total_bytes) as &str, "(the most for ", "--dry-run"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn prompts_that_will_be_found_are_planned_for() {
        let none = ["train.sample_prompts=[]".to_owned()];
        let recipe = Recipe::resolve(None, &none).unwrap();
        let generates = |others| {
            let plan = of(&recipe, others).unwrap();
            plan.memory.iter().any(|row| row.kind == "generation")
        };
        assert!(generates(true) && !generates(false));
    }

    #[test]
    fn long_times_have_long_units() {
        let said = [59.0, 90_000.0, 10.0 * 86_400.0, 1e12].map(long);
        assert_eq!(said, ["59 s", "25 h 0 min", "10 days", "31,688 years"]);
    }
}
