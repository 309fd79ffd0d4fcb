//! One page to one candidate: decoded, extracted, identified, judged, hashed.
//!
//! Everything that can be known of a page alone happens here, once; it is a pure function of the
//! page and the recipe. Not here: what other pages say about it (deduplication).

use crate::classify::fasttext::Scratch;
use crate::dedup::{Row, exact, lines, minhash, url};
use crate::input::{Body, OWN_LINES, Page, text};
use crate::judges::Judges;
use crate::recipe::Part;
use crate::rules::{self, BadLine, LINE_RULES, RULES, View};
use crate::{Recipe, domains, encoding, headings, html, input::markdown, markup, personal, tex};
use quipu_documents::{Document, Fate, Id, Route, to_extra};
use std::cell::RefCell;
use std::collections::HashSet;

/// Share of listings from which a page is judged as code.
const CODE_SHARE: f32 = 0.25;
/// Formulas from which a page is judged as mathematics, and words a formula at most.
const FORMULAS: u32 = 3;
const WORDS_A_FORMULA: usize = 80;
/// Bytes of text that a fate keeps, so that a person can judge the rule.
pub(crate) const EXCERPT: usize = 300;

/// Why a candidate must go whatever other pages say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// Number in [`RULES`], or one of the constants below.
    pub rule: u8,
    /// What was measured.
    pub value: f32,
}

/// Its language is not among the recipe's.
const LANGUAGE: u8 = 254;
/// Its text is longer than the recipe's `max_bytes`.
const TOO_LONG: u8 = 253;
/// A classifier's score is below the recipe's least.
const LOW_SCORE: u8 = 252;
/// Of its category there is more than the recipe's share.
const THINNED: u8 = 251;
/// No verdict.
pub(crate) const STAYS: u8 = 255;

/// Scores by which a document's lines were judged, and what is measured of its text: no score file
/// says otherwise.
pub(crate) const MEASURED: [&str; 6] =
    ["words", "code-share", "formulas", "personal-data", REMOVED_LINES, OWN_LINES];
/// How many lines went that many documents repeat.
pub(crate) const REMOVED_LINES: &str = "removed-lines";

/// Name of the rule of a verdict.
pub(crate) fn rule_name(rule: u8) -> &'static str {
    match rule {
        LANGUAGE => "language",
        TOO_LONG => "too-long",
        LOW_SCORE => rules::LOW_SCORE,
        THINNED => "category-share",
        number => RULES.get(usize::from(number)).map_or("unknown", |r| r.name),
    }
}

/// A page that has text.
#[derive(Debug, Default)]
pub(crate) struct Candidate {
    pub document: Document,
    pub row: Row,
    pub verdict: Option<Verdict>,
    /// Hashes of its lines within its language, each once; none for exempt lines.
    pub lines: Vec<u64>,
    /// Its words.
    pub words: u64,
    /// Its sequences of words, sorted.
    pub shingles: Vec<u32>,
    /// Bands of their signature.
    pub bands: Vec<u64>,
    /// Lines that rules removed from it.
    pub fates: Vec<Fate>,
    /// What its domain is judged by.
    pub traits: Traits,
}

/// What a page has that may count against its whole domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Personal data.
    pub personal: bool,
    /// Words of pages for adults, so many that it goes for them.
    pub adult: bool,
    /// A score of the name [`domains::HARM`] from the limit on.
    pub harm: bool,
}

/// What became of a page.
pub(crate) enum Outcome {
    Candidate(Box<Candidate>),
    Removed(Box<Fate>),
}

/// What reading a body yields.
struct Read {
    document: Document,
    code_share: f32,
    formulas: u32,
}

/// The identity of a page, by its canonical URL.
pub(crate) fn id_of(raw_url: &str, date: Option<i64>, position: &str) -> Id {
    Id::of(&url::canonical(raw_url), date, position)
}

/// Processes one page of the input named `source`.
pub(crate) fn process(page: Page, source: &str, recipe: &Recipe, judges: &Judges) -> Outcome {
    let Page { position, url: raw, date, body, .. } = page;
    let mut address = url::canonical(&raw);
    // A document that somebody made before keeps its identity: scores are joined by it.
    let id = match &body {
        Body::Document(document) if document.id != Id::default() => document.id,
        _ => id_of(&raw, date, &position),
    };
    let others = matches!(body, Body::Document(_));
    let made = admit(&address, recipe, judges)
        .and_then(|()| read(body, &mut address))
        .and_then(|read| judge(read, &address, id, recipe, judges));
    let mut candidate = match made {
        Ok(candidate) => candidate,
        Err(Refused { stage, rule, value, detail }) => {
            let (stage, rule, url) = (stage.to_owned(), rule.to_owned(), address);
            return Outcome::Removed(Box::new(Fate {
                id,
                url,
                stage,
                rule,
                value,
                detail,
                line: None,
            }));
        }
    };
    let document = &mut candidate.document;
    if others && !raw.is_empty() && raw != address {
        document.extra = with(&document.extra, [("url", Some(raw.into()))]);
    }
    document.url = address;
    document.date = date;
    document.source = source.to_owned();
    candidate.lines = line_hashes(document);
    candidate.row.id = id.0;
    candidate.row.url = match document.url.as_str() {
        "" => 0,
        // What others say where they know no address ("n/a") is none.
        address if others && !address.starts_with("https://") => 0,
        address => url::url_hash(address),
    };
    candidate.row.domain = domains::domain_hash(&document.url).unwrap_or(0);
    candidate.row.date = date.unwrap_or(i64::MIN);
    candidate.row.bytes = document.text.len() as u32;
    candidate.row.url_length = document.url.len().min(usize::from(u16::MAX)) as u16;
    Outcome::Candidate(Box::new(candidate))
}

/// What others made, with what they said in the place of ours: they know it by that.
fn with<const N: usize>(extra: &str, theirs: [(&str, Option<serde_json::Value>); N]) -> String {
    let mut object: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(extra) {
        Ok(object) => object,
        // A column that they called so, and that is no object.
        Err(_) if !extra.is_empty() => [("extra".to_owned(), extra.into())].into_iter().collect(),
        Err(_) => serde_json::Map::new(),
    };
    for (key, theirs) in theirs {
        if let Some(theirs) = theirs {
            object.entry(key).or_insert(theirs);
        }
    }
    to_extra(&object)
}

/// Keeps of the headings of a document, of which lines went, those that still are lines of it.
pub(crate) fn settle_headings(document: &mut Document) {
    let lines: HashSet<&str> = document.text.lines().map(str::trim).collect();
    document.headings.retain(|heading| lines.contains(heading.as_str()));
}

/// Refuses an address that is on a list.
fn admit(address: &str, recipe: &Recipe, judges: &Judges) -> Result<(), Refused> {
    if recipe.does(Part::Addresses)
        && let Some(unwanted) = judges.addresses.judge(address)
    {
        let (stage, rule, detail) = ("address", unwanted.rule, unwanted.found);
        return Err(Refused { stage, rule, value: 1.0, detail });
    }
    Ok(())
}

/// What the rules say of a text, and what deduplication needs of its words.
fn judge(
    read: Read,
    address: &str,
    id: Id,
    recipe: &Recipe,
    judges: &Judges,
) -> Result<Candidate, Refused> {
    let Read { mut document, code_share, formulas } = read;
    let spans = personal::find(&document.text);
    if !recipe.mask.is_empty() && !spans.is_empty() {
        document.text = personal::mask(&document.text, &recipe.mask);
    }
    let mut candidate = Candidate::default();
    let guess = SCRATCH.with_borrow_mut(|s| judges.identifier.identify(&document.text, s));
    let view = View::of(&document.text, guess.language, recipe.min_words);
    let route = route(&view, code_share, formulas);
    candidate.verdict = verdict(&view, route, recipe, judges);
    // Lines are for documents that may stay: what a document goes for is all of it.
    let bad = match candidate.verdict {
        Some(_) => Vec::new(),
        None => judges.rules.lines(&view, route),
    };
    if bad.is_empty() {
        contaminated(&view, recipe, judges)?;
        measure(&mut candidate, &view, recipe);
    } else {
        candidate.fates = line_fates(id, address, &document.text, &bad);
        let text = rules::without_lines(&document.text, &bad);
        let view = View::of(&text, guess.language, recipe.min_words);
        candidate.verdict = verdict(&view, route, recipe, judges);
        contaminated(&view, recipe, judges)?;
        measure(&mut candidate, &view, recipe);
        document.text = text;
    }
    document.id = id;
    if candidate.verdict.is_none() && route == Route::Prose {
        candidate.verdict = classify(&mut document, recipe, judges);
    }
    let adult = candidate.verdict.is_some_and(|v| rule_name(v.rule) == "adult-words");
    candidate.traits = Traits { personal: !spans.is_empty(), adult, harm: false };
    document.route = route;
    // What others say of a language stands where nobody asked for ours.
    if recipe.does(Part::Languages) || document.language.is_empty() {
        let theirs = std::mem::replace(&mut document.language, guess.language.to_owned());
        let score = std::mem::replace(&mut document.language_score, guess.score);
        if !theirs.is_empty() && theirs != document.language {
            let score = (score > 0.0).then(|| score.into());
            let said = [("language", Some(theirs.into())), ("language_score", score)];
            document.extra = with(&document.extra, said);
        }
    }
    let [words, code, formula, personal, ..] = MEASURED;
    let scores = [
        (words, candidate.words as f32),
        (code, code_share),
        (formula, formulas as f32),
        (personal, spans.len() as f32),
    ];
    // What it was measured before, by us or by others, stays beside what we measure.
    document.scores.retain(|(name, _)| scores.iter().all(|(ours, _)| name != ours));
    let told = scores.into_iter().filter(|(name, score)| *score > 0.0 || *name == words);
    document.scores.extend(told.map(|(name, score)| (name.to_owned(), score)));
    candidate.document = document;
    candidate.heed_scores(recipe);
    Ok(candidate)
}

impl Candidate {
    /// Adds scores that others gave it, and what follows from them. One of a name that it has takes
    /// the place of that, if it is not [`MEASURED`]. Returns how many it was given.
    pub fn score<'a>(
        &mut self,
        given: impl Iterator<Item = (&'a str, f32)>,
        recipe: &Recipe,
    ) -> u64 {
        let mut added = 0;
        for (name, score) in given.filter(|(name, _)| !MEASURED.contains(name)) {
            self.document.scores.retain(|(known, _)| known != name);
            self.document.scores.push((name.to_owned(), score));
            added += 1;
        }
        self.heed_scores(recipe);
        added
    }

    /// What its scores say against it and its domain.
    fn heed_scores(&mut self, recipe: &Recipe) {
        let (scores, limit) = (&self.document.scores, recipe.addresses.limits.harm_score);
        self.traits.harm =
            scores.iter().any(|(name, score)| name == domains::HARM && *score >= limit);
        let others = self.verdict.filter(|verdict| verdict.rule != LOW_SCORE);
        self.verdict = others.or_else(|| low(scores, recipe).map(|(_, verdict)| verdict));
    }
}

thread_local! {
    /// Room that models of fastText's format reuse from text to text.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What classifiers say: scores, a category and its weight; prose only, since code and mathematics
/// read like nothing that a classifier of prose has learned (paper §3.1.2).
fn classify(document: &mut Document, recipe: &Recipe, judges: &Judges) -> Option<Verdict> {
    for (name, scorer) in &judges.scorers {
        let score = SCRATCH.with_borrow_mut(|scratch| scorer.score(&document.text, scratch));
        let Some((told, score)) = score else { continue };
        // `NAME/LABEL` says the likeliest label.
        if let Some(label) = told.strip_prefix(name.as_str()).and_then(|t| t.strip_prefix('/')) {
            label.clone_into(&mut document.category);
        }
        document.scores.retain(|(known, _)| known != name);
        document.scores.push((name.clone(), score));
    }
    match recipe.categories.weight(document.id, &document.category) {
        Some(weight) => {
            document.weight *= weight;
            None
        }
        None => Some(Verdict { rule: THINNED, value: 0.0 }),
    }
}

/// The first score, of classifiers, of ours or of others, that is below what the recipe asks for: its
/// name, and what follows.
pub(crate) fn low<'a>(scores: &'a [(String, f32)], recipe: &Recipe) -> Option<(&'a str, Verdict)> {
    let (name, score) = scores.iter().find(|(name, score)| recipe.is_low(name, *score))?;
    Some((name, Verdict { rule: LOW_SCORE, value: *score }))
}

/// Refuses a text that contains an evaluation item.
fn contaminated(view: &View, recipe: &Recipe, judges: &Judges) -> Result<(), Refused> {
    if recipe.does(Part::Decontaminate)
        && let Some(index) = &judges.evaluations
        && let Some(found) = index.matches(view).into_iter().next()
    {
        let (stage, rule) = ("contamination", "evaluation-item");
        let detail = format!("{}: {}", found.item, excerpt(&view.text[found.span], EXCERPT));
        return Err(Refused { stage, rule, value: f64::from(found.share), detail });
    }
    Ok(())
}

fn route(view: &View, code_share: f32, formulas: u32) -> Route {
    let dense = view.words.len() <= WORDS_A_FORMULA * formulas as usize;
    if code_share >= CODE_SHARE {
        Route::Code
    } else if formulas >= FORMULAS && dense {
        Route::Mathematics
    } else {
        Route::Prose
    }
}

/// What deduplication needs of the words.
fn measure(candidate: &mut Candidate, view: &View, recipe: &Recipe) {
    let language = lines::language_seed(view.language);
    candidate.words = view.words.len() as u64;
    candidate.row.language = language;
    candidate.row.text = exact::text_hash(view);
    candidate.shingles = minhash::shingles(view, language);
    candidate.bands = recipe.near.bands().of(&candidate.shingles, language);
}

/// The fates of lines that a rule removed.
fn line_fates(id: Id, url: &str, text: &str, bad: &[BadLine]) -> Vec<Fate> {
    let lines: Vec<&str> = text.lines().collect();
    let fate = |bad: &BadLine| Fate {
        id,
        url: url.to_owned(),
        stage: "rules".to_owned(),
        rule: LINE_RULES[bad.rule].name.to_owned(),
        value: f64::from(bad.value),
        line: Some(bad.number as i32),
        detail: excerpt(lines.get(bad.number as usize).unwrap_or(&""), EXCERPT),
    };
    bad.iter().map(fate).collect()
}

/// A page that cannot be read, and why.
struct Refused {
    stage: &'static str,
    rule: &'static str,
    value: f64,
    detail: String,
}

fn read(body: Body, address: &mut String) -> Result<Read, Refused> {
    let plain = |mut document: Document| {
        document.text = tidy(&document.text);
        let formulas = tex::formulas(&document.text);
        Ok(Read { document, code_share: 0.0, formulas })
    };
    match body {
        Body::Html(bytes, content_type) => {
            let html = encoding::decode(&bytes, content_type.as_deref());
            read_html(&html, address)
        }
        Body::Text(bytes) => {
            let decoded = encoding::decode(&bytes, None);
            let pieces = text::pieces(&decoded, "", usize::MAX / 8, false);
            let piece = pieces.into_iter().next().unwrap_or_default();
            let text::Piece { title, headings, text } = piece;
            plain(Document { title, headings, text, ..Document::default() })
        }
        Body::Markdown(bytes) => {
            let stripped = markdown::strip(&encoding::decode(&bytes, None));
            let title = stripped.title.unwrap_or_default();
            let markdown::Stripped { headings, text, .. } = stripped;
            plain(Document { title, headings, text, ..Document::default() })
        }
        Body::Document(document) => plain(*document),
        Body::Refused(rule, detail) => Err(Refused { stage: "read", rule, value: 0.0, detail }),
    }
}

fn read_html(html: &str, address: &mut String) -> Result<Read, Refused> {
    if let Some(tail) = markup::cut_off(html) {
        let (stage, rule, value) = ("extract", "truncated", html.len() as f64);
        return Err(Refused { stage, rule, value, detail: tail });
    }
    if !address.starts_with("http")
        && let Some(link) = markup::canonical_link(html)
    {
        *address = url::canonical(&link);
    }
    let extracted = html::extract(html, Some(address.as_str()));
    if extracted.over_budget {
        return Err(Refused {
            stage: "extract",
            rule: "over-budget",
            value: html.len() as f64,
            detail: format!(
                "{} bytes of HTML pass the budget of nodes, depth or bytes",
                html.len()
            ),
        });
    }
    let html::Extracted { title, text, code_share, formulas, .. } = extracted;
    let headings = headings::of(html, &text);
    let title = title.unwrap_or_default();
    let text = tidy(&text);
    let document = Document { title, headings, text, ..Document::default() };
    Ok(Read { document, code_share, formulas })
}

/// Lines without white space at their ends, no control characters, at most one blank line in a row.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let start = out.len();
        out.extend(line.chars().filter(|c| !c.is_control() || *c == '\t'));
        out.truncate(start + out[start..].trim_end().len());
        if out.len() > start || !(out.is_empty() || out.ends_with("\n\n")) {
            out.push('\n');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn verdict(view: &View, route: Route, recipe: &Recipe, judges: &Judges) -> Option<Verdict> {
    if view.text.len() > recipe.max_bytes {
        return Some(Verdict { rule: TOO_LONG, value: view.text.len() as f32 });
    }
    if let Some((rule, value)) = judges.rules.document(view, route) {
        return Some(Verdict { rule: rule as u8, value });
    }
    let kept = recipe.languages.keeps(view.language);
    (!kept && recipe.does(Part::Languages)).then_some(Verdict { rule: LANGUAGE, value: 0.0 })
}

/// Each line of a document with its hash, as line deduplication sees it.
pub(crate) fn each_line(document: &Document) -> impl Iterator<Item = (&str, Option<u64>)> {
    let seed = lines::language_seed(&document.language);
    let has = |score: &str| document.scores.iter().any(|(name, _)| name == score);
    let own = has(OWN_LINES);
    let code = if has("code-share") { listings(&document.text) } else { Vec::new() };
    let title = own_title(document);
    document.text.lines().enumerate().map(move |(n, line)| {
        let exempt = own || code.get(n) == Some(&true) || (n == 0 && title == Some(line));
        (line, lines::line_hash(line, seed, exempt))
    })
}

/// A document's text without its frequent lines, and those lines with their numbers.
pub(crate) fn without_frequent<'a>(
    document: &'a Document,
    frequent: &HashSet<u64>,
    bucket: u64,
) -> (String, Vec<(usize, &'a str)>) {
    let mut text = String::with_capacity(document.text.len());
    let mut removed = Vec::new();
    for (number, (line, hash)) in each_line(document).enumerate() {
        if hash.is_some_and(|h| frequent.contains(&lines::in_bucket(h, bucket))) {
            removed.push((number, line));
        } else if !line.is_empty() || !(text.is_empty() || text.ends_with("\n\n")) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.truncate(text.trim_end().len());
    (text, removed)
}

/// The first line of the text, where it is the page's heading and begins its title.
fn own_title(document: &Document) -> Option<&str> {
    let first = document.text.lines().next()?;
    let heading = document.headings.first().is_some_and(|h| h == first.trim());
    (heading && document.title.starts_with(first.trim())).then_some(first)
}

/// Which lines of a text with listings stand in one: between blank lines, at least half of the
/// lines look like code. One line alone does not tell (`where`, `else`, a bare name).
fn listings(text: &str) -> Vec<bool> {
    let lines: Vec<&str> = text.lines().collect();
    let mut code = Vec::with_capacity(lines.len());
    for group in lines.chunk_by(|a, b| a.trim().is_empty() == b.trim().is_empty()) {
        let like = group.iter().filter(|line| looks_like_code(line)).count();
        code.resize(code.len() + group.len(), like * 2 >= group.len());
    }
    code
}

fn line_hashes(document: &Document) -> Vec<u64> {
    let mut hashes: Vec<u64> = each_line(document).filter_map(|(_, h)| h).collect();
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// A line of a listing: indented, or with the punctuation of statements.
fn looks_like_code(line: &str) -> bool {
    let trimmed = line.trim();
    let words = trimmed.split_whitespace().filter(|w| w.chars().all(char::is_alphabetic)).count();
    if trimmed.starts_with(char::is_uppercase) && trimmed.ends_with('.') && words >= 4 {
        return false; // a sentence with brackets in it
    }
    let ends = trimmed.ends_with(['{', '}', ';', '(', ')', ',', ':', ']', '=', '\\']);
    let marks = trimmed.chars().filter(|c| "{}();=<>[]#$_\"'`|&".contains(*c)).count();
    line.starts_with([' ', '\t']) || (ends && marks > 0 && !trimmed.ends_with(',')) || marks >= 3
}

/// The beginning of a text, for fates and samples.
pub(crate) fn excerpt(text: &str, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes.min(text.len()));
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html_page(html: &str) -> Page {
        let (url, position) = ("http://www.a.example/x/".to_owned(), "record 1".to_owned());
        let body = Body::Html(html.as_bytes().to_vec(), None);
        Page { url, position, body, ..Page::default() }
    }

    fn process_with(page: Page, recipe: &Recipe) -> Outcome {
        process(page, "test", recipe, &Judges::of(recipe).unwrap())
    }

    fn check(page: Page, rule: &str) {
        let found = match process_with(page, &Recipe::default()) {
            Outcome::Candidate(c) => c.verdict.map_or("", |v| rule_name(v.rule)).to_owned(),
            Outcome::Removed(fate) => fate.rule,
        };
        assert_eq!(found, rule);
    }

    #[test]
    fn pages_and_their_reasons() {
        let prose = crate::rules::tests::PROSE_SAMPLE.replace("\n\n", "</p><p>");
        let whole = format!(
            "<!doctype html><html><body><nav><a href=/>Home</a></nav><main><h1>The harbour</h1>\
             <p>{prose}</p></main></body></html>"
        );
        check(html_page(&whole), "");
        check(html_page(&whole[..whole.len() - 90]), "truncated");
        check(html_page("<!doctype html><html><body><p>Hello.</p></body></html>"), "too-short");
        let refused = Body::Refused("page-too-large", "99".into());
        check(Page { body: refused, ..Page::default() }, "page-too-large");
        let deep = format!("<html><body>{}x</body></html>", "<div>".repeat(100_000));
        let Outcome::Removed(fate) = process_with(html_page(&deep), &Recipe::default()) else {
            return; // a parser without a limit of depth reads it, which is as good
        };
        assert_eq!(fate.stage, "extract");
    }

    #[test]
    fn a_language_that_is_not_wanted_goes() {
        let languages = crate::Languages::Only(vec!["de".into()]);
        let recipe = Recipe { languages, ..Recipe::default() };
        let text = crate::rules::tests::PROSE_SAMPLE.as_bytes().to_vec();
        let page = Page { body: Body::Text(text), ..Page::default() };
        let Outcome::Candidate(found) = process_with(page, &recipe) else { panic!() };
        assert_eq!(found.verdict.map(|v| rule_name(v.rule)), Some("language"));
    }

    fn check_lines(document: &Document, counted: &[&str]) {
        let found: Vec<&str> = each_line(document).filter_map(|(l, h)| h.map(|_| l)).collect();
        assert_eq!(found, counted);
    }

    #[test]
    fn titles_and_listings_do_not_count_as_repeated() {
        let text =
            "Bell\n\nA bell rings.\n\nfn f<T>(x: T) -> T\nwhere\n    T: Copy,\n\nwhere\n\nBell";
        let mut document = Document {
            title: "Bell | Encyclopedia".into(),
            headings: vec!["Bell".into()],
            text: text.into(),
            scores: vec![("code-share".into(), 0.3)],
            ..Document::default()
        };
        check_lines(&document, &["A bell rings.", "where", "Bell"]);
        document.title = "Encyclopedia".into();
        check_lines(&document, &["Bell", "A bell rings.", "where", "Bell"]);
        document.scores = vec![(OWN_LINES.into(), 1.0)];
        check_lines(&document, &[]);
    }

    #[test]
    fn a_document_keeps_the_identity_that_it_has() {
        let of = |id: Id| {
            let text = crate::rules::tests::PROSE_SAMPLE.to_owned();
            let document = Document { id, text, ..Document::default() };
            let page = Page { body: Body::Document(Box::new(document)), ..Page::default() };
            match process_with(page, &Recipe::default()) {
                Outcome::Candidate(candidate) => candidate.document.id,
                Outcome::Removed(fate) => fate.id,
            }
        };
        assert_eq!(of(Id(77)), Id(77));
        assert_ne!(of(Id::default()), Id::default());
    }

    #[test]
    fn text_is_tidied() {
        assert_eq!(tidy("\n a \u{0}\n\n\n\tb  \n"), " a\n\n\tb");
    }
}
