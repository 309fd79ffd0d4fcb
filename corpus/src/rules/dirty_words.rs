//! Lists of words of pages for adults, by language: a few of our own, and the user's.
//!
//! A list counts whole words and phrases of the segmentation, so that Scunthorpe and Essex stay;
//! in scripts without spaces an entry is a run of characters, of two at least, since one alone is
//! part of too many words. A document is held against the list of its language, of which words
//! that all languages borrow are a part; that of an unknown language against the English one. A user's
//! list stands in place of ours for its language. Source:
//! "dirty words" of Raffel et al. 2020, which the paper cites (§3.1.1). Not here: how many are too
//! many; that is the rules' (`adult-words`, `c4-bad-words`).

use super::lexicon::Lexicon;
use super::view::View;
use crate::language::OTHER;
use std::collections::{BTreeMap, HashMap};

/// Weight of a word that is as common in other texts.
const HALF: f32 = 0.5;
/// Language of the words that every language borrows.
const EVERY: &str = "*";

/// Language, words of advertisement that are hardly used elsewhere, words that are.
const OURS: &[(&str, &str, &str)] = &[
    (
        EVERY,
        "porn porno pornstar hentai xxx milf blowjob gangbang bukkake cumshot camgirl camgirls \
         onlyfans",
        "webcam erotic sex sexy striptease",
    ),
    (
        "en",
        "anal blowjob boobs bukkake camgirl camgirls cock cocks creampie cum cumshot dildo dildos \
         erotic erotica escort escorts fetish fuck fucked fucking gangbang handjob hardcore hentai \
         horny lingerie masturbation milf milfs nude nudes orgasm orgy porn porno pornography \
         pussy sexy shemale slut sluts strip stripper striptease swinger swingers threesome tits \
         topless webcam webcams whore xxx",
        "adult amateur babe babes breasts busty dating explicit kinky naked seduce sensual sex \
         sexual teen teens uncensored",
    ),
    (
        "de",
        "fick ficken gefickt geil geile muschi möse titten fotze schwanz schlampe schlampen hure \
         huren nutte nutten wichsen arschfick sexkontakte pornos hobbyhuren erotikkontakte",
        "nackt nackte erotik amateur dessous reife hausfrauen sexuell",
    ),
    (
        "fr",
        "baise baiser chatte bite salope salopes pute putes sodomie branlette nichons enculée \
         enculer levrette fellation partouze pornos éjaculation libertine",
        "nue nues cul cochonne coquine mature amatrice érotique seins lingerie",
    ),
    (
        "es",
        "follar follando folla coño polla pollas puta putas tetas tetonas culona corrida mamada \
         mamadas zorra zorras pajas cachonda cachondas pornografía orgasmo",
        "desnuda desnudas culo madura maduras amateur erótico erótica maduritas sexo",
    ),
    (
        "it",
        "scopare scopata troia troie puttana puttane figa fica tette cazzo cazzi pompino pompini \
         sborra sborrata inculata zoccola troietta porca pornografia",
        "nuda nude culo matura mature amatoriale erotico erotica sesso",
    ),
    (
        "pt",
        "foder fodendo buceta boceta xoxota putaria puta putas peitos gostosa gostosas cuzinho \
         boquete punheta safada safadas gozada pornografia transando",
        "nua nuas pelada peladas bunda amador coroa caseiro erótico sexo",
    ),
    (
        "nl",
        "neuken geneukt kut lul hoer hoeren slet sletten tieten pijpen geile sekscontact beffen \
         aftrekken pornofilms",
        "naakt naakte erotiek amateur lekker sensueel seks",
    ),
    (
        "pl",
        "cipa cipka kutas kurwa kurwy dziwka dziwki ruchanie jebanie pieprzenie cycki obciąganie \
         suka spermy anal sekskamerki",
        "naga nagie erotyka amatorki mamuśki seks",
    ),
    (
        "ru",
        "порно секс ебля трах трахает трахать шлюха шлюхи проститутки минет сиськи анал хуй пизда \
         сперма эротика интим порнуха",
        "голая голые эротические зрелые домашнее девушки",
    ),
    (
        "tr",
        "sikiş sikis porno amcık yarak orospu fahişe götten seks ifşa eskort escort travesti",
        "çıplak erotik azgın olgun amatör",
    ),
];

/// A word or phrase and what it weighs.
#[derive(Clone, Debug)]
struct Entry {
    /// Hashes of its words after the first.
    rest: Vec<u64>,
    weight: f32,
}

/// The entries of one language, by their first word.
#[derive(Clone, Debug, Default)]
struct List {
    first: Lexicon,
    entries: Vec<Vec<Entry>>,
}

/// The lists of all languages.
#[derive(Clone, Debug)]
pub struct DirtyWords {
    lists: HashMap<String, List>,
}

/// Why a text is not a list of words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "dirty_words.{language}: line {line} is {found}; expected one word or phrase a line, \
     optionally a tab and a weight above 0, to 1"
)]
pub struct NotAList {
    /// The language whose list it is.
    pub language: String,
    /// The line, from 1.
    pub line: usize,
    /// What stands there.
    pub found: String,
}

impl Default for DirtyWords {
    fn default() -> DirtyWords {
        let weighed = |words: &'static str, weight: f32| {
            words.split_whitespace().filter_map(move |w| entry(w, "", weight))
        };
        let of = |row: &(&str, &'static str, &'static str)| {
            weighed(row.1, 1.0).chain(weighed(row.2, HALF)).collect::<Vec<_>>()
        };
        let borrowed = of(&OURS[0]);
        let list = |row| List::new(of(row).into_iter().chain(borrowed.iter().cloned()));
        DirtyWords { lists: OURS.iter().map(|row| (row.0.to_owned(), list(row))).collect() }
    }
}

/// First hash and entry of a word or phrase; none where nothing of it can be matched.
fn entry(phrase: &str, language: &str, weight: f32) -> Option<(u64, Entry)> {
    let view = View::of(phrase, language, 0);
    let hashes: Vec<u64> = view.words.iter().map(|w| w.hash).collect();
    let (first, rest) = hashes.split_first()?;
    let lone = rest.is_empty() && view.unspaced > 0.0;
    (!lone).then(|| (*first, Entry { rest: rest.to_vec(), weight }))
}

impl List {
    fn new(all: impl Iterator<Item = (u64, Entry)>) -> List {
        let mut by_first: BTreeMap<u64, Vec<Entry>> = BTreeMap::new();
        for (first, entry) in all {
            by_first.entry(first).or_default().push(entry);
        }
        let numbered: Vec<(u64, u32)> = by_first.keys().copied().zip(0..).collect();
        let mut entries: Vec<Vec<Entry>> = by_first.into_values().collect();
        entries.iter_mut().for_each(|of_word| of_word.sort_by_key(|e| usize::MAX - e.rest.len()));
        List { first: Lexicon::new(&numbered), entries }
    }

    /// The weight of what begins at a word, with the longest entry that fits.
    #[inline]
    fn at(&self, view: &View, at: usize) -> f32 {
        let Some(number) = self.first.get(view.words[at].hash) else { return 0.0 };
        let fits = |entry: &&Entry| {
            let next = view.words[at + 1..].iter().map(|w| w.hash);
            entry.rest.len() < view.words.len() - at
                && entry.rest.iter().copied().eq(next.take(entry.rest.len()))
        };
        self.entries[number as usize].iter().find(fits).map_or(0.0, |entry| entry.weight)
    }
}

impl DirtyWords {
    /// Our lists, with those of the user, as (language, text of the list), in their place. A blank
    /// line and one that begins with `#` says nothing.
    pub fn with_lists<'a>(
        lists: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<DirtyWords, NotAList> {
        let mut all = DirtyWords::default();
        for (language, text) in lists {
            all.lists.insert(language.to_owned(), read(language, text)?);
        }
        Ok(all)
    }

    /// The languages that have a list.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.lists.keys().map(String::as_str).filter(|language| *language != EVERY)
    }

    /// The sum of the weights of the dirty words of a text, and how many there are.
    pub fn count(&self, view: &View) -> (f32, usize) {
        let (mut sum, mut count) = (0.0, 0);
        let language = if view.language == OTHER { "en" } else { view.language };
        let list = self.lists.get(language).or_else(|| self.lists.get(EVERY));
        let Some(list) = list else { return (sum, count) };
        for at in 0..view.words.len() {
            let weight = list.at(view, at);
            if weight > 0.0 {
                sum += weight;
                count += 1;
            }
        }
        (sum, count)
    }
}

fn read(language: &str, text: &str) -> Result<List, NotAList> {
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refuse = |found: String| {
            Err(NotAList { language: language.to_owned(), line: number + 1, found })
        };
        if line.len() > 200 || line.contains(|c: char| c.is_control() && c != '\t') {
            let start: String = line.chars().take(40).collect();
            return refuse(format!("{start:?} of {} bytes", line.len()));
        }
        let (phrase, weight) = line.split_once('\t').unwrap_or((line, "1"));
        match weight.trim().parse::<f32>() {
            Ok(weight) if weight > 0.0 && weight <= 1.0 => {
                entries.extend(entry(phrase, language, weight));
            }
            _ => return refuse(format!("{phrase:?} with the weight {weight:?}")),
        }
    }
    if entries.is_empty() {
        let (language, line) = (language.to_owned(), text.lines().count());
        return Err(NotAList { language, line, found: "the end, without an entry".into() });
    }
    Ok(List::new(entries.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lists: &DirtyWords, language: &str, text: &str, expected: (f32, usize)) {
        assert_eq!(lists.count(&View::of(text, language, 1)), expected, "{text}");
    }

    #[test]
    fn whole_words_of_the_documents_language() {
        let lists = DirtyWords::default();
        check(
            &lists,
            "en",
            "Porn, and Xxx. Scunthorpe, Essex, cockpit, Sussex; peacocks.",
            (2.0, 2),
        );
        check(&lists, "en", "A naked truth", (0.5, 1));
        check(&lists, "ro", "Cum ajungem acolo, cum se face", (0.0, 0));
        check(&lists, "fr", "Une chatte blanche et un porno", (2.0, 2));
        check(&lists, "sw", "porn", (1.0, 1));
        check(&lists, "other", "blowjob tits", (2.0, 2));
    }

    #[test]
    fn a_users_list_stands_in_place_of_ours() {
        let text = "# ours\nblue kettle\t0.5\nblue\nkettle of fish\n";
        let lists = DirtyWords::with_lists([("en", text), ("ja", "日本\n本\n")]).unwrap();
        check(&lists, "en", "A blue kettle, a blue pan, nude kettle of fish", (2.5, 3));
        check(&lists, "ja", "日本と本、本", (1.0, 1));
        check(&lists, "de", "fick", (1.0, 1));
        check(&lists, "en", "kettle of", (0.0, 0));
        assert!(lists.languages().any(|l| l == "ja"));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_line() {
        let refused = |text: &str, line| {
            let error = DirtyWords::with_lists([("xx", text)]).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().starts_with("dirty_words.xx: line"), "{error}");
        };
        refused("", 0);
        refused("# nothing\n", 1);
        refused("word\t2", 1);
        refused("word\nother\tmuch", 2);
        refused(&"x".repeat(300), 1);
        refused("a\0b", 1);
    }

    /// The list of other pipelines, where it lies beside the checkout.
    #[test]
    fn the_list_that_others_use_is_read() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
        let shared = std::env::var("QUIPU_SHARED").unwrap_or_else(|_| beside.to_owned());
        let path = format!("{shared}/data/url-and-word-lists/dclm/ldnoobw.txt");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("SKIPPED: the_list_that_others_use_is_read: shared data absent");
            return;
        };
        let lists = DirtyWords::with_lists([("en", text.as_str())]).unwrap();
        let clean = super::super::tests::PROSE_SAMPLE;
        check(&lists, "en", clean, (0.0, 0));
        for line in text.lines().filter(|l| !l.trim().is_empty() && l.is_ascii()) {
            let (_, count) = lists.count(&View::of(line, "en", 1));
            let worded = !View::of(line, "en", 1).words.is_empty();
            assert_eq!(count > 0, worded, "{line}");
        }
    }
}
