//! Pass 2: which candidates stay, and which of their lines go.
//!
//! Order: newest visit of each URL, the verdicts of the rules, domains as a whole, documents whose
//! words are far from the corpus ([`super::words`]), one of near copies (after all that judges a
//! document by itself, so that the copy that is kept is one that stays), then lines, which are
//! counted over what is left, so that junk does not make a line frequent. Where lines
//! went, equal documents are looked for once more: two mirrors that differ in what their sites put
//! around a text are one. The three levels of deduplication are in the paper's order; that the
//! rules act between does not change what is kept, since a rule judges a document by itself, but
//! each removal has its true reason. Everything moves as rows; of texts only those of one unit are
//! held, of which lines went.

use super::extract::{self, Facts, number, numbers, place, visits};
use super::rows::{self, Kept, SHINGLES, SKETCHES, Sketch, Sketches};
use super::{Job, words};
use crate::dedup::{exact, lines, near};
use crate::domains::{self, Limits};
use crate::page::without_frequent;
use crate::recipe::Part;
use crate::rules::{View, divergence};
use crate::shuffle::{self, Merge, Plan, Run, Runs, Shuffle, Sorter};
use crate::{Error, Recipe};
use quipu_documents::{Id, Reader};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

/// Decisions about all candidates, as rows by number.
#[derive(Default)]
pub(super) struct Decisions {
    /// Domains that go as a whole, by hash.
    domains: HashMap<u64, domains::Verdict>,
    /// `[page, newer visit]`.
    visits: Runs,
    /// `[page, copy kept, bits of their similarity]`.
    near: Runs,
    /// `[page, bits of its distance from the corpus]`.
    far: Runs,
    /// `[page, line]`.
    lines: Runs,
    /// `[page, copy kept]`, equal without their frequent lines.
    same: Runs,
    /// Parts of each language, by its seed.
    buckets: HashMap<u64, u64>,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Decision {
    /// It stays, unless its lines go.
    Stays,
    /// Its domain goes as a whole.
    Domain(domains::Verdict),
    /// Another visit of its URL is newer: that of page number …
    OtherVisit(u64),
    /// A rule removes it.
    Rule(crate::page::Verdict),
    /// Its words are further from the corpus than they may be.
    Far(f32),
    /// A near copy is kept.
    Near {
        /// Number of the page that it was compared with.
        compared: u64,
        /// Number of the page that is kept at last: that one, or the one that equals it without
        /// frequent lines.
        kept: u64,
        /// Of the two that were compared.
        similarity: f64,
    },
    /// Another document is equal without frequent lines: page number …
    Same(u64),
}

/// The candidates of one unit with what was decided.
pub(super) struct Decided {
    pub rows: Vec<Kept>,
    pub decisions: Vec<Decision>,
    /// Frequent lines by place.
    pub lines: HashMap<u64, HashSet<u64>>,
}

/// Runs the pass.
pub(super) fn pass(job: &Job, shuffle: &dyn Shuffle, units: &[Facts]) -> Result<Decisions, Error> {
    job.progress.begin("deduplicate", shares(&job.plan.recipe) * units.len() as u64);
    let buckets = buckets(units, job.plan.recipe.bucket);
    let mut all = Decisions { buckets, ..Decisions::default() };
    let recipe = &job.plan.recipe;
    if recipe.does(Part::Addresses) {
        let counts = shuffle.run("domains", Plan::Sum, &extract::domains(job, units))?;
        all.domains = unwanted(&counts, &recipe.addresses.limits)?;
    }
    if recipe.does(Part::Dedup) {
        let older = shuffle.run("url", Plan::First, &visits(job, units))?;
        all.visits = shuffle.run("url-by-page", Plan::Union, &older)?;
    }
    if recipe.asks(divergence::NAME) {
        all.far = words::pass(job, units, &all)?;
    }
    if recipe.does(Part::Dedup) {
        let bands = each_unit(job, &BANDS, units, |unit| bands(job, unit, &all))?;
        let edges = shuffle.run("stars", Plan::Star, &bands)?;
        let clusters = shuffle::components(shuffle, "clusters", edges)?;
        let near = each_unit(job, &NEAR, units, |unit| near(job, unit, &clusters))?;
        all.near = shuffle.run("copies", Plan::Union, &near)?;
        let counted = each_unit(job, &LINES, units, |unit| lines_of(job, unit, &all))?;
        let limit = u64::from(recipe.line_limit);
        let frequent = shuffle.run("frequent", Plan::Frequent(limit), &counted)?;
        // By page now, so that a unit finds its own in few places.
        all.lines = shuffle.run("frequent-by-page", Plan::Union, &frequent)?;
        let texts = each_unit(job, &TEXTS, units, |unit| texts(job, unit, &all))?;
        all.same = shuffle.run("same", Plan::First, &texts)?;
    }
    job.progress.finish("");
    Ok(all)
}

/// A pass over all units, with what it takes of the time against others, by which progress is told:
/// as measured on a gigabyte of text. The shuffles between them do not know beforehand how many parts
/// they have; their time counts to the passes around them.
pub(super) struct Pass {
    /// Of its stage.
    pub name: &'static str,
    /// What it takes.
    pub share: u64,
}

const BANDS: Pass = Pass { name: "bands", share: 1 };
const NEAR: Pass = Pass { name: "near", share: 2 };
const LINES: Pass = Pass { name: "lines", share: 4 };
const TEXTS: Pass = Pass { name: "texts", share: 20 };

/// What all passes take together, a unit.
fn shares(recipe: &Recipe) -> u64 {
    let dedup = [BANDS, NEAR, LINES, TEXTS].iter().filter(|_| recipe.does(Part::Dedup));
    let asked = recipe.asks(divergence::NAME);
    let words = [words::COUNT, words::FAR];
    dedup.chain(words.iter().filter(|_| asked)).map(|pass| pass.share).sum()
}

/// The domains that go, of all rows `[domain, counts, counts]`.
fn unwanted(counts: &Runs, limits: &Limits) -> Result<HashMap<u64, domains::Verdict>, Error> {
    let mut found = HashMap::new();
    for row in Merge::<3>::all(counts)? {
        let [domain, pages, traits] = row?;
        if let Some(verdict) = extract::unpacked([pages, traits]).judge(limits) {
            found.insert(domain, verdict);
        }
    }
    Ok(found)
}

/// In how many parts lines of each language are counted.
fn buckets(units: &[Facts], most: u64) -> HashMap<u64, u64> {
    let mut languages: BTreeMap<&str, u64> = BTreeMap::new();
    for (language, count) in units.iter().flat_map(|unit| &unit.languages) {
        *languages.entry(language).or_default() += count;
    }
    let parts = |(name, count): (&str, u64)| (lines::language_seed(name), count.div_ceil(most));
    languages.into_iter().map(parts).collect()
}

/// Runs that a task wrote, as names below the stage's folder.
#[derive(Serialize, Deserialize)]
struct Written {
    width: usize,
    runs: Vec<String>,
}

/// Makes rows of each unit; `task` returns the runs it wrote into the stage's folder. The rows are
/// here, whoever made them.
pub(super) fn each_unit(
    job: &Job,
    pass: &Pass,
    units: &[Facts],
    task: impl Fn(usize) -> Result<Runs, Error> + Sync,
) -> Result<Runs, Error> {
    let dir = job.crew.stage(pass.name);
    let named = |unit: usize| {
        let runs = task(unit)?;
        let name = |p: &PathBuf| Some(p.file_name()?.to_string_lossy().into_owned());
        Ok::<_, Error>(Written {
            width: runs.width,
            runs: runs.paths.iter().filter_map(name).collect(),
        })
    };
    let done = |_: &Written, before: bool| job.progressed(pass, 1, before);
    let written = job.crew.run(pass.name, units.len(), named, done)?;
    let width = written.first().map_or(2, |w| w.width);
    let names = written.into_iter().flat_map(|w| w.runs);
    let paths: Vec<PathBuf> = names.map(|name| dir.join(name)).collect();
    job.crew.bring(&paths)?;
    Ok(Runs { width, paths })
}

impl Job<'_> {
    /// Tells that a pass went through so many units more, by this run or `before`.
    pub(super) fn progressed(&self, pass: &Pass, units: u64, before: bool) {
        match before {
            true => self.progress.resume(pass.share * units),
            false => self.progress.advance(pass.share * units),
        }
    }

    pub(super) fn sorter<const W: usize>(&self, stage: &str, unit: usize) -> Sorter<W> {
        let memory = self.memory / self.crew.workers() as u64 / 2;
        Sorter::new(&self.crew.stage(stage).join(format!("{unit:06}")), memory)
    }
}

/// Bands of the candidates that neither another visit nor a rule removed.
fn bands(job: &Job, unit: usize, all: &Decisions) -> Result<Runs, Error> {
    let mut out = job.sorter::<2>(BANDS.name, unit);
    let alive = all.alive(job, unit)?;
    let sketches = job.sketches().all(&job.extracted(unit, SKETCHES)?)?;
    for (place, sketch) in sketches.iter().enumerate().filter(|(place, _)| alive[*place]) {
        for band in &sketch.bands {
            out.push([*band, number(unit, place)])?;
        }
    }
    out.finish()
}

impl Job<'_> {
    /// The identity of a numbered page.
    pub(super) fn id(&self, number: u64) -> Result<Id, Error> {
        let (unit, place) = place(number);
        Ok(Id(self.sketches().one(&self.extracted(unit, SKETCHES)?, place)?.id))
    }

    fn sketches(&self) -> Sketches {
        Sketches { bands: self.plan.recipe.near.bands }
    }
}

/// The clusters whose root is a page of this unit.
fn near(job: &Job, unit: usize, clusters: &Runs) -> Result<Runs, Error> {
    let mut out = job.sorter::<3>(NEAR.name, unit);
    let (from, to) = numbers(unit);
    let mut members: Vec<u64> = Vec::new();
    let mut settle = |members: &mut Vec<u64>| -> Result<(), Error> {
        if members.len() > 1 {
            job.cancel.check()?;
            for row in cluster(job, std::mem::take(members))? {
                out.push(row)?;
            }
        }
        members.clear();
        Ok(())
    };
    for row in Merge::<2>::between(clusters, from, to)? {
        let [root, member] = row?;
        // The other direction of the same edges is not for us.
        if member < root {
            continue;
        }
        if members.first() != Some(&root) {
            settle(&mut members)?;
            members.push(root);
        }
        members.push(member);
    }
    settle(&mut members)?;
    out.finish()
}

/// Words of shingles of a cluster that are held at a time.
const HELD: usize = 16 << 20;

/// The removals of a cluster, as rows.
fn cluster(job: &Job, members: Vec<u64>) -> Result<Vec<[u64; 3]>, Error> {
    let sketch = |member: u64| -> Result<Sketch, Error> {
        let (unit, place) = place(member);
        job.sketches().one(&job.extracted(unit, SKETCHES)?, place)
    };
    // Ranks are held, and nothing else of each member.
    let mut ranked: Vec<([u64; 2], u64)> = Vec::with_capacity(members.len());
    for member in members {
        ranked.push((sketch(member)?.rank, member));
    }
    ranked.sort_unstable();
    let (mut held, mut words) = (HashMap::<usize, Rc<Vec<u32>>>::new(), 0);
    let shingles = |n: usize| -> Result<Rc<Vec<u32>>, Error> {
        if let Some(set) = held.get(&n) {
            return Ok(set.clone());
        }
        let member = ranked[n].1;
        let path = job.extracted(place(member).0, SHINGLES)?;
        let set = Rc::new(sketch(member)?.shingles(&path)?);
        words += set.len();
        if words > HELD {
            held.clear();
            words = set.len();
        }
        held.insert(n, set.clone());
        Ok(set)
    };
    let bands = |n: usize| {
        job.cancel.check()?;
        Ok(sketch(ranked[n].1)?.bands)
    };
    let threshold = job.plan.recipe.near.threshold;
    let removals = near::resolve(ranked.len(), threshold, bands, shingles)?;
    let row = |r: near::Removal| [ranked[r.member].1, ranked[r.kept].1, r.similarity.to_bits()];
    Ok(removals.into_iter().map(row).collect())
}

/// Lines of the candidates that are left.
fn lines_of(job: &Job, unit: usize, all: &Decisions) -> Result<Runs, Error> {
    let mut out = job.sorter::<2>(LINES.name, unit);
    let decided = all.of(job, unit)?;
    for (place, kept) in decided.staying() {
        for hash in &kept.lines {
            out.push([all.in_bucket(kept, *hash), number(unit, place)])?;
        }
    }
    out.finish()
}

/// What is left of the texts that are left, by the hash of their normalised form.
fn texts(job: &Job, unit: usize, all: &Decisions) -> Result<Runs, Error> {
    let mut out = job.sorter::<4>(TEXTS.name, unit);
    let decided = all.of(job, unit)?;
    let mut hashes: Vec<u64> = decided.rows.iter().map(|kept| kept.row.text).collect();
    if !decided.lines.is_empty() {
        for (place, document) in Reader::open(&job.extracted(unit, "parquet")?)?.enumerate() {
            let document = document?;
            if let Some(lines) = decided.lines.get(&(place as u64)) {
                let bucket = all.bucket(&decided.rows[place]);
                let (text, _) = without_frequent(&document, lines, bucket);
                hashes[place] = exact::text_hash(&View::of(&text, &document.language, 0));
            }
        }
    }
    for (place, kept) in decided.staying().filter(|(place, _)| hashes[*place] != 0) {
        let [a, b] = kept.row.rank();
        // Of two languages one text is two documents.
        out.push([hashes[place] ^ kept.row.language, a, b, number(unit, place)])?;
    }
    out.finish()
}

impl Decisions {
    /// Which part of its language a document belongs to.
    pub fn bucket(&self, kept: &Kept) -> u64 {
        let parts = self.buckets.get(&kept.row.language).copied().unwrap_or(1);
        lines::bucket(kept.row.id, parts)
    }

    fn in_bucket(&self, kept: &Kept, hash: u64) -> u64 {
        lines::in_bucket(hash, self.bucket(kept))
    }

    /// Whether each candidate of a unit is left after visits and rules.
    fn alive(&self, job: &Job, unit: usize) -> Result<Vec<bool>, Error> {
        let decided = self.of(job, unit)?;
        Ok(decided.decisions.iter().map(|d| *d == Decision::Stays).collect())
    }

    /// What has been decided so far about the candidates of a unit.
    pub fn of(&self, job: &Job, unit: usize) -> Result<Decided, Error> {
        let rows = rows::read(&job.extracted(unit, rows::ROWS)?)?;
        let mut decisions: Vec<Decision> =
            rows.iter().map(|kept| kept.verdict.map_or(Decision::Stays, Decision::Rule)).collect();
        let (from, to) = numbers(unit);
        for row in Merge::<2>::between(&self.visits, from, to)? {
            let [page, other] = row?;
            decisions[place(page).1 as usize] = Decision::OtherVisit(other);
        }
        for (kept, decision) in rows.iter().zip(&mut decisions) {
            // A document that goes for itself has that as its reason.
            if let (Decision::Stays, Some(verdict)) =
                (*decision, self.domains.get(&kept.row.domain))
            {
                *decision = Decision::Domain(*verdict);
            }
        }
        let near: Vec<[u64; 3]> =
            Merge::between(&self.near, from, to)?.collect::<Result<_, _>>()?;
        let later = self.later(near.iter().map(|[_, compared, _]| *compared))?;
        for [page, compared, similarity] in near {
            let kept = later.get(&compared).copied().unwrap_or(compared);
            let similarity = f64::from_bits(similarity);
            decisions[place(page).1 as usize] = Decision::Near { compared, kept, similarity };
        }
        for row in Merge::<2>::between(&self.far, from, to)? {
            let [page, bits] = row?;
            decisions[place(page).1 as usize] = Decision::Far(f32::from_bits(bits as u32));
        }
        for row in Merge::<2>::between(&self.same, from, to)? {
            let [page, kept] = row?;
            decisions[place(page).1 as usize] = Decision::Same(kept);
        }
        let mut lines: HashMap<u64, HashSet<u64>> = HashMap::new();
        for row in Merge::<2>::between(&self.lines, from, to)? {
            let [page, line] = row?;
            lines.entry(place(page).1).or_default().insert(line);
        }
        Ok(Decided { rows, decisions, lines })
    }
}

impl Decisions {
    /// Of these pages those that went after near copies of them had gone, with the equal page that
    /// was kept; that one is the first of all its equals and goes for none.
    fn later(&self, pages: impl Iterator<Item = u64>) -> Result<HashMap<u64, u64>, Error> {
        let mut pages: Vec<u64> = pages.collect();
        pages.sort_unstable();
        pages.dedup();
        let mut later = HashMap::new();
        for path in self.same.paths.iter().filter(|_| !pages.is_empty()) {
            let mut add = |[page, kept]: [u64; 2]| _ = later.insert(page, kept);
            Run::open(path, self.same.width)?.find(&pages, &mut add)?;
        }
        Ok(later)
    }
}

impl Decided {
    pub(super) fn staying(&self) -> impl Iterator<Item = (usize, &Kept)> {
        let stays = |place: &usize| self.decisions[*place] == Decision::Stays;
        (0..self.rows.len()).filter(stays).map(|place| (place, &self.rows[place]))
    }
}
