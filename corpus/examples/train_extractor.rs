//! Makes the weights of the block score (`corpus/src/html/model.txt`) from pages with known main
//! text, and says how good such weights are on sites that they were not made from: it trains on one
//! half of the pages (by hash of the site, so that no site is in both) and scores the other, both
//! ways, and on four fifths of them and scores the last.
//!
//! `cargo run --release -p quipu-corpus --example train_extractor -- GOLD_DIR [MODEL_OUT]`
//!
//! GOLD_DIR holds `gold.jsonl` (id, set, type, main, with, without) and `html/ID.html.gz`. Labels:
//! a block is main text by the share of its words that can be laid on the gold text in runs; where
//! the gold has segments only, blocks that hold one are labelled. Loss: cross-entropy, every page
//! of a set with the same weight (`score::decide` takes the scores as log odds) and every set with
//! the same sum. Several small networks are averaged; the average of such networks is one wider
//! network. Two are written: for articles, and for all other pages.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use quipu_corpus::{encoding, html};

/// Hidden units of one network, networks, passes over the pages, pages a step.
const HIDDEN: usize = 16;
const NETWORKS: u64 = 4;
const PASSES: usize = 24;
const BATCH: usize = 8;
const RATE: f32 = 3e-3;
const DECAY: f32 = 1e-3;
/// Share of the features without which a page is learned from, another share at every step.
const DROPPED: f32 = 0.25;
/// What a page weighs for the network of the other kind of pages.
const OTHERS: f32 = 0.4;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = args.first().ok_or("usage: train_extractor GOLD_DIR [MODEL_OUT]")?;
    let pages = read_gold(Path::new(folder))?;
    println!("{} pages, {} features", pages.len(), html::features::COUNT);
    let model = Model::fit(&pages.iter().collect::<Vec<_>>());
    let kept: Vec<Vec<bool>> = pages.iter().map(|p| model.keep(p)).collect();
    report("all, trained on all", pages.iter().zip(&kept));
    if let Some(out) = args.get(1) {
        std::fs::write(out, model.text())?;
    }
    for parts in [2, 5] {
        let mut held_out = vec![Vec::new(); pages.len()];
        for part in 0..parts {
            let inside = |page: &Page| page.hash % parts == part;
            let train: Vec<&Page> = pages.iter().filter(|p| !inside(p)).collect();
            let model = Model::fit(&train);
            for (i, page) in pages.iter().enumerate().filter(|(_, p)| inside(p)) {
                held_out[i] = model.keep(page);
            }
            if parts == 2 {
                let scored = pages.iter().zip(&held_out).filter(|(p, _)| inside(p));
                report(&format!("half {part}, not trained on"), scored);
            }
        }
        let label = format!("all, each of {parts} parts by a model of the others");
        report(&label, pages.iter().zip(&held_out));
    }
    Ok(())
}

// ---- pages ----

/// A page with its features and labels.
#[derive(Default)]
struct Page {
    kind: String,
    hash: u64,
    main: Option<String>,
    with: Vec<String>,
    without: Vec<String>,
    texts: Vec<String>,
    /// The page as it is decided about.
    flat: html::blocks::Page,
    /// Features that are not zero, by block.
    rows: Vec<Vec<(usize, f32)>>,
    /// Share of main text, and weight of the label, by block.
    labels: Vec<f32>,
    weights: Vec<f32>,
    /// Whether it says of itself that it is an article.
    article: bool,
    /// What the page weighs: the sets weigh the same, as they do in the overall score.
    worth: f32,
    /// Words by block.
    sizes: Vec<f32>,
}

fn read_gold(folder: &Path) -> Result<Vec<Page>, Failure> {
    let mut pages = Vec::new();
    for line in std::fs::read_to_string(folder.join("gold.jsonl"))?.lines() {
        if line.trim().is_empty() {
            continue;
        }
        let gold: serde_json::Value = serde_json::from_str(line)?;
        let id = gold["id"].as_str().ok_or("a gold page without id")?;
        let file = std::fs::File::open(folder.join(format!("html/{id}.html.gz")))?;
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut bytes)?;
        pages.push(read_page(&gold, id, &bytes));
    }
    let set = |page: &Page| match page.kind.as_str() {
        "articles" => 0,
        "segments" => 1,
        _ => 2,
    };
    let mut counts = [0.0f32; 3];
    pages.iter().for_each(|page| counts[set(page)] += 1.0);
    let whole = pages.len() as f32;
    pages.iter_mut().for_each(|p| p.worth = whole / 3.0 / counts[set(p)]);
    Ok(pages)
}

fn read_page(gold: &serde_json::Value, id: &str, bytes: &[u8]) -> Page {
    let decoded = encoding::decode(bytes, None);
    let (tree, _) = html::parse(&decoded, html::Budget::default());
    let claims = html::metadata::read(&tree);
    let flat = html::blocks::flatten(&tree);
    let rows = html::features::of_page(&flat, &claims);
    let strings = |key: &str| {
        let list = gold[key].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().filter_map(|s| s.as_str()).map(folded).collect()
    };
    let set = gold["set"].as_str().unwrap_or("");
    let main = gold["main"].as_str().filter(|_| set != "segments").map(str::to_string);
    let name = if set == "articles" { set } else { gold["type"].as_str().unwrap_or("") };
    let mut page = Page {
        kind: if set == "segments" { set.to_string() } else { name.to_string() },
        article: html::score::is_article(claims.signs),
        hash: xxhash_rust::xxh3::xxh3_64(site_of(gold["url"].as_str().unwrap_or(id)).as_bytes()),
        main,
        with: strings("with"),
        without: strings("without"),
        texts: flat.blocks.iter().map(|b| flat.text_of(b).to_string()).collect(),
        rows: rows.chunks_exact(html::features::COUNT).map(sparse).collect(),
        flat,
        ..Page::default()
    };
    page.sizes = page.texts.iter().map(|t| words(t).count() as f32).collect();
    label(&mut page);
    page
}

/// The site of an address: its host's last two names (three where the last is a country's and the
/// one before it short), so that no site is in two parts.
fn site_of(url: &str) -> String {
    let host = url.split("//").nth(1).unwrap_or(url).split(['/', ':', '?']).next().unwrap_or(url);
    let names: Vec<&str> = host.split('.').collect();
    let country = names.len() > 2 && names[names.len() - 1].len() == 2;
    let count = if country && names[names.len() - 2].len() <= 3 { 3 } else { 2 };
    names[names.len().saturating_sub(count)..].join(".")
}

fn sparse(row: &[f32]) -> Vec<(usize, f32)> {
    row.iter().copied().enumerate().filter(|(_, v)| *v != 0.0).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty())
}

fn folded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// ---- labels ----

fn label(page: &mut Page) {
    page.labels = vec![0.0; page.texts.len()];
    page.weights = vec![0.0; page.texts.len()];
    match page.main.clone() {
        Some(main) => label_by_text(page, &main),
        None => label_by_segments(page),
    }
}

fn label_by_segments(page: &mut Page) {
    for (i, text) in page.texts.iter().enumerate() {
        let text = folded(text);
        let stands =
            |s: &String| text.contains(s.as_str()) || (text.len() > 12 && s.contains(&text));
        if page.with.iter().any(stands) {
            (page.labels[i], page.weights[i]) = (1.0, 1.0);
        } else if page.without.iter().any(|s| text.contains(s.as_str())) {
            page.weights[i] = 1.0;
        }
    }
    let sum: f32 = page.weights.iter().sum();
    page.weights.iter_mut().for_each(|w| *w /= sum.max(1.0));
}

/// Lays the blocks on the gold text, longest first, each word of which can be taken once.
fn label_by_text(page: &mut Page, main: &str) {
    let gold: Vec<String> = words(main).map(str::to_lowercase).collect();
    let mut index: HashMap<&str, Vec<usize>> = HashMap::new();
    gold.iter().enumerate().for_each(|(i, w)| index.entry(w).or_default().push(i));
    let mut laid = Laid { gold: &gold, index, taken: vec![false; gold.len()], at: HashMap::new() };
    let again = html::repeats::of_texts(page.texts.iter().map(String::as_str));
    let mut order: Vec<usize> = (0..page.texts.len()).collect();
    order.sort_by_key(|&i| (again[i], std::cmp::Reverse(page.sizes[i] as usize)));
    for i in order {
        let block: Vec<String> = words(&page.texts[i]).map(str::to_lowercase).collect();
        page.labels[i] = match block.len() {
            0 => 0.0,
            1 | 2 => laid.lay_short(i, &block),
            _ => laid.lay_long(i, &block),
        };
    }
    // square roots, so that one long paragraph does not outweigh all short lines
    page.weights = page.sizes.iter().map(|s| s.sqrt() + 0.3).collect();
    let sum: f32 = page.weights.iter().sum();
    page.weights.iter_mut().for_each(|w| *w /= sum.max(1e-6));
}

struct Laid<'g> {
    gold: &'g [String],
    index: HashMap<&'g str, Vec<usize>>,
    taken: Vec<bool>,
    /// Where each laid block begins.
    at: HashMap<usize, usize>,
}

impl Laid<'_> {
    fn run(&self, block: &[String], from: usize) -> usize {
        let pairs = block.iter().zip(&self.gold[from..]).zip(&self.taken[from..]);
        pairs.take_while(|((a, b), taken)| a == b && !**taken).count()
    }

    fn take(&mut self, from: usize, len: usize) {
        self.taken[from..from + len].iter_mut().for_each(|t| *t = true);
    }

    /// A word or two match anywhere; they count only beside a block that is laid already.
    fn lay_short(&mut self, i: usize, block: &[String]) -> f32 {
        let Some(starts) = self.index.get(block[0].as_str()) else { return 0.0 };
        let beside = |start: usize| {
            let near = (i.saturating_sub(6)..i + 7).filter_map(|j| self.at.get(&j));
            near.map(|at| at.abs_diff(start)).min()
        };
        let fits = starts.iter().filter(|&&s| self.run(block, s) == block.len());
        let best = fits.filter_map(|&s| beside(s).map(|d| (d, s))).min();
        let Some((_, start)) = best.filter(|(distance, _)| *distance <= 60) else { return 0.0 };
        self.take(start, block.len());
        self.at.insert(i, start);
        1.0
    }

    /// Runs of three words and more are laid greedily.
    fn lay_long(&mut self, i: usize, block: &[String]) -> f32 {
        let (mut from, mut matched) = (0, 0);
        while from < block.len() {
            let starts = self.index.get(block[from].as_str()).map_or(&[][..], Vec::as_slice);
            let run = |&s: &usize| (self.run(&block[from..], s), std::cmp::Reverse(s));
            match starts.iter().map(run).max() {
                Some((len, start)) if len >= 3 => {
                    self.take(start.0, len);
                    self.at.entry(i).or_insert(start.0);
                    matched += len;
                    from += len;
                }
                _ => from += 1,
            }
        }
        matched as f32 / block.len() as f32
    }
}

// ---- the network ----

/// The two networks: for pages that are no articles, and for articles.
struct Model([Network; 2]);

impl Model {
    /// Both learn from all pages, each more from those of its kind.
    fn fit(pages: &[&Page]) -> Model {
        Model([false, true].map(|article| fit(pages, article)))
    }

    fn keep(&self, page: &Page) -> Vec<bool> {
        let network = &self.0[usize::from(page.article)];
        let mut units = Vec::new();
        let scores: Vec<f32> = page.rows.iter().map(|r| network.score(r, &mut units)).collect();
        html::score::keep(&page.flat, &scores, page.article)
    }

    fn text(&self) -> String {
        let [plain, article] = &self.0;
        format!(
            "# The block score: two networks with one hidden layer, for pages that say of themselves\n\
             # that they are articles (the second) and for all others (the first), made by\n\
             # examples/train_extractor.rs from labelled blocks of pages; no text of any page is in\n\
             # it. A network: a line with features and hidden units; a line of weights a feature,\n\
             # biases, output weights, output bias.\n{}{}",
            plain.text(),
            article.text()
        )
    }
}

#[derive(Clone)]
struct Network {
    /// `COUNT` rows of `hidden`, biases, output weights, output bias, one after the other.
    values: Vec<f32>,
    hidden: usize,
}

const COUNT: usize = html::features::COUNT;

impl Network {
    fn new(hidden: usize, seed: u64) -> Network {
        let mut numbers = Numbers(seed);
        let mut values = vec![0.0; (COUNT + 2) * hidden + 1];
        for value in &mut values[..COUNT * hidden] {
            *value = numbers.normal() / (COUNT as f32).sqrt();
        }
        for value in &mut values[(COUNT + 1) * hidden..(COUNT + 2) * hidden] {
            *value = numbers.normal() / (hidden as f32).sqrt();
        }
        Network { values, hidden }
    }

    fn layers(&self) -> (&[f32], &[f32], &[f32], f32) {
        let h = self.hidden;
        let (weights, rest) = self.values.split_at(COUNT * h);
        (weights, &rest[..h], &rest[h..2 * h], rest[2 * h])
    }

    /// The score of a block; the hidden units' values go to `units`.
    fn score(&self, row: &[(usize, f32)], units: &mut Vec<f32>) -> f32 {
        let (weights, biases, output, bias) = self.layers();
        units.clear();
        units.extend_from_slice(biases);
        for (feature, value) in row {
            let weights = &weights[feature * self.hidden..(feature + 1) * self.hidden];
            units.iter_mut().zip(weights).for_each(|(u, w)| *u += value * w);
        }
        units.iter_mut().for_each(|u| *u = u.max(0.0));
        bias + units.iter().zip(output).map(|(u, w)| u * w).sum::<f32>()
    }

    /// Adds the gradient of one block's score times `slope`.
    fn add_gradient(&self, row: &[(usize, f32)], units: &[f32], slope: f32, gradient: &mut [f32]) {
        let h = self.hidden;
        let (_, _, output, _) = self.layers();
        let inner: Vec<f32> =
            units.iter().zip(output).map(|(u, w)| if *u > 0.0 { slope * w } else { 0.0 }).collect();
        for (feature, value) in row {
            let to = &mut gradient[feature * h..(feature + 1) * h];
            to.iter_mut().zip(&inner).for_each(|(g, d)| *g += value * d);
        }
        let tail = &mut gradient[COUNT * h..];
        for k in 0..h {
            tail[k] += inner[k];
            tail[h + k] += slope * units[k];
        }
        tail[2 * h] += slope;
    }

    /// The form that `score.rs` reads.
    fn text(&self) -> String {
        let number =
            |v: &f32| format!("{:.4}", v).trim_end_matches('0').trim_end_matches('.').into();
        let line = |row: &[f32]| row.iter().map(number).collect::<Vec<String>>().join(" ") + "\n";
        let (weights, biases, output, bias) = self.layers();
        let mut out = format!("{COUNT} {}\n", self.hidden);
        weights.chunks_exact(self.hidden).for_each(|row| out.push_str(&line(row)));
        out.push_str(&(line(biases) + &line(output) + &line(&[bias])));
        out
    }
}

/// Trains several networks and joins them into their average.
fn fit(pages: &[&Page], article: bool) -> Network {
    let networks: Vec<Network> = (0..NETWORKS).map(|seed| fit_one(pages, article, seed)).collect();
    let hidden = HIDDEN * networks.len();
    let mut joined = Network { values: vec![0.0; (COUNT + 2) * hidden + 1], hidden };
    let share = 1.0 / networks.len() as f32;
    for (n, network) in networks.iter().enumerate() {
        let (weights, biases, output, bias) = network.layers();
        for k in 0..HIDDEN {
            let unit = n * HIDDEN + k;
            for feature in 0..COUNT {
                joined.values[feature * hidden + unit] = weights[feature * HIDDEN + k];
            }
            joined.values[COUNT * hidden + unit] = biases[k];
            joined.values[(COUNT + 1) * hidden + unit] = output[k] * share;
        }
        joined.values[(COUNT + 2) * hidden] += bias * share;
    }
    joined
}

/// Adam with a cosine schedule.
fn fit_one(pages: &[&Page], article: bool, seed: u64) -> Network {
    let mut network = Network::new(HIDDEN, seed * 7 + 1);
    let mut numbers = Numbers(seed + 99);
    let count = network.values.len();
    let (mut first, mut second) = (vec![0.0f32; count], vec![0.0f32; count]);
    let mut order: Vec<usize> = (0..pages.len()).filter(|&i| !pages[i].rows.is_empty()).collect();
    let total = (PASSES * order.len().div_ceil(BATCH)) as f32;
    let mut step = 0;
    for _ in 0..PASSES {
        for i in (1..order.len()).rev() {
            order.swap(i, numbers.below(i + 1));
        }
        for batch in order.chunks(BATCH) {
            let mut gradient = vec![0.0f32; count];
            for &i in batch {
                let mask = numbers.mask();
                let other = if pages[i].article == article { 1.0 } else { OTHERS };
                page_gradient(&network, pages[i], &mask, other / BATCH as f32, &mut gradient);
            }
            step += 1;
            let rate = RATE * 0.5 * (1.0 + (std::f32::consts::PI * step as f32 / total).cos());
            let fix = (1.0 - 0.9f32.powi(step), 1.0 - 0.999f32.powi(step));
            for i in 0..count {
                let g = gradient[i] + DECAY * network.values[i];
                first[i] = 0.9 * first[i] + 0.1 * g;
                second[i] = 0.999 * second[i] + 0.001 * g * g;
                network.values[i] -=
                    rate * (first[i] / fix.0) / ((second[i] / fix.1).sqrt() + 1e-8);
            }
        }
    }
    network
}

/// Adds the gradient of the cross-entropy of a page's blocks.
fn page_gradient(network: &Network, page: &Page, mask: &[f32], scale: f32, gradient: &mut [f32]) {
    let mut units = Vec::new();
    let mut masked = Vec::new();
    for (i, row) in page.rows.iter().enumerate().filter(|(i, _)| page.weights[*i] > 0.0) {
        masked.clear();
        masked.extend(row.iter().map(|&(f, v)| (f, v * mask[f])).filter(|(_, v)| *v != 0.0));
        let row = &masked[..];
        let odds = 1.0 / (1.0 + (-network.score(row, &mut units)).exp());
        let slope = page.worth * page.weights[i] * (odds - page.labels[i]) * scale;
        network.add_gradient(row, &units, slope, gradient);
    }
}

/// Random numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes())
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// For each feature 0, or what keeps the sum: a page is learned from without some of them.
    fn mask(&mut self) -> Vec<f32> {
        let mut unit = || (self.next() >> 40) as f32 / (1 << 24) as f32;
        (0..COUNT).map(|_| if unit() < DROPPED { 0.0 } else { 1.0 / (1.0 - DROPPED) }).collect()
    }

    fn normal(&mut self) -> f32 {
        let mut unit = || (self.next() >> 40) as f32 / (1 << 24) as f32;
        (0..12).map(|_| unit()).sum::<f32>() - 6.0
    }
}

// ---- scores, as tools of the benchmark sets compute them ----

fn report<'p>(label: &str, pages: impl Iterator<Item = (&'p Page, &'p Vec<bool>)>) {
    let (mut precision, mut recall) = (Vec::new(), Vec::new());
    let mut kinds: std::collections::BTreeMap<&str, Vec<f64>> = Default::default();
    let (mut right, mut wrong, mut missed) = (0.0, 0.0, 0.0);
    for (page, keep) in pages {
        let kept = page.texts.iter().zip(keep).filter(|(_, k)| **k).map(|(t, _)| t.as_str());
        let text = kept.collect::<Vec<_>>().join("\n");
        match &page.main {
            Some(main) if page.kind == "articles" => {
                let (hit, got, wanted) = overlap(shingles(&text), shingles(main));
                precision.extend((got > 0.0).then(|| hit / got));
                recall.extend((wanted > 0.0).then(|| hit / wanted));
            }
            None if page.kind != "segments" => {}
            Some(main) if main.is_empty() => {}
            Some(main) => {
                let lower = |t: &str| words(t).map(|w| vec![w.to_lowercase()]).collect::<Vec<_>>();
                let (hit, got, wanted) = overlap(lower(&text), lower(main));
                kinds.entry(&page.kind).or_default().push(2.0 * hit / (got + wanted).max(1.0));
            }
            None => {
                let flat = folded(&text);
                let found = page.with.iter().filter(|s| flat.contains(s.as_str())).count() as f64;
                right += found;
                missed += page.with.len() as f64 - found;
                wrong += page.without.iter().filter(|s| flat.contains(s.as_str())).count() as f64;
            }
        }
    }
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len().max(1) as f64;
    let harmonic = |p: f64, r: f64| if p + r > 0.0 { 2.0 * p * r / (p + r) } else { 0.0 };
    let articles = harmonic(mean(&precision), mean(&recall));
    let wcxb = mean(&kinds.values().flatten().copied().collect::<Vec<_>>());
    let segments = 2.0 * right / (2.0 * right + wrong + missed).max(1.0);
    let by_kind: Vec<String> = kinds.iter().map(|(k, v)| format!("{k} {:.3}", mean(v))).collect();
    println!(
        "{label}: overall {:.4}; articles {articles:.3} wcxb {wcxb:.3} ({}) segments {segments:.3}",
        (articles + wcxb + segments) / 3.0,
        by_kind.join(" ")
    );
}

fn shingles(text: &str) -> Vec<Vec<String>> {
    let words: Vec<String> = words(text).map(str::to_string).collect();
    if words.len() < 4 {
        return if words.is_empty() { vec![] } else { vec![words] };
    }
    words.windows(4).map(<[String]>::to_vec).collect()
}

/// Common items of two multisets, and the sizes of both.
fn overlap(got: Vec<Vec<String>>, wanted: Vec<Vec<String>>) -> (f64, f64, f64) {
    let sizes = (got.len() as f64, wanted.len() as f64);
    let mut counts: HashMap<Vec<String>, usize> = HashMap::new();
    wanted.into_iter().for_each(|item| *counts.entry(item).or_default() += 1);
    let mut hit = 0.0;
    for item in got {
        if let Some(count) = counts.get_mut(&item).filter(|count| **count > 0) {
            *count -= 1;
            hit += 1.0;
        }
    }
    (hit, sizes.0, sizes.1)
}
