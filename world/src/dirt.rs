//! What a crawl is full of: for each rule of cleaning, pages that it must drop and pages that look
//! like them and must stay.
//!
//! NOT duplicates (a plan copies pages for those) and NOT damage of records (`warc` does that). The
//! names of the rules are those of the program's curation.

use crate::english::{Nature, Scene};
use crate::lexicon::{Lexicon, plural};
use crate::markup::{self, Reply};
use crate::names::{capital, passing};
use crate::page::{Block, Page};
use crate::programs::Program;
use crate::random::Draw;
use crate::sites;
use std::collections::BTreeSet;

/// Rules that drop whole pages for what is in them, with the pages to drop and the look-alikes to
/// keep in a world of scale 1.
pub(crate) const RULES: &[(&str, usize, usize)] = &[
    ("menu-only", 420, 12),
    ("too-short", 200, 12),
    ("repeated-lines", 110, 12),
    ("repeated-ngrams", 210, 12),
    ("symbol-ratio", 100, 12),
    ("mean-word-length", 90, 12),
    ("adult-words", 130, 12),
    ("gibberish", 170, 12),
    ("log-dump", 130, 12),
    ("truncated", 70, 12),
    ("not-html", 90, 12),
    ("http-status", 80, 12),
];

const ADULT: &[&str] = &[
    "sexy", "nude", "porn", "xxx", "erotic", "naked", "webcam", "hardcore", "escort", "sex",
    "lingerie", "topless",
];

const LONG_WORDS: [&str; 3] = [
    "Constitutional historians characterised administrative responsibilities differently.",
    "Interdisciplinary investigations demonstrate extraordinary correspondences everywhere.",
    "Notwithstanding considerable misunderstandings, representatives congratulated themselves.",
];

struct Grime<'w> {
    scene: Scene<'w>,
    draw: Draw,
    page: Page,
}

impl<'w> Grime<'w> {
    fn new(lexicon: &'w Lexicon, kind: &'static str, site: usize, mut draw: Draw) -> Self {
        let topic = 1 + draw.below(lexicon.topics.len() - 1);
        let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
        let name = passing(&mut draw);
        scene.enter(&name, Nature::Person { female: draw.chance(0.5) });
        let mut page = Page::new(kind, "en", site);
        page.quality = 0;
        page.title = scene.title();
        Self { scene, draw, page }
    }

    fn list(&mut self, items: Vec<String>) {
        self.page.blocks.push(Block::List(items));
    }

    fn noise(&mut self, words: usize, low: usize, high: usize) -> String {
        let letters: Vec<char> = "abcdefghijklmnopqrstuvwxyz0123456789".chars().collect();
        let mut out = Vec::new();
        for _ in 0..words {
            let count = self.draw.between(low, high);
            out.push((0..count).map(|_| letters[self.draw.below(letters.len())]).collect());
        }
        let out: Vec<String> = out;
        out.join(" ")
    }

    fn log_line(&mut self) -> String {
        let d = &mut self.draw;
        let level = d.pick(&["INFO", "WARN", "DEBUG", "ERROR"]);
        let part = d.pick(&["worker", "http", "db.pool", "scheduler", "cache"]);
        let what = d.pick(&["request done", "retry", "connection reset", "flush", "timeout after"]);
        format!(
            "2024-{:02}-{:02} {:02}:{:02}:{:02},{:03} {level} [{part}-{}] {what} id={:08x} t={}ms",
            d.between(1, 12),
            d.between(1, 28),
            d.below(24),
            d.below(60),
            d.below(60),
            d.below(1000),
            d.between(1, 16),
            d.next() as u32,
            d.between(1, 9000)
        )
    }

    fn prose(&mut self, paragraphs: usize) {
        for _ in 0..paragraphs {
            let text = self.scene.paragraph(5);
            self.page.para(text);
        }
    }

    fn stuffing(&mut self) -> String {
        let thing = plural(self.scene.thing());
        let mut out = Vec::new();
        for _ in 0..self.draw.between(18, 30) {
            let head = self.draw.pick(&["buy cheap", "best price for", "buy cheap", "discount"]);
            out.push(format!("{head} {thing} online now"));
        }
        out.join(" ")
    }
}

/// A page that `rule` must drop.
pub(crate) fn dropped(rule: &'static str, lexicon: &Lexicon, site: usize, draw: Draw) -> Page {
    let mut g = Grime::new(lexicon, "dirt", site, draw);
    g.page.drop = Some(rule);
    match rule {
        "menu-only" | "too-short" | "log-dump" | "http-status" => bare(&mut g, rule),
        "not-html" | "truncated" => g.prose(4),
        _ => noisy(&mut g, rule),
    }
    g.page
}

/// Pages without a text.
fn bare(g: &mut Grime<'_>, rule: &str) {
    match rule {
        "menu-only" => {
            let count = g.draw.between(32, 60);
            let links: BTreeSet<String> = (0..count)
                .map(|_| capital(&format!("{} {}", g.scene.adjective(), plural(g.scene.thing()))))
                .collect();
            let links = links.into_iter().collect();
            g.page.title = "Overview".to_owned();
            g.list(links);
        }
        "too-short" => {
            let word = g.scene.thing();
            g.page.title = capital(word);
            let text =
                g.draw.pick(&["Page under construction.", "No entries yet.", "Coming soon."]);
            let text = format!("{text} {}", capital(g.scene.adjective()));
            g.page.para(format!("{text} {}.", plural(g.scene.thing())));
        }
        "log-dump" => {
            let lines: Vec<String> = (0..g.draw.between(40, 90)).map(|_| g.log_line()).collect();
            g.page.title = "server.log".to_owned();
            g.page.blocks.push(Block::Code(lines.join("\n")));
        }
        _ => {
            g.page.title = "404 Not Found".to_owned();
            g.page.para(
                "The requested page was not found on this server. It may have been moved \
                or removed. Please go back to the start page or use the search.",
            );
        }
    }
}

/// Pages whose text is worth nothing.
fn noisy(g: &mut Grime<'_>, rule: &str) {
    match rule {
        "repeated-lines" => {
            let lines: Vec<String> = (0..3).map(|_| g.scene.sentence()).collect();
            for _ in 0..g.draw.between(8, 14) {
                for line in &lines {
                    g.page.para(line.clone());
                }
            }
        }
        "repeated-ngrams" => {
            g.page.kind = "spam";
            for _ in 0..4 {
                let text = g.stuffing();
                g.page.para(text);
            }
        }
        "symbol-ratio" => {
            for _ in 0..12 {
                let words: Vec<&str> = (0..6).map(|_| g.scene.thing()).collect();
                let marks = g.draw.pick(&[" # ", " … ", " #### ", " *** ", " ~~ ## "]);
                g.page.para(format!("#{}{marks}# … ###", words.join(marks)));
            }
        }
        "mean-word-length" => {
            for _ in 0..5 {
                let text = if g.page.site.is_multiple_of(2) {
                    g.noise(40, 22, 40)
                } else {
                    g.noise(160, 1, 2)
                };
                g.page.para(text);
            }
        }
        "adult-words" => {
            g.page.kind = "adult";
            for _ in 0..4 {
                let mut words = Vec::new();
                for _ in 0..g.draw.between(20, 34) {
                    words.push(g.draw.pick(ADULT));
                    words.push(g.scene.adjective());
                    words.push(g.scene.agent());
                }
                g.page.para(capital(&words.join(" ")) + ".");
            }
        }
        _ => {
            for _ in 0..6 {
                let text = g.noise(45, 3, 11);
                g.page.para(capital(&text) + ".");
            }
        }
    }
}

/// A page that looks like what `rule` drops and must be kept.
pub(crate) fn kept(rule: &'static str, lexicon: &Lexicon, site: usize, draw: Draw) -> Page {
    let mut g = Grime::new(lexicon, "look-alike", site, draw);
    g.page.looks_like = Some(rule);
    g.page.quality = 3;
    match rule {
        "menu-only" => {
            g.prose(1);
            let steps = (0..8).map(|_| g.scene.instruction()).collect();
            g.list(steps);
            g.prose(1);
        }
        "too-short" => {
            let text = g.scene.paragraph(7);
            g.page.para(text);
        }
        "repeated-lines" => {
            let refrain = g.scene.sentence();
            for _ in 0..3 {
                g.prose(2);
                g.page.para(refrain.clone());
            }
        }
        "repeated-ngrams" => {
            let name = format!("{} and the {}", passing(&mut g.draw), g.scene.dressed());
            for _ in 0..4 {
                let text = format!("{name} came back. {}", g.scene.paragraph(5));
                g.page.para(text);
            }
        }
        "mean-word-length" => {
            for line in LONG_WORDS {
                let text = format!("{line} {}", g.scene.paragraph(4));
                g.page.para(text);
            }
        }
        "http-status" => {
            g.page.title = format!("What 404 means to the {}", g.scene.agent());
            g.prose(4);
        }
        "truncated" | "not-html" => g.prose(4),
        _ => quoting(&mut g, rule),
    }
    g.page
}

/// Good pages that quote something that would be bad alone.
fn quoting(g: &mut Grime<'_>, rule: &str) {
    match rule {
        "symbol-ratio" => {
            g.page.kind = "code";
            g.prose(2);
            for _ in 0..3 {
                let item = g.scene.thing();
                let program = Program::drawn(item, &mut g.draw);
                g.page.para(format!("To {}:", program.task()));
                g.page.blocks.push(Block::Code(program.source()));
            }
            g.prose(1);
        }
        "adult-words" => {
            g.prose(2);
            g.page.para(format!(
                "The doctor spoke about breast cancer and sexual health: {}",
                g.scene.sentence()
            ));
            g.prose(2);
        }
        "gibberish" => {
            g.prose(2);
            let names: Vec<String> = (0..9).map(|_| passing(&mut g.draw)).collect();
            g.page.para(format!("Present were {}, and {}.", names[1..].join(", "), names[0]));
            g.prose(2);
        }
        _ => {
            g.prose(2);
            let lines: Vec<String> = (0..3).map(|_| g.log_line()).collect();
            let text = format!("After this the server wrote: {}", g.scene.sentence());
            g.page.para(text);
            g.page.blocks.push(Block::Code(lines.join("\n")));
            g.prose(2);
        }
    }
}

/// The bytes of a page of `rule` where markup alone does not make them.
pub(crate) fn spoil(page: &Page, mut reply: Reply, mut draw: Draw) -> Reply {
    match (page.drop, page.looks_like) {
        (Some("truncated"), _) => {
            let main = reply.body.windows(3).position(|w| w == b"<h1").unwrap_or(0);
            let keep = main + (reply.body.len() - main) / 4;
            reply.body.truncate(keep);
        }
        (_, Some("truncated")) => {
            // Whole, but the tags that close it were never sent.
            if let Some(end) = reply.body.windows(7).position(|w| w == b"</body>") {
                reply.body.truncate(end);
            }
        }
        (Some("not-html"), _) => {
            let json = format!(
                "{{\"id\":{},\"items\":[{},{}]}}",
                draw.below(9999),
                draw.below(99),
                draw.below(99)
            );
            (reply.content_type, reply.body) = match draw.below(4) {
                0 => (Some("application/json"), json.into_bytes()),
                1 => {
                    (Some("image/png"), [b"\x89PNG\r\n\x1a\n".to_vec(), noise(&mut draw)].concat())
                }
                2 => {
                    (Some("application/pdf"), [b"%PDF-1.4\n%".to_vec(), noise(&mut draw)].concat())
                }
                _ => (Some("text/css"), b"p { margin: 0 }\n.menu { color: red }\n".to_vec()),
            };
        }
        (_, Some("not-html")) => reply.content_type = Some("application/xhtml+xml"),
        (Some("http-status"), _) => reply.status = [404, 404, 500, 403][draw.below(4)],
        _ => {}
    }
    reply
}

fn noise(draw: &mut Draw) -> Vec<u8> {
    (0..600).map(|_| draw.next() as u8).collect()
}

/// The site for a page of `rule`.
pub(crate) fn site_for(rule: &str, keep: bool, draw: &mut Draw) -> usize {
    let kind = match rule {
        "repeated-ngrams" | "adult-words" if !keep => "spam",
        "symbol-ratio" if keep => "code",
        "log-dump" if keep => "blog",
        _ => draw.pick(&["news", "shop", "blog", "forum"]),
    };
    let among = sites::of_kind(kind, "en");
    among[draw.below(among.len())]
}

/// The reply for any page, spoiled where its rule asks for it.
pub(crate) fn reply(page: &Page, seed: u64, visit: u64) -> Reply {
    let plain = markup::render(page, Draw::keyed(seed, "visit", visit));
    spoil(page, plain, Draw::keyed(seed, "spoil", visit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_has_a_page_to_drop_and_one_to_keep() {
        let lexicon = Lexicon::load();
        for &(rule, drops, keeps) in RULES {
            assert!(drops > 0 && keeps > 0);
            let site = site_for(rule, false, &mut Draw::keyed(1, rule, 0));
            let bad = dropped(rule, &lexicon, site, Draw::keyed(1, rule, 1));
            let good = kept(rule, &lexicon, site, Draw::keyed(1, rule, 2));
            assert_eq!((bad.drop, bad.looks_like), (Some(rule), None));
            assert_eq!((good.drop, good.looks_like), (None, Some(rule)));
            assert!(good.text().split_whitespace().count() > 30, "{rule}: {}", good.text());
        }
    }
}
