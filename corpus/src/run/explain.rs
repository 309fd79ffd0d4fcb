//! The fate of one document, rule by rule, from what stands in a folder of curated documents.
//!
//! It is found by identity or by URL; of a URL every visit is told. Identities and URLs are read
//! file by file, everything else only of what was found. Where a run has not finished, what its
//! work files say is told. Nothing is computed anew: what a stage did not write down is not known.
//! Not here: how it is shown ([`super::told`]).

use super::plan::Plan;
use super::rows::{self, ROWS};
use super::{SUMMARY, WORK, extract, funnel, summary_of};
use crate::dedup::{lines, url};
use crate::page::{self, EXCERPT};
use crate::recipe::Part;
use crate::rules::{self, DirtyWords, Judge, Rule, TOO_SHORT, divergence};
use crate::summary::EXCERPT_BYTES;
use crate::{Error, Recipe};
use quipu_documents::{
    Document, FORMAT, Fate, FileKind, Id, Route, VERSION, find_documents, find_fates, format_date,
};
use quipu_store::manifest::Manifest;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Documents that are named where none was found.
const NEAREST: usize = 5;
/// Copies that are listed of one document.
const COPIES: usize = 20;

/// The last stage of documents that an SQL predicate chose: its name, that of its rule, and that of
/// the predicate among the facts of a manifest.
pub(crate) const WHERE: &str = "where";
/// Among those facts, the summary of the run from which they were chosen.
pub(crate) const CHOSEN_FROM: &str = "chosen_from";

/// What became of the documents that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Explained {
    /// What was asked for.
    pub query: String,
    /// Where a run has not finished: how far it is.
    pub unfinished: Option<String>,
    /// Each document of that identity or URL.
    pub visits: Vec<Visit>,
    /// Where there is none: the identities and URLs that come nearest.
    pub nearest: Vec<(String, String)>,
}

/// One document.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Visit {
    /// Identity.
    pub id: String,
    /// Canonical URL, or where it stands in its input.
    pub url: String,
    /// Whether it is among the documents; unknown while a run has not finished.
    pub kept: Option<bool>,
    /// Its stages, in the order in which they act.
    pub stages: Vec<Stage>,
    /// Lines that were removed from it: number from 0, and text.
    pub lines: Vec<(i32, String)>,
    /// What is stored of a document: title, source, language and further, by name.
    pub facts: Vec<(String, String)>,
    /// Near copies of it that were removed, and other visits: URL or identity, and similarity.
    pub instead_of: Vec<(String, f64)>,
    /// The beginning of its text.
    pub text: String,
}

/// What one stage did with a document.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What it came to.
    pub verdict: Verdict,
    /// Why, with what was measured and the threshold.
    pub why: String,
    /// The rules of the stage, in the order in which they act, each with what it asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<(String, Verdict, String)>,
}

/// What a stage came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The document went on.
    #[default]
    Passed,
    /// It went on without some of its lines.
    Changed,
    /// It was removed.
    Removed,
    /// It was gone before.
    NotReached,
    /// The run has not come so far.
    NotDecided,
    /// The recipe does not ask for it.
    NotAsked,
}

/// The fate of the documents of this identity or URL in the folder `out`, which [`super::run`]
/// wrote or is writing, or `cluster::select` from such a one.
///
/// # Errors
/// A folder in which there is neither; files that cannot be read.
pub fn explain(out: &Path, query: &str) -> Result<Explained, Error> {
    let asked = Asked::of(query);
    if Manifest::exists(out) {
        let manifest = Manifest::read(out, FORMAT, VERSION)?;
        let predicate = manifest.facts[WHERE].as_str();
        let key = predicate.map_or(SUMMARY, |_| CHOSEN_FROM);
        let recipe = &summary_of(&manifest, key, out)?.recipe;
        return Finished { out, recipe, predicate, asked }.explain();
    }
    unfinished(out, &Plan::read(&out.join(WORK))?, asked)
}

/// What is looked for.
struct Asked {
    query: String,
    id: Option<String>,
    urls: [String; 2],
    words: HashSet<String>,
}

/// The words of a URL or identity by which a mistyped one is found.
fn words(text: &str) -> HashSet<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).filter(|part| part != "https" && part != "http").collect()
}

impl Asked {
    fn of(query: &str) -> Asked {
        let query = query.trim().to_owned();
        let hexadecimal = query.len() == 32 && query.bytes().all(|b| b.is_ascii_hexdigit());
        let canonical = url::canonical(&query);
        // Who leaves out the scheme means the page all the same.
        let with_scheme = url::canonical(&format!("https://{query}"));
        let id = hexadecimal.then(|| query.to_lowercase());
        Asked { words: words(&canonical), id, urls: [canonical, with_scheme], query }
    }

    fn is(&self, id: &str, url: &str) -> bool {
        self.id.as_deref() == Some(id) || (!url.is_empty() && self.urls.iter().any(|u| u == url))
    }

    /// How near an identity and a URL come, from 0.
    fn nearness(&self, id: &str, url: &str) -> f64 {
        if self.query.len() >= 4 && id.starts_with(&self.query.to_lowercase()) {
            return 2.0;
        }
        let own = words(url);
        let both = own.intersection(&self.words).count();
        both as f64 / (own.len() + self.words.len() - both).max(1) as f64
    }
}

/// The nearest that was seen.
#[derive(Default)]
struct Nearest(Vec<(f64, String, String)>);

impl Nearest {
    fn offer(&mut self, nearness: f64, id: &str, url: &str) {
        let full = self.0.len() >= NEAREST;
        if nearness <= 0.2 || (full && self.0.last().is_some_and(|last| last.0 >= nearness)) {
            return;
        }
        if self.0.iter().any(|(_, other, _)| other == id) {
            return;
        }
        self.0.push((nearness, id.to_owned(), url.to_owned()));
        self.0.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2.cmp(&b.2)));
        self.0.truncate(NEAREST);
    }

    fn named(self) -> Vec<(String, String)> {
        self.0.into_iter().map(|(_, id, url)| (id, url)).collect()
    }
}

/// What is known of another document that one was compared with.
#[derive(Clone, Debug, Default)]
struct Other {
    url: String,
    date: Option<i64>,
    removed: Option<(String, String)>,
}

/// The identity in `kept 0f…`.
fn kept_instead(fate: &Fate) -> Option<&str> {
    let id = fate.detail.strip_prefix("kept ")?;
    id.get(..32)
}

/// A folder whose run has finished.
struct Finished<'a> {
    out: &'a Path,
    recipe: &'a Recipe,
    /// by which they were chosen, if they were
    predicate: Option<&'a str>,
    asked: Asked,
}

impl Finished<'_> {
    fn files(&self, kind: FileKind) -> Result<Vec<PathBuf>, Error> {
        let manifest = Manifest::read(self.out, FORMAT, VERSION)?;
        let names = manifest.files.iter().map(|file| &file.name);
        Ok(names.filter(|name| kind.names(name)).map(|name| self.out.join(name)).collect())
    }

    fn explain(self) -> Result<Explained, Error> {
        let mut nearest = Nearest::default();
        let mut found: BTreeMap<Id, (Option<Document>, Vec<Fate>)> = BTreeMap::new();
        for path in self.files(FileKind::Documents)? {
            let wanted = |id: &str, url: &str| {
                nearest.offer(self.asked.nearness(id, url), id, url);
                self.asked.is(id, url)
            };
            for document in find_documents(&path, wanted)? {
                let id = document.id;
                found.entry(id).or_default().0 = Some(document);
            }
        }
        for path in self.files(FileKind::Fates)? {
            let wanted = |id: &str, url: &str, _: &str| {
                nearest.offer(self.asked.nearness(id, url), id, url);
                self.asked.is(id, url)
            };
            for fate in find_fates(&path, wanted)? {
                found.entry(fate.id).or_default().1.push(fate);
            }
        }
        let others = self.others(&found)?;
        let instead = self.instead_of(&found)?;
        let mut explained = Explained { query: self.asked.query.clone(), ..Explained::default() };
        for (id, (document, fates)) in found {
            let mut visit = self.visit(id, document, fates, &others);
            visit.instead_of = instead.get(&id).cloned().unwrap_or_default();
            explained.visits.push(visit);
        }
        if explained.visits.is_empty() {
            explained.nearest = nearest.named();
        }
        Ok(explained)
    }

    /// The copies that were kept instead of those found.
    fn others(
        &self,
        found: &BTreeMap<Id, (Option<Document>, Vec<Fate>)>,
    ) -> Result<HashMap<String, Other>, Error> {
        let fates = found.values().flat_map(|(_, fates)| fates);
        let ids: HashSet<String> = fates.filter_map(kept_instead).map(str::to_owned).collect();
        let mut others: HashMap<String, Other> = HashMap::new();
        if ids.is_empty() {
            return Ok(others);
        }
        for path in self.files(FileKind::Documents)? {
            for document in find_documents(&path, |id, _| ids.contains(id))? {
                let other = others.entry(document.id.to_string()).or_default();
                (other.url, other.date) = (document.url, document.date);
            }
        }
        for path in self.files(FileKind::Fates)? {
            for fate in find_fates(&path, |id, _, _| ids.contains(id))? {
                let other = others.entry(fate.id.to_string()).or_default();
                other.url = fate.url;
                if fate.line.is_none() {
                    other.removed = Some((fate.stage, fate.rule));
                }
            }
        }
        Ok(others)
    }

    /// The documents that were removed in favour of those found.
    fn instead_of(
        &self,
        found: &BTreeMap<Id, (Option<Document>, Vec<Fate>)>,
    ) -> Result<HashMap<Id, Vec<(String, f64)>>, Error> {
        let kept: HashSet<String> = found.keys().map(|id| format!("kept {id}")).collect();
        let mut all: HashMap<Id, Vec<(String, f64)>> = HashMap::new();
        if kept.is_empty() {
            return Ok(all);
        }
        for path in self.files(FileKind::Fates)? {
            let wanted = |_: &str, _: &str, detail: &str| {
                detail.get(..37).is_some_and(|start| kept.contains(start))
            };
            for fate in find_fates(&path, wanted)? {
                let Some(id) = kept_instead(&fate) else { continue };
                let list = all.entry(Id::parse(id)).or_default();
                if list.len() < COPIES {
                    let name = if fate.url.is_empty() { fate.id.to_string() } else { fate.url };
                    let visit = if fate.stage == "url" { " (another visit)" } else { "" };
                    list.push((name + visit, fate.value));
                }
            }
        }
        Ok(all)
    }

    fn visit(
        &self,
        id: Id,
        document: Option<Document>,
        fates: Vec<Fate>,
        others: &HashMap<String, Other>,
    ) -> Visit {
        let (lines, whole): (Vec<Fate>, Vec<Fate>) =
            fates.into_iter().partition(|fate| fate.line.is_some());
        let removed = whole.first();
        let url = document.as_ref().map(|d| &d.url).or(removed.map(|fate| &fate.url));
        let mut visit = Visit {
            id: id.to_string(),
            url: url.cloned().unwrap_or_default(),
            kept: Some(document.is_some()),
            ..Visit::default()
        };
        visit.stages = self.stages(document.as_ref(), removed, &lines, others);
        visit.lines = lines.into_iter().map(|f| (f.line.unwrap_or(0), f.detail)).collect();
        visit.lines.sort();
        match document {
            Some(document) => {
                visit.facts = facts(&document);
                visit.text = page::excerpt(&document.text, EXCERPT_BYTES);
            }
            None => {
                let judged = |fate: &&Fate| {
                    let text = fate.stage == "rules" && fate.rule != rules::LOW_SCORE;
                    text || fate.stage == "words"
                };
                let detail = removed.filter(judged).map(|f| &f.detail);
                visit.text = detail.map_or(String::new(), |text| page::excerpt(text, EXCERPT));
            }
        }
        visit
    }

    /// What each stage did with a document, of which so many lines went.
    fn stages(
        &self,
        document: Option<&Document>,
        removed: Option<&Fate>,
        lines: &[Fate],
        others: &HashMap<String, Other>,
    ) -> Vec<Stage> {
        let mut all: Vec<&str> =
            funnel::STAGES.into_iter().chain(self.predicate.map(|_| WHERE)).collect();
        // Of a stage that this program does not have, as an earlier one's may be.
        all.extend(removed.map(|fate| fate.stage.as_str()).filter(|stage| !all.contains(stage)));
        let order = |fate: &Fate| all.iter().position(|stage| *stage == fate.stage);
        let last = removed.and_then(order);
        let mut stages = Vec::new();
        for (n, name) in all.iter().enumerate() {
            let (verdict, why) = match removed {
                Some(fate) if Some(n) == last => (Verdict::Removed, self.why(fate, others)),
                _ if lines.iter().any(|line| line.stage == *name) => {
                    (Verdict::Changed, self.without_lines(name, lines))
                }
                Some(_) if last.is_some_and(|last| n > last) => {
                    (Verdict::NotReached, String::new())
                }
                _ if !is_asked(name, self.recipe) => (Verdict::NotAsked, String::new()),
                _ => (Verdict::Passed, self.passed(name, document)),
            };
            let fired = removed.filter(|_| verdict == Verdict::Removed).map(|f| f.rule.as_str());
            let came = !matches!(verdict, Verdict::NotReached | Verdict::NotAsked);
            let route = document.map(|document| document.route);
            let rules = match *name {
                "rules" if came => rules_of(self.recipe, route, fired),
                _ => Vec::new(),
            };
            stages.push(Stage { name: (*name).to_owned(), verdict, why, rules });
        }
        stages
    }

    /// Which lines a stage removed, by rule.
    fn without_lines(&self, stage: &str, lines: &[Fate]) -> String {
        let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.stage == stage) {
            *rules.entry(&line.rule).or_default() += 1;
        }
        let limit = self.recipe.line_limit;
        let said = rules.into_iter().map(|(rule, count)| match rule {
            lines::RULE => format!(
                "{count} of its lines removed: more than {limit} documents of its bucket contain them"
            ),
            rule => {
                let known = rules::told(rule);
                let limit = known.map_or(String::new(), |known| format!(" ({})", (known.limit)()));
                format!("{count} of its lines removed by {rule}{limit}")
            }
        });
        said.collect::<Vec<_>>().join("; ")
    }

    /// Why a document was removed.
    fn why(&self, fate: &Fate, others: &HashMap<String, Other>) -> String {
        let (rule, value) = (&fate.rule, shown(fate.value));
        let Some(id) = kept_instead(fate) else {
            return because(rule, fate.value, self.recipe, &fate.detail);
        };
        let other = others.get(id).cloned().unwrap_or_default();
        let place = if other.url.is_empty() { String::new() } else { format!(" {}", other.url) };
        let date = other.date.map(|d| format!(" of {}", format_date(d))).unwrap_or_default();
        let gone = other.removed.map_or(String::new(), |(stage, rule)| {
            format!("; that one was removed later: {rule} ({stage})")
        });
        let text = match fate.stage.as_str() {
            "url" => format!("another visit of this URL is kept instead: {id}{date}"),
            _ if fate.detail.contains("equal without") => {
                format!("it equals {id}{place} once the lines that many documents repeat are gone")
            }
            _ => {
                let from = shown(self.recipe.near.threshold);
                let through = fate.detail.split_once(", equal to ").and_then(|(_, t)| t.get(..32));
                let to = through.map_or(String::new(), |through| {
                    format!("{through}, which without the lines that many documents repeat is ")
                });
                format!("similarity {value} (limit {from}) to {to}the copy kept: {id}{place}")
            }
        };
        format!("{rule}: {text}{gone}")
    }

    /// What is known of a stage that let a document pass.
    fn passed(&self, stage: &str, document: Option<&Document>) -> String {
        let Some(document) = document else { return String::new() };
        match stage {
            "extract" => format!("{} bytes of text", document.text.len()),
            "rules" => {
                let words = document.scores.iter().find(|(name, _)| name == "words");
                let least = match self.recipe.asks(TOO_SHORT) {
                    true => format!(" (limit {})", self.recipe.min_words),
                    false => String::new(),
                };
                let words = words.map_or(String::new(), |(_, n)| format!("{n} words{least}, "));
                let (language, score) = (&document.language, document.language_score);
                let route = document.route.name();
                format!("{words}language {language} ({score:.2}), judged as {route}")
            }
            "document" => format!("no copy of similarity {} kept", self.recipe.near.threshold),
            WHERE => self.predicate.unwrap_or_default().to_owned(),
            _ => String::new(),
        }
    }
}

/// Whether a recipe asks for a stage at all.
fn is_asked(stage: &str, recipe: &Recipe) -> bool {
    match stage {
        "rules" => {
            let scores = !recipe.least.is_empty();
            recipe.does(Part::Rules) || recipe.does(Part::Languages) || scores
        }
        "address" | "domain" => recipe.does(Part::Addresses),
        "contamination" => recipe.does(Part::Decontaminate) && !recipe.evaluations.is_empty(),
        "url" | "document" | "lines" | "short" => recipe.does(Part::Dedup),
        "words" => recipe.asks(divergence::NAME),
        "pipe" => recipe.pipe.is_some(),
        _ => true,
    }
}

/// The rules that act, with what each says where the document passed those before `fired`. A rule
/// that is no heuristic (a language, a score) acts when all of these have let a document pass. The
/// `route` is known of documents that were kept.
fn rules_of(
    recipe: &Recipe,
    route: Option<Route>,
    fired: Option<&str>,
) -> Vec<(String, Verdict, String)> {
    let judge = Judge::of(recipe, DirtyWords::default());
    let mut gone = false;
    let said = |rule: &Rule| {
        let verdict = match fired {
            _ if route.is_some_and(|route| !rule.routes.contains(&route)) => Verdict::NotAsked,
            _ if gone => Verdict::NotReached,
            Some(name) if name == rule.name => Verdict::Removed,
            _ => Verdict::Passed,
        };
        gone |= verdict == Verdict::Removed;
        (rule.name.to_owned(), verdict, recipe.limit(rule.told()))
    };
    judge.acting().map(said).collect()
}

/// A number as a person reads it.
fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = if text.contains('.') { text.trim_end_matches('0') } else { &text };
    text.trim_end_matches('.').to_owned()
}

/// Why a rule removes, with what it measured and the threshold, as far as they are known.
fn because(rule: &str, value: f64, recipe: &Recipe, detail: &str) -> String {
    let known = rules::told(rule);
    let limit = match rule {
        "too-long" => format!(" (limit {} bytes)", recipe.max_bytes),
        "language" => " (not among the recipe's languages)".to_owned(),
        WHERE => " (does not hold)".to_owned(),
        rules::LOW_SCORE => {
            let least = recipe.least.get(detail);
            least.map_or(String::new(), |least| format!(" (limit {})", shown(f64::from(*least))))
        }
        _ => known.map_or(String::new(), |known| format!(" (goes: {})", recipe.limit(known))),
    };
    match known {
        Some(known) => format!("{rule} measured {}{limit}. {}", shown(value), known.reason),
        None if value != 0.0 => format!("{rule} measured {}{limit}: {detail}", shown(value)),
        None => format!("{rule}{limit}: {detail}"),
    }
}

fn facts(document: &Document) -> Vec<(String, String)> {
    let date = document.date.map(format_date).unwrap_or_default();
    let mut facts = vec![
        ("title".to_owned(), document.title.clone()),
        ("source".to_owned(), document.source.clone()),
        ("date".to_owned(), date),
        ("language".to_owned(), format!("{} {:.3}", document.language, document.language_score)),
        ("route".to_owned(), document.route.name().to_owned()),
    ];
    for (name, value) in &document.scores {
        facts.push((name.clone(), shown(f64::from(*value))));
    }
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

/// What the work files of a run say that has not finished.
fn unfinished(out: &Path, plan: &Plan, asked: Asked) -> Result<Explained, Error> {
    let dir = out.join(WORK).join(extract::STAGE);
    let file = |unit: usize, end: &str| dir.join(format!("{unit:06}.{end}"));
    let (mut explained, mut nearest, mut units) = (Explained::default(), Nearest::default(), 0);
    for unit in 0..plan.units.len() {
        if !file(unit, "done").exists() {
            continue;
        }
        units += 1;
        let (mut place, mut places) = (0, Vec::new());
        let documents = find_documents(&file(unit, "parquet"), |id, url| {
            nearest.offer(asked.nearness(id, url), id, url);
            let is = asked.is(id, url);
            places.extend(is.then_some(place));
            place += 1;
            is
        })?;
        if !documents.is_empty() {
            let kept = rows::read(&file(unit, ROWS))?;
            for (document, place) in documents.iter().zip(places) {
                let verdict = kept.get(place).and_then(|k: &rows::Kept| k.verdict);
                explained.visits.push(candidate(document, verdict, &plan.recipe));
            }
        }
        let fates = find_fates(&file(unit, "fates.parquet"), |id, url, _| {
            nearest.offer(asked.nearness(id, url), id, url);
            asked.is(id, url)
        })?;
        for fate in fates {
            let why = because(&fate.rule, fate.value, &plan.recipe, &fate.detail);
            let verdict = Verdict::Removed;
            let stage = Stage { name: fate.stage, verdict, why, rules: Vec::new() };
            let (id, url) = (fate.id.to_string(), fate.url);
            let visit =
                Visit { id, url, kept: Some(false), stages: vec![stage], ..Visit::default() };
            explained.visits.push(visit);
        }
    }
    let all = plan.units.len();
    explained.unfinished = Some(format!(
        "the run in {} has not finished: {units} of {all} units are extracted, and copies and lines \
         are not decided; `quipu curate` with the same inputs goes on, --join works along",
        out.display()
    ));
    if explained.visits.is_empty() {
        explained.nearest = nearest.named();
    }
    explained.query = asked.query;
    Ok(explained)
}

/// A page that was extracted by a run that has not finished.
fn candidate(document: &Document, verdict: Option<page::Verdict>, recipe: &Recipe) -> Visit {
    let stage =
        |name: &str, verdict, why| Stage { name: name.into(), verdict, why, rules: Vec::new() };
    let bytes = format!("{} bytes of text", document.text.len());
    let mut stages = vec![
        stage("read", Verdict::Passed, String::new()),
        stage("extract", Verdict::Passed, bytes),
        stage("url", Verdict::NotDecided, "a newer visit would be kept instead".into()),
    ];
    match verdict {
        Some(found) => {
            let rule = page::rule_name(found.rule);
            let low = page::low(&document.scores, recipe).filter(|(_, verdict)| *verdict == found);
            let name = low.map_or("", |(name, _)| name);
            let why = because(rule, f64::from(found.value), recipe, name);
            stages.push(stage("rules", Verdict::Removed, why));
        }
        None => {
            stages.push(stage("rules", Verdict::Passed, String::new()));
            for name in ["document", "lines", "short"] {
                stages.push(stage(name, Verdict::NotDecided, String::new()));
            }
        }
    }
    Visit {
        id: document.id.to_string(),
        url: document.url.clone(),
        kept: verdict.map(|_| false),
        stages,
        facts: facts(document),
        text: page::excerpt(&document.text, EXCERPT_BYTES),
        ..Visit::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_an_identity_or_a_url_in_any_form() {
        let asked = Asked::of(" HTTP://www.A.example/x/?utm_source=y#top ");
        assert!(asked.is("", "https://a.example/x") && !asked.is("", "https://a.example/y"));
        assert!(Asked::of("a.example/x").is("", "https://a.example/x"));
        assert!(Asked::of("pages/x.html").is("", "pages/x.html"));
        let id = "00000000000000000000000000000A0F";
        assert!(Asked::of(id).is(&id.to_lowercase(), ""));
        assert!(!Asked::of("").is("", ""));
    }

    #[test]
    fn the_nearest_are_those_with_the_same_words() {
        let asked = Asked::of("https://a.example/harbour/market");
        let mut nearest = Nearest::default();
        for url in ["https://a.example/harbour/markets", "https://b.example/x", "https://z.org/q"] {
            let id = format!("{:032x}", url.len());
            nearest.offer(asked.nearness(&id, url), &id, url);
        }
        assert_eq!(
            nearest.named().first().map(|n| n.1.as_str()),
            Some("https://a.example/harbour/markets")
        );
        assert_eq!(Asked::of("0abc").nearness("0abcdef", ""), 2.0);
    }

    #[test]
    fn numbers_and_reasons_are_short() {
        assert_eq!([0.7, 12.0, 0.12345, 100.0].map(shown), ["0.7", "12", "0.123", "100"]);
        let said = because("too-short", 7.0, &Recipe::default(), "");
        assert!(said.starts_with("too-short measured 7 (goes: below 25 words). A page"), "{said}");
        assert_eq!(because("truncated", 0.0, &Recipe::default(), "<p"), "truncated: <p");
        let recipe = Recipe { least: [("quality".to_owned(), 0.5)].into(), ..Recipe::default() };
        let said = because("low-score", 0.25, &recipe, "quality");
        assert_eq!(said, "low-score measured 0.25 (limit 0.5): quality");
        let document = Document { scores: vec![("quality".into(), 0.25)], ..Document::default() };
        let (_, low) = page::low(&document.scores, &recipe).unwrap();
        assert_eq!(candidate(&document, Some(low), &recipe).stages[3].why, said);
    }
}
