//! Rules for one Rust file: header, lengths, columns, `unsafe`, marks of unfinished work.

use super::Finding;
use super::mask::mask;

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 900;
const COLUMNS: usize = 120;

/// Where `unsafe` may stand without a named exception: kernels are full of it.
const UNSAFE_HOME: &str = "math/";

/// Everything that breaks a rule in the file at `path`.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let masked = mask(text);
    let mut findings = Vec::new();
    let mut find = |line: usize, rule, message: String| {
        findings.push(Finding { path: path.into(), line, rule, message });
    };
    if !text.starts_with("//! ") {
        let message = "the file does not open with a `//!` header (what it is, what it is not)";
        find(1, "header", message.into());
    }
    for (i, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS {
            find(i + 1, "columns", format!("{columns} columns, at most {COLUMNS}"));
        }
    }
    for (line, name, lines) in functions(&masked) {
        if lines > FUNCTION_LINES {
            let message = format!("function {name} has {lines} lines, at most {FUNCTION_LINES}");
            find(line, "function-lines", message);
        }
    }
    let lines = text.lines().count() - test_lines(&masked);
    if lines > FILE_LINES {
        let message = format!("{lines} lines besides tests, at most {FILE_LINES}");
        find(1, "file-lines", message);
    }
    marks(path, text, &masked, &mut find);
    findings
}

/// `unsafe` and what marks unfinished work.
fn marks(path: &str, text: &str, masked: &str, find: &mut impl FnMut(usize, &'static str, String)) {
    let lines: Vec<&str> = text.lines().collect();
    for (i, code) in masked.lines().enumerate() {
        if words(code).any(|w| w == "unsafe") {
            if !path.starts_with(UNSAFE_HOME) {
                find(i + 1, "unsafe", "`unsafe` outside math".into());
            }
            // An `unsafe fn` states its contract in its documentation instead.
            let declares = code.contains("unsafe fn") || code.contains("unsafe trait");
            let above = &lines[i.saturating_sub(8)..=i];
            if !declares && !above.iter().any(|l| l.contains("SAFETY:")) {
                find(i + 1, "safety", "`unsafe` without a SAFETY: comment above".into());
            }
        }
        // Spelt in two pieces so that this file does not find itself.
        for mark in [concat!("to", "do!"), concat!("unimple", "mented!")] {
            if code.contains(mark) {
                find(i + 1, "unfinished", format!("{mark} is unfinished work"));
            }
        }
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
            if words(lines.get(i).unwrap_or(&"")).any(|w| w == mark) {
                let message = format!("{mark}: write an issue or a line in LOG.md instead");
                find(i + 1, "unfinished", message);
            }
        }
    }
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// First line (from 1), name and number of lines of each function with a body.
fn functions(masked: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = masked[from..].find("fn ").map(|n| from + n) {
        from = at + 3;
        let before = masked[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name = words(&masked[from..]).next().unwrap_or_default().to_owned();
        // A declaration without body, or a function pointer type, ends before any brace.
        let Some(end) = body_end(masked, from) else { continue };
        if name.is_empty() {
            continue;
        }
        let line = 1 + masked[..at].matches('\n').count();
        found.push((line, name, 1 + masked[at..end].matches('\n').count()));
    }
    found
}

/// The byte after the closing brace of the first block from `from`, unless a `;` outside all
/// brackets comes first.
fn body_end(masked: &str, from: usize) -> Option<usize> {
    let (mut depth, mut brackets) = (0usize, 0i64);
    for (i, byte) in masked.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => brackets += 1,
            b')' | b']' => brackets -= 1,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return (depth == 1).then_some(i + 1),
            b'}' => depth -= 1,
            b';' if depth == 0 && brackets <= 0 => return None,
            _ => {}
        }
        if brackets < 0 && depth == 0 {
            return None;
        }
    }
    None
}

/// Lines inside `#[cfg(test)]` modules.
fn test_lines(masked: &str) -> usize {
    let mut lines = 0;
    let mut from = 0;
    while let Some(at) = masked[from..].find("#[cfg(test)]").map(|n| from + n) {
        from = at + 1;
        let after = masked[at..].find("mod ").map(|n| at + n);
        if let Some(end) = after.and_then(|m| body_end(masked, m)) {
            lines += masked[at..end].matches('\n').count();
            from = end;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_rules(path: &str, text: &str, expected: &[&str]) {
        let rules: Vec<&str> = check(path, text).iter().map(|f| f.rule).collect();
        assert_eq!(rules, expected, "{text}");
    }

    fn with(body: &str) -> String {
        format!("//! A file.\n{body}\n")
    }

    #[test]
    fn headers_and_columns() {
        check_rules("a/src/x.rs", &with("fn f() {}"), &[]);
        check_rules("a/src/x.rs", "fn f() {}\n", &["header"]);
        check_rules("a/src/x.rs", &with(&format!("// {}", "é".repeat(117))), &[]);
        check_rules("a/src/x.rs", &with(&format!("// {}", "é".repeat(118))), &["columns"]);
    }

    #[test]
    fn lengths() {
        let body =
            |lines: usize| format!("pub fn long(a: [u8; 2]) {{\n{}}}", "    x();\n".repeat(lines));
        check_rules("a/src/x.rs", &with(&body(68)), &[]);
        check_rules("a/src/x.rs", &with(&body(69)), &["function-lines"]);
        check_rules(
            "a/src/x.rs",
            &with("trait T {\n fn f(&self) -> u8;\n type G = fn (u8);\n}"),
            &[],
        );
        let lines = "const A: u8 = 1;\n".repeat(900);
        check_rules("a/src/x.rs", &with(&lines), &["file-lines"]);
        let tested = format!("#[cfg(test)]\nmod tests {{\n{lines}}}");
        check_rules("a/src/x.rs", &with(&tested), &[]);
    }

    #[test]
    fn unsafe_and_marks() {
        let bare = with("fn f() {\n    unsafe { g() }\n}");
        check_rules("math/src/x.rs", &bare, &["safety"]);
        check_rules("model/src/x.rs", &bare, &["unsafe", "safety"]);
        let reasoned = with("fn f() {\n    // SAFETY: g is fine.\n    unsafe { g() }\n}");
        check_rules("math/src/x.rs", &reasoned, &[]);
        check_rules("a/src/x.rs", &with("// not unsafe\nconst U: &str = \"unsafe\";"), &[]);
        let mark = concat!("fn f() { to", "do!() } // FIX", "ME");
        check_rules("a/src/x.rs", &with(mark), &["unfinished", "unfinished"]);
    }
}
