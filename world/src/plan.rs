//! Which pages a province's crawl holds, and which facts each of them states. Every page is a pure
//! function of its number, so that a duplicate is made by making its original again.
//!
//! NOT the writing of pages; only who writes what, when and how often.

use crate::dirt::{self, RULES};
use crate::lexicon::Lexicon;
use crate::names::passing;
use crate::page::{Block, Page};
use crate::random::Draw;
use crate::relations::Kind;
use crate::simulation::{Class, Date, World};
use crate::sites::{self, SITES};
use crate::views::{self, Appearance, Brief};
use crate::{lessons, programs, quality, tongues};

/// One response record of the crawl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// English prose of a kind; the number is its place among the appearances.
    Prose(&'static str, usize),
    Code,
    Lesson,
    Foreign(usize),
    Keep(&'static str),
    Drop(&'static str),
    /// An older visit to item number `of`: with an address that differs only in tracking
    /// parameters, or the same one, with an older text.
    Older {
        of: usize,
        tracked: bool,
    },
    /// The same text on a mirror, other boilerplate.
    Copy {
        of: usize,
    },
    /// Nearly the same text on a mirror.
    Near {
        of: usize,
    },
    /// A damaged record.
    Damaged,
}

/// All items of a province, in the order of the crawl, and the appearances of its prose pages.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) items: Vec<Item>,
    /// Positions in the crawl: `order[i]` is the item written as number `i`.
    pub(crate) order: Vec<usize>,
    appearances: Vec<Vec<Appearance>>,
    originals: usize,
}

/// Pages of English prose at scale 1.
const PROSE: [(&str, usize); 5] =
    [("encyclopedia", 600), ("news", 560), ("blog", 520), ("forum", 380), ("shop", 300)];
const CODE: usize = 220;
const LESSONS: usize = 220;
const FOREIGN: usize = 130;
const OLDER: usize = 430;
const COPIES: usize = 330;
const NEAR: usize = 160;
const DAMAGED: usize = 24;

fn scaled(count: usize, scale: f64) -> usize {
    ((count as f64 * scale).round() as usize).max(2)
}

impl Plan {
    pub(crate) fn new(world: &World, scale: f64) -> Self {
        let mut draw = Draw::keyed(world.seed, "plan", 0);
        let mut items = Vec::new();
        let mut prose = 0;
        for (kind, count) in PROSE {
            for _ in 0..scaled(count, scale) {
                items.push(Item::Prose(kind, prose));
                prose += 1;
            }
        }
        items.extend((0..scaled(CODE, scale)).map(|_| Item::Code));
        items.extend((0..scaled(LESSONS, scale)).map(|_| Item::Lesson));
        for language in 0..tongues::CODES.len() {
            items.extend((0..scaled(FOREIGN, scale)).map(|_| Item::Foreign(language)));
        }
        let originals = items.len();
        for &(rule, drops, keeps) in RULES {
            items.extend((0..scaled(drops, scale)).map(|_| Item::Drop(rule)));
            items.extend((0..scaled(keeps, scale)).map(|_| Item::Keep(rule)));
        }
        for i in 0..scaled(OLDER, scale) {
            items.push(Item::Older { of: draw.below(originals), tracked: i % 2 == 0 });
        }
        items.extend((0..scaled(COPIES, scale)).map(|_| Item::Copy { of: draw.below(originals) }));
        items.extend((0..scaled(NEAR, scale)).map(|_| Item::Near { of: draw.below(prose) }));
        items.extend((0..scaled(DAMAGED, scale)).map(|_| Item::Damaged));
        let mut order: Vec<usize> = (0..items.len()).collect();
        draw.shuffle(&mut order);
        let appearances = deal(world, prose, scaled(PROSE[0].1, scale), &mut draw);
        Self { items, order, appearances, originals }
    }

    /// Page number `index`: the text and what is true about it. A good page that came out too
    /// short, or by chance repeats itself as only bad pages do, is written again.
    pub(crate) fn page(&self, world: &World, lexicon: &Lexicon, index: usize) -> Page {
        let mut page = self.attempt(world, lexicon, index, 0);
        for attempt in 1..40 {
            if page.drop.is_some() || quality::is_sound(&page.text()) {
                break;
            }
            page = self.attempt(world, lexicon, index, attempt);
        }
        page
    }

    fn attempt(&self, world: &World, lexicon: &Lexicon, index: usize, attempt: u64) -> Page {
        let mut draw = Draw::keyed(world.seed, "page", index as u64 + (attempt << 40));
        let date = Date::drawn(&mut draw);
        let author = format!("{} {}", passing(&mut draw), passing(&mut draw));
        let mut page = match self.items[index] {
            Item::Prose(kind, place) => {
                let site = one_of(&sites::of_kind(kind, "en"), &mut draw);
                views::write(Brief {
                    world,
                    lexicon,
                    kind,
                    site,
                    appearances: &self.appearances[place],
                    reliability: SITES[site].reliability,
                    draw: draw.clone(),
                })
            }
            Item::Code => {
                let site = one_of(&sites::of_kind("code", "en"), &mut draw);
                programs::tutorial(lexicon, site, draw.clone())
            }
            Item::Lesson => {
                let site = one_of(&sites::of_kind("lesson", "en"), &mut draw);
                lessons::lesson(lexicon, site, draw.clone())
            }
            Item::Foreign(language) => {
                let among = sites::of_kind("foreign", tongues::CODES[language]);
                let site = one_of(&among, &mut draw);
                tongues::page(language, site, draw.clone())
            }
            Item::Keep(rule) => {
                let site = dirt::site_for(rule, true, &mut draw);
                dirt::kept(rule, lexicon, site, draw.clone())
            }
            Item::Drop(rule) => {
                let site = dirt::site_for(rule, false, &mut draw);
                dirt::dropped(rule, lexicon, site, draw.clone())
            }
            Item::Older { of, tracked } => return self.older(world, lexicon, of, tracked, draw),
            Item::Copy { of } => return self.copy(world, lexicon, of, draw),
            Item::Near { of } => return self.near(world, lexicon, of, draw),
            Item::Damaged => {
                let site = one_of(&sites::of_kind("blog", "en"), &mut draw);
                let mut page = dirt::kept("truncated", lexicon, site, draw.clone());
                page.kind = "damaged";
                page.looks_like = None;
                page.drop = Some("damaged-record");
                page
            }
        };
        if page.date == Page::new("", "en", 0).date {
            page.date = date;
        }
        page.author = author;
        page.path = path(&page, index);
        self.alike(&mut page, index);
        page
    }

    /// Some ordinary pages are the look-alikes of the rules against duplicates.
    fn alike(&self, page: &mut Page, index: usize) {
        if index >= self.originals || page.looks_like.is_some() {
            return;
        }
        if SITES[page.site].queries && index.is_multiple_of(40) {
            page.looks_like = Some("url-duplicate");
        } else if page.kind == "shop" && index % 30 == 1 {
            page.title = "Today’s offer".to_owned();
            page.looks_like = Some("document-duplicate");
        }
    }

    fn older(
        &self,
        w: &World,
        lexicon: &Lexicon,
        of: usize,
        tracked: bool,
        mut draw: Draw,
    ) -> Page {
        let mut page = self.page(w, lexicon, of);
        let original = url(&page);
        page.date.year -= 1;
        if tracked {
            let sign = if page.path.contains('?') { '&' } else { '?' };
            let campaign =
                draw.pick(&["utm_source=feed&utm_medium=rss", "fbclid=IwAR0", "gclid=Cj0"]);
            page.path = format!("{}{sign}{campaign}", page.path);
        } else if page.blocks.len() > 2 {
            page.blocks.pop();
            page.blocks.insert(1, Block::Para("This page is still being written.".to_owned()));
        }
        page.drop = Some("url-duplicate");
        page.looks_like = None;
        page.duplicate_of = Some((original, if tracked { "tracking" } else { "older" }));
        page
    }

    fn on_mirror(&self, w: &World, lexicon: &Lexicon, of: usize, draw: &mut Draw) -> Page {
        let mut page = self.page(w, lexicon, of);
        let original = url(&page);
        page.site = one_of(&sites::of_kind("mirror", "en"), draw);
        page.path = format!("/copy/{}/{of}-{}", draw.below(90), page.kind);
        page.looks_like = None;
        page.duplicate_of = Some((original, "mirror"));
        page.author = String::new();
        page.date.year -= 1;
        page
    }

    fn copy(&self, w: &World, lexicon: &Lexicon, of: usize, mut draw: Draw) -> Page {
        let mut page = self.on_mirror(w, lexicon, of, &mut draw);
        page.drop = Some("document-duplicate");
        page
    }

    fn near(&self, w: &World, lexicon: &Lexicon, of: usize, mut draw: Draw) -> Page {
        let mut page = self.on_mirror(w, lexicon, of, &mut draw);
        page.drop = Some("document-duplicate");
        page.duplicate_of = page.duplicate_of.map(|(url, _)| (url, "near"));
        let mut since = 0;
        for block in &mut page.blocks {
            match block {
                Block::Para(text) | Block::Quote(text) => reword(text, &mut since, &mut draw),
                Block::List(items) | Block::Steps(items) => {
                    items.iter_mut().for_each(|item| reword(item, &mut since, &mut draw));
                }
                Block::Table(rows) => {
                    since = rows.iter().map(Vec::len).sum();
                    rows.iter_mut().take(1).for_each(|head| head[0] = "Goods".to_owned());
                }
                Block::Heading(text) | Block::Code(text) => since += text.split(' ').count(),
            }
        }
        page
    }
}

/// Replaces a word now and then: never fifty words in a row stay as they were.
fn reword(text: &mut String, since: &mut usize, draw: &mut Draw) {
    let words: Vec<&str> = text
        .split(' ')
        .map(|word| {
            *since += 1;
            if *since < 34 || !word.chars().all(char::is_lowercase) {
                return word;
            }
            *since = 0;
            let new = draw.pick(&["other", "new", "same", "also", "here"]);
            if new == word { "else" } else { new }
        })
        .collect();
    *text = words.join(" ");
}

fn one_of(among: &[usize], draw: &mut Draw) -> usize {
    among[draw.below(among.len())]
}

fn path(page: &Page, index: usize) -> String {
    if SITES[page.site].queries {
        return format!("/{}.php?id={index}", page.kind);
    }
    let slug: String = page
        .title
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    let slug = slug.trim_matches('-').to_owned();
    format!("/{}/{}/{index}-{slug}", page.kind, page.date.year)
}

/// The address of a page.
pub(crate) fn url(page: &Page) -> String {
    let scheme = if page.site.is_multiple_of(5) { "http" } else { "https" };
    format!("{scheme}://{}{}", SITES[page.site].host, page.path)
}

/// Deals every statement that is to be made into pages: subjects first have a page of their own in
/// the encyclopedia, then appear all over the prose with one to four statements at a time.
fn deal(world: &World, pages: usize, entries: usize, draw: &mut Draw) -> Vec<Vec<Appearance>> {
    let mut dealt: Vec<Vec<Appearance>> = vec![Vec::new(); pages];
    let mut loose: Vec<Appearance> = Vec::new();
    let mut entry = 0;
    for (index, subject) in world.subjects.iter().enumerate() {
        let times = subject.class.statements();
        if times == 0 {
            continue;
        }
        let mut left = times;
        if entry < entries && subject.class != Class::Rarely {
            dealt[entry].push(Appearance { subject: index, facts: subject.facts.clone() });
            entry += 1;
            left -= 1;
        }
        let mut statements: Vec<usize> =
            subject.facts.iter().flat_map(|f| vec![*f; left]).collect();
        draw.shuffle(&mut statements);
        let mut rest = &statements[..];
        while !rest.is_empty() {
            let most = if subject.kind == Kind::Town { 2 } else { 4 };
            let take = draw.between(1, most).min(rest.len());
            loose.push(Appearance { subject: index, facts: rest[..take].to_vec() });
            rest = &rest[take..];
        }
    }
    draw.shuffle(&mut loose);
    for (number, appearance) in loose.into_iter().enumerate() {
        let start = number % pages;
        let there = |page: &Vec<Appearance>| page.iter().any(|a| a.subject == appearance.subject);
        let free = (0..pages).map(|k| (start + k) % pages).find(|p| !there(&dealt[*p]));
        if let Some(page) = free {
            dealt[page].push(appearance);
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Namer;

    #[test]
    fn the_default_world_has_its_size_and_every_statement_is_dealt_once() {
        let world = World::simulate(1, 0, 1.0, &mut Namer::new(Draw::keyed(1, "names", 0)));
        let plan = Plan::new(&world, 1.0);
        assert!((6000..6500).contains(&plan.items.len()), "{}", plan.items.len());
        let mut counts = vec![0; world.facts.len()];
        for fact in plan.appearances.iter().flatten().flat_map(|a| &a.facts) {
            counts[*fact] += 1;
        }
        for (fact, count) in world.facts.iter().zip(counts) {
            assert_eq!(count, fact.class.statements(), "{fact:?}");
        }
    }
}
