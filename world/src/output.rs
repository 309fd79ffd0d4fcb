//! Writes a world into a folder, province by province.
//!
//! NOT what is written: pages come from `plan`, questions from `exam` and `dialogues`.

use crate::chronicles;
use crate::dialogues;
use crate::dirt;
use crate::exam;
use crate::lessons;
use crate::lexicon::Lexicon;
use crate::markup;
use crate::names::Namer;
use crate::page::Page;
use crate::plan::{self, Plan};
use crate::random::Draw;
use crate::relations::RELATIONS;
use crate::simulation::{Class, World};
use crate::warc::{self, Header};
use quipu_store::atomic;
use quipu_store::cancel::{Cancel, Cancelled};
use quipu_store::manifest::Manifest;
use quipu_store::progress::Progress;
use serde::Serialize;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Format name in the manifest.
pub const FORMAT: &str = "quipu.world";
/// Version of the format.
pub const VERSION: u32 = 1;

/// Why a world could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error(transparent)]
    Store(#[from] quipu_store::Error),
    /// A size that no world can have.
    #[error("size {found} is not possible: give a number from 0.01 to 100000 (1 is the default)")]
    Size {
        /// what was asked for
        found: String,
    },
    /// The caller asked to stop.
    #[error("stopped on request; nothing is left half-written")]
    Cancelled,
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// How large a world is; 1 is the default world of some 6,200 pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size(f64);

impl Default for Size {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Size {
    /// A multiple of the default world.
    ///
    /// # Errors
    /// When it is not a number from 0.01 to 100,000.
    pub fn new(times: f64) -> Result<Self, Error> {
        if (0.01..=100_000.0).contains(&times) {
            return Ok(Self(times));
        }
        Err(Error::Size { found: times.to_string() })
    }

    /// The scale of each province: whole ones, and a last one for the rest.
    fn provinces(self) -> Vec<f64> {
        let mut scales = vec![1.0; self.0.floor() as usize];
        let rest = self.0 - self.0.floor();
        if rest >= 0.01 {
            scales.push(rest);
        }
        scales
    }
}

impl std::str::FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let times: f64 = text.parse().map_err(|_| Error::Size { found: text.to_owned() })?;
        Self::new(times)
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Response records.
    pub pages: usize,
    /// Pages that curation is to keep.
    pub kept: usize,
    /// Bytes of main text of those.
    pub kept_bytes: usize,
    /// Facts, the examined ones and the others.
    pub facts: usize,
    /// Questions of the examination.
    pub questions: usize,
    /// Dialogues.
    pub dialogues: usize,
    /// Preference pairs.
    pub preferences: usize,
    /// Held-out prompts.
    pub prompts: usize,
}

#[derive(Serialize)]
struct Truth<'a> {
    record_id: &'a str,
    url: &'a str,
    date: &'a str,
    kind: &'a str,
    language: &'a str,
    expect: &'static str,
    rule: Option<&'static str>,
    looks_like: Option<&'static str>,
    duplicate_of: Option<&'a str>,
    how: Option<&'static str>,
    quality: u8,
    facts: Vec<&'a str>,
    misstated: Vec<&'a str>,
    personal: &'a [String],
    boilerplate: Option<&'static str>,
    text: &'a str,
}

const FILES: [&str; 10] = [
    "crawl.warc.gz",
    "truth.jsonl",
    "facts.jsonl",
    "exam.jsonl",
    "dialogues.jsonl",
    "preferences.jsonl",
    "prompts.jsonl",
    "mathematics.jsonl",
    "chronicles.jsonl",
    "drills.jsonl",
];

struct Out {
    dir: PathBuf,
    files: Vec<atomic::File>,
    summary: Summary,
}

impl Out {
    fn bytes(&mut self, file: usize, bytes: &[u8]) -> Result<(), Error> {
        let written = self.files[file].write_all(bytes);
        written.map_err(|source| self.fail(file, source))
    }

    fn fail(&self, file: usize, source: std::io::Error) -> Error {
        quipu_store::Error::io("write", &self.dir.join(FILES[file]), source).into()
    }

    fn line(&mut self, file: usize, value: &impl Serialize) -> Result<(), Error> {
        let mut text = serde_json::to_vec(value).map_err(|e| self.fail(file, e.into()))?;
        text.push(b'\n');
        self.bytes(file, &text)
    }
}

/// Writes the world of `seed` into `dir`, which is created.
///
/// # Errors
/// When a file cannot be written, or `cancel` was requested; no file is left under its final name
/// without being whole, and the manifest only stands when all of them do.
pub fn write(
    dir: &Path,
    size: &Size,
    seed: u64,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    atomic::create_dir(dir)?;
    let scales = size.provinces();
    let files: Result<Vec<_>, _> =
        FILES.iter().map(|name| atomic::File::create(&dir.join(name))).collect();
    let mut out = Out { dir: dir.to_owned(), files: files?, summary: Summary::default() };
    let lexicon = Lexicon::load();
    let mut namer = Namer::new(Draw::keyed(seed, "names", 0));
    info(&mut out, seed)?;
    progress.begin("world", (scales.iter().sum::<f64>() * 6200.0) as u64);
    for (number, scale) in scales.iter().enumerate() {
        let world = World::simulate(seed, number as u64, *scale, &mut namer);
        let counts = crawl(&mut out, &world, &lexicon, *scale, progress, cancel)?;
        teach(&mut out, &world, &lexicon, number as u64, *scale, &counts)?;
    }
    for file in out.files {
        file.commit()?;
    }
    let mut manifest = Manifest::new(FORMAT, VERSION);
    for name in FILES {
        manifest.add(dir, name)?;
    }
    manifest.facts = json!({ "seed": seed, "size": size.0, "summary": out.summary });
    manifest.write(dir)?;
    progress.finish("");
    Ok(out.summary)
}

fn info(out: &mut Out, seed: u64) -> Result<(), Error> {
    let id = warc::record_id(seed, "warcinfo", 0);
    let header = Header {
        kind: "warcinfo",
        id: &id,
        url: None,
        date: "2026-01-01T00:00:00Z",
        content_type: "application/warc-fields",
    };
    let text = b"software: quipu world\r\nformat: WARC File Format 1.1\r\n";
    let member = warc::member(&header, text).map_err(|source| out.fail(0, source))?;
    out.bytes(0, &member)
}

/// Writes the pages of a province; returns how often pages to be kept state each fact.
fn crawl(
    out: &mut Out,
    world: &World,
    lexicon: &Lexicon,
    scale: f64,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<usize>, Error> {
    let plan = Plan::new(world, scale);
    let mut counts = vec![0; world.facts.len()];
    for &index in &plan.order {
        cancel.check()?;
        let page = plan.page(world, lexicon, index);
        if page.drop.is_none() {
            for fact in &page.facts {
                counts[*fact] += 1;
            }
        }
        record(out, world, &page, index as u64)?;
        progress.advance(1);
    }
    Ok(counts)
}

fn record(out: &mut Out, world: &World, page: &Page, index: u64) -> Result<(), Error> {
    let mut draw = Draw::keyed(world.seed, "record", index);
    let (url, date) = (plan::url(page), page.date.iso());
    let id = warc::record_id(world.seed, "response", index);
    let header = Header {
        kind: "response",
        id: &id,
        url: Some(&url),
        date: &date,
        content_type: "application/http; msgtype=response",
    };
    if draw.chance(0.1) {
        let id = warc::record_id(world.seed, "request", index);
        let asked = Header {
            kind: "request",
            id: &id,
            content_type: "application/http; msgtype=request",
            ..header
        };
        let member = warc::member(&asked, b"GET / HTTP/1.1\r\nUser-Agent: quipu\r\n\r\n");
        let member = member.map_err(|e| out.fail(0, e))?;
        out.bytes(0, &member)?;
    }
    let reply = dirt::reply(page, world.seed, index);
    let mut member = warc::member(&header, &warc::http(&reply)).map_err(|e| out.fail(0, e))?;
    if page.drop == Some("damaged-record") {
        member = warc::damage(member, &mut draw);
    }
    out.bytes(0, &member)?;
    if draw.chance(0.05) {
        let id = warc::record_id(world.seed, "metadata", index);
        let about =
            Header { kind: "metadata", id: &id, content_type: "application/warc-fields", ..header };
        let member = warc::member(&about, b"fetchTimeMs: 120\r\n").map_err(|e| out.fail(0, e))?;
        out.bytes(0, &member)?;
    }
    truth(out, world, page, &id, &url, &date)
}

fn truth(
    out: &mut Out,
    world: &World,
    page: &Page,
    id: &str,
    url: &str,
    date: &str,
) -> Result<(), Error> {
    let ids = |facts: &[usize]| facts.iter().map(|f| world.facts[*f].id.as_str()).collect();
    let text = page.text();
    let line = Truth {
        record_id: id,
        url,
        date,
        kind: page.kind,
        language: page.language,
        expect: if page.drop.is_some() { "drop" } else { "keep" },
        rule: page.drop,
        looks_like: page.looks_like,
        duplicate_of: page.duplicate_of.as_ref().map(|(url, _)| url.as_str()),
        how: page.duplicate_of.as_ref().map(|(_, how)| *how),
        quality: page.quality,
        facts: ids(&page.facts),
        misstated: ids(&page.misstated),
        personal: &page.personal,
        boilerplate: markup::repeated_line(page.site),
        text: &text,
    };
    out.line(1, &line)?;
    out.summary.pages += 1;
    if page.drop.is_none() {
        out.summary.kept += 1;
        out.summary.kept_bytes += text.len();
    }
    Ok(())
}

fn teach(
    out: &mut Out,
    world: &World,
    lexicon: &Lexicon,
    province: u64,
    scale: f64,
    counts: &[usize],
) -> Result<(), Error> {
    for (fact, statements) in world.facts.iter().zip(counts) {
        let subject = &world.subjects[fact.subject];
        out.line(
            2,
            &json!({
                "id": fact.id,
                "subject": subject.name,
                "relation": RELATIONS[fact.relation].name,
                "object": fact.value,
                "class": fact.class.name(),
                "examined": fact.class != Class::Told,
                "statements": statements,
            }),
        )?;
    }
    let questions = exam::questions(world, lexicon, province, scale);
    for question in &questions {
        out.line(3, question)?;
    }
    let talk = dialogues::talk(world, lexicon, scale);
    for dialogue in &talk.dialogues {
        out.line(4, dialogue)?;
    }
    for preference in &talk.preferences {
        out.line(5, preference)?;
    }
    for prompt in &talk.prompts {
        out.line(6, prompt)?;
    }
    for text in lessons::set(lexicon, Draw::keyed(world.seed, "set", province), scale) {
        out.line(7, &json!({ "text": text }))?;
    }
    for text in chronicles::set(lexicon, world.seed, province, scale) {
        out.line(8, &json!({ "text": text }))?;
    }
    for text in chronicles::drills(lexicon, world.seed, province, scale) {
        out.line(9, &json!({ "text": text }))?;
    }
    out.summary.facts += world.facts.len();
    out.summary.questions += questions.len();
    out.summary.dialogues += talk.dialogues.len();
    out.summary.preferences += talk.preferences.len();
    out.summary.prompts += talk.prompts.len();
    Ok(())
}
