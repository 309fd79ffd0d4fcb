//! From bytes to text: which encoding a page is in, by its byte order mark, the HTTP header, the
//! markup, or detection (Firefox's detector), in that order, as browsers do (HTML standard, section
//! 13.2.3). Not a cleaner: what is decoded is not normalised.
//!
//! One deliberate difference: bytes that are valid UTF-8 and not mere ASCII are UTF-8 whatever was
//! declared. Legacy text is practically never valid UTF-8 by chance, wrong declarations are common.

use std::borrow::Cow;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::html::names::{Attr, Tag};
use crate::html::tokenizer::{Token, Tokenizer};
use crate::html::tree::Tree;

/// How many bytes are searched for a `meta` declaration (browsers read 1,024; real pages put
/// comments and scripts first).
const PRESCAN: usize = 8192;

/// Decodes a page. `content_type` is the value of the HTTP header of that name. Never fails: bytes
/// that do not decode become U+FFFD.
pub fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        return encoding.decode_without_bom_handling(&bytes[mark..]).0;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let declared = if bytes.is_ascii() { declared(bytes, content_type) } else { None };
        // ASCII bytes may still be ISO-2022-JP or UTF-16 by the header
        return match declared {
            Some(encoding) if !encoding.is_ascii_compatible() => {
                encoding.decode_without_bom_handling(bytes).0
            }
            _ => Cow::Borrowed(text),
        };
    }
    let encoding = match declared(bytes, content_type) {
        Some(encoding) if encoding != UTF_8 || mostly_utf8(bytes) => encoding,
        _ => detected(bytes),
    };
    encoding.decode_without_bom_handling(bytes).0
}

/// The encoding that the header or the markup declares.
fn declared(bytes: &[u8], content_type: Option<&str>) -> Option<&'static Encoding> {
    let header = content_type.and_then(charset_parameter);
    if header.is_some() {
        return header;
    }
    // UTF-16 cannot be declared by markup that was readable as ASCII
    markup_charset(&bytes[..bytes.len().min(PRESCAN)])
        .map(|encoding| if encoding == UTF_16BE || encoding == UTF_16LE { UTF_8 } else { encoding })
}

/// The `charset=` of a content type.
fn charset_parameter(value: &str) -> Option<&'static Encoding> {
    let lower = value.to_ascii_lowercase();
    let at = lower.find("charset")? + "charset".len();
    let rest = lower[at..].trim_start().strip_prefix('=')?.trim_start();
    let label: &str = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].split(quote).next()?,
        _ => rest.split([' ', ';', ',', '\t', '\n']).next()?,
    };
    Encoding::for_label(label.as_bytes())
}

/// The encoding that a `meta` tag or an XML declaration names.
fn markup_charset(head: &[u8]) -> Option<&'static Encoding> {
    let text: String = head.iter().map(|b| if b.is_ascii() { *b as char } else { '?' }).collect();
    if let Some(xml) = text.strip_prefix("<?xml") {
        let declaration = xml.split('>').next()?;
        let at = declaration.find("encoding");
        let value = at.and_then(|i| declaration[i..].split(['"', '\'']).nth(1));
        if let Some(encoding) = value.and_then(|v| Encoding::for_label(v.as_bytes())) {
            return Some(encoding);
        }
    }
    let mut tree = Tree::new(&text);
    let mut tokens = Tokenizer::new(&text);
    loop {
        match tokens.next(&mut tree, false) {
            Token::Start(tag) => {
                let from = tag.attrs.start as usize;
                match tag.tag {
                    Tag::META => {
                        let attrs = tree.attrs.get(from..).unwrap_or(&[]);
                        if let Some(found) = meta_charset(&tree, attrs) {
                            return Some(found);
                        }
                    }
                    Tag::SCRIPT => drop(tokens.raw_text("script", false, &mut tree)),
                    Tag::STYLE => drop(tokens.raw_text("style", false, &mut tree)),
                    Tag::TITLE => drop(tokens.raw_text("title", false, &mut tree)),
                    _ => {}
                }
            }
            Token::Eof => return None,
            _ => {}
        }
    }
}

fn meta_charset(
    tree: &Tree,
    attrs: &[(Attr, crate::html::tree::Range)],
) -> Option<&'static Encoding> {
    let get = |name| attrs.iter().find(|(a, _)| *a == name).map(|(_, range)| tree.slice(*range));
    if let Some(label) = get(Attr::Charset) {
        return Encoding::for_label(label.trim().as_bytes());
    }
    let is_type = get(Attr::HttpEquiv).is_some_and(|v| v.eq_ignore_ascii_case("content-type"));
    is_type.then(|| get(Attr::Content).and_then(charset_parameter)).flatten()
}

/// Whether text that is declared UTF-8 but not valid is so for the greater part: fewer errors than
/// a quarter of its good multi-byte characters.
fn mostly_utf8(bytes: &[u8]) -> bool {
    let (mut good, mut bad) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        good += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        bad += usize::from(!chunk.invalid().is_empty());
    }
    bad * 4 <= good
}

fn detected(bytes: &[u8]) -> &'static Encoding {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    // a quarter of a megabyte tells as much as the whole page
    detector.feed(&bytes[..bytes.len().min(1 << 18)], true);
    let encoding = detector.guess(None, Utf8Detection::Allow);
    if encoding == UTF_8 { WINDOWS_1252 } else { encoding }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], content_type: Option<&str>, expected: &str) {
        assert_eq!(decode(bytes, content_type), expected);
    }

    #[test]
    fn byte_order_marks_come_first() {
        check(b"\xef\xbb\xbfna\xc3\xafve", Some("text/html; charset=latin1"), "naïve");
        check(b"\xff\xfeh\0i\0", None, "hi");
        check(b"\xfe\xff\0h\0i", None, "hi");
    }

    #[test]
    fn header_before_markup() {
        let page = b"<meta charset=windows-1251>\xe9";
        check(page, Some("text/html; charset=\"iso-8859-1\""), "<meta charset=windows-1251>é");
        check(page, Some("text/html"), "<meta charset=windows-1251>й");
    }

    #[test]
    fn forms_of_declaration() {
        for declaration in [
            "<meta http-equiv=Content-Type content='text/html; charset=shift_jis'>",
            "<!-- <meta charset=utf-8> --><script>'<meta charset=utf-8>'</script>\
             <META CHARSET=\"Shift_JIS\">",
            "<?xml version=\"1.0\" encoding=\"shift_jis\"?>",
        ] {
            let mut page = declaration.as_bytes().to_vec();
            page.extend(b"\x93\xfa\x96\x7b");
            assert!(decode(&page, None).ends_with("日本"), "{declaration}");
        }
    }

    #[test]
    fn valid_utf8_beats_a_wrong_declaration() {
        check("<meta charset=iso-8859-1>déjà".as_bytes(), None, "<meta charset=iso-8859-1>déjà");
    }

    #[test]
    fn wrong_utf8_declarations_are_detected() {
        let page = b"<meta charset=utf-8><p>La c\xf4te est tr\xe8s belle, \xe0 l'\xe9t\xe9 aussi";
        assert!(decode(page, None).contains("côte est très belle, à l'été"));
        let mostly = "é".repeat(40) + "\u{1}";
        let mut bytes = mostly.into_bytes();
        bytes.push(0xff);
        assert!(decode(&bytes, Some("text/html; charset=utf-8")).ends_with("é\u{1}\u{fffd}"));
    }

    #[test]
    fn detection_without_declaration() {
        let (bytes, _, _) = encoding_rs::KOI8_R.encode("Это обычный русский текст о погоде и доме");
        check(&bytes, None, "Это обычный русский текст о погоде и доме");
        check(b"", None, "");
    }

    #[test]
    fn escapes_of_iso_2022_jp_are_decoded_when_declared() {
        check(b"\x1b$BF|K\\\x1b(B", Some("text/html; charset=iso-2022-jp"), "日本");
    }
}
