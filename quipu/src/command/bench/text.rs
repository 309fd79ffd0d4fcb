//! `quipu bench text INPUT…`: megabytes of text a second of what curation does with a text once it
//! is extracted, on one core, part by part and together. Not here: extraction, reading, shuffles.

use super::clock;
use crate::error::Error;
use crate::terminal::Terminal;
use quipu_corpus::classify::{self, Classifier, Example};
use quipu_corpus::dedup::lines::{language_seed, line_hash};
use quipu_corpus::dedup::minhash::{Bands, shingles};
use quipu_corpus::input::{Body, Found, expand};
use quipu_corpus::remote::Access;
use quipu_corpus::rules::{Judge, View};
use quipu_corpus::{Recipe, encoding, html, language};
use quipu_documents::Route;
use serde_json::json;
use std::hint::black_box;
use std::path::PathBuf;

/// Measures and prints.
pub fn run(inputs: &[PathBuf], passes: usize, terminal: &Terminal) -> Result<(), Error> {
    if passes == 0 {
        return Err(Error::usage("--passes must be at least 1"));
    }
    let bench = Bench::read(inputs)?;
    let megabytes = bench.texts.iter().map(|text| text.text.len()).sum::<usize>() as f64 / 1e6;
    terminal.say(&format!(
        "{} texts, {megabytes:.1} MB, {} values a signature; MB/s of one core, median of {passes} \
         passes:",
        bench.texts.len(),
        bench.values()
    ));
    let mut parts = Vec::new();
    let mut time = |part: &str, work: &dyn Fn()| {
        let seconds = clock::seconds(passes, work);
        let rate = megabytes / clock::median(&seconds);
        let best = megabytes / seconds[0];
        terminal.say(&format!("{part:32} {rate:9.1}  best {best:9.1}"));
        parts.push(json!({"part": part, "mb_per_s": rate, "mb_per_s_best": best}));
    };
    let views: Vec<View> = bench.texts.iter().map(Text::view).collect();
    let sets: Vec<Vec<u32>> =
        bench.texts.iter().zip(&views).map(|(text, view)| shingles(view, text.seed)).collect();
    let each = |work: &dyn Fn(&Text, &View, &[u32])| {
        let all = bench.texts.iter().zip(&views).zip(&sets);
        all.for_each(|((text, view), set)| work(text, view, set));
    };
    time("segmentation", &|| bench.texts.iter().for_each(|t| _ = black_box(t.view())));
    time("rules", &|| each(&|_, view, _| bench.judge(view)));
    time("shingles", &|| each(&|text, view, _| _ = black_box(shingles(view, text.seed))));
    time("signatures", &|| each(&|text, _, set| _ = black_box(bench.bands.of(set, text.seed))));
    time("line hashes", &|| each(&|text, _, _| text.lines()));
    time(TOGETHER, &|| bench.texts.iter().for_each(|text| bench.together(text)));
    time("language identification", &|| {
        bench.texts.iter().for_each(|t| _ = black_box(language::identify(&t.text)));
    });
    if let Some(classifier) = &bench.classifier {
        time("classifier", &|| {
            bench.texts.iter().for_each(|t| _ = black_box(classifier.scores(&t.text)));
        });
    }
    terminal.result(&json!({
        "texts": bench.texts.len(), "bytes": megabytes * 1e6, "values": bench.values(),
        "passes": passes, "parts": parts,
    }));
    Ok(())
}

/// All that a text goes through besides language and classifiers.
const TOGETHER: &str = "rules, signatures, line hashes";

/// A text with what the pipeline knows of it.
struct Text {
    text: String,
    language: &'static str,
    seed: u64,
}

impl Text {
    fn view(&self) -> View<'_> {
        View::of(&self.text, self.language, 25)
    }

    fn lines(&self) {
        self.text.lines().for_each(|line| _ = black_box(line_hash(line, self.seed, false)));
    }
}

/// The texts of the inputs, extracted where they are pages, cut where they are long.
pub fn texts(inputs: &[PathBuf]) -> Result<Vec<String>, Error> {
    let (recipe, access, mut texts) = (Recipe::default(), Access::usual(), Vec::new());
    for input in expand(inputs, &access)?.0 {
        for found in input.open(recipe.piece_bytes, &access)? {
            let Found::Page(page) = found? else { continue };
            texts.push(match page.body {
                Body::Html(bytes, media) => {
                    let markup = encoding::decode(&bytes, media.as_deref());
                    html::extract(&markup, Some(&page.url)).text
                }
                Body::Text(bytes) | Body::Markdown(bytes) => {
                    encoding::decode(&bytes, None).into_owned()
                }
                Body::Document(document) => document.text,
                Body::Refused(..) => continue,
            });
        }
    }
    if texts.iter().all(String::is_empty) {
        return Err(Error::data("the inputs hold no text".to_owned()));
    }
    Ok(texts)
}

struct Bench {
    texts: Vec<Text>,
    bands: Bands,
    judge: Judge,
    /// None where there are too few texts to make one.
    classifier: Option<Classifier>,
}

impl Bench {
    fn read(inputs: &[PathBuf]) -> Result<Bench, Error> {
        let text = |text: String| {
            let language = language::identify(&text).language;
            Text { text, language, seed: language_seed(language) }
        };
        let texts: Vec<Text> = texts(inputs)?.into_iter().map(text).collect();
        let recipe = Recipe::default();
        let bands = Bands { bands: recipe.near.bands, rows: recipe.near.rows };
        let classifier = classifier(&texts)?;
        Ok(Bench { texts, bands, judge: Judge::default(), classifier })
    }

    /// Every rule on a text, about the whole and about lines, as a page is judged.
    fn judge(&self, view: &View) {
        black_box(self.judge.document(view, Route::Prose));
        black_box(self.judge.lines(view, Route::Prose));
    }

    /// Values of a signature.
    fn values(&self) -> usize {
        self.bands.bands * self.bands.rows
    }

    /// One text through segmentation, rules, signature and line hashes.
    fn together(&self, text: &Text) {
        let view = text.view();
        self.judge(&view);
        black_box(self.bands.of(&shingles(&view, text.seed), text.seed));
        text.lines();
    }
}

/// A classifier whose rate is measured: how fast it is does not depend on what it has learned, so
/// it learns to tell every other text from its neighbours.
fn classifier(texts: &[Text]) -> Result<Option<Classifier>, Error> {
    const ENOUGH: usize = 64;
    if texts.len() < ENOUGH {
        return Ok(None);
    }
    let example = |(n, text): (usize, &Text)| Example {
        text: text.text.clone(),
        label: ["even", "odd"][n % 2].to_owned(),
    };
    let examples: Vec<Example> = texts.iter().take(ENOUGH).enumerate().map(example).collect();
    let options = classify::Options { epochs: 1, folds: 2, ..Default::default() };
    match classify::train(&examples, &options) {
        Ok(classifier) => Ok(Some(classifier)),
        Err(error) => Err(Error::data(error.to_string())),
    }
}
