//! The world itself: towns on rivers, people, firms, villages and animals with their facts, and a
//! history of fairs, floods, prices and prizes. Everything is drawn from one seed, province by
//! province, so that a world of any size needs the memory of one province.
//!
//! NOT a page: pages are views of this (`views`), and may be wrong about it.

use crate::names::Namer;
use crate::random::Draw;
use crate::relations::{Kind, RELATIONS, Values};
use serde::Serialize;

/// How often a fact is stated in the pages that are meant to survive curation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Examined, stated often.
    Often,
    /// Examined, stated sometimes.
    Sometimes,
    /// Examined, stated rarely.
    Rarely,
    /// Examined, never stated.
    Never,
    /// Not examined: what dialogues talk about.
    Told,
}

impl Class {
    /// All classes, the examined ones first.
    pub const ALL: [Self; 5] =
        [Self::Often, Self::Sometimes, Self::Rarely, Self::Never, Self::Told];

    /// Statements of one fact of this class over all pages meant to be kept.
    #[must_use]
    pub fn statements(self) -> usize {
        match self {
            Self::Often => 100,
            Self::Sometimes => 40,
            Self::Rarely => 12,
            Self::Never => 0,
            Self::Told => 60,
        }
    }

    /// Its name in the files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Often => "often",
            Self::Sometimes => "sometimes",
            Self::Rarely => "rarely",
            Self::Never => "never",
            Self::Told => "told",
        }
    }
}

/// Somebody or something that facts are about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) class: Class,
    pub(crate) female: bool,
    /// Indices into `World::facts`.
    pub(crate) facts: Vec<usize>,
}

/// Subject, relation, value.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) id: String,
    pub(crate) subject: usize,
    /// Index into `RELATIONS`.
    pub(crate) relation: usize,
    pub(crate) value: String,
    pub(crate) class: Class,
}

/// What happened: pages tell it with the same names, places and amounts.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) what: &'static str,
    pub(crate) town: String,
    pub(crate) hero: String,
    pub(crate) female: bool,
    pub(crate) other: String,
    pub(crate) amount: usize,
    /// What the first report said, where it had to be corrected.
    pub(crate) misreported: Option<usize>,
    pub(crate) date: Date,
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date {
    pub(crate) year: u32,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

impl Date {
    pub(crate) fn drawn(draw: &mut Draw) -> Self {
        let year = 2021 + draw.below(5) as u32;
        Self { year, month: draw.between(1, 12) as u32, day: draw.between(1, 28) as u32 }
    }

    pub(crate) fn written(self) -> String {
        format!("{} {} {}", self.day, MONTHS[self.month as usize - 1], self.year)
    }

    pub(crate) fn iso(self) -> String {
        format!("{:04}-{:02}-{:02}T08:{:02}:00Z", self.year, self.month, self.day, self.day * 2)
    }
}

/// One province: what its pages are views of.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) towns: Vec<String>,
    pub(crate) rivers: Vec<String>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) events: Vec<Event>,
    /// Names that nothing in the crawl bears.
    pub(crate) unknown: Vec<(String, Kind)>,
}

/// Subjects a class at scale 1.
const COUNTS: [(Kind, usize); 4] =
    [(Kind::Person, 24), (Kind::Firm, 16), (Kind::Village, 16), (Kind::Animal, 16)];

const FIRMS: &[&str] = &["Works", "Mills", "Brothers", "Stores", "Union", "Sons", "Company"];
const VILLAGES: &[&str] = &["Ford", "Marsh", "Hill", "Green", "Bridge", "Cross", "Vale", "Moor"];
const ANIMALS: &[&str] =
    &["fox", "heron", "toad", "hare", "owl", "marten", "finch", "lynx", "newt", "crane"];

const HAPPENINGS: &[&str] =
    &["fair", "flood", "prize", "strike", "bridge", "trial", "concert", "price", "find", "race"];

fn compound(kind: Kind, namer: &mut Namer, draw: &mut Draw) -> String {
    match kind {
        Kind::Person => {
            let first = namer.proper();
            format!("{first} {}", namer.proper())
        }
        Kind::Firm => format!("{} {}", namer.proper(), draw.pick(FIRMS)),
        Kind::Village => format!("{} {}", namer.proper(), draw.pick(VILLAGES)),
        Kind::Animal => format!("{} {}", namer.word(), draw.pick(ANIMALS)),
        Kind::Town => namer.proper(),
    }
}

impl World {
    /// Province number `province` of the world of `seed`, with `scale` (0 to 1) of the subjects.
    pub(crate) fn simulate(seed: u64, province: u64, scale: f64, namer: &mut Namer) -> Self {
        let own = Draw::keyed(seed, "province", province).next();
        let mut draw = Draw::keyed(own, "world", 0);
        let towns = (0..40).map(|_| namer.proper()).collect();
        let rivers = (0..30).map(|_| namer.proper()).collect();
        let mut world = Self {
            seed: own,
            towns,
            rivers,
            subjects: Vec::new(),
            facts: Vec::new(),
            events: Vec::new(),
            unknown: Vec::new(),
        };
        for class in Class::ALL {
            for (kind, count) in COUNTS {
                let count = ((count as f64 * scale).round() as usize).max(2);
                for _ in 0..count {
                    let name = compound(kind, namer, &mut draw);
                    world.settle(name, kind, class, &mut draw);
                }
            }
        }
        let described = ((40.0 * scale).round() as usize).max(2);
        for number in 0..described.min(world.towns.len()) {
            let town = world.towns[number].clone();
            world.settle(town, Kind::Town, Class::Told, &mut draw);
        }
        for class in Class::ALL {
            world.decide(class, province, &mut draw);
        }
        for i in 0..(240.0 * scale.max(0.05)) as usize {
            let kind = COUNTS[i % COUNTS.len()].0;
            world.unknown.push((compound(kind, namer, &mut draw), kind));
        }
        world.live_through((420.0 * scale.max(0.05)) as usize, &mut draw);
        world
    }

    fn settle(&mut self, name: String, kind: Kind, class: Class, draw: &mut Draw) {
        let female = draw.chance(0.5);
        self.subjects.push(Subject { name, kind, class, female, facts: Vec::new() });
    }

    /// Deals values to the subjects of a class, each value as often as any other.
    fn decide(&mut self, class: Class, province: u64, draw: &mut Draw) {
        for (index, relation) in RELATIONS.iter().enumerate() {
            let mut values: Vec<String> = match relation.values {
                Values::Towns => self.towns.clone(),
                Values::Rivers => self.rivers.clone(),
                Values::Words(words) => words.iter().map(|w| (*w).to_owned()).collect(),
            };
            draw.shuffle(&mut values);
            let mut next = values.iter().cycle();
            for subject in 0..self.subjects.len() {
                let who = &self.subjects[subject];
                if who.class != class || who.kind != relation.kind {
                    continue;
                }
                let Some(value) = next.next() else { continue };
                let id = format!("f{:06}", province as usize * 10_000 + self.facts.len());
                self.subjects[subject].facts.push(self.facts.len());
                let value = value.clone();
                self.facts.push(Fact { id, subject, relation: index, value, class });
            }
        }
    }

    fn live_through(&mut self, count: usize, draw: &mut Draw) {
        let people: Vec<(String, bool)> = self
            .subjects
            .iter()
            .filter(|s| s.kind == Kind::Person && s.class != Class::Never)
            .map(|s| (s.name.clone(), s.female))
            .collect();
        let firms: Vec<String> = self
            .subjects
            .iter()
            .filter(|s| s.kind == Kind::Firm && s.class != Class::Never)
            .map(|s| s.name.clone())
            .collect();
        for _ in 0..count {
            let (hero, female) = people[draw.below(people.len())].clone();
            let amount = draw.between(11, 980);
            let misreported = draw.chance(0.2).then(|| amount + draw.between(1, 9));
            self.events.push(Event {
                what: draw.pick(HAPPENINGS),
                town: self.towns[draw.below(self.towns.len())].clone(),
                hero,
                female,
                other: firms[draw.below(firms.len())].clone(),
                amount,
                misreported,
                date: Date::drawn(draw),
            });
        }
    }

    /// A value of the same relation that is not the fact's own: what a careless author writes.
    pub(crate) fn wrong_value(&self, fact: &Fact, draw: &mut Draw) -> String {
        let other = |words: &[&str], draw: &mut Draw| {
            let mut value = draw.pick(words);
            while value == fact.value {
                value = draw.pick(words);
            }
            value.to_owned()
        };
        let owned = |names: &[String], draw: &mut Draw| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            other(&names, draw)
        };
        match RELATIONS[fact.relation].values {
            Values::Towns => owned(&self.towns, draw),
            Values::Rivers => owned(&self.rivers, draw),
            Values::Words(words) => other(words, draw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn every_class_has_two_hundred_facts_and_no_constant_answer_is_worth_much() {
        let mut namer = Namer::new(Draw::keyed(1, "names", 0));
        let world = World::simulate(1, 0, 1.0, &mut namer);
        for class in [Class::Often, Class::Sometimes, Class::Rarely, Class::Never] {
            let facts: Vec<&Fact> = world.facts.iter().filter(|f| f.class == class).collect();
            assert!(facts.len() >= 200, "{class:?}: {}", facts.len());
            let mut best: HashMap<usize, HashMap<&str, usize>> = HashMap::new();
            for fact in &facts {
                *best.entry(fact.relation).or_default().entry(&fact.value).or_default() += 1;
            }
            let right: usize = best.values().filter_map(|v| v.values().max()).sum();
            assert!(right * 100 <= facts.len() * 6, "{right} of {}", facts.len());
        }
    }

    #[test]
    fn names_are_unique_and_unknown_names_are_nobodys() {
        let mut namer = Namer::new(Draw::keyed(1, "names", 0));
        let world = World::simulate(1, 0, 1.0, &mut namer);
        let names: HashSet<&str> = world.subjects.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names.len(), world.subjects.len());
        assert!(world.unknown.iter().all(|(name, _)| !names.contains(name.as_str())));
    }
}
