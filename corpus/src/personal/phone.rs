//! Telephone numbers, international and national, where they are plausible.
//!
//! International: `+` or `00`, a country code that is given out, 8 to 15 digits. North America: area
//! and exchange as its plan has them. Elsewhere: a national prefix 0, 9 to 12 digits in groups. After
//! a word such as "Tel." any 6 to 15 digits. Not believed: dates, numbers of books and orders, sums,
//! and 555-0100 to 555-0199, which are set apart for fiction.

use super::digits::Cluster;
use super::ip::last_word;
use std::ops::Range;

/// Beginnings of words that announce a telephone number, in lower case.
const ANNOUNCE: [&str; 16] = [
    "tel",
    "phone",
    "fax",
    "call",
    "mobil",
    "cell",
    "whatsapp",
    "handy",
    "ring",
    "телефон",
    "тел",
    "電話",
    "电话",
    "tél",
    "hotline",
    "전화",
];
/// Words before numbers of other things.
const OTHER: [&str; 20] = [
    "no", "nr", "order", "isbn", "issn", "id", "ref", "art", "invoice", "vol", "pp", "item", "sku",
    "number", "part", "model", "case", "serial", "doi", "ean",
];
/// Bytes before a number in which the announcement stands.
const WINDOW: usize = 24;

/// The number that a group of digits begins, nothing of it before `from`.
pub(super) fn number(text: &str, cluster: &Cluster, from: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let first = cluster.groups().first()?.0;
    let bracket = usize::from(first > from && bytes[first - 1] == b'(');
    let before = first - bracket;
    let plus = usize::from(before > from && bytes[before - 1] == b'+');
    let start = before - plus;
    if cluster.cut || (start > from && is_part(bytes, start)) {
        return None;
    }
    // Blanks before and within: a piece of a longer row of figures.
    let row = start > from + 1 && bytes[start - 1] == b' ' && bytes[start - 2].is_ascii_digit();
    let groups = if plus == 0 && row && cluster.between(bytes, 0) == b" " {
        None
    } else if plus == 1 {
        international(bytes, cluster, 0)
    } else if let Some(groups) = american(bytes, cluster) {
        Some(groups)
    } else if is_date(bytes, cluster) {
        None
    } else {
        announced(text, cluster, start, from).or_else(|| national(text, cluster, start))
    }?;
    let end = cluster.range(bytes, groups)?.end;
    let open = text[start..end].matches('(').count() == text[start..end].matches(')').count();
    let start = if open { start } else { first };
    Some(start..end)
}

/// Whether what stands before `start` makes the number part of something else.
fn is_part(bytes: &[u8], start: usize) -> bool {
    let before = bytes[start - 1];
    before.is_ascii_alphanumeric()
        || matches!(before, b'$' | b'#' | b'=' | b'&' | b'_' | b'%')
        || (matches!(before, b'-' | b'.' | b'/')
            && start > 1
            && bytes[start - 2].is_ascii_alphanumeric())
}

/// Groups of an international number whose country code begins after `skip` digits.
fn international(bytes: &[u8], cluster: &Cluster, skip: usize) -> Option<usize> {
    let groups = cluster.groups();
    let digits: Vec<u32> = cluster.values(bytes, groups.len()).skip(skip).take(4).collect();
    let code = digits.iter().take(3).fold(0, |n, d| n * 10 + d);
    if digits.len() < 4 || !is_country(code) {
        return None;
    }
    let longest = if digits[0] == 1 { 11 } else { 15 };
    let (mut count, mut sum) = (0, 0);
    for (start, end) in groups {
        if sum + end - start > longest + skip || (sum >= skip + 11 && end - start < 2) {
            break;
        }
        (count, sum) = (count + 1, sum + end - start);
    }
    if digits[0] == 1 {
        let all: Vec<u32> = cluster.values(bytes, count).skip(skip + 1).collect();
        return (all.len() == 10 && is_planned(&all)).then_some(count);
    }
    (sum >= 8 + skip).then_some(count)
}

/// Whether three digits begin with a country code that is given out.
fn is_country(three: u32) -> bool {
    match three / 10 {
        10..20 | 70..80 => true,
        20 | 27 | 30..35 | 36 | 39..42 | 43..50 | 51..59 | 60..67 | 81 | 82 | 84 | 86 => true,
        90..96 | 98 => true,
        21 | 22 | 23 | 24 | 25 | 26 | 29 => !matches!(three, 210 | 214 | 215 | 217 | 219 | 259),
        35 | 37 | 38 | 42 => !matches!(three, 384 | 388 | 422 | 424..=429),
        50 | 59 | 67 | 68 | 69 => three != 671,
        80 | 85 | 87 | 88 => {
            matches!(three, 800 | 808 | 850 | 852 | 853 | 855 | 856 | 870 | 880..=883 | 886 | 888)
        }
        96 | 97 | 99 => !matches!(three, 969 | 978 | 990 | 991 | 997 | 999),
        _ => false,
    }
}

/// Groups of a number of the North American plan: 3, 3 and 4 digits, or with a 1 before.
fn american(bytes: &[u8], cluster: &Cluster) -> Option<usize> {
    let one = cluster.begins(&[1, 3, 3, 4]) && bytes[cluster.groups()[0].0] == b'1';
    let skip = usize::from(one);
    if !one && !cluster.begins(&[3, 3, 4]) {
        return None;
    }
    let sign = |n: usize| cluster.between(bytes, skip + n);
    let bracketed =
        matches!(sign(0), b") " | b")" | b")-") && matches!(sign(1), b"-" | b" " | b".");
    let plain =
        matches!(sign(0), b"-" | b"." | b" " | b"/") && (sign(1) == sign(0) || sign(1) == b"-");
    let digits: Vec<u32> = cluster.values(bytes, 3 + skip).skip(skip).collect();
    let count = 3 + skip;
    // Parted by blanks it has to be all there is, or it is a piece of a table.
    let alone = cluster.groups().len() == count || sign(1) != b" ";
    ((bracketed || plain) && alone && is_planned(&digits)).then_some(count)
}

/// Whether ten digits are a number of the North American plan that somebody can have: neither area
/// nor exchange begins with 0 or 1 or ends with 11, and no area is 555.
fn is_planned(digits: &[u32]) -> bool {
    let part = |at: usize| digits[at] >= 2 && !(digits[at + 1] == 1 && digits[at + 2] == 1);
    let fiction = digits[3..6] == [5, 5, 5] && digits[6..8] == [0, 1];
    part(0) && part(3) && !fiction && digits[..3] != [5, 5, 5]
}

/// Whether the first three groups are a day: 1 or 2 digits, 1 or 2, 4; or 4, 1 or 2, 1 or 2.
fn is_date(bytes: &[u8], cluster: &Cluster) -> bool {
    let lengths: Vec<usize> = cluster.groups().iter().take(3).map(|g| g.1 - g.0).collect();
    let formed = matches!(lengths[..], [1 | 2, 1 | 2, 4] | [4, 1 | 2, 1 | 2]);
    let short = matches!(lengths[..], [2, 2, 2]) && cluster.groups().len() == 3;
    let years = matches!(lengths[..], [4, 4] | [4, 4, _]) && cluster.digits() <= 12 && {
        let first = bytes[cluster.groups()[0].0];
        matches!(first, b'1' | b'2')
    };
    ((formed || short) && cluster.parted_by(bytes, 3, b"-./ ")) || years
}

/// Groups of a number that a word before it announces.
fn announced(text: &str, cluster: &Cluster, start: usize, from: usize) -> Option<usize> {
    let window = text.floor_char_boundary(start.saturating_sub(WINDOW)).max(from);
    let line = text[window..start].rsplit('\n').next().unwrap_or_default();
    // Only the last words: another number in between has taken the announcement.
    let near = line.rsplit(|c: char| c.is_ascii_digit()).next().unwrap_or_default().to_lowercase();
    let mut words = near.split(|c: char| !c.is_alphabetic());
    let named = words.any(|word| ANNOUNCE.iter().any(|begin| word.starts_with(begin)));
    let groups = cluster.groups().len();
    (named && (6..=15).contains(&cluster.digits())).then_some(groups)
}

/// Groups of a national number: a prefix 0, an area, and the rest.
fn national(text: &str, cluster: &Cluster, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let groups = cluster.groups();
    let (first, rest) = groups.split_first()?;
    let lead: Vec<u32> = cluster.values(bytes, groups.len()).take(3).collect();
    let length = |g: &(usize, usize)| g.1 - g.0;
    if lead.first() != Some(&0) || rest.is_empty() {
        return None;
    }
    if OTHER.iter().any(|w| last_word(&text[..start]).eq_ignore_ascii_case(w)) {
        return None;
    }
    if lead[1] == 0 {
        let whole = (10..=17).contains(&cluster.digits()) && length(first) <= 5;
        return if whole { international(bytes, cluster, 2) } else { None };
    }
    if rest.iter().any(|g| length(g) < 2) {
        return None;
    }
    let by_points = (0..rest.len()).any(|n| cluster.between(bytes, n) == b".");
    let pairs = cluster.digits() == 10 && groups.iter().all(|g| length(g) == 2);
    let triples = groups.len() > 3 && groups.iter().all(|g| length(g) == 3);
    let area = (2..=6).contains(&length(first)) && !triples;
    let mixed = (1..rest.len()).any(|n| matches!(cluster.between(bytes, n), b"/" | b"(" | b")"));
    let plausible = pairs || (area && rest.len() <= 4 && length(&rest[0]) >= 3 && !by_points);
    ((9..=12).contains(&cluster.digits()) && plausible && !mixed).then_some(groups.len())
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::tests::{all_are, check, none_is};

    #[test]
    fn international() {
        all_are(
            Kind::Phone,
            &[
                "+44 20 7946 0958",
                "+49 (0) 30 1234567",
                "+1 212-736-5000",
                "+1 (212) 736-5000",
                "+33 1 42 68 53 00",
                "+4930123456",
                "+81-3-3224-9999",
                "+353 1 679 6111",
                "0049 30 1234567",
                "00 33 1 42 68 53 00",
            ],
        );
        check("tel:+442079460958", &[(Kind::Phone, "+442079460958")]);
        none_is(&[
            "+1 23",
            "+12345",
            "+210 1234567",
            "5+49 30 123456",
            "+1 212 736",
            "+15558675310",
            "x+4930123456",
        ]);
    }

    #[test]
    fn north_america() {
        all_are(
            Kind::Phone,
            &[
                "(212) 736-5000",
                "212-736-5000",
                "212.736.5000",
                "212 736 5000",
                "1-212-736-5000",
                "(212)736-5000",
            ],
        );
        check("212-736-5000 24/7", &[(Kind::Phone, "212-736-5000")]);
        none_is(&[
            "112-736-5000", // no area
            "212-136-5000", // no exchange
            "212-911-5000",
            "212-555-0123", // for fiction
            "212-736-50000",
            "212-736-500",
            "212 736 5000 300 200", // a row of a table
            "$212-736-5000",
            "3212-736-5000",
        ]);
    }

    #[test]
    fn other_countries() {
        all_are(
            Kind::Phone,
            &[
                "030 1234567",
                "030/1234567",
                "(030) 1234567",
                "020 7946 0958",
                "01 42 68 53 00",
                "01.42.68.53.00",
                "0171-2345678",
                "06 12 34 56 78",
                "03-3224-9999",
            ],
        );
        none_is(&[
            "01.02.2003 12:30",
            "01-02-2003 1230",
            "0 123 456 789",
            "0123456789",
            "01 02 03 04 05 06",
            "order no. 0123-456789",
            "0.123 456 789",
            "003 123",
            "05 12",
            "012 013 023 123",
        ]);
    }

    #[test]
    fn announced() {
        let number = |n| [(Kind::Phone, n)];
        check("Tel.: 736-5000", &number("736-5000"));
        check("Phone number: 91 234 5678", &number("91 234 5678"));
        check("Call us on 0800 1234.", &number("0800 1234"));
        check("тел. 495 123 45 67", &number("495 123 45 67"));
        check("Telefon 0123456789", &number("0123456789"));
        none_is(&[
            "He called 1984 a warning, and 2001 a dream.",
            "Tel Aviv, 2003-2004",
            "Phone 12\n736 5000",
            "call it 12/05/2003",
            "Telephone exchange 12, 3456 lines",
        ]);
    }
}
