//! Markdown to plain text: markers go from prose, code stays as it is.
//!
//! The paper (§3.1.1) found that Markdown markers hurt a model of mainly web text. `#` in code, `*`
//! in formulas and `_` in identifiers are no markers and stay. One pass over the lines, no
//! backtracking. Not here: HTML blocks beyond their tags.

/// A text without its markers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stripped {
    /// Title from the front matter, or the first heading of the first level.
    pub title: Option<String>,
    /// Headings, as they stand in the text.
    pub headings: Vec<String>,
    /// The text.
    pub text: String,
}

/// Takes the markers out.
pub fn strip(text: &str) -> Stripped {
    let mut out = Stripped::default();
    let body = front_matter(text, &mut out.title);
    let mut fence: Option<String> = None;
    let mut previous_blank = true;
    let mut comment = false;
    for line in body.lines() {
        if let Some(open) = &fence {
            if line.trim_start().starts_with(open.as_str()) {
                fence = None;
            } else {
                push(&mut out.text, line.trim_end());
            }
            continue;
        }
        if let Some(open) = fence_of(line) {
            fence = Some(open);
            continue;
        }
        let indented = previous_blank && (line.starts_with("    ") || line.starts_with('\t'));
        if indented && !is_list_item(line.trim_start()) {
            push(&mut out.text, line.trim_end());
            continue;
        }
        previous_blank = line.trim().is_empty();
        let line = without_comments(line, &mut comment);
        prose(&line, &mut out);
    }
    if out.title.is_none() {
        out.title = out.headings.first().cloned();
    }
    out.text = squeeze(&out.text);
    out
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// At most one blank line in a row, none at the ends.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        if !line.is_empty() || !(out.is_empty() || out.ends_with("\n\n")) {
            push(&mut out, line);
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The text behind a front matter between `---` lines, whose `title:` is taken.
fn front_matter<'a>(text: &'a str, title: &mut Option<String>) -> &'a str {
    let Some(rest) = text.strip_prefix("---\n") else { return text };
    let Some(end) = rest.find("\n---\n") else { return text };
    for line in rest[..end].lines() {
        if let Some(value) = line.strip_prefix("title:") {
            let value = value.trim().trim_matches(['"', '\'']);
            *title = (!value.is_empty()).then(|| value.to_owned());
        }
    }
    &rest[end + 5..]
}

fn fence_of(line: &str) -> Option<String> {
    let start = line.trim_start();
    let mark = start.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let count = start.chars().take_while(|c| *c == mark).count();
    let inline = mark == '`' && start[count..].contains('`');
    (count >= 3 && !inline).then(|| mark.to_string().repeat(count))
}

fn without_comments(line: &str, inside: &mut bool) -> String {
    let (mut out, mut rest) = (String::new(), line);
    loop {
        if *inside {
            let Some(end) = rest.find("-->") else { return out };
            rest = &rest[end + 3..];
            *inside = false;
        } else if let Some(start) = rest.find("<!--") {
            out.push_str(&rest[..start]);
            rest = &rest[start + 4..];
            *inside = true;
        } else {
            out.push_str(rest);
            return out;
        }
    }
}

fn prose(line: &str, out: &mut Stripped) {
    let trimmed = line.trim();
    let only = |mark: char| trimmed.chars().all(|c| c == mark || c == ' ');
    let rule = trimmed.len() >= 3 && ['-', '*', '_', '='].iter().any(|m| only(*m));
    if rule {
        // Under a line of text this is a heading's underline.
        let last = out.text.lines().last().unwrap_or_default().to_owned();
        if trimmed.starts_with(['=', '-']) && !last.is_empty() && last.len() <= 120 {
            out.headings.push(last);
        }
        return;
    }
    if is_reference(trimmed) || trimmed.starts_with("{%") {
        return;
    }
    let level = trimmed.bytes().take_while(|b| *b == b'#').count();
    if (1..=6).contains(&level) && trimmed[level..].starts_with([' ', '\t']) {
        let heading = inline(trimmed[level..].trim().trim_end_matches('#').trim());
        if !heading.is_empty() {
            push(&mut out.text, "");
            push(&mut out.text, &heading);
            out.headings.push(heading);
        }
        return;
    }
    let mut rest = trimmed;
    while let Some(quoted) = rest.strip_prefix('>') {
        rest = quoted.trim_start();
    }
    if is_list_item(rest) && !rest.starts_with(|c: char| c.is_ascii_digit()) {
        rest = rest[1..].trim_start();
        rest = ["[ ] ", "[x] ", "[X] "].iter().find_map(|b| rest.strip_prefix(b)).unwrap_or(rest);
    }
    if rest.starts_with('|') && rest.ends_with('|') && rest.len() > 1 {
        table_row(rest, out);
        return;
    }
    push(&mut out.text, inline(rest).trim_end());
}

fn table_row(row: &str, out: &mut Stripped) {
    let cells: Vec<&str> = row[1..row.len() - 1].split('|').map(str::trim).collect();
    if cells.iter().all(|c| !c.is_empty() && c.chars().all(|c| c == '-' || c == ':')) {
        return;
    }
    let cells: Vec<String> = cells.into_iter().map(inline).collect();
    push(&mut out.text, &cells.join("\t"));
}

fn is_list_item(line: &str) -> bool {
    let bullet = ["- ", "* ", "+ "].iter().any(|b| line.starts_with(b));
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let numbered = (1..=9).contains(&digits) && line[digits..].starts_with(". ");
    bullet || numbered
}

/// `[name]: http://…`
fn is_reference(line: &str) -> bool {
    let Some(rest) = line.strip_prefix('[') else { return false };
    let Some((name, target)) = rest.split_once("]:") else { return false };
    !name.contains(['[', ']']) && !target.trim().is_empty() && target.trim().split(' ').count() <= 4
}

/// A line of prose without its inline markers.
fn inline(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    strip_inline(line, 0, line.len(), &Pairs::of(line), &mut out);
    out
}

/// The same of the bytes `from` to `to` of a line.
fn strip_inline(line: &str, from: usize, to: usize, pairs: &Pairs, out: &mut String) {
    let mut at = from;
    let mut previous = ' ';
    while let Some(c) = line[at..to].chars().next() {
        let rest = &line[at..to];
        let step = match c {
            '\\' => escape(rest, out),
            '`' => code_span(rest, out),
            '!' if rest.starts_with("![") => link(line, at + 1, to, pairs).map(|(_, end)| end - at),
            '[' => link(line, at, to, pairs).map(|(close, end)| {
                strip_inline(line, at + 1, close, pairs, out);
                end - at
            }),
            '<' => tag(rest, out),
            '*' | '_' | '~' => emphasis(rest, previous),
            _ => None,
        };
        let step = step.unwrap_or_else(|| {
            out.push(c);
            c.len_utf8()
        });
        previous = rest[..step].chars().next_back().unwrap_or(' ');
        at += step;
    }
}

fn escape(rest: &str, out: &mut String) -> Option<usize> {
    let next = rest[1..].chars().next().filter(char::is_ascii_punctuation)?;
    out.push(next);
    Some(2)
}

fn code_span(rest: &str, out: &mut String) -> Option<usize> {
    let count = rest.bytes().take_while(|b| *b == b'`').count();
    let mark = &rest[..count];
    let end = rest[count..].find(mark)?;
    out.push_str(rest[count..count + end].trim());
    Some(count + end + count)
}

/// `[text](target)` or `[text][name]` that begins at `open` and ends before `to`: where its text ends,
/// and where all of it does.
fn link(line: &str, open: usize, to: usize, pairs: &Pairs) -> Option<(usize, usize)> {
    let close = pairs.close(open)?;
    if !matches!(line.as_bytes().get(close + 1), Some(b'(' | b'[')) {
        return None;
    }
    let end = pairs.close(close + 1)? + 1;
    (end <= to).then_some((close, end))
}

/// Which bracket of a line closes which, found in one pass: a line of a million brackets would
/// otherwise be gone through from each.
struct Pairs(Vec<u32>);

impl Pairs {
    /// Bytes that a pair may hold at most: whoever writes a link writes a short one.
    const WIDEST: usize = 2000;

    fn of(line: &str) -> Pairs {
        // Without an opening bracket there is no link.
        let bytes = if line.contains('[') { line.as_bytes() } else { &[] };
        let mut closes = vec![0; bytes.len()];
        let mut open: [Vec<usize>; 2] = Default::default();
        for (at, byte) in bytes.iter().enumerate() {
            let kind = usize::from(matches!(byte, b'(' | b')'));
            match byte {
                b'[' | b'(' => open[kind].push(at),
                b']' | b')' => {
                    if let Some(first) = open[kind].pop() {
                        closes[first] = u32::try_from(at).unwrap_or(0);
                    }
                }
                _ => {}
            }
        }
        Pairs(closes)
    }

    /// Offset of the bracket that closes the one at `open`.
    fn close(&self, open: usize) -> Option<usize> {
        let close = *self.0.get(open)? as usize;
        (close > open && close - open < Pairs::WIDEST).then_some(close)
    }
}

/// An autolink, of which the address stays, or a tag, which goes.
fn tag(rest: &str, out: &mut String) -> Option<usize> {
    let end = rest.char_indices().take_while(|(at, _)| *at < 500).find(|(_, c)| *c == '>')?.0;
    let inside = &rest[1..end];
    if inside.starts_with("http") && !inside.contains(' ') {
        out.push_str(inside);
        return Some(end + 1);
    }
    let name = inside.trim_start_matches('/');
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(end + 1)
}

/// A run of `*`, `_` or `~~` that opens or closes emphasis: beside a word on one side only.
fn emphasis(rest: &str, previous: char) -> Option<usize> {
    let mark = rest.chars().next()?;
    let count = rest.chars().take_while(|c| *c == mark).count();
    let next = rest[count..].chars().next().unwrap_or(' ');
    let (left, right) = (!previous.is_whitespace(), !next.is_whitespace());
    let between_words = previous.is_alphanumeric() && next.is_alphanumeric();
    let marker = match mark {
        '~' => count == 2,
        '_' => count <= 3 && (left || right) && !between_words,
        // `a*b` and `2 * 3` are formulas; `un*frigging*believable` is rare enough to lose.
        _ => count <= 3 && (left || right) && !(between_words && count == 1),
    };
    marker.then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(markdown: &str, expected: &str) {
        assert_eq!(strip(markdown).text, expected, "{markdown}");
    }

    #[test]
    fn brackets_close_as_if_each_were_followed() {
        let followed = |text: &str, from: usize| {
            let (open, close) = if text[from..].starts_with('[') { ('[', ']') } else { ('(', ')') };
            let mut depth = 0;
            text[from..].char_indices().find_map(|(at, c)| {
                depth += i32::from(c == open) - i32::from(c == close);
                (depth == 0).then_some(from + at)
            })
        };
        let mut state = 7u64;
        for _ in 0..300 {
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from(b"[[]]()x"[(state >> 33) as usize % 7])
            };
            let text: String = (0..40).map(|_| draw()).chain(['[']).collect();
            let pairs = Pairs::of(&text);
            for (at, _) in text.char_indices().filter(|(_, c)| "[(".contains(*c)) {
                assert_eq!(pairs.close(at), followed(&text, at), "{text} {at}");
            }
        }
        let wide = format!("[{}]", "x".repeat(Pairs::WIDEST));
        assert_eq!(Pairs::of(&wide).close(0), None);
    }

    #[test]
    fn markers_go_from_prose() {
        check(
            "# Title\n\nSome **bold** and *italic* and __x__ text.",
            "Title\n\nSome bold and italic and x text.",
        );
        check("A [link](http://x/y_(z)) and ![picture](p.png) here.", "A link and  here.");
        check("See [that][1].\n\n[1]: http://x/", "See that.");
        check("> quoted\n> more", "quoted\nmore");
        check("* one\n- two\n+ [x] three\n1. four", "one\ntwo\nthree\n1. four");
        check("Title\n=====\ntext", "Title\ntext");
        check("| a | b |\n|---|:-:|\n| 1 | 2 |", "a\tb\n1\t2");
        check(
            "<b>x</b> <http://y/> <!-- no\nnot -->z",
            "x http://y/ \nz".replace(" \n", "\n").as_str(),
        );
        check("Nutzer\\*innen", "Nutzer*innen");
    }

    #[test]
    fn code_formulas_and_identifiers_stay() {
        check("```rust\n# [a]\nlet x = *y; // **\n```\n", "# [a]\nlet x = *y; // **");
        check("text\n\n    indented *code*\n", "text\n\n    indented *code*");
        check("Use `a_b*c` now", "Use a_b*c now");
        check("snake_case_name and 2 * 3 * 4 and a*b", "snake_case_name and 2 * 3 * 4 and a*b");
        check("a < b and c > d, x <3", "a < b and c > d, x <3");
    }

    #[test]
    fn titles_and_headings() {
        let text = "---\nlang: de\ntitle: \"Der Titel\"\n---\n\n## Eins ##\n\ntext\n";
        let found = strip(text);
        assert_eq!(found.title.as_deref(), Some("Der Titel"));
        assert_eq!(
            (found.headings, found.text.as_str()),
            (vec!["Eins".to_owned()], "Eins\n\ntext")
        );
    }

    #[test]
    fn hostile_lines_end_in_time() {
        for unit in ["[", "![", "`", "<", "*a", "[](", "\\"] {
            let text = unit.repeat(200_000 / unit.len());
            assert!(strip(&text).text.len() <= text.len());
        }
    }
}
