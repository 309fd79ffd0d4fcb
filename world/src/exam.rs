//! The examination: closed-book questions on facts stated often, sometimes, rarely and never;
//! two-hop questions, arithmetic, programs with unit tests, needles in long texts, calls of tools.
//!
//! NOT dialogues: no fact that is examined here occurs there, and one question form in four occurs
//! here alone.

use crate::english::{Nature, Scene};
use crate::lessons;
use crate::lexicon::Lexicon;
use crate::names::passing;
use crate::programs::Program;
use crate::random::Draw;
use crate::relations::{Kind, RELATIONS};
use crate::simulation::{Class, World};
use crate::tools;
use serde::Serialize;
use std::collections::BTreeSet;

/// One line of `exam.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct Question {
    pub(crate) id: String,
    /// `fact`, `two-hop`, `arithmetic`, `program`, `needle` or `tool`.
    pub(crate) kind: &'static str,
    /// For facts how often they were stated; else the kind.
    pub(crate) class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fact: Option<String>,
    /// Which wording of which relation, for example `birthplace/2` or `birthplace/held-out-0`.
    pub(crate) form: String,
    pub(crate) held_out_form: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    pub(crate) question: String,
    /// Any of these in the answer makes it right; of a tool question, the call that it must be.
    pub(crate) accept: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tests: Vec<String>,
}

impl Question {
    fn other(kind: &'static str, number: usize, province: u64) -> Self {
        Self {
            id: format!("{kind}-{province}-{number:04}"),
            kind,
            class: kind,
            fact: None,
            form: kind.to_owned(),
            held_out_form: false,
            context: None,
            question: String::new(),
            accept: Vec::new(),
            tests: Vec::new(),
        }
    }
}

fn facts(world: &World, province: u64, out: &mut Vec<Question>) {
    let mut draw = Draw::keyed(world.seed, "exam", 0);
    for (number, fact) in world.facts.iter().filter(|f| f.class != Class::Told).enumerate() {
        let relation = &RELATIONS[fact.relation];
        let subject = &world.subjects[fact.subject].name;
        let held_out = draw.chance(0.25);
        let forms = if held_out { relation.held_out } else { relation.questions };
        let form = draw.below(forms.len());
        let mark = if held_out { "held-out-" } else { "" };
        out.push(Question {
            class: fact.class.name(),
            fact: Some(fact.id.clone()),
            form: format!("{}/{mark}{form}", relation.name),
            held_out_form: held_out,
            question: relation.ask(subject, form, held_out),
            accept: vec![fact.value.clone()],
            ..Question::other("fact", number, province)
        });
    }
}

/// About facts that pages state often: of those that dialogues tell, the subject was talked about.
fn two_hop(world: &World, province: u64, out: &mut Vec<Question>) {
    let river_of = |town: &str| {
        world
            .facts
            .iter()
            .find(|f| {
                world.subjects[f.subject].kind == Kind::Town
                    && world.subjects[f.subject].name == town
            })
            .map(|f| f.value.clone())
    };
    let born = world
        .facts
        .iter()
        .filter(|f| RELATIONS[f.relation].name == "birthplace" && f.class == Class::Often);
    let seated = world
        .facts
        .iter()
        .filter(|f| RELATIONS[f.relation].name == "seat" && f.class == Class::Often);
    for (number, fact) in born.chain(seated).enumerate() {
        let Some(river) = river_of(&fact.value) else { continue };
        let subject = &world.subjects[fact.subject].name;
        let verb = if RELATIONS[fact.relation].name == "seat" { "is based" } else { "was born" };
        out.push(Question {
            fact: Some(fact.id.clone()),
            question: format!("On which river lies the town where {subject} {verb}?"),
            accept: vec![river],
            ..Question::other("two-hop", number, province)
        });
    }
}

fn sums(world: &World, province: u64, count: usize, out: &mut Vec<Question>) {
    let mut draw = Draw::keyed(world.seed, "exam-sums", 0);
    let (mut number, mut asked) = (0, BTreeSet::new());
    while number < count {
        let problem = lessons::arithmetic(&mut draw);
        if lessons::is_reserved(&problem.question) && asked.insert(problem.question.clone()) {
            out.push(Question {
                question: problem.question,
                accept: vec![problem.answer.to_string()],
                ..Question::other("arithmetic", number, province)
            });
            number += 1;
        }
    }
}

fn exercises(
    world: &World,
    lexicon: &Lexicon,
    province: u64,
    count: usize,
    out: &mut Vec<Question>,
) {
    let mut draw = Draw::keyed(world.seed, "exam-programs", 0);
    for number in 0..count {
        let topic = &lexicon.topics[draw.below(lexicon.topics.len())];
        let program = Program::drawn(draw.pick(&topic.things), &mut draw);
        let tests = (0..4)
            .map(|_| {
                let (call, result) = program.example(&mut draw);
                format!("assert {call} == {result}")
            })
            .collect();
        out.push(Question {
            question: format!("Write a function {} to {}.", program.name, program.task()),
            accept: vec![program.source()],
            tests,
            ..Question::other("program", number, province)
        });
    }
}

fn needles(world: &World, lexicon: &Lexicon, province: u64, count: usize, out: &mut Vec<Question>) {
    for number in 0..count {
        let mut draw = Draw::keyed(world.seed, "exam-needles", number as u64);
        let topic = 1 + draw.below(lexicon.topics.len() - 1);
        let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
        scene.enter(&passing(&mut draw), Nature::Person { female: true });
        let (owner, word) = (passing(&mut draw), passing(&mut draw).to_lowercase());
        let count = 10 << (number % 4);
        let mut lines: Vec<String> = (0..count).map(|_| scene.sentence()).collect();
        let at = draw.below(lines.len());
        lines.insert(at, format!("The password of {owner} is {word}."));
        out.push(Question {
            context: Some(lines.join(" ")),
            question: format!("What is the password of {owner}?"),
            accept: vec![word],
            ..Question::other("needle", number, province)
        });
    }
}

fn calls(world: &World, province: u64, count: usize, out: &mut Vec<Question>) {
    let mut draw = Draw::keyed(world.seed, "exam-tools", 0);
    let towns = world.subjects.iter().filter(|s| s.kind == Kind::Town);
    let towns: Vec<&str> = towns.map(|s| s.name.as_str()).collect();
    for number in 0..count {
        let tools::Task { context, question, call } = tools::task(&towns, &mut draw);
        out.push(Question {
            context: Some(context),
            question,
            accept: vec![call],
            ..Question::other("tool", number, province)
        });
    }
}

/// All questions on one province.
pub(crate) fn questions(
    world: &World,
    lexicon: &Lexicon,
    province: u64,
    scale: f64,
) -> Vec<Question> {
    let mut out = Vec::new();
    let some = |count: usize| ((count as f64 * scale).round() as usize).max(2);
    facts(world, province, &mut out);
    two_hop(world, province, &mut out);
    sums(world, province, some(120), &mut out);
    exercises(world, lexicon, province, some(60), &mut out);
    needles(world, lexicon, province, some(40), &mut out);
    calls(world, province, some(100), &mut out);
    out
}
