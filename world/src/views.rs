//! English pages that tell of the world: encyclopedia, news, blog, forum, shop.
//!
//! NOT the facts (they come as appearances, dealt by `plan`) and NOT markup.

use crate::english::{Nature, Scene};
use crate::lexicon::{Lexicon, past};
use crate::names::{capital, passing};
use crate::page::{Block, Page};
use crate::random::Draw;
use crate::relations::{Kind, RELATIONS};
use crate::simulation::{Class, Event, World};
use std::collections::HashSet;

/// A subject on a page, with the facts to be stated there.
#[derive(Debug, Clone)]
pub(crate) struct Appearance {
    pub(crate) subject: usize,
    pub(crate) facts: Vec<usize>,
}

/// What one page is to tell.
#[derive(Debug)]
pub(crate) struct Brief<'w> {
    pub(crate) world: &'w World,
    pub(crate) lexicon: &'w Lexicon,
    pub(crate) kind: &'static str,
    pub(crate) site: usize,
    pub(crate) appearances: &'w [Appearance],
    /// Share of this author's statements that are right.
    pub(crate) reliability: f64,
    pub(crate) draw: Draw,
}

fn nature(world: &World, subject: usize) -> Nature {
    let who = &world.subjects[subject];
    match who.kind {
        Kind::Person => Nature::Person { female: who.female },
        Kind::Firm => Nature::Firm,
        Kind::Village | Kind::Town => Nature::Place,
        Kind::Animal => Nature::Animal,
    }
}

struct Writer<'w> {
    brief: Brief<'w>,
    scene: Scene<'w>,
    page: Page,
    /// Wordings used on this page.
    said: HashSet<String>,
}

impl<'w> Writer<'w> {
    fn new(mut brief: Brief<'w>) -> Self {
        let topic = 1 + brief.draw.below(brief.lexicon.topics.len() - 1);
        let mut scene =
            Scene::new(brief.lexicon, topic, Draw::keyed(brief.draw.next(), "scene", 0));
        for appearance in brief.appearances {
            let who = &brief.world.subjects[appearance.subject];
            scene.enter(&who.name, nature(brief.world, appearance.subject));
        }
        // People whom no other page knows: their names can only be copied from above.
        for _ in 0..2 + usize::from(brief.draw.chance(0.4)) {
            let mut name = passing(&mut brief.draw);
            if brief.draw.chance(0.5) {
                name = format!("{name} {}", passing(&mut brief.draw));
            }
            let female = brief.draw.chance(0.5);
            scene.enter(&name, Nature::Person { female });
        }
        let page = Page::new(brief.kind, "en", brief.site);
        Self { brief, scene, page, said: HashSet::new() }
    }

    /// One wording of a fact; sometimes wrong, and then noted as wrong.
    fn statement(&mut self, fact: usize) -> String {
        let world = self.brief.world;
        let known = &world.facts[fact];
        let relation = &RELATIONS[known.relation];
        let subject = &world.subjects[known.subject].name;
        let draw = &mut self.brief.draw;
        let checked = !matches!(known.class, Class::Often | Class::Told);
        let wrong = !draw.chance(self.brief.reliability) && !checked;
        if wrong {
            let value = world.wrong_value(known, draw);
            self.page.misstated.push(fact);
            return relation.state(subject, &value, draw);
        }
        self.page.facts.push(fact);
        let mut text = relation.state(subject, &known.value, draw);
        for _ in 0..4 {
            if self.said.insert(text.clone()) {
                break;
            }
            text = relation.state(subject, &known.value, draw);
        }
        text
    }

    /// A paragraph about appearance number `index`, its statements among other sentences.
    fn about(&mut self, index: usize, sentences: usize) -> String {
        let facts = self.brief.appearances[index].facts.clone();
        self.scene.turn_to(index);
        let mut lines: Vec<String> = Vec::new();
        for fact in facts {
            if !lines.is_empty() || self.brief.draw.chance(0.3) {
                for _ in 0..self.brief.draw.below(2) {
                    lines.push(self.scene.sentence());
                }
            }
            lines.push(self.statement(fact));
        }
        for _ in 0..sentences {
            lines.push(self.scene.sentence());
        }
        lines.join(" ")
    }

    fn narrate(&mut self, low: usize, high: usize) {
        let sentences = self.brief.draw.between(low, high);
        let text = self.scene.paragraph(sentences);
        self.page.para(text);
    }

    fn price_table(&mut self) {
        let mut rows = vec![vec![self.scene.cast_name(), "Crowns".to_owned()]];
        for (thing, price) in self.scene.prices.clone() {
            rows.push(vec![capital(thing), price.to_string()]);
        }
        rows.truncate(self.brief.draw.between(4, 7));
        self.page.blocks.push(Block::Table(rows));
    }

    fn close(&mut self) {
        let most = self.brief.draw.between(2, 5);
        if self.brief.draw.chance(0.6)
            && let Some(text) = self.scene.recapitulation(most)
        {
            self.page.para(text);
        }
    }

    fn contact(&mut self) {
        let user = passing(&mut self.brief.draw).to_lowercase();
        let draw = &mut self.brief.draw;
        let mail = format!("{user}.{}@example.org", draw.between(10, 99));
        let phone = format!(
            "+99 {} {} {}",
            draw.between(10, 99),
            draw.between(100, 999),
            draw.between(1000, 9999)
        );
        self.page.para(format!("Letters reach the author at {mail} or by telephone {phone}."));
        self.page.personal.extend([mail, phone]);
    }

    fn all_appearances(&mut self, low: usize, high: usize) {
        for index in 0..self.brief.appearances.len() {
            let sentences = self.brief.draw.between(low, high);
            let text = self.about(index, sentences);
            self.page.para(text);
        }
    }
}

/// Writes the page that a brief asks for.
pub(crate) fn write(brief: Brief<'_>) -> Page {
    let kind = brief.kind;
    let mut writer = Writer::new(brief);
    match kind {
        "encyclopedia" => encyclopedia(&mut writer),
        "news" => news(&mut writer),
        "forum" => forum(&mut writer),
        "shop" => shop(&mut writer),
        _ => blog(&mut writer),
    }
    writer.page
}

fn encyclopedia(w: &mut Writer<'_>) {
    w.page.quality = 5;
    let world = w.brief.world;
    w.page.title = match w.brief.appearances.first() {
        Some(first) => capital(&world.subjects[first.subject].name),
        None => w.scene.title(),
    };
    for index in 0..w.brief.appearances.len() {
        if index == 1 {
            let heading = format!("{} and {}", capital(w.scene.focus()[0]), w.scene.topic_name());
            w.page.blocks.push(Block::Heading(heading));
        }
        let sentences = w.brief.draw.between(1, 3);
        let text = w.about(index, sentences);
        w.page.para(text);
    }
    w.narrate(2, 5);
    if w.brief.draw.chance(0.3) {
        w.page.blocks.push(Block::Heading(format!("Trade at {}", w.scene.cast_name())));
        w.price_table();
        w.narrate(2, 4);
    }
    if w.brief.draw.chance(0.35) {
        w.page.blocks.push(Block::Heading(format!("Read also on {}", w.scene.cast_name())));
        let items = w.scene.focus().iter().take(4).map(|t| capital(t)).collect();
        w.page.blocks.push(Block::List(items));
    }
    if w.brief.draw.chance(0.6) {
        w.narrate(2, 4);
    }
    w.close();
}

/// What a report says of an event, its first line.
fn headline(event: &Event, amount: usize) -> String {
    let (hero, town, firm) = (&event.hero, &event.town, &event.other);
    match event.what {
        "fair" => format!("{amount} stalls at the fair of {town}, {hero} among them"),
        "flood" => format!("Flood in {town}: {hero} shelters {amount} people"),
        "prize" => format!("{hero} wins {amount} crowns in {town}"),
        "strike" => format!("{amount} workers of {firm} stop work in {town}"),
        "bridge" => format!("New bridge in {town} cost {amount} crowns, says {hero}"),
        "trial" => format!("{hero} must pay {amount} crowns to {firm}, court of {town} decides"),
        "concert" => format!("{amount} listeners hear {hero} in {town}"),
        "price" => format!("{firm} asks {amount} crowns in {town}"),
        "find" => format!("{hero} finds {amount} old coins near {town}"),
        _ => format!("{hero} first of {amount} runners in {town}"),
    }
}

/// The same in other words, as a report begins.
fn lead(event: &Event, amount: usize) -> String {
    let (hero, town, firm) = (&event.hero, &event.town, &event.other);
    match event.what {
        "fair" => format!("when the fair opened, {hero} counted {amount} stalls"),
        "flood" => format!("after the water rose, {amount} people slept in the house of {hero}"),
        "prize" => format!("a jury gave {hero} the prize of {amount} crowns"),
        "strike" => format!("nobody went to work at {firm}, where {amount} are employed"),
        "bridge" => format!("{hero} opened the bridge, for which {amount} crowns were paid"),
        "trial" => format!("the judge believed {firm} and fined {hero} {amount} crowns"),
        "concert" => format!("all {amount} seats were taken when {hero} came on the stage"),
        "price" => format!("a new list of {firm} names {amount} crowns where it was less before"),
        "find" => format!("while digging in a field, {hero} came upon {amount} coins of silver"),
        _ => format!("with {amount} at the start, nobody in {town} was as fast as {hero}"),
    }
}

fn report(w: &mut Writer<'_>, event: &Event) -> Vec<String> {
    let said = event.misreported.unwrap_or(event.amount);
    let pronoun = if event.female { "she" } else { "he" };
    let mut lines = vec![
        format!("{}, {}: {}.", event.town, event.date.written(), lead(event, said)),
        format!("{} {} the {} when it was over.", event.hero, past(w.scene.act()), w.scene.thing()),
        format!("“{said} is more than we hoped,” {pronoun} told the {}.", w.scene.agent()),
        format!("At {} nobody had heard of it.", event.other),
        format!("The people of {} remember the year {}.", event.town, event.date.year - 7),
        format!("Of the {said}, {} were counted on the first day.", said / 2),
    ];
    w.brief.draw.shuffle(&mut lines[1..]);
    lines.truncate(w.brief.draw.between(3, 6));
    lines
}

fn news(w: &mut Writer<'_>) {
    let events = &w.brief.world.events;
    let event = events[w.brief.draw.below(events.len())].clone();
    w.page.quality = 4;
    w.page.date = event.date;
    w.page.title = headline(&event, event.misreported.unwrap_or(event.amount));
    let lines = report(w, &event);
    w.page.para(lines.join(" "));
    w.all_appearances(0, 2);
    w.narrate(2, 4);
    if w.brief.draw.chance(0.3) {
        w.narrate(2, 4);
    }
    if let Some(wrong) = event.misreported {
        w.page.para(format!(
            "Correction: an earlier report gave the number as {wrong}. It is {}.",
            event.amount
        ));
    }
    w.close();
}

fn blog(w: &mut Writer<'_>) {
    w.page.title = w.scene.title();
    let opening = [
        "Dear readers! ",
        "Today I want to tell of this: ",
        "A short note. ",
        "",
        "I was asked about it again. ",
        "It has been a long week. ",
    ];
    let head = w.brief.draw.pick(&opening);
    let first = w.scene.paragraph(3);
    w.page.para(format!("{head}{first}"));
    w.all_appearances(0, 2);
    if w.brief.draw.chance(0.5) {
        let heading = w.scene.title();
        w.page.blocks.push(Block::Heading(heading));
        let steps = (0..w.brief.draw.between(3, 6)).map(|_| w.scene.instruction()).collect();
        w.page.blocks.push(Block::Steps(steps));
    }
    w.narrate(2, 5);
    if w.brief.draw.chance(0.3) {
        let said = w.scene.sentence();
        w.page.blocks.push(Block::Quote(said));
    }
    if w.brief.draw.chance(0.2) {
        w.price_table();
    }
    w.close();
    if w.brief.draw.chance(0.12) {
        w.contact();
    }
}

fn asked(w: &mut Writer<'_>, fact: usize) -> String {
    let known = &w.brief.world.facts[fact];
    let subject = &w.brief.world.subjects[known.subject];
    let label = RELATIONS[known.relation].label.to_lowercase();
    let the = if subject.kind == Kind::Animal { "the " } else { "" };
    let heads = [
        "Does anybody know the",
        "Who can tell me the",
        "I am looking for the",
        "Is there a page about the",
        "My neighbour asks about the",
    ];
    let head = w.brief.draw.pick(&heads);
    let mark = if head.starts_with('I') && !head.starts_with("Is") || head.starts_with("My") {
        "."
    } else {
        "?"
    };
    format!("{head} {label} of {the}{}{mark}", subject.name)
}

fn forum(w: &mut Writer<'_>) {
    w.page.quality = 2;
    w.page.title = w.scene.title();
    let (one, two) = (passing(&mut w.brief.draw), passing(&mut w.brief.draw));
    let mut turn = 0;
    let mut speak = |page: &mut Page, text: String| {
        let speaker = if turn % 2 == 0 { &one } else { &two };
        turn += 1;
        page.blocks.push(Block::Para(format!("{speaker}: {text}")));
    };
    let open = w.scene.paragraph(3);
    speak(&mut w.page, open);
    for index in 0..w.brief.appearances.len() {
        let first = w.brief.appearances[index].facts.first().copied();
        if let Some(fact) = first {
            let question = asked(w, fact);
            let sentence = w.scene.sentence();
            speak(&mut w.page, format!("{sentence} {question}"));
        }
        let more = w.brief.draw.between(0, 2);
        let text = w.about(index, more);
        speak(&mut w.page, text);
    }
    for _ in 0..w.brief.draw.between(1, 3) {
        let sentences = w.brief.draw.between(1, 3);
        let text = w.scene.paragraph(sentences);
        let thanks = ["Thank you. ", "I see. ", "No. ", "Yes. ", "", "", "I disagree. "];
        let head = w.brief.draw.pick(&thanks);
        let text = format!("{head}{text}");
        speak(&mut w.page, text);
    }
}

fn shop(w: &mut Writer<'_>) {
    w.page.quality = 3;
    let thing = w.scene.dressed();
    let seller = match w.brief.appearances.first() {
        Some(first) => capital(&w.brief.world.subjects[first.subject].name),
        None => passing(&mut w.brief.draw),
    };
    let (_, price) = w.scene.prices[0];
    w.page.title = format!("{} from {seller}", capital(&thing));
    w.page.para(format!("{} for {price} crowns. {}", capital(&thing), w.scene.paragraph(3)));
    w.all_appearances(0, 2);
    w.price_table();
    let notes: Vec<String> =
        (0..w.brief.draw.between(3, 6)).map(|_| w.scene.instruction()).collect();
    w.page.blocks.push(Block::Heading(format!("How to use the {thing}")));
    w.page.blocks.push(Block::List(notes));
    w.narrate(2, 4);
    let (item, cost) = w.scene.prices[w.brief.draw.below(4)];
    let number = w.brief.draw.between(2, 9);
    w.page.para(format!(
        "Whoever orders {number} at {cost} crowns each pays {} crowns for the {item}.",
        number * cost
    ));
    if w.brief.draw.chance(0.1) {
        w.contact();
    }
}
