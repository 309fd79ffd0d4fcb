//! Attacks on the parser and the extractor: pages made to overflow, to take quadratic time or to
//! blow up, and random mutations of good ones. All must come back, within a multiple of the work
//! that a harmless page of the size takes, and cut pages must say so.

use super::{Budget, extract, extract_within};

/// Extracts a hostile page; the text must hold `expected`. The bound of 20 s of the processor's
/// time is far above what is needed (well below a second each) and far below what quadratic work
/// on these sizes takes; wall time is not asked for, it belongs to whoever shares the machine.
fn check(html: &str, expected: &str) {
    let before = processor_seconds();
    let extracted = extract(html, None);
    let seconds = processor_seconds() - before;
    assert!(extracted.text.contains(expected), "{:.200}", extracted.text);
    assert!(seconds < 20.0, "{seconds} s for {} bytes: {:.60}", html.len(), html);
}

/// Processor time of this thread so far; 0 where the system does not tell it as Linux does.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split_ascii_whitespace().next().and_then(|n| n.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

const STORY: &str = "<p>The lighthouse keeper wrote down every ship that passed, with its flag, \
    its cargo and the weather of the hour, for forty years. Nobody had asked him to do it, and \
    nobody read what he wrote until the harbour was rebuilt.</p>";

#[test]
fn nested_a_hundred_thousand_deep() {
    for tag in ["div", "b", "a", "span", "table", "ul", "blockquote", "x-y", "svg", "font", "li"] {
        let open = format!("<{tag}>").repeat(100_000);
        let close = format!("</{tag}>").repeat(100_000);
        check(&format!("{open}{STORY}{close}"), "");
        check(&format!("{STORY}{open}"), "");
    }
    check(&format!("{}{STORY}", "<div>".repeat(100_000)), "lighthouse");
    check(&format!("{}{STORY}", "<div><b><i>".repeat(50_000)), "");
}

#[test]
fn a_page_of_a_gigabyte() {
    let page = STORY.repeat((1 << 30) / STORY.len());
    let extracted = extract(&page, None);
    assert!(extracted.over_budget && extracted.text.contains("lighthouse"));
    assert!(extracted.text.len() <= Budget::default().bytes);
}

#[test]
fn drawn_formulas_and_listings_in_masses() {
    for open in [
        "<span class=MathJax>",
        "<mjx-container>",
        "<div class=MathJax_Display>",
        "<span class=katex-html>",
        "<math>",
        "<script type=math/mml><math></script>",
        "<img src='https://latex.codecogs.com/gif.latex?%41%'>",
        "<table><td class=blob-code>",
        "<pre><div class=copy>",
        "<div class=prompt>",
        "<code>&nbsp;",
        "<article><p>A line of prose, long enough to count as a paragraph, which repeats itself.",
    ] {
        check(&format!("{STORY}{}", open.repeat(50_000)), "");
        check(&format!("{}{STORY}", open.repeat(300)), "");
    }
    let twice = STORY.repeat(20_000);
    check(&format!("{twice}<div>{twice}</div>"), "lighthouse");
}

#[test]
fn endless_attributes_and_zeros() {
    let names: String = (0..300_000).map(|i| format!("a{i}=1 ")).collect();
    check(&format!("{STORY}<p {names}>x"), "lighthouse");
    check(&format!("{STORY}<p {}>x", "class=nav id=menu ".repeat(200_000)), "lighthouse");
    check(&format!("{STORY}<p class={}>x", "a".repeat(3_000_000)), "lighthouse");
    check(&format!("{}{STORY}", "\0".repeat(3_000_000)), "lighthouse");
    check(&format!("{STORY}<p title=\"{}", "\0".repeat(3_000_000)), "lighthouse");
}

#[test]
fn a_page_of_fifty_megabytes() {
    let page = format!("<html><body>{}", STORY.repeat((50 << 20) / STORY.len()));
    check(&page, "lighthouse");
    let cut = extract_within(&page, None, Budget { bytes: 1 << 20, ..Budget::default() });
    assert!(cut.over_budget && cut.text.len() <= 1 << 20);
    let few = extract_within(&page, None, Budget { nodes: 1000, ..Budget::default() });
    assert!(few.over_budget);
}

#[test]
fn nothing_is_closed() {
    check(&format!("<!DOCTYPE html{STORY}"), "");
    check(&format!("{STORY}<!-- {}", "x".repeat(1 << 20)), "lighthouse");
    check(&format!("{STORY}<script>{}", "x<".repeat(1 << 20)), "lighthouse");
    check(&format!("{STORY}<div title=\"{}", "<p>".repeat(1 << 20)), "lighthouse");
    check(&"<p><b><table><tr><td><ul><li><a href=x>".repeat(20_000), "");
    check(&"<table><a>1<p>2".repeat(50_000), "");
    check(&"<a><div>".repeat(50_000), "");
    check(&"<b><i><u><p></b>".repeat(50_000), "");
    check(&"<select><option><table>".repeat(50_000), "");
    check(&"<template><td>".repeat(50_000), "");
    check(&"<form><button><object>".repeat(50_000), "");
    check(&"<math><mi><svg><foreignObject>".repeat(50_000), "");
}

#[test]
fn quadratic_traps() {
    check(&format!("{STORY}{}", "<".repeat(3_000_000)), "lighthouse");
    check(&format!("{STORY}{}", "</".repeat(1_000_000)), "lighthouse");
    check(&format!("{STORY}{}", "<!--".repeat(1_000_000)), "lighthouse");
    check(&format!("{STORY}{}", "<![CDATA[".repeat(500_000)), "lighthouse");
    check(&format!("{STORY}{}", "&".repeat(3_000_000)), "lighthouse");
    check(&format!("{STORY}{}", "&#".repeat(1_000_000)), "lighthouse");
    check(&format!("{STORY}{}", "&#x".to_string() + &"f".repeat(1 << 20)), "lighthouse");
    check(&format!("{STORY}<p {}>x", "a=b ".repeat(500_000)), "lighthouse");
    check(&format!("{STORY}<p class='{}'>x", "nav ".repeat(500_000)), "lighthouse");
    check(&format!("{STORY}<script>{}", "<!--<script>".repeat(200_000)), "lighthouse");
    check(&format!("{STORY}{}", "</p>".repeat(500_000)), "lighthouse");
    check(&format!("{STORY}{}", "</b></i></a>".repeat(300_000)), "lighthouse");
    check(&format!("{STORY}<p>{}", "word ".repeat(2_000_000)), "lighthouse");
    let names: String = (0..70_000).map(|i| format!("<x{i}>")).collect();
    check(&format!("{STORY}{names}"), "lighthouse");
    let fonts: String = (0..3_000).map(|i| format!("<font size={i}><p>")).collect();
    check(&format!("{STORY}{fonts}"), "lighthouse");
    let colours: String = (0..60).map(|i| format!("<font color={i}>")).collect();
    check(&format!("{STORY}{colours}{}", "<p>x".repeat(20_000)), "lighthouse");
}

#[test]
fn odd_characters() {
    check(&format!("{}\0\0{STORY}\0", "\u{feff}"), "lighthouse");
    check(&STORY.replace("ship", "sh\0ip"), "every ship that");
    check(&STORY.replace("ship", "&#xD800;&#xDFFF;"), "\u{fffd}");
    check(&STORY.replace("ship", "\u{202e}\u{10ffff}\u{85}"), "lighthouse");
    check("\0", "");
    check("", "");
    check("\u{feff}", "");
    check("<\0><\u{85}></\u{2028}>", "");
}

/// A small generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

#[test]
fn mutations() {
    let seed = "<!doctype html><html lang=en><head><title>A &amp; B</title><meta property=og:type \
        content=article><script type='application/ld+json'>{\"@type\":\"Article\"}</script></head>\
        <body><nav class='main-menu'><ul><li><a href=/>Home</a></ul></nav><main><article><h1>A</h1>\
        <p>One, <b>two <i>three</b></i>.<table><tr><td>x<td><math><mi>y</mi></math></table><pre>\
         a\n</pre><svg><title>t</title></svg><select><option>o</select>\
        <script type=math/tex>x^2</script><template><p>q</template></article></main>\
        <footer>&copy; 2020</footer></body></html>";
    let pieces: Vec<&str> = vec![
        "<",
        ">",
        "</",
        "/>",
        "\"",
        "'",
        "=",
        "&",
        ";",
        "<!--",
        "-->",
        "<table>",
        "</table>",
        "<tr>",
        "<td>",
        "</p>",
        "<b>",
        "</b>",
        "<a>",
        "<svg>",
        "<math>",
        "<template>",
        "</template>",
        "<select>",
        "</body>",
        "</html>",
        "<head>",
        "<body>",
        "<script>",
        "</script>",
        "\0",
        "\u{feff}",
        "é",
        "日",
        "&#",
        "<form>",
        "<button>",
        "<pre>\n",
        "<noscript>",
        "<plaintext>",
        "<title>",
        "<caption>",
        "<colgroup>",
        "<li>",
    ];
    let mut numbers = Numbers(7);
    for round in 0..4000 {
        let mut page: Vec<char> = seed.chars().collect();
        for _ in 0..1 + numbers.below(8) {
            let at = numbers.below(page.len());
            match numbers.below(4) {
                0 if page.len() > 1 => drop(page.remove(at)),
                1 => page.truncate(at.max(1)),
                2 => {
                    let to = (at + numbers.below(60)).min(page.len());
                    let copy: Vec<char> = page[at..to].to_vec();
                    let target = numbers.below(page.len());
                    page.splice(target..target, copy);
                }
                _ => {
                    let piece = pieces[numbers.below(pieces.len())];
                    page.splice(at..at, piece.chars());
                }
            }
        }
        let html: String = page.into_iter().collect();
        let once = extract(&html, None);
        assert_eq!(once.text, extract(&html, None).text, "round {round}");
        super::oracle::check(&html);
    }
}
