//! Documents to token shards: trains the tokenizer, sets validation documents apart, encodes, and
//! writes a folder with its manifest last. A finished folder is not made again; a killed run goes
//! on at the shard it was writing; the bytes do not depend on the number of threads.
//!
//! Validation is chosen by a hash of the document's id, so a document keeps its side when the
//! corpus grows. A chosen document that shares a span of 50 words with a training document is moved
//! to training (nothing is lost), and so is each that shares one with a moved document (`overlap`).
//! Not here: which documents are worth reading (`corpus`), their form at rest (`documents`).
//!
//! The text is passed over three times: to choose, to compare, to encode (once more where a
//! tokenizer is trained), and read as often where it is more than is kept. In memory are then two
//! batches of it, of which one is read while the other is worked on, a shard, and the documents that
//! were chosen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use quipu_documents::{Document, Reader};
use quipu_store::{Cancel, Progress, atomic, checksum, manifest::Manifest, units::Units};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::loader::{FORMAT, FORMAT_VERSION};
use crate::overlap::{Chosen, SPAN, Words};
use crate::shard::ShardWriter;
use crate::{Error, Tokenizer, bpe, special};

/// Bytes of text in a batch.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes of text, at most, that are kept in memory once they were read: documents are read three
/// times, for what is set apart, for what shares a span with it, for their tokens.
const KEPT_BYTES: usize = 256 << 20;
/// Where there are few documents, this many are set apart for validation (a fifth at most).
const FEW: f64 = 20.0;

/// By what the loader can mix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grouping {
    /// The document's route: prose, code, mathematics.
    #[default]
    Route,
    /// The document's source as the corpus names it.
    Source,
}

/// How documents become tokens.
#[derive(Debug, Clone)]
pub struct Preparation {
    /// Ids of the tokenizer to be trained, special tokens included.
    pub vocabulary: usize,
    /// Special tokens among them.
    pub specials: usize,
    /// Ranks to extend; empty to train from nothing.
    pub base: Vec<Vec<u8>>,
    /// A tokenizer to use as it is, instead of training one.
    pub tokenizer: Option<Tokenizer>,
    /// Bytes of training text that the tokenizer learns from, at most about.
    pub tokenizer_bytes: u64,
    /// Share of the documents set apart for validation.
    pub validation_share: f64,
    /// Tokens after which a shard is closed.
    pub shard_tokens: u64,
    /// By what the loader can mix.
    pub grouping: Grouping,
    /// The name of all documents' source, whatever they say; none: theirs.
    pub source: Option<String>,
}

impl Default for Preparation {
    fn default() -> Self {
        Self {
            vocabulary: 4096,
            specials: 16,
            base: Vec::new(),
            tokenizer: None,
            tokenizer_bytes: 64 << 20,
            validation_share: 0.02,
            shard_tokens: 1 << 24,
            grouping: Grouping::Route,
            source: None,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Ids of the tokenizer.
    pub vocabulary: usize,
    /// Documents, tokens and bytes of text of the training part.
    pub train: Part,
    /// The same of the validation part.
    pub validation: Part,
    /// Documents chosen for validation that went to training, because they share a span with it.
    pub moved: u64,
}

/// Counts of one part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Documents with any text.
    pub documents: u64,
    /// Tokens, without those that mark begin and end of documents.
    pub tokens: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Shards.
    pub shards: u64,
}

/// Makes `out` (tokenizer, shards, manifest) of the documents at `documents`, a folder or file of
/// Parquet, unless it is there already with the same inputs and settings.
///
/// # Errors
/// [`Error::Documents`] when documents cannot be read, [`Error::Prepare`] when there are none or
/// none is left for validation, [`Error::Vocabulary`], [`Error::Store`], [`Error::Cancelled`].
pub fn prepare(
    documents: &Path,
    out: &Path,
    options: &Preparation,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Summary, Error> {
    if !(options.validation_share > 0.0 && options.validation_share < 1.0) {
        let reason =
            format!("validation share {}: expected above 0, below 1", options.validation_share);
        return Err(Error::Prepare { reason });
    }
    let given = options.tokenizer.as_ref().map(Tokenizer::to_json);
    let stage = stage_hash(documents, options, given.as_deref())?;
    if let Some(summary) = finished(out, &stage) {
        return Ok(summary);
    }
    atomic::create_dir(out)?;
    let stale = out.join(quipu_store::manifest::NAME);
    if stale.exists() {
        std::fs::remove_file(&stale).map_err(|e| quipu_store::Error::io("remove", &stale, e))?;
    }
    let units = Units::open(out, &stage)?;
    let kept = OnceLock::new();
    let job = Job { documents, out, options, given, units, progress, cancel, kept };
    let split = job.split()?;
    let tokenizer = job.tokenizer(&split)?;
    let mut summary =
        Summary { vocabulary: tokenizer.vocabulary(), moved: split.moved, ..Summary::default() };
    summary.validation = job.encode(&tokenizer, VALIDATION_PART, &split)?;
    summary.train = job.encode(&tokenizer, TRAIN_PART, &split)?;
    job.finish(&summary, &stage)?;
    Ok(summary)
}

fn finished(out: &Path, stage: &str) -> Option<Summary> {
    if !Manifest::exists(out) {
        return None;
    }
    let manifest = Manifest::read_verified(out, FORMAT, FORMAT_VERSION).ok()?;
    if manifest.facts["stage"].as_str() != Some(stage) {
        return None;
    }
    serde_json::from_value(manifest.facts["summary"].clone()).ok()
}

/// Identifies inputs and settings.
fn stage_hash(
    documents: &Path,
    options: &Preparation,
    given: Option<&str>,
) -> Result<String, Error> {
    let mut files: Vec<PathBuf> = Vec::new();
    let manifest = documents.join(quipu_store::manifest::NAME);
    if !documents.is_dir() {
        files.push(documents.to_owned());
    } else if manifest.exists() {
        files.push(manifest);
    } else {
        let read = |source| Error::Read { path: documents.to_owned(), source };
        for entry in std::fs::read_dir(documents).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|e| e == "parquet") {
                files.push(path);
            }
        }
        files.sort();
    }
    let sums: Vec<String> =
        files.iter().map(|f| checksum::xxh3_file(f)).collect::<Result<_, _>>()?;
    let given = given.map(|json| checksum::xxh3_bytes(json.as_bytes()));
    let base = checksum::xxh3_bytes(&options.base.join(&b' '));
    let text = json!([
        FORMAT_VERSION,
        sums,
        given,
        base,
        options.vocabulary,
        options.specials,
        options.tokenizer_bytes,
        options.validation_share,
        options.shard_tokens,
        options.grouping,
        options.source,
    ]);
    Ok(checksum::xxh3_bytes(text.to_string().as_bytes()))
}

struct Job<'a> {
    documents: &'a Path,
    out: &'a Path,
    options: &'a Preparation,
    /// the `tokenizer.json` of the tokenizer that was given
    given: Option<Arc<str>>,
    units: Units,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// all documents, once they were read and if they are few enough
    kept: OnceLock<Vec<Vec<Document>>>,
}

/// Which documents are validation.
struct Split {
    /// they, in stored order, each with the number of documents before it
    validation: Vec<(u64, Document)>,
    ids: BTreeSet<u128>,
    moved: u64,
    /// bytes of text in all
    bytes: u64,
}

impl Split {
    fn is_validation(&self, document: &Document) -> bool {
        self.ids.contains(&document.id.0)
    }
}

/// A number in [0, 1) that belongs to a document's id.
fn draw(id: u128, salt: u64) -> f64 {
    xxh3_64_with_seed(&id.to_le_bytes(), salt) as f64 / (u64::MAX as f64 + 1.0)
}

const TRAIN_PART: &str = "train";
const VALIDATION_PART: &str = "validation";

const VALIDATION: u64 = 0x7661_6c69_6461_7465;
const VOCABULARY: u64 = 0x766f_6361_6275_6c61;

impl Job<'_> {
    /// Calls `each` with batches of documents that have text, in order, from number `from` on; the
    /// next is read while it works.
    fn batches(
        &self,
        from: u64,
        mut each: impl FnMut(&[Document]) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        if let Some(kept) = self.kept.get() {
            let mut left = from as usize;
            for batch in kept {
                self.cancel.check()?;
                let skipped = left.min(batch.len());
                left -= skipped;
                each(&batch[skipped..])?;
            }
            return Ok(self.cancel.check()?);
        }
        let mut documents = Reader::open(self.documents)?
            .filter(|d| d.as_ref().map_or(true, |d| !d.text.is_empty()))
            .skip(from as usize);
        let (mut kept, mut bytes) = ((from == 0).then(Vec::new), 0);
        let mut batch = take(&mut documents)?;
        while !batch.is_empty() {
            self.cancel.check()?;
            let (done, next) = rayon::join(|| each(&batch), || take(&mut documents));
            done?;
            bytes += batch.iter().map(|d| d.text.len()).sum::<usize>();
            kept = kept.filter(|_| bytes <= KEPT_BYTES);
            let read = std::mem::replace(&mut batch, next?);
            if let Some(kept) = &mut kept {
                kept.push(read);
            }
        }
        if let Some(kept) = kept {
            self.kept.get_or_init(|| kept);
        }
        Ok(self.cancel.check()?)
    }

    /// Chooses validation by hash, then moves to training what shares a span with it.
    fn split(&self) -> Result<Split, Error> {
        self.progress.begin("choosing validation documents", 0);
        let (chosen, bytes) = self.choose()?;
        let ids: BTreeSet<u128> = chosen.iter().map(|(_, d)| d.id.0).collect();
        let compared = Chosen::new(chosen.iter().map(|(_, d)| d.text.as_str()).collect());
        self.batches(0, |batch| {
            let training = batch.par_iter().filter(|d| !ids.contains(&d.id.0));
            training.for_each_init(Words::default, |words, d| compared.compare(&d.text, words));
            self.progress.advance(batch.len() as u64);
            Ok(())
        })?;
        let moved = compared.found();
        let of = chosen.len();
        let kept = (0..).zip(chosen).filter(|(at, _)| !moved.contains(at));
        let validation: Vec<(u64, Document)> = kept.map(|(_, chosen)| chosen).collect();
        if validation.is_empty() {
            let reason = format!(
                "all {of} documents chosen for validation share {SPAN} words with training ones; \
                 remove what repeats, or give more text"
            );
            return Err(Error::Prepare { reason });
        }
        self.progress.finish("");
        let ids = validation.iter().map(|(_, d)| d.id.0).collect();
        Ok(Split { validation, ids, moved: moved.len() as u64, bytes })
    }

    /// The documents that are chosen by their ids, each with the number of documents before it, and
    /// the bytes of text in all.
    fn choose(&self) -> Result<(Vec<(u64, Document)>, u64), Error> {
        let (mut ids, mut bytes) = (Vec::new(), 0);
        // The share only falls as documents come: what is chosen in the end is among these.
        let mut kept: Vec<(u64, Document)> = Vec::new();
        self.batches(0, |batch| {
            for document in batch {
                let (id, before) = (document.id.0, ids.len() as u64);
                ids.push(id);
                bytes += document.text.len() as u64;
                if draw(id, VALIDATION) < share_of(self.options.validation_share, ids.len()) {
                    kept.push((before, document.clone()));
                }
            }
            Ok(())
        })?;
        let chosen = choose(&ids, self.options.validation_share);
        let (Some(chosen), true) = (chosen, ids.len() > 1) else {
            let reason = format!(
                "{} document(s) with text in {}; at least two are needed, one to learn from and \
                 one to be measured on",
                ids.len(),
                self.documents.display()
            );
            return Err(Error::Prepare { reason });
        };
        kept.retain(|(_, d)| chosen.contains(&d.id.0));
        if kept.is_empty() {
            // Chosen for want of another: by the least hash, not by the share.
            let mut before = 0;
            self.batches(0, |batch| {
                let of_batch = batch.len() as u64;
                let of = (before..).zip(batch).filter(|(_, d)| chosen.contains(&d.id.0));
                kept.extend(of.map(|(before, d)| (before, d.clone())));
                before += of_batch;
                Ok(())
            })?;
        }
        Ok((kept, bytes))
    }

    /// The tokenizer: the one given, the one already written, or one trained on training text.
    fn tokenizer(&self, split: &Split) -> Result<Tokenizer, Error> {
        let path = self.out.join("tokenizer.json");
        if self.units.is_done("tokenizer") {
            return Tokenizer::load(&path);
        }
        let tokenizer = match (&self.options.tokenizer, &self.given) {
            (Some(given), Some(json)) => {
                atomic::write_bytes(&path, json.as_bytes())?;
                given.clone()
            }
            _ => {
                let trained = self.train(split)?;
                trained.save(&path)?;
                trained
            }
        };
        self.units.commit("tokenizer", json!({"vocabulary": tokenizer.vocabulary()}))?;
        Ok(tokenizer)
    }

    /// A tokenizer trained on training text, of which each document is or is not by its id.
    fn train(&self, split: &Split) -> Result<Tokenizer, Error> {
        self.progress.begin("training the tokenizer", 0);
        let share = self.options.tokenizer_bytes as f64 / split.bytes.max(1) as f64;
        let mut counts = bpe::Counts::default();
        self.batches(0, |batch| {
            let of = batch
                .iter()
                .filter(|d| !split.is_validation(d) && draw(d.id.0, VOCABULARY) < share);
            counts.add(&of.map(|d| d.text.as_str()).collect::<Vec<_>>())
        })?;
        let training = bpe::Training {
            vocabulary: self.options.vocabulary,
            specials: self.options.specials.max(special::FIXED),
            base: self.options.base.clone(),
        };
        let trained = bpe::train(&counts, &training, self.cancel)?;
        self.progress.finish("");
        Ok(trained)
    }

    /// Writes the shards of one part; goes on behind the last that was committed.
    fn encode(&self, tokenizer: &Tokenizer, part: &str, split: &Split) -> Result<Part, Error> {
        if let Some(done) = self.units.facts(part) {
            return serde_json::from_value(done).map_err(|e| Error::Prepare {
                reason: format!("{}: {e}; delete the folder", self.out.display()),
            });
        }
        self.progress.begin(&format!("encoding {part}"), 0);
        let mut writing = Writing::resume(self, tokenizer, part)?;
        if part == VALIDATION_PART {
            let rest = split.validation.iter().filter(|(before, _)| *before >= writing.next);
            let rest: Vec<&(u64, Document)> = rest.collect();
            let texts: Vec<&str> = rest.iter().map(|(_, d)| d.text.as_str()).collect();
            for ((before, document), tokens) in rest.iter().zip(tokenizer.encode_batch(&texts)?) {
                writing.next = *before;
                writing.push(document, Some(&tokens))?;
            }
            self.progress.advance(rest.len() as u64);
        } else {
            self.batches(writing.next, |batch| {
                let encode = |d: &Document| match split.is_validation(d) {
                    true => Ok(None),
                    false => tokenizer.encode(&d.text).map(Some),
                };
                let encoded: Vec<_> = batch.par_iter().map(encode).collect::<Result<_, Error>>()?;
                for (document, tokens) in batch.iter().zip(&encoded) {
                    writing.push(document, tokens.as_deref())?;
                }
                self.progress.advance(batch.len() as u64);
                Ok(())
            })?;
        }
        writing.close()?;
        let total = writing.total;
        self.units.commit(part, json!(total))?;
        self.progress.finish("");
        Ok(total)
    }

    fn finish(&self, summary: &Summary, stage: &str) -> Result<(), Error> {
        let mut manifest = Manifest::new(FORMAT, FORMAT_VERSION);
        manifest.add(self.out, "tokenizer.json")?;
        for (part, counts) in [(TRAIN_PART, summary.train), (VALIDATION_PART, summary.validation)] {
            for shard in 0..counts.shards {
                manifest.add(self.out, &format!("{part}-{shard:05}.tokens"))?;
            }
        }
        manifest.facts = json!({"stage": stage, "summary": summary});
        Ok(manifest.write(self.out)?)
    }
}

/// The shards of one part while they are written.
struct Writing<'a> {
    job: &'a Job<'a>,
    part: &'a str,
    vocabulary: u32,
    fingerprint: u64,
    shard: ShardWriter,
    bytes: u64,
    /// documents (of both parts) that stand before the next
    next: u64,
    total: Part,
}

impl<'a> Writing<'a> {
    fn resume(job: &'a Job<'a>, tokenizer: &Tokenizer, part: &'a str) -> Result<Self, Error> {
        let path = job.out.join("tokenizer.json");
        let json = std::fs::read(&path).map_err(|source| Error::Read { path, source })?;
        let (vocabulary, fingerprint) = (tokenizer.vocabulary() as u32, xxh3_64(&json));
        let shard = ShardWriter::new(vocabulary, fingerprint);
        let mut writing = Self {
            job,
            part,
            vocabulary,
            fingerprint,
            shard,
            bytes: 0,
            next: 0,
            total: Part::default(),
        };
        while let Some(facts) = job.units.facts(&writing.name()) {
            writing.next = facts["next"].as_u64().unwrap_or(0);
            writing.total = serde_json::from_value(facts["total"].clone()).unwrap_or_default();
        }
        Ok(writing)
    }

    fn name(&self) -> String {
        format!("{}-{:05}.tokens", self.part, self.total.shards)
    }

    /// The next document in stored order, with its tokens where it is of this part.
    fn push(&mut self, document: &Document, tokens: Option<&[u32]>) -> Result<(), Error> {
        self.next += 1;
        let Some(tokens) = tokens else { return Ok(()) };
        let source = match (&self.job.options.source, self.job.options.grouping) {
            (Some(source), _) => source.as_str(),
            (None, Grouping::Route) => document.route.name(),
            (None, Grouping::Source) => document.source.as_str(),
        };
        self.shard.push(document.id.0, source, document.text.len() as u64, tokens);
        self.bytes += document.text.len() as u64;
        if self.shard.tokens() >= self.job.options.shard_tokens { self.close() } else { Ok(()) }
    }

    /// Writes and commits the shard at hand, if it has documents.
    fn close(&mut self) -> Result<(), Error> {
        if self.shard.documents() == 0 {
            return Ok(());
        }
        let name = self.name();
        let empty = ShardWriter::new(self.vocabulary, self.fingerprint);
        let shard = std::mem::replace(&mut self.shard, empty);
        self.total.documents += shard.documents();
        self.total.tokens += shard.tokens();
        self.total.bytes += std::mem::take(&mut self.bytes);
        self.total.shards += 1;
        shard.write(&self.job.out.join(&name))?;
        let facts = json!({"next": self.next, "total": self.total});
        Ok(self.job.units.commit(&name, facts)?)
    }
}

/// The documents of the next batch; none at the end.
fn take(
    documents: &mut impl Iterator<Item = Result<Document, quipu_documents::Error>>,
) -> Result<Vec<Document>, Error> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(document) = documents.next() else { break };
        let document = document?;
        bytes += document.text.len();
        batch.push(document);
    }
    Ok(batch)
}

/// The share of so many documents that is set apart: more where there are few.
fn share_of(share: f64, documents: usize) -> f64 {
    share.max((FEW / documents.max(1) as f64).min(0.2))
}

/// The ids below the share by their hash; where that leaves nothing, the one with the least hash.
fn choose(ids: &[u128], share: f64) -> Option<BTreeSet<u128>> {
    let share = share_of(share, ids.len());
    let chosen: BTreeSet<u128> =
        ids.iter().copied().filter(|id| draw(*id, VALIDATION) < share).collect();
    if !chosen.is_empty() && chosen.len() < ids.len() {
        return Some(chosen);
    }
    let least = ids
        .iter()
        .copied()
        .min_by(|a, b| draw(*a, VALIDATION).total_cmp(&draw(*b, VALIDATION)).then(a.cmp(b)));
    least.map(|id| BTreeSet::from([id]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Sequential, Tokens};
    use quipu_documents::{Fate, Id, Route, write_fates, write_file};
    use quipu_store::progress;

    fn words(seed: u64, count: usize) -> String {
        let draw = |i: usize| crate::loader::mix(seed, i as u64) % 5000;
        (0..count).map(|i| format!("w{}", draw(i))).collect::<Vec<_>>().join(" ")
    }

    fn document(n: u128, text: String) -> Document {
        let route = if n.is_multiple_of(4) { Route::Code } else { Route::Prose };
        Document { id: Id(n), text, route, ..Document::default() }
    }

    fn corpus() -> Vec<Document> {
        (0..300).map(|n| document(n, words(n as u64, 80))).collect()
    }

    fn options() -> Preparation {
        Preparation { vocabulary: 600, shard_tokens: 9000, ..Preparation::default() }
    }

    fn run(dir: &Path, documents: &[Document], options: &Preparation) -> Result<Summary, Error> {
        let input = dir.join("documents.parquet");
        write_file(&input, documents).unwrap();
        let out = dir.join("tokens");
        prepare(&input, &out, options, &*progress::silent(), &Cancel::new())
    }

    fn bytes_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(dir.join("tokens"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| !p.ends_with("units.jsonl"))
            .map(|p| (p.file_name().unwrap().to_string_lossy().into(), std::fs::read(&p).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn parts_cover_the_documents_and_decode_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let documents = corpus();
        let summary = run(dir.path(), &documents, &options()).unwrap();
        let tokens = Tokens::open(&dir.path().join("tokens")).unwrap();
        assert_eq!(summary.train.documents + summary.validation.documents, 300);
        assert!(summary.train.shards > 1 && summary.validation.documents > 5, "{summary:?}");
        let mut seen = BTreeSet::new();
        for shard in tokens.train.iter().chain(tokens.validation.iter()) {
            for i in 0..shard.documents() {
                let entry = shard.document(i);
                let mut ids = Vec::new();
                shard.read(entry.start..entry.start + entry.tokens, &mut ids);
                let text = &documents[entry.id as usize].text;
                assert_eq!(&tokens.tokenizer.decode(&ids), text);
                assert_eq!(entry.bytes, text.len() as u64);
                assert!(seen.insert(entry.id));
            }
        }
        assert_eq!(seen.len(), 300);
        let rows = Sequential::new(&tokens.tokenizer, tokens.validation, 64).unwrap();
        assert_eq!(rows.bytes(), summary.validation.bytes);
    }

    #[test]
    fn a_finished_folder_is_kept_and_a_killed_one_goes_on_to_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let documents = corpus();
        let first = run(dir.path(), &documents, &options()).unwrap();
        let whole = bytes_of(dir.path());
        assert_eq!(run(dir.path(), &documents, &options()).unwrap(), first);
        // As after a kill: no manifest, the journal cut at each of its lines.
        let journal = dir.path().join("tokens/units.jsonl");
        let lines = std::fs::read_to_string(&journal).unwrap();
        for keep in 1..lines.lines().count() {
            std::fs::remove_file(dir.path().join("tokens/manifest.json")).unwrap();
            let cut: String = lines.lines().take(keep).map(|l| format!("{l}\n")).collect();
            std::fs::write(&journal, cut).unwrap();
            assert_eq!(run(dir.path(), &documents, &options()).unwrap(), first);
            assert!(bytes_of(dir.path()) == whole, "after {keep} lines");
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes() {
        let documents = corpus();
        let with = |threads: usize| {
            let dir = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run(dir.path(), &documents, &options())).unwrap();
            bytes_of(dir.path())
        };
        let one = with(1);
        assert!(one == with(2) && one == with(5));
    }

    #[test]
    fn shared_spans_move_to_training_with_all_they_touch() {
        let dir = tempfile::tempdir().unwrap();
        let mut documents = corpus();
        let ids: Vec<u128> = documents.iter().map(|d| d.id.0).collect();
        let chosen: Vec<u128> = choose(&ids, 0.02).unwrap().into_iter().collect();
        let training = ids.iter().copied().find(|id| !chosen.contains(id)).unwrap();
        // The first shares 50 words with training, in other case and with other marks; the second
        // shares 50 with the first; the third shares 49 with training.
        let (one, two, three) = (chosen[0] as usize, chosen[1] as usize, chosen[2] as usize);
        let span = words(7_000, 50).replace(' ', ", ").to_uppercase();
        documents[training as usize].text += &format!(" {} {}", words(7_000, 50), words(9_000, 49));
        let link = words(8_000, 50);
        documents[one].text += &format!(" ({span}) {link}");
        documents[two].text += &format!("\n{link}");
        documents[three].text += &format!(" {}", words(9_000, 49));
        let summary = run(dir.path(), &documents, &options()).unwrap();
        assert_eq!(summary.moved, 2);
        let tokens = Tokens::open(&dir.path().join("tokens")).unwrap();
        let validation: BTreeSet<u128> = tokens
            .validation
            .iter()
            .flat_map(|s| (0..s.documents()).map(|i| s.document(i).id))
            .collect();
        assert!(!validation.contains(&chosen[0]) && !validation.contains(&chosen[1]));
        assert!(validation.contains(&chosen[2]));
    }

    #[test]
    fn clear_errors() {
        let check = |documents: &[Document], options: &Preparation, says: &str| {
            let dir = tempfile::tempdir().unwrap();
            let error = run(dir.path(), documents, options).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(!dir.path().join("tokens/manifest.json").exists());
        };
        check(&[], &options(), "0 document(s) with text");
        check(&[document(1, "one".to_owned())], &options(), "at least two");
        let same: Vec<Document> = (0..40).map(|n| document(n, words(1, 60))).collect();
        check(&same, &options(), "share 50 words");
        let small = Preparation { vocabulary: 100, ..options() };
        check(&corpus(), &small, "vocabulary of 100");
        let share = Preparation { validation_share: f64::NAN, ..options() };
        check(&corpus(), &share, "validation share NaN");
    }

    #[test]
    fn parquet_that_is_cut_or_has_no_text_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let check = |input: &Path, says: &[&str]| {
            let out = dir.path().join("tokens");
            let result = prepare(input, &out, &options(), &*progress::silent(), &Cancel::new());
            let error = result.unwrap_err().to_string();
            assert!(says.iter().all(|says| error.contains(says)), "{error}");
            assert!(!out.join("manifest.json").exists());
        };
        let whole = dir.path().join("documents.parquet");
        write_file(&whole, &corpus()).unwrap();
        let bytes = std::fs::read(&whole).unwrap();
        let cut = dir.path().join("cut.parquet");
        for length in [0, 3, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            check(&cut, &["cut.parquet"]);
        }
        let fates = dir.path().join("fates.parquet");
        write_fates(&fates, &[Fate::default()]).unwrap();
        check(&fates, &["fates.parquet", "`text`", "detail"]);
        check(&dir.path().join("absent.parquet"), &["absent.parquet"]);
    }

    #[test]
    fn one_flipped_byte_is_an_error_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        run(dir.path(), &corpus(), &options()).unwrap();
        let path = dir.path().join("tokens/train-00000.tokens");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[900] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Tokens::open(&dir.path().join("tokens")).unwrap_err().to_string();
        assert!(error.contains("train-00000.tokens"), "{error}");
    }
}
