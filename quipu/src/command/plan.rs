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

/// The plans of a run's trainings, which come one after the other.
pub struct Plans {
    /// The first pre-training.
    pub train: Plan,
    /// Those after it, as far as the run goes, by name.
    pub later: Vec<(String, Plan)>,
}

impl Plans {
    /// The training that holds the most, and what it is called.
    fn largest(&self) -> (&str, &Plan) {
        let later = self.later.iter().map(|(name, plan)| (name.as_str(), plan));
        let all = [("training", &self.train)].into_iter().chain(later);
        all.max_by_key(|(_, plan)| plan.total_bytes).unwrap_or(("training", &self.train))
    }
}

/// The plans of a run as far as it goes; `others` where its input is not the world. The frozen model
/// of preference training is gone, and smaller, before that begins.
pub fn of(recipe: &Recipe, others: bool, tunes: bool) -> Result<Plans, Error> {
    let parallel = device::parallel(recipe)?;
    let plan = |table: &str, train: &quipu_train::Recipe| -> Result<Plan, Error> {
        let mut train = train.clone();
        let asks = table.starts_with("extend") || (table == "train" && others);
        if asks && train.sample_prompts.is_empty() {
            // As the stage will do: needles are asked for, words of the documents completed, which
            // takes memory.
            train.sample_prompts.push(String::new());
        }
        let shape = recipe.shape_in(table);
        let config = stage::config_of(recipe, &shape, recipe.tokens.vocabulary)?;
        Ok(Plan::new(&config, &train, &parallel, device::threads(&parallel))?)
    };
    let mut later = Vec::new();
    for (table, train) in recipe.trained() {
        let tuning = table == "sft" || table == "dpo";
        if table != "train" && (tunes || !tuning) {
            later.push((called(&table), plan(&table, train)?));
        }
    }
    Ok(Plans { train: plan("train", &recipe.train)?, later })
}

/// What a table of the recipe does.
fn called(table: &str) -> String {
    match table.split('.').nth(1).and_then(|number| number.parse::<usize>().ok()) {
        Some(number) => format!("context extension {}", number + 1),
        None => match table {
            "anneal" => "annealing",
            "sft" => "fine-tuning",
            "dpo" => "preference training",
            other => other,
        }
        .to_owned(),
    }
}

/// Refuses a run that would need more memory than this process may hold.
pub fn check(recipe: &Recipe, others: bool, tunes: bool) -> Result<(), Error> {
    let Some(limit) = memory::limit() else { return Ok(()) };
    fits(&of(recipe, others, tunes)?, limit)
}

fn fits(plans: &Plans, limit: u64) -> Result<(), Error> {
    let (name, plan) = plans.largest();
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
            "{name} takes {}{largest}, and this process may hold {}, which is the machine's \
             memory or its control group's limit; use a smaller model, a smaller \
             micro_batch_tokens, recompute = \"block\", or a machine with more; --dry-run says what \
             takes how much",
            memory::size(plan.total_bytes),
            memory::size(limit),
        ),
    ))
}

/// Prints a plan beside what this machine has; the same as JSON.
pub fn say(recipe: &Recipe, plans: &Plans, terminal: &Terminal) -> Value {
    let (dtype, plan) = (recipe.train.dtype, &plans.train);
    let largest = plans.largest().1.total_bytes;
    let (limit, ceiling) = (memory::limit(), device::ceiling(device::cores(), dtype));
    let ranks = if plan.ranks == 1 { "rank" } else { "ranks" };
    terminal.say(&format!(
        "model: {} parameters, {dtype}, {} {ranks}",
        thousands(plan.parameters as u64),
        plan.ranks
    ));
    say_memory(plan, terminal);
    for (name, plan) in &plans.later {
        terminal.say(&format!(
            "memory of {name}: {} ({}) · {} steps at most, {} tokens",
            memory::size(plan.total_bytes),
            thousands(plan.total_bytes),
            thousands(plan.steps),
            thousands(plan.tokens)
        ));
    }
    say_limit(largest, limit, terminal);
    say_levels(plan, terminal);
    let seconds = plan.seconds(SHARE * ceiling);
    terminal.say(&format!(
        "work of training: {:.3e} FLOP a token, {:.3e} in all; at {SHARE} (assumed) of this machine's {dtype} \
         ceiling of {:.0} GFLOP/s: {}",
        plan.flop_per_token,
        plan.flop(),
        ceiling / 1e9,
        long(seconds)
    ));
    let later = || plans.later.iter().map(|(_, plan)| plan);
    let all = seconds + later().map(|plan| plan.seconds(SHARE * ceiling)).sum::<f64>();
    if !plans.later.is_empty() {
        let flop = plan.flop() + later().map(Plan::flop).sum::<f64>();
        terminal.say(&format!("with what follows it: {flop:.3e} at most; {}", long(all)));
    }
    let mut value = json!(plan);
    value["dtype"] = json!(dtype);
    value["machine_bytes"] = json!(limit);
    value["fits"] = json!(limit.map(|limit| largest <= limit));
    value["recompute"] = json!(recipe.train.recompute);
    value["most_bytes"] = json!(largest);
    for (name, plan) in &plans.later {
        let of = json!({
            "memory": plan.memory, "total_bytes": plan.total_bytes, "steps": plan.steps,
            "tokens": plan.tokens,
        });
        value["later"][name.replace([' ', '-'], "_")] = of;
    }
    value["ceiling_flop_per_s"] = json!(ceiling);
    value["assumed_share_of_ceiling"] = json!(SHARE);
    value["seconds"] = json!(seconds);
    value["seconds_of_all"] = json!(all);
    value["peak_mib"] = json!(peak_memory_mib());
    value
}

fn say_memory(plan: &Plan, terminal: &Terminal) {
    terminal.say("memory of training:");
    let row = |kind: &str, bytes: u64| {
        let (said, exact) = (memory::size(bytes), thousands(bytes));
        terminal.say(&format!("  {kind:16} {said:>12} {exact:>22}"));
    };
    plan.memory.iter().for_each(|kind| row(kind.kind, kind.bytes));
    row("in all", plan.total_bytes);
    if plan.ranks > 1 {
        terminal.say("  not counted: copies of gradients and weights that ranks hand each other");
        say_stages(plan, terminal);
    }
}

/// One rank of each place in the pipeline.
fn say_stages(plan: &Plan, terminal: &Terminal) {
    terminal.say("of one rank, by place in the pipeline, in the largest step:");
    let names = ["weights", "gradients", "optimizer", "activations", "others", "in all"];
    let names = names.map(|name| format!("{name:>11}")).join(" ");
    terminal.say(&format!("  place layers  batches  live {names}     FLOP"));
    for stage in &plan.stages {
        let of = |names: &[&str]| -> u64 {
            let rows = stage.memory.iter().filter(|row| names.contains(&row.kind));
            rows.map(|row| row.bytes).sum()
        };
        let weights = of(&["weights", "packed weights"]);
        let gradients = of(&["gradients", "gradients of copies"]);
        let optimizer = of(&["master weights", "first moments", "second moments"]);
        let activations = of(&["activations", "scratch"]);
        let others = stage.total_bytes - weights - gradients - optimizer - activations;
        let sizes = [weights, gradients, optimizer, activations, others, stage.total_bytes];
        let sizes: Vec<String> =
            sizes.iter().map(|b| format!("{:>11}", memory::size(*b))).collect();
        terminal.say(&format!(
            "  {:>5} {:>6} {:>8} {:>5} {} {:>8.2e}",
            stage.place,
            stage.layers,
            stage.micro_batches,
            stage.live,
            sizes.join(" "),
            stage.flop as f64
        ));
    }
    if let Some(stage) = plan.stages.get(plan.stages.len() / 2) {
        let sent = stage.sent.iter().map(|s| format!("{} {}", s.what, memory::size(s.bytes)));
        let sent = sent.collect::<Vec<_>>().join(", ");
        terminal.say(&format!("  sent in that step by the rank at place {}: {sent}", stage.place));
    }
}

/// Whether what the largest training takes is there.
fn say_limit(bytes: u64, limit: Option<u64>, terminal: &Terminal) {
    terminal.say(&match limit {
        None => "  how much this machine has, it does not say".into(),
        Some(limit) if bytes <= limit => {
            format!("  it fits: this process may hold {}", memory::size(limit))
        }
        Some(limit) => format!(
            "  too little memory: this process may hold {}, {:.1} times less",
            memory::size(limit),
            bytes as f64 / limit as f64
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
        let plans = of(&recipe, false, true).unwrap();
        let (name, plan) = plans.largest();
        // its micro-batches are twice as large as those of training
        assert_eq!(name, "preference training");
        assert!(fits(&plans, plan.total_bytes).is_ok());
        let error = fits(&plans, plan.total_bytes - 1).unwrap_err();
        assert_eq!(error.kind(), Kind::Resource);
        let said = error.to_string();
        for part in [name, &memory::size(plan.total_bytes), "(the most for ", "--dry-run"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn prompts_that_will_be_found_are_planned_for() {
        let none = ["train.sample_prompts=[]".to_owned()];
        let recipe = Recipe::resolve(None, &none).unwrap();
        let generates = |others| {
            let plan = of(&recipe, others, false).unwrap().train;
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
