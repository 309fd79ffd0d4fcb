//! Words by which an address tells what a page is, from lists that the user gives.
//!
//! As FineWeb (Penedo et al. 2024) and RefinedWeb have it: one word of the first list, two different
//! ones of the second (soft words, each innocent alone), or any of the third as a part of the address
//! without its punctuation. A word of an address is a run of letters and digits. Unlike datatrove we
//! take addresses in lower case before words are compared, not only before parts are.

use super::Unwanted;
use std::collections::BTreeSet;

/// Different soft words from which an address goes (FineWeb's).
const SOFT: usize = 2;

/// The three lists.
#[derive(Debug, Default)]
pub struct UrlWords {
    words: BTreeSet<String>,
    soft: BTreeSet<String>,
    parts: Option<aho_corasick::AhoCorasick>,
}

/// Letters and digits of an entry, in lower case; nothing of a comment.
fn entry(line: &str) -> Option<String> {
    let line = line.trim();
    let letters = line.chars().filter(char::is_ascii_alphanumeric);
    let plain: String = letters.collect::<String>().to_ascii_lowercase();
    (!line.starts_with('#') && !plain.is_empty()).then_some(plain)
}

impl UrlWords {
    /// From the lines of three lists: words, soft words, parts. Lines that begin with `#` and those
    /// without an ASCII letter or digit say nothing.
    pub fn new(words: &[&str], soft: &[&str], parts: &[&str]) -> UrlWords {
        let set = |lines: &[&str]| lines.iter().filter_map(|line| entry(line)).collect();
        let parts: BTreeSet<String> = set(parts);
        // Building fails beyond 2 GiB of patterns alone.
        let parts =
            if parts.is_empty() { None } else { aho_corasick::AhoCorasick::new(parts).ok() };
        UrlWords { words: set(words), soft: set(soft), parts }
    }

    /// Why a URL goes by its words.
    pub fn judge(&self, url: &str) -> Option<Unwanted> {
        let lower = url.to_ascii_lowercase();
        let words = || lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        if let Some(word) = words().find(|w| self.words.contains(*w)) {
            return Some(Unwanted { rule: "url-word", found: word.to_owned() });
        }
        let soft: BTreeSet<&str> = words().filter(|w| self.soft.contains(*w)).collect();
        if soft.len() >= SOFT {
            let found = soft.into_iter().collect::<Vec<_>>().join(" ");
            return Some(Unwanted { rule: "url-soft-words", found });
        }
        let plain: String = lower.chars().filter(char::is_ascii_alphanumeric).collect();
        let part = self.parts.as_ref()?.find(&plain)?;
        Some(Unwanted { rule: "url-part", found: plain[part.range()].to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &UrlWords, url: &str, expected: Option<(&str, &str)>) {
        let found = words.judge(url);
        assert_eq!(found.as_ref().map(|u| (u.rule, u.found.as_str())), expected, "{url}");
    }

    #[test]
    fn words_soft_words_and_parts() {
        let words = UrlWords::new(
            &["# words", "casino", "", "x-rated"],
            &["free", "teen", "chat"],
            &["bangbus"],
        );
        check(&words, "http://a.org/Casino-royale", Some(("url-word", "casino")));
        check(&words, "http://a.org/casinos", None);
        check(&words, "http://xrated.org/", Some(("url-word", "xrated")));
        check(&words, "http://a.org/free/free", None);
        check(&words, "http://a.org/free/teen", Some(("url-soft-words", "free teen")));
        check(&words, "http://a.org/the-bang_bus", Some(("url-part", "bangbus")));
        check(&words, "http://a.org/#words", None);
        check(&UrlWords::default(), "http://a.org/casino", None);
    }

    /// The lists of FineWeb, where they lie beside the checkout.
    #[test]
    fn the_lists_that_others_use_are_read() {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared");
        let shared = std::env::var("QUIPU_SHARED").unwrap_or_else(|_| beside.to_owned());
        let read = |name: &str| {
            std::fs::read_to_string(format!(
                "{shared}/data/url-and-word-lists/datatrove/{name}.txt"
            ))
        };
        let (Ok(words), Ok(soft), Ok(parts)) =
            (read("banned_words"), read("soft_banned_words"), read("banned_subwords"))
        else {
            eprintln!("SKIPPED: the_lists_that_others_use_are_read: shared data absent");
            return;
        };
        let lines = |text: &'static str| text.lines().collect::<Vec<_>>();
        let [words, soft, parts] = [words, soft, parts].map(|t| lines(t.leak()));
        let lists = UrlWords::new(&words, &soft, &parts);
        for word in words.iter().filter_map(|w| entry(w)) {
            let found = lists.judge(&format!("http://a.org/{word}"));
            assert_eq!(found.map(|u| u.found), Some(word));
        }
        check(&lists, "https://en.wikipedia.org/wiki/Harbour", None);
        check(&lists, "https://www.bbc.co.uk/news/uk-england-sussex-12345", None);
    }
}
