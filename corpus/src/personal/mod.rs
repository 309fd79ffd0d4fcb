//! Personal data in a text: where it is, of which kind, and the text without it.
//!
//! The paper removes whole sites that are full of personal data (§3.1); the counts a domain needs for
//! that come from [`find`]. Masking is a choice of the user's: [`mask`] puts a mark of the kind in
//! place of what was found, always the same one (`<email>`), so that no invented address of somebody
//! real enters the corpus, and a tokenizer can make it one token. One pass over the bytes: `@` and
//! runs of digits are candidates, each is looked at within a window of fixed size, and what has a
//! checksum is believed only where it holds. Not here: names, streets, birthdays, which no form tells;
//! nor data in pictures of letters ("name at host dot com").

mod card;
mod digits;
mod email;
mod iban;
mod ip;
mod national;
mod phone;

use digits::Cluster;
use std::ops::Range;

/// A kind of personal data.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// An address of the public internet, of version 4 or 6.
    Ip,
    /// A payment card's number.
    Card,
    /// A bank account's international number.
    Iban,
    /// A social security number of the United States.
    Ssn,
    /// A national identity number with check digits (Brazil, France, Italy, Poland, Spain).
    NationalId,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::Email, Kind::Phone, Kind::Ip, Kind::Card, Kind::Iban, Kind::Ssn, Kind::NationalId];

    /// Its name, as it stands in recipes and scores.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Email => "email",
            Kind::Phone => "phone",
            Kind::Ip => "ip",
            Kind::Card => "card",
            Kind::Iban => "iban",
            Kind::Ssn => "ssn",
            Kind::NationalId => "national-id",
        }
    }

    /// What stands in its place in a masked text.
    pub fn mark(self) -> &'static str {
        match self {
            Kind::Email => "<email>",
            Kind::Phone => "<phone>",
            Kind::Ip => "<ip>",
            Kind::Card => "<card>",
            Kind::Iban => "<iban>",
            Kind::Ssn => "<ssn>",
            Kind::NationalId => "<national-id>",
        }
    }
}

/// Where personal data stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the text.
    pub range: Range<usize>,
}

/// Bytes at which something may begin: digits, and the sign within an address.
static CANDIDATE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'0';
    while byte <= b'9' {
        table[byte as usize] = true;
        byte += 1;
    }
    table[b'@' as usize] = true;
    table
};

/// All personal data of a text, in order; spans do not overlap.
pub fn find(text: &str) -> Vec<Span> {
    let bytes = text.as_bytes();
    let mut spans: Vec<Span> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if !CANDIDATE[usize::from(byte)] {
            at += 1;
            continue;
        }
        let from = spans.last().map_or(0, |s| s.range.end);
        let (found, next) = match byte {
            b'@' => (email::around(text, at, from).map(|r| (Kind::Email, r)), at + 1),
            _ => number(text, at, from),
        };
        at = next;
        if let Some((kind, range)) = found {
            at = range.end.max(at);
            spans.push(Span { kind, range });
        }
    }
    spans
}

/// What begins with the run of digits at `at`, nothing of it before `from`; and where to go on.
fn number(text: &str, at: usize, from: usize) -> (Option<(Kind, Range<usize>)>, usize) {
    let bytes = text.as_bytes();
    let run = at + digits::run(&bytes[at..]);
    let before = |n: usize| if at >= from + n { bytes[at - n] } else { 0 };
    if before(1).is_ascii_alphabetic() {
        let lettered = iban::ending(text, at, from).map(|r| (Kind::Iban, r));
        let lettered = lettered
            .or_else(|| national::after_letters(bytes, at, from).map(|r| (Kind::NationalId, r)));
        return (lettered, run);
    }
    if before(1) == b'_' || (matches!(before(1), b'.' | b',') && before(2).is_ascii_digit()) {
        return (None, run);
    }
    let cluster = Cluster::at(bytes, at);
    if let Some(range) = ip::v6(text, at) {
        return (Some((Kind::Ip, range)), run);
    }
    if cluster.digits() < 5 {
        // Nothing is so short; and no part of it is longer.
        return (None, cluster.end().max(run));
    }
    let found = ip::v4(text, &cluster)
        .map(|r| (Kind::Ip, r))
        .or_else(|| national::ssn(text, &cluster).map(|r| (Kind::Ssn, r)))
        .or_else(|| national::id(bytes, &cluster).map(|r| (Kind::NationalId, r)))
        .or_else(|| card::number(bytes, &cluster).map(|r| (Kind::Card, r)))
        .or_else(|| phone::number(text, &cluster, from).map(|r| (Kind::Phone, r)));
    (found, run)
}

/// A text with a mark in place of all personal data of these kinds.
pub fn mask(text: &str, kinds: &[Kind]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in find(text).into_iter().filter(|s| kinds.contains(&s.kind)) {
        out.push_str(&text[at..span.range.start]);
        out.push_str(span.kind.mark());
        at = span.range.end;
    }
    out.push_str(&text[at..]);
    out
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Checks that a text has exactly this personal data.
    pub(crate) fn check(text: &str, expected: &[(Kind, &str)]) {
        let found = find(text);
        let found: Vec<(Kind, &str)> =
            found.iter().map(|s| (s.kind, &text[s.range.clone()])).collect();
        assert_eq!(found, expected, "{text}");
    }

    /// Checks that each text is of a kind as a whole, also within a sentence.
    pub(crate) fn all_are(kind: Kind, texts: &[&str]) {
        for text in texts {
            check(text, &[(kind, text)]);
            check(&format!("see ({text}), or not"), &[(kind, text)]);
            check(&format!("日本{text}。"), &[(kind, text)]);
        }
    }

    /// Checks that none of the texts has personal data.
    pub(crate) fn none_is(texts: &[&str]) {
        for text in texts {
            check(text, &[]);
        }
    }

    #[test]
    fn several_in_a_sentence() {
        check(
            "Write to anna.marlow@harbour.org or call +44 20 7946 0958 (from 81.2.69.160).",
            &[
                (Kind::Email, "anna.marlow@harbour.org"),
                (Kind::Phone, "+44 20 7946 0958"),
                (Kind::Ip, "81.2.69.160"),
            ],
        );
        check("", &[]);
        check("@ 1 @2 3@", &[]);
    }

    #[test]
    fn chosen_kinds_are_masked_and_nothing_else_changes() {
        let text = "Von jörg@härte.de, Tel. 030 1234567, IBAN DE89 3704 0044 0532 0130 00.";
        assert_eq!(mask(text, &[]), text);
        assert_eq!(mask(text, &Kind::ALL), "Von <email>, Tel. <phone>, IBAN <iban>.");
        assert_eq!(
            mask(text, &[Kind::Phone]),
            "Von jörg@härte.de, Tel. <phone>, IBAN DE89 3704 0044 0532 0130 00."
        );
        let masked = mask(text, &Kind::ALL);
        assert_eq!(mask(&masked, &Kind::ALL), masked);
    }

    #[test]
    fn ordinary_figures_are_nobodys() {
        none_is(&[
            "In 1912 some 12,345,678 people lived there, 3.14159 times as many as in 1880.",
            "From 1914-1918 and 2003-2004; 10:30-12:45; 2024-03-01 12:00:07; 01.02.2003 04:05.",
            "ISBN 0-306-40615-2, ISBN 978-3-16-148410-0, ISSN 0317-8471.",
            "pp. 123-456, vol. 12 (3), 100 200 300, 1 000 000 000, $1,234,567.89",
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
            "3.141592653589793238462643383279502884197169399375105820974944592307816406286",
            "sha 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "48.8566 N, 2.3522 E; 51° 30' 26\" N; 1/2, 3/4, 16:9, 4x4, A4, B12, 9am",
            "01 02 03 04 05 06 07 08 09 10",
        ]);
    }

    #[test]
    fn hostile_texts_take_linear_time_and_keep_their_characters() {
        let start = std::time::Instant::now();
        for piece in ["@", "a@", "1 ", "1-", "(1", "+1", "1.", "a.b@c.", "0", "ab12", "2:", "é@é"]
        {
            let text = piece.repeat(400_000 / piece.len());
            let spans = find(&text);
            assert!(spans.windows(2).all(|w| w[0].range.end <= w[1].range.start));
            mask(&text, &Kind::ALL);
        }
        assert!(start.elapsed().as_secs() < 20, "quadratic would be minutes");
    }

    #[test]
    fn random_bytes_never_break_it() {
        let signs: Vec<char> = "0123456789 -.()+/@:abDE12é日,\n".chars().collect();
        let mut state = 11u64;
        for _ in 0..3000 {
            let text: String = (0..60)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    signs[(state >> 33) as usize % signs.len()]
                })
                .collect();
            let masked = mask(&text, &Kind::ALL);
            assert!(find(&text).is_empty() == (masked == text));
        }
    }
}
