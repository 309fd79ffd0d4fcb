//! The summary, from what units and files say of themselves.

use super::extract::Facts;
use super::plan::Plan;
use super::write::Output;
use crate::summary::{DAMAGED, EXCERPTS, InputCount, Source, Step, Summary};
use quipu_store::progress::thousands;
use std::collections::BTreeMap;

/// Stages in the order in which they act.
pub(super) const STAGES: [&str; 12] = [
    "read",
    "address",
    "extract",
    "contamination",
    "url",
    "rules",
    "domain",
    "words",
    "document",
    "lines",
    "short",
    "pipe",
];
/// Samples of kept documents in a summary.
const KEPT_SAMPLES: usize = 12;
/// Inputs that are listed: files of one folder and kind are one.
const LISTED: usize = 64;

/// What was read.
pub(super) fn begin(plan: &Plan, units: &[Facts]) -> Summary {
    let mut counts: Vec<InputCount> = plan
        .inputs
        .iter()
        .map(|input| InputCount {
            name: input.name.clone(),
            kind: input.kind.name().to_owned(),
            ..InputCount::default()
        })
        .collect();
    let mut summary = Summary {
        not_sampled: plan.admission.left_out,
        unrecognised: plan.unrecognised,
        passed_over: plan.passed_over.clone(),
        named: plan.names.clone(),
        recipe: plan.recipe.clone(),
        ..Summary::default()
    };
    for unit in units {
        summary.page_bytes += unit.bytes;
        summary.pages += unit.pages;
        summary.score_files.joined += unit.joined;
        let count = &mut counts[unit.input];
        count.pages += unit.pages;
        add(&mut count.skipped, &unit.skipped);
        count.damaged += unit.damaged;
        let room = 8usize.saturating_sub(summary.damage.len());
        summary.damage.extend(unit.damage.iter().take(room).cloned());
    }
    summary.inputs = by_kind(&counts);
    summary
}

fn by_kind(counts: &[InputCount]) -> Vec<InputCount> {
    let mut kinds: BTreeMap<(String, String), InputCount> = BTreeMap::new();
    for count in counts {
        let kind = kinds.entry((count.name.clone(), count.kind.clone())).or_default();
        (kind.name, kind.kind) = (count.name.clone(), count.kind.clone());
        kind.pages += count.pages;
        kind.damaged += count.damaged;
        for (reason, n) in &count.skipped {
            *kind.skipped.entry(reason.clone()).or_default() += n;
        }
    }
    let mut kinds: Vec<InputCount> = kinds.into_values().collect();
    kinds.sort_by_key(|k| std::cmp::Reverse(k.pages));
    kinds.truncate(LISTED);
    kinds
}

/// What became of it.
pub(super) fn finish(summary: &mut Summary, files: &[Output], alarm: f64) {
    let mut steps: BTreeMap<(usize, String), Step> = BTreeMap::new();
    for file in files {
        summary.kept += file.kept;
        summary.kept_bytes += file.kept_bytes;
        summary.kept_words += file.kept_words;
        let room = EXCERPTS.saturating_sub(summary.line_samples.len());
        summary.line_samples.extend(file.line_samples.iter().take(room).cloned());
        summary.figures.merge(&file.figures);
        add(&mut summary.lines, &file.lines);
        add(&mut summary.languages, &file.languages);
        add(&mut summary.routes, &file.routes);
        add(&mut summary.unscored, &file.unscored);
        summary.samples.extend(file.samples.iter().cloned());
        for (name, source) in &file.sources {
            let sum = summary.sources.entry(name.clone()).or_default();
            sum.documents += source.documents;
            sum.removed += source.removed;
        }
        for step in &file.steps {
            let order = STAGES.iter().position(|s| *s == step.stage).unwrap_or(STAGES.len());
            let sum = steps.entry((order, step.rule.clone())).or_default();
            (sum.stage, sum.rule) = (step.stage.clone(), step.rule.clone());
            sum.documents += step.documents;
            sum.samples.extend(step.samples.iter().cloned());
            sum.samples.sort_by(|a, b| a.id.cmp(&b.id));
            sum.samples.truncate(EXCERPTS);
        }
    }
    summary.figures.finish();
    let alarming = |source: &Source| source.removed as f64 > alarm * source.documents as f64;
    let alarms = summary.sources.iter().filter(|(_, source)| alarming(source));
    summary.alarms = alarms.map(|(name, _)| name.clone()).collect();
    summary.steps = steps.into_values().collect();
    let order = |step: &Step| STAGES.iter().position(|s| *s == step.stage);
    summary.steps.sort_by_key(|s| (order(s), std::cmp::Reverse(s.documents), s.rule.clone()));
    summary.samples.sort_by(|a, b| a.id.cmp(&b.id));
    summary.samples.truncate(KEPT_SAMPLES);
}

fn add(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    more.iter().for_each(|(key, n)| *sum.entry(key.clone()).or_default() += n);
}

/// Why there are no pages.
pub(super) fn why_empty(summary: &Summary) -> String {
    let mut skipped: BTreeMap<String, u64> = BTreeMap::new();
    summary.inputs.iter().for_each(|input| add(&mut skipped, &input.skipped));
    let mut parts: Vec<String> =
        skipped.iter().take(6).map(|(kind, n)| format!("{} {kind}", thousands(*n))).collect();
    parts.extend(damaged(summary));
    if parts.is_empty() { "nothing in them".into() } else { parts.join(", ") }
}

/// Removals, largest first; what could not be read was no page, and stands beside them.
pub(super) fn reasons(summary: &Summary) -> String {
    let mut steps: Vec<&Step> = summary.steps.iter().filter(|s| s.rule != DAMAGED).collect();
    steps.sort_by_key(|s| std::cmp::Reverse(s.documents));
    let parts: Vec<String> =
        steps.iter().map(|s| format!("{} {}", s.rule, thousands(s.documents))).collect();
    let mut said = parts.join(" · ");
    if let Some(damaged) = damaged(summary) {
        said += &format!("; beside them {damaged}");
    }
    said
}

/// How many records could not be read, if any, and where the first is.
fn damaged(summary: &Summary) -> Option<String> {
    let count: u64 = summary.inputs.iter().map(|input| input.damaged).sum();
    let first = summary.damage.first()?;
    Some(format!("{} damaged, the first at {first}", thousands(count)))
}
