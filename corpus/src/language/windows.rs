//! The windows of a text: pieces small enough to be in one language each.
//!
//! A document is in two languages where windows of both speak for themselves. Windows end at line
//! ends, since translations, quotations and comments stand in lines of their own. Of long texts
//! some places spread evenly are looked at. Not here: which language a window is in.

/// Bytes of a text that are looked at.
pub(super) const ENOUGH: usize = 8 << 10;
/// Places of a longer text.
const PLACES: usize = 16;
/// A window ends at the first line end after so many bytes, and at the latest after so many more.
const SHORT: usize = 100;
const LONG: usize = 400;

/// Calls `each` with the windows of a text, in order.
pub(super) fn each<'a>(text: &'a str, mut each: impl FnMut(&'a str)) {
    if text.len() <= ENOUGH {
        return cut(text, &mut each);
    }
    let width = ENOUGH / PLACES;
    let step = (text.len() - width) / (PLACES - 1);
    for place in 0..PLACES {
        let start = text.ceil_char_boundary(place * step);
        let end = text.floor_char_boundary((start + width).min(text.len()));
        cut(&text[start..end.max(start)], &mut each);
    }
}

fn cut<'a>(mut text: &'a str, each: &mut impl FnMut(&'a str)) {
    while text.len() > LONG {
        let (short, long) = (text.ceil_char_boundary(SHORT), text.floor_char_boundary(LONG));
        let line_end = text[short..long].find('\n').map(|at| short + at);
        let word_end = || text[short..long].rfind(' ').map(|at| short + at);
        let end = line_end.or_else(word_end).unwrap_or(long);
        each(&text[..end]);
        text = &text[end..];
    }
    let mut rest = text;
    while rest.len() > SHORT {
        let short = rest.ceil_char_boundary(SHORT);
        let Some(at) = rest[short..].find('\n') else { break };
        each(&rest[..short + at]);
        rest = &rest[short + at..];
    }
    if !rest.is_empty() {
        each(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, whole: bool) {
        let mut windows = Vec::new();
        each(text, |window| windows.push(window));
        assert!(windows.iter().all(|w| !w.is_empty() && w.len() <= LONG + 4), "{windows:?}");
        if whole {
            assert_eq!(windows.concat(), text);
        } else {
            assert!(windows.iter().map(|w| w.len()).sum::<usize>() <= ENOUGH);
        }
    }

    #[test]
    fn windows_make_the_text() {
        check("", true);
        check("a", true);
        check(&"ä ".repeat(1000), true);
        check(&"字".repeat(1000), true);
        check(&"a line of some length that ends\n".repeat(100), true);
        check(&"字".repeat(100_000), false);
        check(&"a line of some length that ends\n".repeat(10_000), false);
    }

    #[test]
    fn lines_in_two_languages_are_windows_apart() {
        let (one, two) = ("a".repeat(120), "b".repeat(120));
        let text = format!("{one}\n{two}\n{one}\n{two}");
        let mut windows = Vec::new();
        each(&text, |w| windows.push(w.trim().len()));
        assert_eq!(windows, [120; 4]);
    }
}
