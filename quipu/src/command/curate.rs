//! `quipu curate`: pages to documents without a run around them, alone or with other processes; and
//! what can be asked of the result. Not the curation itself (`corpus`), nor a run's stage of it.

use super::{Setting, cluster, speedrun};
use crate::cli::{About, Begun, Curate, Global, LATE_AFTER, Trained};
use crate::command::doctor;
use crate::error::Error;
use crate::recipe;
use crate::report;
use crate::stage::report::{program, quoted};
use crate::terminal::{Terminal, thousands, visible};
use quipu_corpus::remote::is_remote;
use quipu_corpus::{DAMAGED, Engine, Estimate, Made, Options, Part, Recipe, Summary};
use quipu_store::manifest::Manifest;
use quipu_store::progress::{bytes, duration};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A recipe of curation: what `recipes/curate.toml` holds.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Curation {
    /// what is read
    input: Vec<PathBuf>,
    /// the folder that is written
    out: Option<PathBuf>,
    /// how it is curated
    corpus: Recipe,
}

/// Runs the command.
pub fn run(global: &Global, told: Curate, setting: &Setting) -> Result<(), Error> {
    if let Some(About::Explain { folder, document }) = &told.about {
        no_other(global, &told, "explain", true)?;
        return explain(folder, document, setting);
    }
    if let Some(About::Service(service)) = &told.about {
        no_other(global, &told, "a service of a cluster", true)?;
        return cluster::run(service, &setting.terminal);
    }
    let options = options(&told);
    if let Some(folder) = &told.join {
        no_other(global, &told, "--join", true)?;
        return join(folder, &options, setting);
    }
    if let Some(predicate) = &told.predicate {
        no_other(global, &told, "--where", true)?;
        return choose(&told, predicate, &setting.terminal);
    }
    if told.out.is_none() && told.curation.is_none() {
        if told.workers.is_some() || told.memory.is_some() || told.scratch.is_some() {
            return Err(Error::usage(
                "--workers, --memory and --scratch go with --out FOLDER, a recipe of curation or --join; \
                 a run uses all cores",
            ));
        }
        if !told.input.input.is_empty() {
            setting.terminal.comment(
                "without --out FOLDER this is the first part of a run, in its --run-dir; with it, documents \
                 are curated by themselves",
            );
        }
        let told = Trained {
            input: told.input,
            metrics: None,
            allow_cap: false,
            begun: Begun::default(),
            mesh: None,
            check: false,
            late_after: LATE_AFTER,
        };
        return speedrun::up_to(global, told, "corpus", setting);
    }
    no_other(global, &told, "--out or a recipe of curation", false)?;
    let (inputs, out, recipe) = resolve(global, told)?;
    outside(&inputs, &out)?;
    if global.dry_run {
        return dry_run(&inputs, &recipe, &out, &options, setting);
    }
    check_out(&inputs, &recipe, &out)?;
    whole(&inputs, &recipe, &out, &options, setting)
}

fn options(told: &Curate) -> Options {
    let default = Options::default();
    Options {
        workers: told.workers.unwrap_or(default.workers),
        memory: told.memory.unwrap_or(default.memory),
        engine: match told.cluster.as_deref() {
            None => Engine::Embedded,
            Some("local") => Engine::Local,
            Some("standalone") => Engine::Standalone,
            Some(address) => Engine::Cluster(address.to_owned()),
        },
        scratch: told.scratch.clone(),
        ..default
    }
}

/// Flags that mean nothing here are refused, not passed over.
fn no_other(global: &Global, told: &Curate, what: &str, bare: bool) -> Result<(), Error> {
    let wrong = [
        (global.run_dir.is_some(), "--run-dir", "name the folder as --out"),
        (
            global.recipe.is_some(),
            "--recipe",
            "that is a whole run's; name a recipe of curation alone, as in \
             `quipu curate recipes/curate.toml`",
        ),
        (global.seed.is_some(), "--seed", "curation draws nothing"),
        (told.input.dialogues.is_some(), "--dialogues", "they are for tuning a model"),
        (bare && !global.set.is_empty(), "--set", "the recipe stands with what is there"),
        (bare && global.dry_run, "--dry-run", "it goes with inputs"),
    ];
    match wrong.into_iter().find(|(there, ..)| *there) {
        Some((_, flag, reason)) => {
            Err(Error::usage(format!("{flag} does not go with {what}: {reason}")))
        }
        None => Ok(()),
    }
}

/// What is asked for: the recipe's file, if there is one, and the flags over it.
fn resolve(global: &Global, told: Curate) -> Result<(Vec<PathBuf>, PathBuf, Recipe), Error> {
    let (name, text) = match &told.curation {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| {
                let path = path.display();
                Error::data(format!(
                    "cannot read the recipe of curation {path}: {e}; what is to be curated goes with \
                     --input"
                ))
            })?;
            (path.to_string_lossy().into_owned(), text)
        }
        None => ("curation".to_owned(), String::new()),
    };
    let (mut asked, name, text) = recipe::read::<Curation>(&name, &text, &global.set)?;
    if !told.only.is_empty() {
        asked.corpus.only = parts(&told.only)?;
    }
    asked.corpus.pipe = told.pipe.or(asked.corpus.pipe);
    asked.corpus.validate().map_err(|e| {
        let (key, message) = recipe::keyed("corpus", &e.to_string());
        recipe::refusal(&name, &text, &key, message)
    })?;
    if !told.input.input.is_empty() {
        asked.input = told.input.input;
    }
    asked.corpus.sample = told.input.sample.or(asked.corpus.sample);
    let file = told.curation.is_some();
    let or = |key: &str| if file { format!(", or `{key} = …` in {name}") } else { String::new() };
    if asked.input.is_empty() {
        return Err(Error::usage(format!("nothing to curate: give --input PATH…{}", or("input"))));
    }
    let Some(out) = told.out.or(asked.out) else {
        return Err(Error::usage(format!("no folder to write: give --out FOLDER{}", or("out"))));
    };
    speedrun::check(&asked.input, None)?;
    Ok((asked.input, out, asked.corpus))
}

/// The parts of `--only` by their names in recipes.
fn parts(names: &[String]) -> Result<Vec<Part>, Error> {
    let parse = |name: &String| {
        let value = toml::Value::String(name.trim().to_owned());
        value.try_into::<Part>().map_err(|_| {
            let known = "addresses, rules, languages, dedup, decontaminate";
            Error::usage(format!("--only {name}: not a part of curation; expected some of {known}"))
        })
    };
    names.iter().map(parse).collect()
}

/// `--where`: documents of one folder, by an SQL predicate.
#[cfg(feature = "cluster")]
fn choose(told: &Curate, predicate: &str, terminal: &Terminal) -> Result<(), Error> {
    let ([documents], Some(out)) = (told.input.input.as_slice(), &told.out) else {
        return Err(Error::usage(
            "--where goes with one --input, a folder of documents, and --out FOLDER",
        ));
    };
    if is_remote(out) {
        return Err(Error::usage("--where writes a folder of this machine"));
    }
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        let out = out.display();
        return Err(Error::usage(format!("--out {out} is not empty; name a new folder")));
    }
    let selected = quipu_corpus::cluster::select(documents, predicate, out)?;
    let (kept, all) = (thousands(selected.kept), thousands(selected.documents));
    terminal.say(&format!("{kept} of {all} documents in {}", out.display()));
    terminal.result(&json!({"documents": selected.documents, "kept": selected.kept}));
    Ok(())
}

/// Says what is missing.
#[cfg(not(feature = "cluster"))]
fn choose(_: &Curate, _: &str, _: &Terminal) -> Result<(), Error> {
    Err(quipu_corpus::Error::NoCluster.into())
}

/// Results are not written into an input, whose part they would be from then on.
pub fn outside(inputs: &[PathBuf], out: &Path) -> Result<(), Error> {
    let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_owned());
    let there = absolute.ancestors().find_map(|path| path.canonicalize().ok());
    let within = |input: &&PathBuf| {
        let folder = input.canonicalize().ok().filter(|path| path.is_dir());
        folder.zip(there.as_ref()).is_some_and(|(folder, there)| there.starts_with(folder))
    };
    match inputs.iter().find(within) {
        Some(input) => {
            let (input, out) = (input.display(), out.display());
            Err(Error::usage(format!(
                "{out} lies within the input {input}, which would then hold its own results; name a \
                 folder outside of it"
            )))
        }
        None => Ok(()),
    }
}

/// A folder with other things in it is not written into, nor are finished documents replaced. Of a
/// place elsewhere the run itself finds out.
fn check_out(inputs: &[PathBuf], recipe: &Recipe, out: &Path) -> Result<(), Error> {
    if is_remote(out) {
        return Ok(());
    }
    let shown = out.display();
    if out.exists() && !out.is_dir() {
        return Err(Error::usage(format!("--out {shown} is not a folder")));
    }
    if Manifest::exists(out) {
        let other = |what: String| {
            Error::usage(format!("--out {shown} holds {what}; name another, or delete it"))
        };
        let summary = quipu_corpus::read_summary(out);
        let summary = summary.map_err(|e| {
            other(format!("what curation, as this program has it, did not write ({e})"))
        })?;
        return match differs(inputs, recipe, &summary.named, &summary.recipe) {
            Some(what) => Err(other(format!("other documents: {what}"))),
            None => Ok(()),
        };
    }
    // Another command of the user's goes on with all that comes before it.
    if let Some((then, named)) = quipu_corpus::begun(out)
        && let Some(what) =
            differs(inputs, recipe, &named, &Recipe { pipe: recipe.pipe.clone(), ..then })
    {
        return Err(Error::usage(format!(
            "--out {shown} holds an unfinished run that is not this one: {what}; finish that one, name \
             another folder, or delete it"
        )));
    }
    let names = std::fs::read_dir(out).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let begun = quipu_corpus::is_begun(out);
    match names.find(|name| !name.starts_with('.')) {
        Some(name) if !begun => Err(Error::usage(format!(
            "--out {shown} holds {name} and is no folder of curation; name an empty or a new one"
        ))),
        _ => Ok(()),
    }
}

/// In what a run differs from one that was begun or finished before.
fn differs(inputs: &[PathBuf], recipe: &Recipe, named: &str, then: &Recipe) -> Option<String> {
    if let Some((key, now, then)) = difference(recipe, then) {
        return Some(format!("corpus.{key} was {then} and is {now} now"));
    }
    let names: Vec<String> = inputs.iter().map(|p| p.display().to_string()).collect();
    (named != names.join(", ")).then(|| format!("its inputs were {named}"))
}

/// The first key in which two recipes differ, with both values.
fn difference(now: &Recipe, then: &Recipe) -> Option<(String, String, String)> {
    let table = |recipe: &Recipe| toml::Table::try_from(recipe).unwrap_or_default();
    let mut found = Vec::new();
    recipe::differences("", &table(now), &table(then), &mut found);
    found.into_iter().next()
}

fn spoken(options: &Options) -> String {
    let workers = if options.workers == 1 { "worker" } else { "workers" };
    let mib = thousands(options.memory >> 20);
    format!("{} {workers} and {mib} MiB for the shuffles", options.workers)
}

/// Curates, and says how it went.
fn whole(
    inputs: &[PathBuf],
    recipe: &Recipe,
    out: &Path,
    options: &Options,
    setting: &Setting,
) -> Result<(), Error> {
    let terminal = &setting.terminal;
    let before = Manifest::exists(out);
    if !before {
        terminal.comment(&format!("curates into {} with {}", out.display(), spoken(options)));
    }
    let start = Instant::now();
    let summary =
        quipu_corpus::run(inputs, recipe, out, options, &*setting.progress, &setting.cancel);
    setting.progress.finish("");
    let summary = summary.map_err(|error| match error {
        quipu_corpus::Error::Store(quipu_store::Error::Locked { holder, .. }) => {
            let out = out.display();
            Error::new(
                crate::error::Kind::Resource,
                format!(
                    "process {holder} curates into {out}; work along on it with `quipu curate \
                     --join {out}`, wait for it, or name another folder"
                ),
            )
        }
        other => other.into(),
    })?;
    if before && summary.made != Made::Before {
        terminal.comment(
            "(what was here before was made of other inputs, or was not whole: curated anew)",
        );
    }
    close(out, &summary, start, options, setting)
}

/// Works along on what another process began.
fn join(folder: &Path, options: &Options, setting: &Setting) -> Result<(), Error> {
    let terminal = &setting.terminal;
    terminal.comment(&format!("works along on {} with {}", folder.display(), spoken(options)));
    let start = Instant::now();
    let summary = quipu_corpus::join(folder, options, &*setting.progress, &setting.cancel);
    setting.progress.finish("");
    close(folder, &summary?, start, options, setting)
}

/// Writes the report and says the result, where it lies, and what to do next.
fn close(
    out: &Path,
    summary: &Summary,
    start: Instant,
    options: &Options,
    setting: &Setting,
) -> Result<(), Error> {
    let terminal = &setting.terminal;
    let report = json!({
        "format": "quipu.curation",
        "version": 1,
        "program": env!("CARGO_PKG_VERSION"),
        "corpus": summary,
        "next": next(out, summary),
    });
    let text = format!("{report:#}\n");
    let page = report::curated(&report);
    quipu_corpus::put(out, "report.json", text.as_bytes(), options)?;
    quipu_corpus::put(out, "report.html", page.as_bytes(), options)?;
    terminal.say(&summary.line());
    let seconds = start.elapsed().as_secs_f64();
    terminal.comment(&match summary.made {
        Made::Whole => rates(summary, seconds),
        Made::Partly => {
            format!("in {}; a part of it was done before or by others", duration(seconds))
        }
        Made::Before => "(done before)".to_owned(),
    });
    for (name, _) in summary.unscored.iter().filter(|(_, count)| **count == summary.kept) {
        terminal.comment(&format!(
            "no document that was kept has the score `{name}`, by which corpus.least removes: is that its name \
             in score files, classifiers or inputs, and do their ids agree?"
        ));
    }
    if let Some(first) = summary.passed_over.first() {
        terminal.comment(&format!("passed over, among others: {first}"));
    }
    terminal.say(&format!("report  {}", out.join("report.html").display()));
    for (n, line) in report["next"].as_array().into_iter().flatten().enumerate() {
        let label = if n == 0 { "next" } else { "" };
        let (command, why) = (&line["command"], &line["why"]);
        let said = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        terminal.comment(&format!("{label:7} {}   # {}", said(command), said(why)));
    }
    let mut report = report;
    report["bytes_written"] = json!(quipu_store::fault::bytes_written());
    terminal.result(&report);
    Ok(())
}

fn rates(summary: &Summary, seconds: f64) -> String {
    let a_second = |n: u64| n as f64 / seconds.max(1e-9);
    let (pages, read) = (a_second(summary.pages) as u64, a_second(summary.page_bytes));
    format!("in {}: {} pages/s, {}/s of pages", duration(seconds), thousands(pages), bytes(read))
}

/// Three things to do with curated documents.
fn next(out: &Path, summary: &Summary) -> Value {
    let told = |all: [(String, &str); 3]| -> Value {
        all.map(|(command, why)| json!({"command": command, "why": why})).into()
    };
    let program = program();
    // What begins like a flag is none.
    let here = if out.as_os_str().as_encoded_bytes().starts_with(b"-") { "./" } else { "" };
    let out = PathBuf::from(format!("{here}{}", out.display()));
    let out = out.as_path();
    let folder = quoted(&out.to_string_lossy());
    let files = format!("{}/documents-*.parquet", out.display());
    let plain = !files.contains(['\'', '"', '$', '`', '\\', '!']);
    let query = match plain {
        true => format!("\"select url, text from '{files}'\""),
        false => quoted(&format!("select url, text from '{}'", files.replace('\'', "''"))),
    };
    let query = (format!("duckdb -c {query}"), "any Parquet reader opens the documents");
    if is_remote(out) {
        return told([
            (format!("aws s3 cp --recursive {folder} documents"), "all of it, here"),
            (format!("{program} curate explain documents URL"), "the fate of one document, then"),
            query,
        ]);
    }
    let pages = summary.steps.iter().filter(|step| step.rule != DAMAGED);
    let removed = pages.flat_map(|step| &step.samples);
    let asked = removed.chain(&summary.samples).next().map(|sample| match sample.url.as_str() {
        "" => sample.id.clone(),
        url => quoted(url),
    });
    let asked = asked.unwrap_or_default();
    told([
        (format!("{program} curate explain {folder} {asked}"), "the fate of one document"),
        (format!("{program} speedrun --input {folder} --run-dir runs/curated-model"), "a model"),
        query,
    ])
}

fn explain(folder: &Path, document: &str, setting: &Setting) -> Result<(), Error> {
    let terminal = &setting.terminal;
    if is_remote(folder) {
        let folder = folder.display();
        return Err(Error::usage(format!(
            "explain reads a folder of this machine: copy the documents first, as in \
             `aws s3 cp --recursive {folder} documents`"
        )));
    }
    // A run keeps its documents in a folder of its own.
    let inner = folder.join("corpus");
    let of_run = crate::run_folder::RunFolder::exists(folder) && inner.is_dir();
    let found = quipu_corpus::explain(if of_run { &inner } else { folder }, document)?;
    if found.visits.is_empty() {
        return Err(Error::data(found.to_string().trim_end().to_owned()));
    }
    terminal.say(visible(found.to_string().trim()).as_ref());
    terminal.result(&json!(found));
    Ok(())
}

/// What would be done and what it would take; nothing is written.
fn dry_run(
    inputs: &[PathBuf],
    recipe: &Recipe,
    out: &Path,
    options: &Options,
    setting: &Setting,
) -> Result<(), Error> {
    let terminal = &setting.terminal;
    let found = quipu_corpus::estimate(inputs, recipe, options, &setting.cancel)?;
    let state = match check_out(inputs, recipe, out) {
        Err(refused) => format!("would be refused ({refused})"),
        Ok(()) if Manifest::exists(out) => {
            "finished already, if its inputs are as they were".into()
        }
        Ok(()) if quipu_corpus::begun(out).is_some() => {
            "begun, would be gone on with if its inputs are as they were".into()
        }
        Ok(()) => "to be written".to_owned(),
    };
    terminal.say(&format!("{}: {state}, with {}", out.display(), spoken(options)));
    for seen in &found.look.inputs {
        terminal.say(seen.to_string().trim_end());
    }
    if let Some(part) = found.look.part {
        terminal.say(&part.to_string());
    }
    let more = if found.look.more { "at least " } else { "" };
    let (units, pages) = (thousands(found.units as u64), thousands(found.look.pages));
    terminal.say(&format!("{units} units of work, {more}{pages} pages"));
    terminal.say("rules, in the order in which they act:");
    for (name, reason, limit) in &found.rules {
        terminal.say(&format!("  {name:23} {reason}"));
        terminal.say(&format!("  {:23} goes: {limit}", ""));
    }
    thresholds(recipe).iter().for_each(|line| terminal.say(&format!("  {line}")));
    terminal.say(&curve(&found, recipe));
    let here = match is_remote(out) {
        true => options.scratch.clone().unwrap_or_else(std::env::temp_dir),
        false => out.to_owned(),
    };
    let room = doctor::room(here.ancestors().find(|p| p.exists()).unwrap_or(Path::new(".")));
    let room =
        room.map_or(String::new(), |room| format!(" (there is room for {})", bytes(room as f64)));
    terminal.say(&format!(
        "about {}, {} MiB of memory, {} of work files and {} of output{room}",
        duration(found.seconds),
        thousands(found.memory >> 20),
        bytes(found.work as f64),
        bytes(found.output as f64),
    ));
    terminal.result(&json!({"out": out, "inputs": inputs, "recipe": recipe, "estimate": found}));
    Ok(())
}

/// What the recipe decides of the levels and rules.
fn thresholds(recipe: &Recipe) -> Vec<String> {
    let mut lines = match recipe.asks(quipu_corpus::rules::TOO_SHORT) {
        true => vec![format!("{:20} fewest words {}", "min_words", recipe.min_words)],
        false => Vec::new(),
    };
    lines.extend([
        format!("{:20} most bytes of text {}", "max_bytes", thousands(recipe.max_bytes as u64)),
        format!(
            "{:20} a line goes that more than {} documents of a bucket of {} contain",
            "line_limit",
            recipe.line_limit,
            thousands(recipe.bucket)
        ),
    ]);
    for (name, least) in &recipe.least {
        lines.push(format!("{:20} a document goes whose score `{name}` is below {least}", "least"));
    }
    for file in &recipe.scores {
        lines.push(format!("{:20} score file {}", "scores", file.display()));
    }
    if !recipe.without.is_empty() {
        lines.push(format!("{:20} {}", "switched off", recipe.without.join(", ")));
    }
    lines
}

/// With what probability near copies are found, by their similarity.
fn curve(found: &Estimate, recipe: &Recipe) -> String {
    let near = recipe.near;
    let shown = found.curve.iter().filter(|(similarity, _)| *similarity > 0.45);
    let points: Vec<String> = shown.map(|(s, p)| format!("{s:.2} → {:.1} %", 100.0 * p)).collect();
    format!(
        "near copies, {} bands of {} values: one of two goes from similarity {}; a pair is found\n  {}",
        near.bands,
        near.rows,
        near.threshold,
        points.join(" · ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_in_the_repository_stands() {
        let text = include_str!("../../../recipes/curate.toml");
        let (found, ..) = recipe::read::<Curation>("curate.toml", text, &[]).unwrap();
        assert_eq!(found.corpus, Recipe::default(), "it spells out the defaults");
        assert!(found.out.is_some() && !found.input.is_empty());
    }

    #[test]
    fn a_folder_of_other_things_is_not_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let check = |expected: &str| {
            let found = check_out(&["x".into()], &Recipe::default(), dir.path());
            let said = found.err().map_or(String::new(), |e| e.to_string());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{said}");
        };
        check("");
        std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        check("holds thesis.tex");
        std::fs::create_dir(dir.path().join("work")).unwrap();
        check("");
        std::fs::write(dir.path().join("work/chapter.tex"), "x").unwrap();
        check("holds ");
        std::fs::write(dir.path().join("manifest.json"), "{}").unwrap();
        check("did not write");
        let older = Manifest::new(quipu_documents::FORMAT, quipu_documents::OLDEST);
        older.write(dir.path()).unwrap();
        check("quipu.documents version 1 but this program reads quipu.documents version 2");
        let off = Recipe { min_words: 9, ..Recipe::default() };
        let (key, now, then) = difference(&off, &Recipe::default()).unwrap();
        assert_eq!((key.as_str(), now.as_str(), then.as_str()), ("min_words", "9", "25"));
    }
}
