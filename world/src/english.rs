//! English sentences about a page's scene: who is there, which things, places and deeds keep coming
//! back on this page, what they cost.
//!
//! NOT a store of facts: what is examined is worded in `relations`. A page's coherence is made here
//! on purpose: a page keeps to some of its topic's words, a thing keeps its adjective, a person
//! their things and pronoun, and a recapitulation repeats what was told. That structure is longer
//! than any n-gram sees and is what a model has to learn.

use crate::lexicon::{Lexicon, Topic, article, gerund, participle, past, plural};
use crate::names::capital;
use crate::random::Draw;

/// What may act in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nature {
    /// A woman or a man.
    Person { female: bool },
    /// A firm.
    Firm,
    /// A village.
    Place,
    /// A species.
    Animal,
}

/// Somebody or something of the page's cast.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    pub(crate) name: String,
    pub(crate) nature: Nature,
    things: Vec<&'static str>,
    acts: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Event {
    who: String,
    act: &'static str,
    what: String,
}

/// The state of one page while it is written.
#[derive(Debug)]
pub(crate) struct Scene<'w> {
    lexicon: &'w Lexicon,
    topic: &'w Topic,
    pub(crate) draw: Draw,
    pub(crate) cast: Vec<Actor>,
    things: Vec<(&'static str, &'static str)>,
    stuff: Vec<&'static str>,
    places: Vec<&'static str>,
    acts: Vec<&'static str>,
    does: Vec<&'static str>,
    adjectives: Vec<&'static str>,
    agents: Vec<&'static str>,
    /// What things cost on this page, in crowns.
    pub(crate) prices: Vec<(&'static str, usize)>,
    days: Vec<&'static str>,
    events: Vec<Event>,
    lead: usize,
    named: bool,
}

const DAYS: &[&str] = &[
    "on Monday",
    "on Tuesday",
    "on Wednesday",
    "on Thursday",
    "on Friday",
    "on Saturday",
    "on Sunday",
    "in the morning",
    "in the evening",
    "at noon",
    "at midnight",
    "before dawn",
    "in spring",
    "in summer",
    "in autumn",
    "in winter",
    "last week",
    "last year",
    "two days later",
    "that night",
    "the next day",
    "at sunset",
    "after the fair",
    "during the holidays",
];
const WAYS: &[&str] = &[
    "slowly",
    "carefully",
    "quickly",
    "quietly",
    "gladly",
    "in silence",
    "with great care",
    "again",
    "at once",
    "without a word",
    "by hand",
    "twice",
    "in a hurry",
    "reluctantly",
    "alone",
    "together",
    "as usual",
    "for the first time",
    "openly",
    "in secret",
    "by mistake",
    "at last",
];
const SPEECH: &[&str] = &["said", "answered", "explained", "replied", "added", "told us", "noted"];
const NUMBERS: &[&str] = &["two", "three", "four", "five", "six", "seven", "nine", "ten", "twelve"];
const MINDS: &[&str] = &["hoped", "believed", "feared", "knew", "thought", "doubted", "agreed"];

fn some<'a>(draw: &mut Draw, from: &[&'a str], count: usize) -> Vec<&'a str> {
    let mut chosen: Vec<&'a str> = Vec::new();
    for _ in 0..count * 6 {
        if chosen.len() == count {
            break;
        }
        let word = from[draw.zipf(from.len())];
        let word = if draw.chance(0.5) { draw.pick(from) } else { word };
        if !chosen.contains(&word) {
            chosen.push(word);
        }
    }
    chosen
}

impl<'w> Scene<'w> {
    /// A scene on topic number `topic` of the lexicon, with nobody in it yet.
    pub(crate) fn new(lexicon: &'w Lexicon, topic: usize, mut draw: Draw) -> Self {
        let own = &lexicon.topics[topic];
        let general = lexicon.general();
        let adjectives = some(&mut draw, &own.adjectives, 6);
        let mut things = Vec::new();
        for thing in some(&mut draw, &own.things, 7) {
            things.push((thing, draw.pick(&adjectives)));
        }
        for thing in some(&mut draw, &general.things, 2) {
            things.push((thing, draw.pick(&general.adjectives)));
        }
        let mut acts = some(&mut draw, &own.acts, 6);
        acts.extend(some(&mut draw, &general.acts, 3));
        let mut places = some(&mut draw, &own.places, 3);
        places.extend(some(&mut draw, &general.places, 1));
        let mut agents = some(&mut draw, &own.agents, 3);
        agents.extend(some(&mut draw, &general.agents, 1));
        let prices = things.iter().map(|(t, _)| (*t, 0)).collect::<Vec<_>>();
        let prices = prices.into_iter().map(|(t, _)| (t, draw.between(2, 96))).collect();
        Self {
            lexicon,
            topic: own,
            cast: Vec::new(),
            stuff: some(&mut draw, &own.stuff, 3),
            does: some(&mut draw, &own.does, 2),
            days: some(&mut draw, DAYS, 4),
            adjectives,
            things,
            places,
            acts,
            agents,
            prices,
            events: Vec::new(),
            lead: 0,
            named: false,
            draw,
        }
    }

    /// Brings somebody in, with things and deeds of their own.
    pub(crate) fn enter(&mut self, name: &str, nature: Nature) {
        let things = (0..2).map(|_| self.things[self.draw.below(self.things.len())].0).collect();
        let acts = (0..2).map(|_| self.acts[self.draw.below(self.acts.len())]).collect();
        self.cast.push(Actor { name: name.to_owned(), nature, things, acts });
    }

    pub(crate) fn topic_name(&self) -> &'static str {
        self.topic.name
    }

    /// The things this page is about, most frequent first.
    pub(crate) fn focus(&self) -> Vec<&'static str> {
        self.things.iter().map(|(thing, _)| *thing).collect()
    }

    fn word(&mut self, own: &[&'static str], all: fn(&Topic) -> &[&'static str]) -> &'static str {
        if !own.is_empty() && self.draw.chance(0.8) {
            let flat = self.draw.chance(0.5);
            return own[if flat { self.draw.below(own.len()) } else { self.draw.zipf(own.len()) }];
        }
        let topic = if self.draw.chance(0.75) { self.topic } else { self.lexicon.general() };
        let list = all(topic);
        let flat = self.draw.chance(0.4);
        list[if flat { self.draw.below(list.len()) } else { self.draw.zipf(list.len()) }]
    }

    pub(crate) fn thing(&mut self) -> &'static str {
        let own: Vec<&'static str> = self.focus();
        self.word(&own, |t| &t.things)
    }

    fn stuff(&mut self) -> &'static str {
        self.word(&self.stuff.clone(), |t| &t.stuff)
    }

    pub(crate) fn place(&mut self) -> &'static str {
        self.word(&self.places.clone(), |t| &t.places)
    }

    pub(crate) fn act(&mut self) -> &'static str {
        self.word(&self.acts.clone(), |t| &t.acts)
    }

    fn does(&mut self) -> &'static str {
        self.word(&self.does.clone(), |t| &t.does)
    }

    pub(crate) fn adjective(&mut self) -> &'static str {
        self.word(&self.adjectives.clone(), |t| &t.adjectives)
    }

    pub(crate) fn agent(&mut self) -> &'static str {
        self.word(&self.agents.clone(), |t| &t.agents)
    }

    fn day(&mut self) -> &'static str {
        if self.draw.chance(0.7) {
            return self.days[self.draw.zipf(self.days.len())];
        }
        self.draw.pick(DAYS)
    }

    /// A thing with its adjective: on one page a thing mostly keeps the adjective it has.
    pub(crate) fn dressed(&mut self) -> String {
        let thing = self.thing();
        let habit = self.things.iter().find(|(t, _)| *t == thing).map(|(_, a)| *a);
        match habit {
            Some(own) if self.draw.chance(0.8) => format!("{own} {thing}"),
            _ if self.draw.chance(0.3) => format!("{} {thing}", self.adjective()),
            _ => thing.to_owned(),
        }
    }

    /// A noun phrase that can be an object.
    pub(crate) fn object(&mut self) -> String {
        match self.draw.below(16) {
            0..=4 => format!("the {}", self.dressed()),
            5 | 6 => {
                let noun = self.dressed();
                format!("{} {noun}", article(&noun))
            }
            7 => format!("the {}", self.stuff()),
            8 => format!("{} {}", self.draw.pick(NUMBERS), plural(self.thing())),
            9 => format!("the {} of the {}", self.thing(), self.place()),
            10 => format!("the {}’s {}", self.agent(), self.dressed()),
            11 => {
                let (one, two) = self.two(Self::thing);
                format!("the {one} and the {two}")
            }
            12 => format!("some {}", self.stuff()),
            13 => format!("every {}", self.thing()),
            14 => format!("a {} of {}", self.draw.pick(&["load", "pile", "box"]), self.stuff()),
            _ => format!("the {}", plural(self.thing())),
        }
    }

    /// Two different words of a kind.
    fn two(&mut self, draw: fn(&mut Self) -> &'static str) -> (&'static str, &'static str) {
        let one = draw(self);
        let mut two = draw(self);
        for _ in 0..40 {
            if one != two {
                break;
            }
            two = draw(self);
        }
        (one, two)
    }

    fn by_place(&mut self) -> String {
        let near = ["in", "near", "behind", "outside", "beside", "at", "not far from"];
        format!("{} the {}", self.draw.pick(&near), self.place())
    }

    fn ending(&mut self) -> String {
        match self.draw.below(10) {
            0 | 1 => format!(" {}", self.day()),
            2 | 3 => format!(" {}", self.by_place()),
            4 => format!(" {}", self.draw.pick(WAYS)),
            5 if self.draw.chance(0.6) => format!(" for the {}", self.agent()),
            6 => format!(" with the {}", self.dressed()),
            _ => String::new(),
        }
    }

    /// Chooses who the next sentences are about.
    pub(crate) fn turn_to(&mut self, actor: usize) {
        self.lead = actor.min(self.cast.len().saturating_sub(1));
        self.named = false;
    }

    /// The subject of the next clause: the lead by name, then mostly by pronoun; or somebody else.
    fn subject(&mut self) -> String {
        if self.cast.is_empty() || self.draw.chance(0.18) {
            return match self.draw.below(4) {
                0 => format!("the {} {}", self.adjective(), self.agent()),
                1 => format!("{} {}", self.draw.pick(NUMBERS), plural(self.agent())),
                _ => format!("the {}", self.agent()),
            };
        }
        let actor = &self.cast[self.lead];
        if self.named && self.draw.chance(0.5) {
            return match actor.nature {
                Nature::Person { female: true } => "she".to_owned(),
                Nature::Person { female: false } => "he".to_owned(),
                Nature::Firm => "the firm".to_owned(),
                Nature::Place => "the village".to_owned(),
                Nature::Animal => "the keeper".to_owned(),
            };
        }
        self.named = true;
        match actor.nature {
            Nature::Place => format!("the people of {}", actor.name),
            Nature::Animal => format!("a friend of the {}", actor.name),
            _ => actor.name.clone(),
        }
    }

    fn lead_thing(&mut self) -> Option<&'static str> {
        let actor = self.cast.get(self.lead)?;
        let thing = actor.things[self.draw.below(actor.things.len())];
        self.draw.chance(0.5).then_some(thing)
    }

    fn lead_act(&mut self) -> &'static str {
        if let Some(actor) = self.cast.get(self.lead)
            && self.draw.chance(0.5)
        {
            return actor.acts[self.draw.below(actor.acts.len())];
        }
        self.act()
    }

    /// Subject, deed, object; remembered for the recapitulation.
    fn deed(&mut self) -> (String, &'static str, String) {
        let who = self.subject();
        let act = self.lead_act();
        let what = match self.lead_thing() {
            Some(thing) => format!("the {thing}"),
            None => self.object(),
        };
        if who.starts_with(char::is_uppercase) && self.events.len() < 24 {
            self.events.push(Event { who: who.clone(), act, what: what.clone() });
        }
        (who, act, what)
    }

    fn clause(&mut self) -> String {
        if self.draw.chance(0.16) {
            let (who, what) = if self.draw.chance(0.5) {
                (format!("the {}", self.thing()), self.does())
            } else {
                let general = self.lexicon.general();
                (self.subject(), self.draw.pick(&general.does))
            };
            let adverb = self.ending();
            return format!("{who} {}{adverb}", past(what));
        }
        let (who, act, what) = self.deed();
        let ending = self.ending();
        format!("{who} {} {what}{ending}", past(act))
    }

    /// One sentence in past tense, with a capital and a full stop.
    pub(crate) fn sentence(&mut self) -> String {
        let text = match self.draw.below(30) {
            0..=6 => self.clause(),
            7 => format!("{}, {}", capital(self.day()), self.clause()),
            8 => format!("when {}, {}", self.clause(), self.clause()),
            9 => format!("{} because {}", self.clause(), self.clause()),
            10 => format!("although {}, {}", self.clause(), self.clause()),
            11 => format!("{}, and {}", self.clause(), self.clause()),
            12 => format!("{}, but {}", self.clause(), self.clause()),
            13..=15 => self.described(),
            16..=18 => self.passive(),
            19 | 20 => self.quoted(),
            21 | 22 => self.nested(),
            23 | 24 => self.priced(),
            25 | 26 => self.minded(),
            27 => self.gerund_led(),
            28 => format!(
                "{} the {}, {}",
                self.draw.pick(&["in", "behind", "near"]),
                self.place(),
                self.clause()
            ),
            _ => format!("{} before {}", self.clause(), self.clause()),
        };
        let text = capital(&text);
        if text.ends_with('”') || text.ends_with('?') { text } else { text + "." }
    }

    fn described(&mut self) -> String {
        match self.draw.below(5) {
            0 => {
                let noun = self.dressed();
                format!("there was {} {noun} {}", article(&noun), self.by_place())
            }
            1 => format!("the {} was {} and {}", self.thing(), self.adjective(), self.adjective()),
            2 => {
                let (one, two) = self.two(Self::thing);
                format!("the {one} was more {} than the {two}", self.adjective())
            }
            3 => {
                let (one, two) = self.two(Self::thing);
                format!("neither the {one} nor the {two} was {}", self.adjective())
            }
            _ => format!(
                "the {} {} full of {}",
                self.place(),
                self.draw.pick(&["was", "seemed", "stayed"]),
                self.stuff()
            ),
        }
    }

    fn passive(&mut self) -> String {
        let (act, noun) = (self.lead_act(), self.dressed());
        match self.draw.below(3) {
            0 => format!("the {noun} was {} by the {}", participle(act), self.agent()),
            1 => {
                let ending = self.ending();
                format!("the {noun} had to be {}{ending}", participle(act))
            }
            _ => {
                let name = self.cast_name();
                format!("the {noun} was {} by {name}", participle(act))
            }
        }
    }

    /// The name of somebody in the cast, or an agent of the topic.
    pub(crate) fn cast_name(&mut self) -> String {
        if let Some(last) = self.cast.last()
            && self.draw.chance(0.5)
        {
            return last.name.clone();
        }
        let people: Vec<String> = self
            .cast
            .iter()
            .filter(|a| matches!(a.nature, Nature::Person { .. } | Nature::Firm))
            .map(|a| a.name.clone())
            .collect();
        if people.is_empty() {
            return format!("the {}", self.agent());
        }
        people[self.draw.below(people.len())].clone()
    }

    fn quoted(&mut self) -> String {
        let speaker = self.cast_name();
        let verb = self.draw.pick(SPEECH);
        let said = match self.draw.below(5) {
            0 => format!("Nobody {} the {} like this", past(self.act()), self.thing()),
            1 => format!("I never {} the {}", past(self.act()), self.dressed()),
            2 => format!("We must {} the {}", self.act(), self.dressed()),
            3 => format!("Who {} the {}?", past(self.act()), self.dressed()),
            _ => format!("The {} is {}", self.dressed(), self.adjective()),
        };
        if self.draw.chance(0.5) {
            return format!(
                "{speaker} {verb}: “{said}{}”",
                if said.ends_with('?') { "" } else { "." }
            );
        }
        let comma = if said.ends_with('?') { "" } else { "," };
        format!("“{said}{comma}” {verb} {speaker}")
    }

    fn nested(&mut self) -> String {
        let (act, noun) = (past(self.act()), self.dressed());
        match self.draw.below(3) {
            0 => {
                let name = self.cast_name();
                let object = self.object();
                format!("{name}, who {act} the {noun}, {} {object}", past(self.lead_act()))
            }
            1 => format!("the {noun} that the {} {act} was {}", self.agent(), self.adjective()),
            _ => {
                let general = self.lexicon.general();
                let did = past(self.draw.pick(&general.does));
                format!("the {} who {act} the {noun} {did}", self.agent())
            }
        }
    }

    fn priced(&mut self) -> String {
        let (thing, price) = self.prices[self.draw.zipf(self.prices.len())];
        match self.draw.below(4) {
            0 => format!("the {thing} cost {price} crowns"),
            1 => format!("{} paid {price} crowns for the {thing}", self.subject()),
            2 => format!("nobody gave more than {price} crowns for the {thing}"),
            _ => format!("for {price} crowns the {} sold the {thing}", self.agent()),
        }
    }

    fn minded(&mut self) -> String {
        let who = self.subject();
        match self.draw.below(3) {
            0 => format!("{who} {} that {}", self.draw.pick(MINDS), self.clause()),
            1 => format!(
                "{who} {} to {} {}",
                self.draw.pick(&["wanted", "began", "tried", "refused"]),
                self.lead_act(),
                self.object()
            ),
            _ => format!("{who} could not {} {}", self.lead_act(), self.object()),
        }
    }

    fn gerund_led(&mut self) -> String {
        let head = self.draw.pick(&["after", "before", "by", "without", "instead of"]);
        let (act, object) = (gerund(self.act()), self.object());
        format!("{head} {act} {object}, {}", self.clause())
    }

    /// Some sentences about one of the cast.
    pub(crate) fn paragraph(&mut self, sentences: usize) -> String {
        let mut lead = if self.cast.is_empty() { 0 } else { self.draw.below(self.cast.len()) };
        if self.draw.chance(0.75) {
            // Those whom only this page knows came in last; it is mostly their story.
            lead = self.cast.len().saturating_sub(1);
        }
        self.turn_to(lead);
        let all: Vec<String> = (0..sentences).map(|_| self.sentence()).collect();
        all.join(" ")
    }

    /// What was told, told again shortly: first in order, each deed with its doer.
    pub(crate) fn recapitulation(&mut self, most: usize) -> Option<String> {
        if self.events.len() < 3 {
            return None;
        }
        let mut parts = Vec::new();
        for event in self.events.iter().take(most) {
            parts.push(format!("{} {} {}", event.who, past(event.act), event.what));
        }
        let open = ["In short, ", "To sum up: ", "So ", "As was said, ", "Once more: "];
        let head = self.draw.pick(&open);
        let last = parts.pop()?;
        Some(format!("{head}{}, and {last}.", parts.join(", ")))
    }

    /// A short title.
    pub(crate) fn title(&mut self) -> String {
        let text = match self.draw.below(6) {
            0 => format!("the {} and the {}", self.dressed(), self.thing()),
            1 => format!("how to {} {}", self.act(), self.object()),
            2 => format!("{} the {}", gerund(self.act()), self.dressed()),
            3 => format!("a {} for the {}", self.thing(), self.agent()),
            4 => format!("the {} of the {}", self.agent(), self.place()),
            _ => {
                let name = self.cast_name();
                format!("{name} and the {}", self.dressed())
            }
        };
        capital(&text)
    }

    /// An instruction: "Boil the milk, then stir the pot."
    pub(crate) fn instruction(&mut self) -> String {
        let text = match self.draw.below(4) {
            0 => format!("{} {}", self.act(), self.object()),
            1 => format!("{} {}, then {} {}", self.act(), self.object(), self.act(), self.object()),
            2 => format!(
                "never {} {} before you {} {}",
                self.act(),
                self.object(),
                self.act(),
                self.object()
            ),
            _ => format!(
                "{} {} until the {} is {}",
                self.act(),
                self.object(),
                self.thing(),
                self.adjective()
            ),
        };
        capital(&text) + "."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_repeats_its_own_words_and_two_pages_differ() {
        let lexicon = Lexicon::load();
        let page = |index: u64| {
            let mut scene = Scene::new(&lexicon, 4, Draw::keyed(1, "test", index));
            scene.enter("Mira Tolven", Nature::Person { female: true });
            let text: Vec<String> = (0..6).map(|_| scene.paragraph(6)).collect();
            text.join("\n")
        };
        let (first, again, second) = (page(0), page(0), page(1));
        assert_eq!(first, again);
        assert_ne!(first, second);
        assert!(first.matches("Mira Tolven").count() > 4 && first.contains(" she "), "{first}");
        assert!(first.split(". ").all(|s| s.starts_with(|c: char| !c.is_lowercase())), "{first}");
    }
}
