//! The loader: which tokens are sample number n. A sample is one row of a fixed length, packed with
//! documents, each opened by `<|begin_of_text|>` and closed by `<|end_of_text|>` as the target of
//! its last token; what belongs to which document is said per token, so that attention need not
//! cross (paper, section 3.2). The sample is a pure function of (seed, index): there is no state to
//! lose, and a resumed run reads on where it stopped. Not here: which source a sample is of and how
//! long it is (`course`), batches and ranks (`train`).
//!
//! Where a source is read on when the length changes: its documents, epoch after epoch in another
//! order, are one endless row of (token, target) pairs, and a sample is the next stretch of it. The
//! position in the data is how many pairs of each source lie before a sample, whatever lengths they
//! were read in, so that none is left out or read twice where the length changes. A document that a
//! sample cuts goes on in the next sample of its source.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quipu_store::manifest::Manifest;
use xxhash_rust::xxh3::Xxh3;

use crate::course::{self, Course, Deal, Mix, Pattern, Spent};
use crate::shard::{self, Shard};
use crate::{Error, Tokenizer, special};

/// Name of the format of a folder of tokens in its manifest.
pub const FORMAT: &str = "quipu.tokens";
/// Version of that format.
pub const FORMAT_VERSION: u32 = 1;
/// Most bytes of token files that stay resident; sets that are smaller stay as a whole.
pub const RESIDENT: u64 = 1 << 30;
/// What the system maps at most for one byte that is read.
const AROUND: u64 = 64 << 10;

/// A folder of tokens, opened: the tokenizer and the shards of both parts, verified.
#[derive(Debug)]
pub struct Tokens {
    /// The tokenizer that made the shards.
    pub tokenizer: Arc<Tokenizer>,
    /// What the model learns from.
    pub train: Arc<Vec<Shard>>,
    /// What it is measured on: other documents, that share no 50 words with those.
    pub validation: Arc<Vec<Shard>>,
    /// What the writer noted: counts and settings.
    pub facts: serde_json::Value,
}

impl Tokens {
    /// Opens a folder as [`Tokens::open`] does, with the training shards of `others` behind its own:
    /// text that is read beside it, by the same tokenizer.
    ///
    /// # Errors
    /// As [`Tokens::open`]; [`Error::Loader`] where another tokenizer made one of them.
    pub fn open_with(dir: &Path, others: &[&Path]) -> Result<Self, Error> {
        let mut own = Self::open(dir)?;
        let print = |shards: &[Shard]| shards.first().map(Shard::tokenizer);
        let mut shards = Arc::into_inner(std::mem::take(&mut own.train)).unwrap_or_default();
        for other in others {
            let more = Arc::into_inner(Self::open(other)?.train).unwrap_or_default();
            if print(&more).is_some_and(|theirs| print(&shards) != Some(theirs)) {
                let (other, dir) = (other.display(), dir.display());
                let reason = format!("{other} was made by another tokenizer than {dir}");
                return Err(Error::Loader { reason });
            }
            shards.extend(more);
        }
        own.train = Arc::new(shards);
        Ok(own)
    }

    /// Opens a folder that `prepare` wrote and holds every file against the manifest.
    ///
    /// # Errors
    /// When the manifest or a file is missing, damaged or of another version.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let manifest = Manifest::read_verified(dir, FORMAT, FORMAT_VERSION)?;
        let path = dir.join("tokenizer.json");
        let bytes =
            std::fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let fingerprint = xxhash_rust::xxh3::xxh3_64(&bytes);
        let shards = |prefix: &str| -> Result<Arc<Vec<Shard>>, Error> {
            let mut names: Vec<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
            names.retain(|n| n.starts_with(prefix) && n.ends_with(".tokens"));
            names.sort_unstable();
            let mut resident = 0;
            let open = |name: &&str| {
                let shard = Shard::open(&dir.join(name))?;
                resident += shard.file_bytes();
                if resident > RESIDENT {
                    shard.release();
                }
                if shard.tokenizer() == fingerprint {
                    return Ok(shard);
                }
                let reason = format!(
                    "made by tokenizer {:016x}, but tokenizer.json is {fingerprint:016x}",
                    shard.tokenizer()
                );
                Err(Error::Shard { path: shard.path().to_owned(), reason })
            };
            Ok(Arc::new(names.iter().map(open).collect::<Result<_, Error>>()?))
        };
        Ok(Self {
            tokenizer: Arc::new(Tokenizer::load(&path)?),
            train: shards("train-")?,
            validation: shards("validation-")?,
            facts: manifest.facts.clone(),
        })
    }
}

/// A part of a document that stands in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The document's id.
    pub document: u128,
    /// How many tokens of the document (with its opening one) lie before this part.
    pub offset: u64,
    /// Where in the sample it begins.
    pub start: u32,
    /// Its length in tokens.
    pub length: u32,
}

/// One packed row; all vectors but `pieces` have the length of its stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Packed {
    /// Input tokens.
    pub tokens: Vec<u32>,
    /// For each input the token that follows it in the same document.
    pub targets: Vec<u32>,
    /// Place of each token in its part of a document, from 0.
    pub positions: Vec<u32>,
    /// For each token the row of the sample where its document begins: the first key that its query
    /// may see.
    pub starts: Vec<u32>,
    /// 1 where the target counts, 0 where the row was filled up.
    pub weights: Vec<f32>,
    /// Which documents these are.
    pub pieces: Vec<Piece>,
}

/// The loader of one set of shards.
#[derive(Debug)]
pub struct Loader {
    shards: Arc<Vec<Shard>>,
    streams: Vec<Stream>,
    deal: Deal,
    seed: u64,
    begin: u32,
    end: u32,
    orders: Mutex<BTreeMap<(usize, u64), Arc<Order>>>,
    /// Bytes that may have become resident since pages were given back; none where all may stay.
    touched: Option<AtomicU64>,
}

/// The documents of one source.
#[derive(Debug)]
struct Stream {
    name: String,
    /// (shard, document) in stored order
    documents: Vec<(u32, u32)>,
    /// (token, target) pairs of all documents: one more than a document's tokens each
    pairs: u64,
}

/// The order of a source's documents in one epoch.
#[derive(Debug)]
struct Order {
    documents: Vec<u32>,
    /// pairs up to and including each document
    ends: Vec<u64>,
}

impl Loader {
    /// A loader over shards.
    ///
    /// # Errors
    /// [`Error::Loader`] for no tokens, a length of 0, stages that do not ascend from sample 0, or
    /// sources that are not there.
    pub fn new(
        tokenizer: &Tokenizer,
        shards: Arc<Vec<Shard>>,
        course: &Course,
        seed: u64,
    ) -> Result<Self, Error> {
        if shards.iter().all(|s| s.documents() == 0) {
            let reason = "no documents in the token shards; prepare more text".to_owned();
            return Err(Error::Loader { reason });
        }
        let natural = course.stages.iter().all(|s| s.mix == Mix::Natural);
        let streams = streams(&shards, natural);
        let sources: Vec<_> = streams.iter().map(|s| (s.name.as_str(), s.pairs)).collect();
        let deal = course::deal(&sources, course)?;
        let large = shards.iter().map(Shard::file_bytes).sum::<u64>() > RESIDENT;
        Ok(Self {
            shards,
            streams,
            deal,
            seed,
            begin: tokenizer.required(special::BEGIN_OF_TEXT)?,
            end: tokenizer.required(special::END_OF_TEXT)?,
            orders: Mutex::default(),
            touched: large.then(AtomicU64::default),
        })
    }

    /// Names of the sources and their (token, target) pairs in one epoch.
    #[must_use]
    pub fn sources(&self) -> Vec<(&str, u64)> {
        self.streams.iter().map(|s| (s.name.as_str(), s.pairs)).collect()
    }

    /// Identifies what determines the samples: shards, mix, seed, length. A checkpoint keeps it, so
    /// that a resumed run can tell that it would read something else.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let mut add = |n: u64| hash.update(&n.to_le_bytes());
        add(self.seed);
        let patterns = &self.deal.patterns;
        add(patterns[0].length);
        self.shards.iter().for_each(|s| add(s.checksum()));
        for pattern in patterns {
            add(pattern.from);
            pattern.quotas.iter().for_each(|q| add(*q));
        }
        patterns[1..].iter().for_each(|pattern| add(pattern.length));
        hash.digest()
    }

    /// The first sample that no source can give, where all of them have a cap.
    #[must_use]
    pub fn ends(&self) -> Option<u64> {
        self.deal.ends
    }

    /// What is worth saying once when these samples are read: which sources no stage has a share of
    /// (with the first sample of all), and which have been read as often as they may be.
    #[must_use]
    pub fn notes(&self, samples: Range<u64>) -> Vec<String> {
        let left_out = |i: &usize| self.deal.patterns.iter().all(|p| p.quotas[*i] == 0);
        let left_out = (0..self.streams.len()).filter(left_out).map(|i| {
            let Stream { name, pairs, .. } = &self.streams[i];
            format!("source {name:?} has no share in the mix: its {pairs} tokens are not read")
        });
        let spent = self.deal.spent.iter().filter(|spent| samples.contains(&spent.sample));
        let spent = spent.map(|Spent { sample, source, max_epochs }| {
            format!(
                "sample {sample}: source {source:?} has been read {max_epochs} times, its \
                 max_epochs; its share goes to the others in proportion"
            )
        });
        let first = samples.contains(&0).then_some(left_out).into_iter().flatten();
        first.chain(spent).collect()
    }

    /// How often each source has been read when sample `index` comes: epochs, with their fraction.
    #[must_use]
    pub fn epochs(&self, index: u64) -> Vec<(&str, f64)> {
        let pairs = self.pattern(index).pairs_before(index);
        let epochs = |(s, read): (&Stream, u64)| read as f64 / s.pairs as f64;
        let read = self.streams.iter().zip(pairs);
        read.map(|read| (read.0.name.as_str(), epochs(read))).collect()
    }

    /// Sample `index`: a pure function of the seed and the index. From [`ends`](Self::ends) on caps
    /// are passed over.
    #[must_use]
    pub fn sample(&self, index: u64) -> Packed {
        let pattern = self.pattern(index);
        let (stream, mut at) = pattern.place(index);
        let mut packed = Packed::default();
        let end = at + pattern.length;
        while at < end {
            let pairs = self.streams[stream].pairs;
            let order = self.order(stream, at / pairs);
            let take = (pairs - at % pairs).min(end - at);
            self.fill(&self.streams[stream], &order, at % pairs, take, &mut packed);
            at += take;
        }
        packed
    }

    fn pattern(&self, index: u64) -> &Pattern {
        let after = self.deal.patterns.partition_point(|p| p.from <= index);
        &self.deal.patterns[after.max(1) - 1]
    }

    /// Appends `take` pairs of an epoch from pair `at` on.
    fn fill(&self, stream: &Stream, order: &Order, at: u64, take: u64, out: &mut Packed) {
        let (mut at, end) = (at, at + take);
        let mut i = order.ends.partition_point(|e| *e <= at);
        while at < end {
            let (shard, document) = stream.documents[order.documents[i] as usize];
            let shard = &self.shards[shard as usize];
            let first = if i == 0 { 0 } else { order.ends[i - 1] };
            let to = end.min(order.ends[i]);
            let entry = shard.document(document as usize);
            push(shard, &entry, (at - first, to - first), (self.begin, self.end), out);
            self.touch((to - at) * shard::width(shard.vocabulary() as usize) as u64);
            at = to;
            i += 1;
        }
    }

    /// Notes that so many bytes of a document were read, and gives pages back where more of them are
    /// resident than should be. It changes no sample.
    fn touch(&self, bytes: u64) {
        let Some(touched) = &self.touched else { return };
        // its tokens, and its entry in the table
        let more = bytes + 2 * AROUND;
        if touched.fetch_add(more, Ordering::Relaxed) + more > RESIDENT {
            touched.store(0, Ordering::Relaxed);
            self.shards.iter().for_each(Shard::release);
        }
    }

    fn order(&self, stream: usize, epoch: u64) -> Arc<Order> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(order) = orders.get(&(stream, epoch)) {
            return Arc::clone(order);
        }
        let of = &self.streams[stream];
        let key = mix(mix(self.seed, stream as u64), epoch);
        let order = Arc::new(Order::new(&self.shards, of, Some(key)));
        // A row may span two epochs, and ranks may be a few rows apart: three orders are enough.
        let old: Vec<_> = orders.range((stream, 0)..(stream, u64::MAX)).map(|(k, _)| *k).collect();
        if old.len() >= 3 {
            let farthest = old.into_iter().max_by_key(|(_, e)| e.abs_diff(epoch));
            farthest.and_then(|key| orders.remove(&key));
        }
        orders.insert((stream, epoch), Arc::clone(&order));
        order
    }
}

impl Order {
    /// Stored order without a key, shuffled by Fisher and Yates with one.
    fn new(shards: &[Shard], stream: &Stream, key: Option<u64>) -> Self {
        let mut documents: Vec<u32> = (0..stream.documents.len() as u32).collect();
        if let Some(key) = key {
            for i in (1..documents.len()).rev() {
                let draw = u128::from(mix(key, i as u64)) * (i as u128 + 1);
                documents.swap(i, (draw >> 64) as usize);
            }
        }
        let mut sum = 0;
        let ends = documents
            .iter()
            .map(|&d| {
                let (shard, document) = stream.documents[d as usize];
                sum += shards[shard as usize].document(document as usize).tokens + 1;
                sum
            })
            .collect();
        Self { documents, ends }
    }
}

/// All documents in stored order, once, in rows; the last row is filled up with weight 0. What
/// validation reads.
#[derive(Debug)]
pub struct Sequential {
    shards: Arc<Vec<Shard>>,
    stream: Stream,
    order: Order,
    length: usize,
    begin: u32,
    end: u32,
    bytes: u64,
}

impl Sequential {
    /// Rows of `sequence_length` tokens over shards.
    ///
    /// # Errors
    /// [`Error::Loader`] when there are no documents or the length is 0.
    pub fn new(
        tokenizer: &Tokenizer,
        shards: Arc<Vec<Shard>>,
        sequence_length: usize,
    ) -> Result<Self, Error> {
        // The loader's own checks hold here too.
        let course = Course::natural(sequence_length);
        let loader = Loader::new(tokenizer, Arc::clone(&shards), &course, 0)?;
        let mut streams = loader.streams;
        let stream = streams.remove(0);
        let order = Order::new(&shards, &stream, None);
        let text = |s: &Shard| (0..s.documents()).map(|i| s.document(i).bytes).sum::<u64>();
        let bytes = shards.iter().map(text).sum();
        let (begin, end) = (loader.begin, loader.end);
        Ok(Self { shards, stream, order, length: sequence_length, begin, end, bytes })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.stream.pairs.div_ceil(self.length as u64)
    }

    /// Number of targets: every token of every document, and its end.
    #[must_use]
    pub fn targets(&self) -> u64 {
        self.stream.pairs
    }

    /// Bytes of text behind them: what bits per byte are counted by.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Row `index`, below [`rows`](Self::rows).
    #[must_use]
    pub fn row(&self, index: u64) -> Packed {
        let mut packed = Packed::default();
        let (mut at, end) = (index * self.length as u64, (index + 1) * self.length as u64);
        let end = end.min(self.stream.pairs);
        let mut i = self.order.ends.partition_point(|e| *e <= at);
        while at < end {
            let (shard, document) = self.stream.documents[i];
            let shard = &self.shards[shard as usize];
            let first = if i == 0 { 0 } else { self.order.ends[i - 1] };
            let to = end.min(self.order.ends[i]);
            let entry = shard.document(document as usize);
            push(shard, &entry, (at - first, to - first), (self.begin, self.end), &mut packed);
            at = to;
            i += 1;
        }
        packed.pad(self.length, self.begin, self.end);
        packed
    }
}

impl Packed {
    /// Fills up to `length` with tokens that count for nothing, each a document of its own.
    pub fn pad(&mut self, length: usize, token: u32, target: u32) {
        for at in self.tokens.len()..length {
            self.tokens.push(token);
            self.targets.push(target);
            self.positions.push(0);
            self.starts.push(at as u32);
            self.weights.push(0.0);
        }
    }
}

/// Appends the pairs `from..to` of a document: pair 0 is (begin, first token), the last is (last
/// token, end).
fn push(
    shard: &Shard,
    entry: &crate::shard::Entry,
    (from, to): (u64, u64),
    (begin, end): (u32, u32),
    out: &mut Packed,
) {
    let start = out.tokens.len();
    if from == 0 {
        out.tokens.push(begin);
    }
    shard.read(entry.start + from.max(1) - 1..entry.start + to - 1, &mut out.tokens);
    shard.read(entry.start + from..entry.start + to.min(entry.tokens), &mut out.targets);
    if to == entry.tokens + 1 {
        out.targets.push(end);
    }
    let length = (to - from) as u32;
    out.positions.extend(0..length);
    out.starts.resize(out.tokens.len(), start as u32);
    out.weights.resize(out.tokens.len(), 1.0);
    out.pieces.push(Piece { document: entry.id, offset: from, start: start as u32, length });
}

/// (token, target) pairs of each source of some shards, in order of name.
#[must_use]
pub fn sources(shards: &[Shard]) -> BTreeMap<String, u64> {
    streams(shards, false).into_iter().map(|stream| (stream.name, stream.pairs)).collect()
}

/// The documents by source, in stored order; sources in order of name.
fn streams(shards: &[Shard], natural: bool) -> Vec<Stream> {
    let mut by_name: BTreeMap<&str, Stream> = BTreeMap::new();
    for (s, shard) in shards.iter().enumerate() {
        for d in 0..shard.documents() {
            let entry = shard.document(d);
            let source = shard.sources()[entry.source as usize].as_str();
            let name = if natural { "all" } else { source };
            let stream = by_name.entry(name).or_insert_with(|| Stream {
                name: name.to_owned(),
                documents: Vec::new(),
                pairs: 0,
            });
            stream.documents.push((s as u32, d as u32));
            stream.pairs += entry.tokens + 1;
        }
    }
    by_name.into_values().collect()
}

/// A counter-based generator: one 64-bit draw for a key and a counter (SplitMix64's finisher).
pub(crate) fn mix(key: u64, counter: u64) -> u64 {
    let finish = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    finish(finish(key.wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_add(counter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::Stage;
    use crate::{shard, tokenizer::tests::small};
    use std::collections::HashMap;

    type Documents = Vec<(u128, &'static str, Vec<u32>)>;

    fn shards(documents: &Documents) -> (tempfile::TempDir, Arc<Vec<Shard>>) {
        let dir = tempfile::tempdir().unwrap();
        let half = documents.len() / 2;
        let mut out = Vec::new();
        for (i, part) in [&documents[..half], &documents[half..]].iter().enumerate() {
            let path = dir.path().join(format!("train-{i:05}.tokens"));
            shard::tests::write(&path, 281, part);
            out.push(Shard::open(&path).unwrap());
        }
        (dir, Arc::new(out))
    }

    fn documents(n: u32) -> Documents {
        (0..n)
            .map(|i| {
                let source = if i % 3 == 0 { "code" } else { "prose" };
                (u128::from(i), source, (0..i % 11).map(|t| (i + t) % 250).collect())
            })
            .collect()
    }

    fn course(stages: &[Stage]) -> Course {
        Course { stages: stages.into(), ..Course::default() }
    }

    fn loader(shards: &Arc<Vec<Shard>>, mix: Mix, length: usize) -> Loader {
        let course = course(&[Stage { from: 0, length, mix }]);
        Loader::new(&small(), Arc::clone(shards), &course, 5).unwrap()
    }

    /// Each pair of a packed row is the right pair of its document.
    fn check_row(row: &Packed, documents: &Documents) {
        let tokenizer = small();
        let begin = tokenizer.required(special::BEGIN_OF_TEXT).unwrap();
        let end = tokenizer.required(special::END_OF_TEXT).unwrap();
        for piece in &row.pieces {
            let tokens = &documents.iter().find(|d| d.0 == piece.document).unwrap().2;
            let whole: Vec<u32> = [begin].iter().chain(tokens).chain(&[end]).copied().collect();
            for i in 0..piece.length as usize {
                let (at, from) = (piece.start as usize + i, piece.offset as usize + i);
                assert_eq!((row.tokens[at], row.targets[at]), (whole[from], whole[from + 1]));
                assert_eq!((row.positions[at], row.starts[at]), (i as u32, piece.start));
                assert!(row.weights[at] == 1.0);
            }
        }
    }

    #[test]
    fn an_epoch_reads_every_pair_once() {
        let documents = documents(50);
        let (_dir, shards) = shards(&documents);
        let loader = loader(&shards, Mix::Natural, 7);
        let pairs: u64 = documents.iter().map(|d| d.2.len() as u64 + 1).sum();
        let mut seen: HashMap<(u128, u64), u32> = HashMap::new();
        // Seven epochs are a whole number of rows.
        for index in 0..pairs {
            let row = loader.sample(index);
            assert_eq!(row.tokens.len(), 7);
            check_row(&row, &documents);
            for piece in &row.pieces {
                for i in 0..u64::from(piece.length) {
                    *seen.entry((piece.document, piece.offset + i)).or_default() += 1;
                }
            }
        }
        assert_eq!(seen.len() as u64, pairs);
        assert!(seen.values().all(|n| *n == 7));
        assert_eq!(loader.epochs(pairs), [("all", 7.0)]);
    }

    #[test]
    fn a_sample_does_not_depend_on_what_was_read_before() {
        let documents = documents(40);
        let (_dir, shards) = shards(&documents);
        let first = loader(&shards, Mix::Natural, 16);
        let forward: Vec<Packed> = (0..60).map(|i| first.sample(i)).collect();
        let second = loader(&shards, Mix::Natural, 16);
        for i in (0..60).rev() {
            assert_eq!(second.sample(i), forward[i as usize]);
        }
        assert_eq!(first.fingerprint(), second.fingerprint());
        let other = Loader::new(&small(), Arc::clone(&shards), &Course::natural(16), 6).unwrap();
        assert_ne!(other.sample(0), forward[0]);
        assert_ne!(other.fingerprint(), first.fingerprint());
    }

    fn source_of(row: &Packed, documents: &Documents) -> &'static str {
        documents.iter().find(|d| d.0 == row.pieces[0].document).unwrap().1
    }

    #[test]
    fn shares_hold_at_every_length_and_change_by_stage() {
        let documents = documents(60);
        let (_dir, shards) = shards(&documents);
        let shares = |code: f64, prose: f64| {
            Mix::Shares(vec![("code".to_owned(), code), ("prose".to_owned(), prose)])
        };
        let stage = |from, mix| Stage { from, length: 8, mix };
        let stages = [stage(0, shares(3.0, 7.0)), stage(100, shares(1.0, 0.0))];
        let loader = Loader::new(&small(), Arc::clone(&shards), &course(&stages), 5).unwrap();
        let mut code = 0_f64;
        for index in 0..100 {
            let row = loader.sample(index);
            check_row(&row, &documents);
            code += f64::from(u8::from(source_of(&row, &documents) == "code"));
            assert!((code - 0.3 * (index + 1) as f64).abs() <= 1.0, "after {index}: {code}");
        }
        assert!((100..150).all(|i| source_of(&loader.sample(i), &documents) == "code"));
        // The second stage reads on where the first stopped.
        let one = loader.epochs(100);
        let two = loader.epochs(101);
        assert!(two[0].1 > one[0].1 && two[1].1 == one[1].1, "{one:?} {two:?}");
    }

    /// The pairs of all samples before `end`, one after the other.
    fn pairs(loader: &Loader, samples: std::ops::Range<u64>) -> Vec<(u32, u32)> {
        let rows: Vec<Packed> = samples.map(|i| loader.sample(i)).collect();
        rows.iter().flat_map(|r| r.tokens.iter().copied().zip(r.targets.iter().copied())).collect()
    }

    #[test]
    fn another_length_reads_on_at_the_same_pair() {
        let documents = documents(40);
        let (_dir, shards) = shards(&documents);
        let stage = |from, length| Stage { from, length, mix: Mix::Natural };
        let stages = [stage(0, 8), stage(11, 16), stage(20, 5)];
        let ramp = Loader::new(&small(), Arc::clone(&shards), &course(&stages), 5).unwrap();
        // 11 · 8 + 9 · 16 + 20 · 5 pairs, over the border of an epoch.
        let read = pairs(&ramp, 0..40);
        assert!(ramp.epochs(40)[0].1 > 1.0, "{:?}", ramp.epochs(40));
        assert_eq!(read, pairs(&loader(&shards, Mix::Natural, 4), 0..83));
        (0..40).for_each(|i| check_row(&ramp.sample(i), &documents));
        let constant = loader(&shards, Mix::Natural, 8);
        assert_ne!(ramp.fingerprint(), constant.fingerprint());
        let lengths: Vec<usize> = [0, 10, 11, 19, 20].map(|i| ramp.sample(i).tokens.len()).into();
        assert_eq!(lengths, [8, 8, 16, 16, 5]);
    }

    #[test]
    fn bad_mixes_are_refused_by_name() {
        let documents = documents(20);
        let (_dir, shards) = shards(&documents);
        let check = |schedule: &[Stage], says: &str| {
            let result = Loader::new(&small(), Arc::clone(&shards), &course(schedule), 5);
            let error = result.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        let mix = |name: &str, share| Mix::Shares(vec![(name.to_owned(), share)]);
        let stage = |from, mix| Stage { from, length: 8, mix };
        check(&[stage(0, mix("poetry", 1.0))], "poetry");
        check(&[stage(0, mix("code", f64::NAN))], "NaN");
        check(&[stage(0, mix("code", 0.0))], "no share above 0");
        check(&[stage(3, Mix::Natural)], "sample 3");
        check(&[stage(0, Mix::Natural), stage(0, Mix::Natural)], "sample 0");
        check(&[Stage { length: 0, ..stage(0, Mix::Natural) }], "sequence length 0");
        check(&[], "at least one");
    }

    #[test]
    fn what_is_left_out_or_spent_is_said_once() {
        let documents = documents(60);
        let (_dir, shards) = shards(&documents);
        let code = Mix::Shares(vec![("code".to_owned(), 1.0)]);
        let mut course = course(&[Stage { from: 0, length: 8, mix: code }]);
        course.max_epochs.insert("code".to_owned(), 1.5);
        let loader = Loader::new(&small(), Arc::clone(&shards), &course, 5).unwrap();
        let first = loader.notes(0..4);
        assert!(first.len() == 1 && first[0].contains("\"prose\" has no share"), "{first:?}");
        let ends = loader.ends().unwrap();
        assert!(loader.notes(1..ends).is_empty());
        let last = loader.notes(ends..ends + 1);
        assert!(last.len() == 1 && last[0].contains("\"code\" has been read 1.5"), "{last:?}");
        let (code, read) = (loader.sources()[0].1 as f64, loader.epochs(ends)[0].1);
        assert!(read <= 1.5 && read > 1.5 - 8.0 / code, "{read}");
    }

    #[test]
    fn sequential_rows_cover_everything_once() {
        let documents = documents(30);
        let (_dir, shards) = shards(&documents);
        let rows = Sequential::new(&small(), Arc::clone(&shards), 9).unwrap();
        let mut counted = 0_f32;
        for index in 0..rows.rows() {
            let row = rows.row(index);
            assert_eq!(row.tokens.len(), 9);
            assert_eq!(row.targets.len(), 9);
            check_row(&row, &documents);
            counted += row.weights.iter().sum::<f32>();
        }
        assert_eq!(counted as u64, rows.targets());
        let text: u64 = documents.iter().map(|d| d.2.len() as u64 * 2).sum();
        assert_eq!(rows.bytes(), text);
    }
}
