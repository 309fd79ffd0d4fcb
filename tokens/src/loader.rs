//! The loader: which tokens are sample number n. A sample is one row of a fixed length, packed with
//! documents, each opened by `<|begin_of_text|>` and closed by `<|end_of_text|>` as the target of
//! its last token; what belongs to which document is said per token, so that attention need not
//! cross (paper, section 3.2). The sample is a pure function of (seed, index): there is no state to
//! lose, and a resumed run reads on where it stopped. Sources are mixed by token share, and the mix
//! may change at given samples (trap D17). Not here: batches and ranks (`train`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use quipu_store::manifest::Manifest;
use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Tokenizer, shard::Shard, special};

/// Name of the format of a folder of tokens in its manifest.
pub const FORMAT: &str = "quipu.tokens";
/// Version of that format.
pub const FORMAT_VERSION: u32 = 1;

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
            let open = |name: &&str| {
                let shard = Shard::open(&dir.join(name))?;
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

/// One packed row; all vectors but `pieces` have the loader's sequence length.
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

/// The share of each source by tokens; shares are relative, a source that is not named is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Mix {
    /// All documents as one source: each once an epoch.
    Natural,
    /// By source name.
    Shares(Vec<(String, f64)>),
}

/// A mix and the sample from which it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// First sample of this mix; the first stage begins at 0.
    pub from: u64,
    /// The mix.
    pub mix: Mix,
}

/// The loader of one set of shards.
#[derive(Debug)]
pub struct Loader {
    shards: Arc<Vec<Shard>>,
    streams: Vec<Stream>,
    stages: Vec<Pattern>,
    seed: u64,
    length: usize,
    begin: u32,
    end: u32,
    orders: Mutex<BTreeMap<(usize, u64), Arc<Order>>>,
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

/// Which source each sample of a block is of, repeated for the length of a stage.
#[derive(Debug)]
struct Pattern {
    from: u64,
    /// (stream, how many samples of it stand before in the block)
    block: Vec<(usize, u64)>,
    quotas: Vec<u64>,
    /// rows of each stream that earlier stages have read
    before: Vec<u64>,
}

/// Samples in a block: the finest share is one in so many.
const BLOCK: u64 = 10_000;

impl Loader {
    /// A loader over shards. `sequence_length` is the number of tokens of a sample.
    ///
    /// # Errors
    /// [`Error::Loader`] for no tokens, a length of 0, or a mix that names no source there is.
    pub fn new(
        tokenizer: &Tokenizer,
        shards: Arc<Vec<Shard>>,
        schedule: &[Stage],
        seed: u64,
        sequence_length: usize,
    ) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::Loader { reason });
        if sequence_length == 0 || u32::try_from(sequence_length).is_err() {
            return refuse(format!("sequence length {sequence_length}: expected 1 to 2^32 - 1"));
        }
        if shards.iter().all(|s| s.documents() == 0) {
            return refuse("no documents in the token shards; prepare more text".to_owned());
        }
        let natural = schedule.iter().all(|s| s.mix == Mix::Natural);
        let streams = streams(&shards, natural);
        let mut stages: Vec<Pattern> = Vec::new();
        for stage in schedule {
            let before = match stages.last() {
                None if stage.from == 0 => vec![0; streams.len()],
                Some(last) if stage.from > last.from => last.rows_before(stage.from),
                _ => {
                    return refuse(format!(
                        "a mix from sample {}: stages must begin at 0 and ascend",
                        stage.from
                    ));
                }
            };
            let quotas = quotas(&streams, &stage.mix)?;
            stages.push(Pattern { from: stage.from, block: spread(&quotas), quotas, before });
        }
        if stages.is_empty() {
            return refuse("a loader needs at least one mix".to_owned());
        }
        Ok(Self {
            shards,
            streams,
            stages,
            seed,
            length: sequence_length,
            begin: tokenizer.required(special::BEGIN_OF_TEXT)?,
            end: tokenizer.required(special::END_OF_TEXT)?,
            orders: Mutex::default(),
        })
    }

    /// Tokens of a sample.
    #[must_use]
    pub fn sequence_length(&self) -> usize {
        self.length
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
        add(self.length as u64);
        self.shards.iter().for_each(|s| add(s.checksum()));
        for stage in &self.stages {
            add(stage.from);
            stage.quotas.iter().for_each(|q| add(*q));
        }
        hash.digest()
    }

    /// How often each source has been read when sample `index` comes: epochs, with their fraction.
    #[must_use]
    pub fn epochs(&self, index: u64) -> Vec<(&str, f64)> {
        let rows = self.stage(index).rows_before(index);
        let read = |(s, rows): (&Stream, u64)| rows as f64 * self.length as f64 / s.pairs as f64;
        self.streams.iter().zip(rows).map(|(s, r)| (s.name.as_str(), read((s, r)))).collect()
    }

    /// Sample `index`: a pure function of the seed and the index.
    #[must_use]
    pub fn sample(&self, index: u64) -> Packed {
        let stage = self.stage(index);
        let within = index - stage.from;
        let (stream, rank) = stage.block[(within % BLOCK) as usize];
        let row = stage.before[stream] + within / BLOCK * stage.quotas[stream] + rank;
        let mut packed = Packed::default();
        let mut at = row * self.length as u64;
        while packed.tokens.len() < self.length {
            let pairs = self.streams[stream].pairs;
            let order = self.order(stream, at / pairs);
            let left = pairs - at % pairs;
            let take = left.min((self.length - packed.tokens.len()) as u64);
            self.fill(&self.streams[stream], &order, at % pairs, take, &mut packed);
            at += take;
        }
        packed
    }

    fn stage(&self, index: u64) -> &Pattern {
        let after = self.stages.partition_point(|s| s.from <= index);
        &self.stages[after.max(1) - 1]
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
            at = to;
            i += 1;
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

impl Pattern {
    /// Rows of each stream that stand before sample `index` of this stage.
    fn rows_before(&self, index: u64) -> Vec<u64> {
        let within = index - self.from;
        let mut rows: Vec<u64> = self
            .before
            .iter()
            .zip(&self.quotas)
            .map(|(before, quota)| before + within / BLOCK * quota)
            .collect();
        for (stream, _) in &self.block[..(within % BLOCK) as usize] {
            rows[*stream] += 1;
        }
        rows
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
        let all = [Stage { from: 0, mix: Mix::Natural }];
        let loader = Loader::new(tokenizer, Arc::clone(&shards), &all, 0, sequence_length)?;
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

/// Samples of each stream in a block: largest remainders, at least one for a share above 0.
fn quotas(streams: &[Stream], mix: &Mix) -> Result<Vec<u64>, Error> {
    let shares: Vec<f64> = match mix {
        Mix::Natural => streams.iter().map(|s| s.pairs as f64).collect(),
        Mix::Shares(named) => {
            let mut shares = vec![0.0; streams.len()];
            for (name, share) in named {
                let known = || streams.iter().map(|s| s.name.as_str()).collect::<Vec<_>>();
                let Some(at) = streams.iter().position(|s| s.name == *name) else {
                    let reason = format!("the mix names source {name:?}; there are {:?}", known());
                    return Err(Error::Loader { reason });
                };
                if !share.is_finite() || *share < 0.0 {
                    let reason = format!("source {name:?} has share {share}; expected 0 or more");
                    return Err(Error::Loader { reason });
                }
                shares[at] += share;
            }
            shares
        }
    };
    let sum: f64 = shares.iter().sum();
    if !sum.is_finite() || sum <= 0.0 {
        return Err(Error::Loader { reason: "the mix has no share above 0".to_owned() });
    }
    let exact: Vec<f64> = shares.iter().map(|s| s / sum * BLOCK as f64).collect();
    let floor = |e: &f64| if *e > 0.0 { (e.floor() as u64).max(1) } else { 0 };
    let mut quotas: Vec<u64> = exact.iter().map(floor).collect();
    while quotas.iter().sum::<u64>() != BLOCK {
        let short = quotas.iter().sum::<u64>() < BLOCK;
        let gap = |i: &usize| exact[*i] - quotas[*i] as f64;
        let by_gap = |a: &usize, b: &usize| gap(a).total_cmp(&gap(b)).then(b.cmp(a));
        let candidates = (0..quotas.len()).filter(|&i| exact[i] > 0.0 && (short || quotas[i] > 1));
        let pick = if short { candidates.max_by(by_gap) } else { candidates.min_by(by_gap) };
        match pick {
            Some(i) if short => quotas[i] += 1,
            Some(i) => quotas[i] -= 1,
            None => {
                let reason = format!("more than {BLOCK} sources in one mix");
                return Err(Error::Loader { reason });
            }
        }
    }
    Ok(quotas)
}

/// Spreads quotas evenly: at each place the stream that is farthest behind its share.
fn spread(quotas: &[u64]) -> Vec<(usize, u64)> {
    let mut taken = vec![0_u64; quotas.len()];
    (1..=BLOCK)
        .map(|n| {
            let behind = |i: usize| (quotas[i] * n) as i64 - (taken[i] * BLOCK) as i64;
            let next = (0..quotas.len())
                .filter(|&i| taken[i] < quotas[i])
                .max_by_key(|&i| (behind(i), std::cmp::Reverse(i)))
                .unwrap_or(0);
            taken[next] += 1;
            (next, taken[next] - 1)
        })
        .collect()
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

    fn loader(shards: &Arc<Vec<Shard>>, mix: Mix, length: usize) -> Loader {
        let stage = [Stage { from: 0, mix }];
        Loader::new(&small(), Arc::clone(shards), &stage, 5, length).unwrap()
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
        let stage = [Stage { from: 0, mix: Mix::Natural }];
        let other = Loader::new(&small(), Arc::clone(&shards), &stage, 6, 16).unwrap();
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
        let stages =
            [Stage { from: 0, mix: shares(3.0, 7.0) }, Stage { from: 100, mix: shares(1.0, 0.0) }];
        let loader = Loader::new(&small(), Arc::clone(&shards), &stages, 5, 8).unwrap();
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

    #[test]
    fn bad_mixes_are_refused_by_name() {
        let documents = documents(20);
        let (_dir, shards) = shards(&documents);
        let check = |schedule: &[Stage], says: &str| {
            let result = Loader::new(&small(), Arc::clone(&shards), schedule, 5, 8);
            let error = result.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        let mix = |name: &str, share| Mix::Shares(vec![(name.to_owned(), share)]);
        check(&[Stage { from: 0, mix: mix("poetry", 1.0) }], "poetry");
        check(&[Stage { from: 0, mix: mix("code", f64::NAN) }], "NaN");
        check(&[Stage { from: 0, mix: mix("code", 0.0) }], "no share above 0");
        check(&[Stage { from: 3, mix: Mix::Natural }], "sample 3");
        check(&[], "at least one");
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
