//! Character references: `&amp;`, `&eacute` (some names work without semicolon), `&#8217;`,
//! `&#x2019;`. Decodes them as the HTML standard says (sections 13.2.5.72 to 13.2.5.80); not an
//! encoder. The names and their characters are data of the standard, in `entities.txt`.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Longest name that works without a semicolon.
const LONGEST_BARE: usize = 6;
/// Longest name of all.
const LONGEST: usize = 32;

fn names() -> &'static HashMap<&'static str, String> {
    static NAMES: OnceLock<HashMap<&'static str, String>> = OnceLock::new();
    NAMES.get_or_init(|| include_str!("entities.txt").lines().filter_map(parse_line).collect())
}

fn parse_line(line: &'static str) -> Option<(&'static str, String)> {
    let (name, codes) = line.split_once(' ')?;
    let hex = |code| u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
    Some((name, codes.split(' ').filter_map(hex).collect()))
}

/// Appends `raw` to `out` with its character references decoded. In attribute values a bare name
/// followed by `=` or a letter or digit stays as it is (`?a=1&copy=2`).
pub fn decode(raw: &str, in_attribute: bool, out: &mut String) {
    let bytes = raw.as_bytes();
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'&', &bytes[from..]) {
        let at = from + found;
        out.push_str(&raw[from..at]);
        let used = reference(&raw[at + 1..], in_attribute, out);
        if used == 0 {
            out.push('&');
        }
        from = at + 1 + used;
    }
    out.push_str(&raw[from..]);
}

/// Decodes the reference whose text after `&` is at the front of `rest`; says how many bytes it
/// took (0: not a reference, nothing was written).
fn reference(rest: &str, in_attribute: bool, out: &mut String) -> usize {
    match rest.as_bytes().first() {
        Some(b'#') => numeric(rest, out),
        Some(c) if c.is_ascii_alphanumeric() => named(rest, in_attribute, out),
        _ => 0,
    }
}

fn numeric(rest: &str, out: &mut String) -> usize {
    let bytes = rest.as_bytes();
    let hex = matches!(bytes.get(1), Some(b'x' | b'X'));
    let (first, radix) = if hex { (2, 16) } else { (1, 10) };
    let mut code = 0u32;
    let mut at = first;
    while let Some(digit) = bytes.get(at).and_then(|&b| (b as char).to_digit(radix)) {
        code = code.saturating_mul(radix).saturating_add(digit).min(0x11_0000);
        at += 1;
    }
    if at == first {
        return 0;
    }
    out.push(character(code));
    at + usize::from(bytes.get(at) == Some(&b';'))
}

/// The character of a number; numbers of the C1 range mean windows-1252, as pages wrote them.
fn character(code: u32) -> char {
    const WINDOWS_1252: [u16; 32] = [
        0x20ac, 0x81, 0x201a, 0x192, 0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160, 0x2039,
        0x152, 0x8d, 0x17d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014,
        0x2dc, 0x2122, 0x161, 0x203a, 0x153, 0x9d, 0x17e, 0x178,
    ];
    let code = match code {
        0 => 0xfffd,
        0x80..=0x9f => u32::from(WINDOWS_1252[code as usize - 0x80]),
        code => code,
    };
    char::from_u32(code).unwrap_or('\u{fffd}')
}

fn named(rest: &str, in_attribute: bool, out: &mut String) -> usize {
    let bytes = rest.as_bytes();
    let run = bytes.iter().take(LONGEST).take_while(|b| b.is_ascii_alphanumeric()).count();
    if bytes.get(run) == Some(&b';')
        && let Some(text) = names().get(&rest[..=run])
    {
        out.push_str(text);
        return run + 1;
    }
    for len in (2..=run.min(LONGEST_BARE)).rev() {
        let Some(text) = names().get(&rest[..len]) else { continue };
        let after = bytes.get(len);
        if in_attribute && after.is_some_and(|b| *b == b'=' || b.is_ascii_alphanumeric()) {
            return 0;
        }
        out.push_str(text);
        return len;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, in_attribute: bool, expected: &str) {
        let mut out = String::new();
        decode(raw, in_attribute, &mut out);
        assert_eq!(out, expected, "{raw}");
    }

    #[test]
    fn the_table_is_whole() {
        assert_eq!(names().len(), 2231);
        assert!(names().keys().all(|n| n.ends_with(';') || n.len() <= LONGEST_BARE));
        assert!(names().keys().all(|n| n.len() <= LONGEST + 1));
    }

    #[test]
    fn named_references() {
        check("Caf&eacute; &amp; bar", false, "Café & bar");
        check("Caf&eacute &ampbar", false, "Café &bar");
        check("I&notit; and &notin;", false, "I¬it; and ∉");
        check("&unknown; &; & &&amp;", false, "&unknown; &; & &&");
        check("&NotEqualTilde;", false, "≂̸");
    }

    #[test]
    fn attributes_keep_query_strings() {
        check("?a=1&copy=2&lt;&not1", true, "?a=1&copy=2<&not1");
        check("x&copy", true, "x©");
    }

    #[test]
    fn numeric_references() {
        check("&#8217;&#x2019;&#X2019 ", false, "’’’ ");
        check("&#146;&#128;", false, "’€");
        check(
            "&#xD800;&#0;&#x110000;&#99999999999999999999;",
            false,
            "\u{fffd}".repeat(4).as_str(),
        );
        check("&#;&#x;&#", false, "&#;&#x;&#");
    }
}
