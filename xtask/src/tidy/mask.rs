//! Blanks out comments, strings and characters of Rust source, keeping every byte's place, so
//! that words and braces can be searched for. Not a parser.

/// `text` with comments, string and character contents replaced by spaces, line ends kept.
pub fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            b'/' if bytes.get(i + 1) == Some(&b'/') => line_end(bytes, i),
            b'/' if bytes.get(i + 1) == Some(&b'*') => comment_end(bytes, i),
            b'"' => string_end(bytes, i + 1),
            b'r' | b'b' | b'c' if !continues_word(bytes, i) => raw_end(bytes, i).unwrap_or(i),
            b'\'' => character_end(bytes, i).unwrap_or(i),
            _ => i,
        };
        for byte in &mut out[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end.max(i + 1);
    }
    // Only whole regions were blanked, and they begin and end at ASCII characters.
    String::from_utf8_lossy(&out).into_owned()
}

fn continues_word(bytes: &[u8], i: usize) -> bool {
    i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_')
}

fn line_end(bytes: &[u8], i: usize) -> usize {
    bytes[i..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| i + n)
}

/// Block comments nest in Rust.
fn comment_end(bytes: &[u8], mut i: usize) -> usize {
    let mut depth = 0;
    while i < bytes.len() {
        match &bytes[i..(i + 2).min(bytes.len())] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut i: usize) -> usize {
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `br"…"`, `b"…"`, `c"…"`; `None` when a word only begins with such a letter.
fn raw_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut i = start;
    while matches!(bytes.get(i), Some(b'b' | b'c' | b'r')) {
        i += 1;
    }
    let raw = bytes[start..i].contains(&b'r');
    let hashes = bytes[i..].iter().take_while(|b| **b == b'#').count();
    if i > start + 2 || bytes.get(i + hashes) != Some(&b'"') || (hashes > 0 && !raw) {
        return None;
    }
    if !raw {
        return Some(string_end(bytes, i + 1));
    }
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let from = i + hashes + 1;
    let found = bytes[from..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(bytes.len(), |n| from + n + close.len()))
}

/// The end of a character literal; `None` for a lifetime.
fn character_end(bytes: &[u8], i: usize) -> Option<usize> {
    if bytes.get(i + 1) == Some(&b'\\') {
        let rest = bytes.get(i + 3..)?;
        return rest.iter().position(|b| *b == b'\'').map(|n| i + 4 + n);
    }
    let text = std::str::from_utf8(bytes.get(i + 1..(i + 5).min(bytes.len()))?);
    let length = match text {
        Ok(text) => text.chars().next()?.len_utf8(),
        Err(e) => std::str::from_utf8(&bytes[i + 1..i + 1 + e.valid_up_to()])
            .ok()?
            .chars()
            .next()?
            .len_utf8(),
    };
    (bytes.get(i + 1 + length) == Some(&b'\'')).then_some(i + length + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_what_is_not_code() {
        let check = |text: &str, expected: &str| {
            let masked = mask(text);
            assert_eq!(masked.len(), text.len(), "{text}");
            let words: Vec<&str> = masked.split_whitespace().collect();
            assert_eq!(words.join(" "), expected, "{text}");
        };
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"f("{ \" }") { }"#, "f( ) { }");
        check(r##"f(r#"{ " }"#, br"{") }"##, "f( , ) }");
        check(
            "let c = '{'; let d = '\\''; fn g<'a>(x: &'a str) {",
            "let c = ; let d = ; fn g<'a>(x: &'a str) {",
        );
        check("m('é', '→', '\\u{1f}') }", "m( , , ) }");
        check("bread = r; crab(b'{', b\"{\")", "bread = r; crab(b , )");
    }
}
