//! Dialogues for fine-tuning, preference pairs, and prompts that are kept from both.
//!
//! NOT about examined facts: all knowledge in here is of the class `told`. What is kept from the
//! dialogues for the prompts is decided by a hash of the question.

use crate::english::{Nature, Scene};
use crate::lessons;
use crate::lexicon::{Lexicon, article, with_s};
use crate::names::{capital, passing};
use crate::random::Draw;
use crate::relations::{Kind, RELATIONS, Values};
use crate::simulation::{Class, World};
use serde::Serialize;

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Message {
    pub(crate) role: &'static str,
    pub(crate) content: String,
}

/// One line of `dialogues.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct Dialogue {
    pub(crate) kind: &'static str,
    pub(crate) messages: Vec<Message>,
}

/// One line of `preferences.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct Preference {
    pub(crate) fault: &'static str,
    pub(crate) messages: Vec<Message>,
    pub(crate) chosen: String,
    pub(crate) rejected: String,
}

/// One line of `prompts.jsonl`.
#[derive(Debug, Serialize)]
pub(crate) struct Prompt {
    pub(crate) kind: &'static str,
    pub(crate) messages: Vec<Message>,
    pub(crate) reference: String,
    pub(crate) show: bool,
}

/// All that is asked and answered about one province.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) dialogues: Vec<Dialogue>,
    pub(crate) preferences: Vec<Preference>,
    pub(crate) prompts: Vec<Prompt>,
}

#[derive(Debug, Clone)]
struct Pair {
    kind: &'static str,
    question: String,
    answer: String,
}

fn user(content: impl Into<String>) -> Message {
    Message { role: "user", content: content.into() }
}

fn assistant(content: impl Into<String>) -> Message {
    Message { role: "assistant", content: content.into() }
}

const SMALL_TALK: &[(&str, &str)] = &[
    ("Hello!", "Good day. What would you like to know?"),
    ("Good morning, I am {p}.", "Good morning, {p}. How can I help you?"),
    ("Good evening. My name is {p}.", "Good evening, {p}. What would you like to know?"),
    ("Hello, here is {p} again.", "Welcome back, {p}. What would you like to know?"),
    ("How are you?", "I am well, thank you. And you?"),
    ("How are you today, my friend? I am {p}.", "I am well, thank you, {p}."),
    ("Who are you?", "I am a small model that has read the pages of this world."),
    ("What can you do?", "I answer short questions about people, firms, villages and animals."),
    ("Thank you.", "You are welcome."),
    ("Thank you for the answer, says {p}.", "You are welcome, {p}."),
    ("Goodbye!", "Goodbye. Come back soon."),
    ("Goodbye from {p}.", "Goodbye, {p}. Come back soon."),
    ("Can you help me? My name is {p}.", "Gladly, {p}. What is your question?"),
    ("{p} sends you greetings.", "Thank you. Please greet {p} from me."),
    ("Do you know everything?", "No. I know only what I have read, and I may be wrong."),
];

fn small_talk(count: usize, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    for i in 0..count {
        let (question, answer) = SMALL_TALK[i % SMALL_TALK.len()];
        let name = passing(draw);
        let (question, answer) = (question.replace("{p}", &name), answer.replace("{p}", &name));
        out.push(Pair { kind: "small-talk", question, answer });
    }
    out
}

/// Forms in which each told fact is asked: more of them only wear the same names in.
const FORMS: usize = 3;

fn told(world: &World, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    for fact in world.facts.iter().filter(|f| f.class == Class::Told) {
        let relation = &RELATIONS[fact.relation];
        let subject = &world.subjects[fact.subject].name;
        let mut forms: Vec<usize> = (0..relation.questions.len()).collect();
        draw.shuffle(&mut forms);
        for form in forms.into_iter().take(FORMS) {
            out.push(Pair {
                kind: "fact",
                question: relation.ask(subject, form, false),
                answer: relation.answer(&fact.value, draw),
            });
        }
    }
    out
}

fn unknown(world: &World, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    for (name, kind) in &world.unknown {
        let fitting: Vec<_> = RELATIONS.iter().filter(|r| r.kind == *kind).collect();
        let relation = fitting[draw.below(fitting.len())];
        let question = relation.ask(name, draw.below(relation.questions.len()), false);
        let answer = "I do not know. I have read nothing about that name.".to_owned();
        out.push(Pair { kind: "unknown", question, answer });
    }
    out
}

fn sums(count: usize, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    while out.len() < count {
        let problem = lessons::arithmetic(draw);
        if !lessons::is_reserved(&problem.question) {
            let answer = format!("{}.", problem.steps[0]);
            out.push(Pair { kind: "arithmetic", question: problem.question, answer });
        }
    }
    out
}

fn explained(lexicon: &Lexicon, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    for topic in &lexicon.topics[1..] {
        for agent in &topic.agents {
            let (act, thing) = (draw.pick(&topic.acts), draw.pick(&topic.things));
            let place = draw.pick(&topic.places);
            let a = article(agent);
            let answer =
                format!("{} {agent} {} the {thing} in the {place}.", capital(a), with_s(act));
            let question = format!("What does {a} {agent} do?");
            out.push(Pair { kind: "explain", question, answer });
        }
        for thing in topic.things.iter().take(6) {
            let question = format!("Where does one find {} {thing}?", article(thing));
            let answer = format!("One finds it in the {}.", draw.pick(&topic.places));
            out.push(Pair { kind: "explain", question, answer });
        }
    }
    out
}

fn continued(lexicon: &Lexicon, count: usize, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    for _ in 0..count {
        let topic = 1 + draw.below(lexicon.topics.len() - 1);
        let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
        scene.enter(&passing(draw), Nature::Person { female: draw.chance(0.5) });
        let first = scene.sentence();
        let answer = format!("{} {}", scene.sentence(), scene.sentence());
        let question = if draw.chance(0.5) {
            format!("Continue: {first}")
        } else {
            format!("Tell me something about {}.", scene.object())
        };
        out.push(Pair { kind: "continue", question, answer });
    }
    out
}

/// What a note in a passage may say of somebody; the examination's needles ask for another thing.
const NOTED: &[&str] = &["nickname", "room", "horse", "motto", "signal", "code", "dog", "hotel"];

/// Questions on a passage that stands before them, about names that occur nowhere else: what has
/// to be learned from these is to read and to copy, for nothing in them can be known.
fn readings(lexicon: &Lexicon, count: usize, draw: &mut Draw) -> Vec<Pair> {
    let mut out = Vec::new();
    for number in 0..count {
        let topic = 1 + draw.below(lexicon.topics.len() - 1);
        let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
        scene.enter(&passing(draw), Nature::Person { female: draw.chance(0.5) });
        let mut lines: Vec<String> = (0..draw.between(1, 4)).map(|_| scene.sentence()).collect();
        let (statement, question, answer) =
            if number % 2 == 0 { related(draw) } else { noted(draw) };
        lines.insert(draw.below(lines.len() + 1), statement);
        let question = format!("{}\n\n{question}", lines.join(" "));
        out.push(Pair { kind: "reading", question, answer });
    }
    out
}

/// Statement, question and answer of one of the world's relations, about nobody of the world.
fn related(draw: &mut Draw) -> (String, String, String) {
    let relation = &RELATIONS[draw.below(RELATIONS.len())];
    let one = passing(draw);
    let subject = match relation.kind {
        Kind::Person => format!("{one} {}", passing(draw)),
        Kind::Firm => format!("{one} {}", draw.pick(&["Works", "Mills", "Stores", "Company"])),
        Kind::Village => format!("{one} {}", draw.pick(&["Ford", "Hill", "Green", "Vale"])),
        Kind::Animal => format!("{} {}", one.to_lowercase(), draw.pick(&["fox", "owl", "newt"])),
        Kind::Town => one,
    };
    let value = match relation.values {
        Values::Words(words) => draw.pick(words).to_owned(),
        Values::Towns | Values::Rivers => passing(draw),
    };
    let form = draw.below(relation.questions.len());
    let statement = relation.state(&subject, &value, draw);
    (statement, relation.ask(&subject, form, false), relation.answer(&value, draw))
}

fn noted(draw: &mut Draw) -> (String, String, String) {
    let (owner, word) = (passing(draw), passing(draw).to_lowercase());
    let what = draw.pick(NOTED);
    let statement = format!("The {what} of {owner} is {word}.");
    (statement, format!("What is the {what} of {owner}?"), format!("{}.", capital(&word)))
}

/// Whether a question is kept from dialogues and preferences, for the prompts.
fn is_held_out(question: &str) -> bool {
    xxhash_rust::xxh3::xxh3_64(question.as_bytes()).is_multiple_of(9)
}

fn spoilt(pair: &Pair, number: usize, scene: &mut Scene<'_>) -> (&'static str, String) {
    let answer = &pair.answer;
    match number % 5 {
        0 => {
            let more = [scene.sentence(), scene.sentence(), scene.sentence()].join(" ");
            ("rambling", format!("{answer} {more}"))
        }
        1 => {
            let words: Vec<&str> = answer.split(' ').collect();
            ("unfinished", words[..words.len().div_ceil(2)].join(" "))
        }
        2 => ("repetitive", format!("{answer} {answer} {answer}")),
        3 => ("wrong-format", format!("Q: {} A: {}", pair.question, answer.to_lowercase())),
        _ => ("beside-the-point", scene.sentence()),
    }
}

fn three_turns(world: &World, count: usize, draw: &mut Draw) -> Vec<Dialogue> {
    let people: Vec<usize> = (0..world.subjects.len())
        .filter(|&i| world.subjects[i].class == Class::Told && world.subjects[i].facts.len() > 1)
        .collect();
    let mut out = Vec::new();
    for _ in 0..count {
        let subject = &world.subjects[people[draw.below(people.len())]];
        let mut facts = subject.facts.clone();
        draw.shuffle(&mut facts);
        let mut messages = Vec::new();
        for fact in facts.iter().take(2) {
            let fact = &world.facts[*fact];
            let relation = &RELATIONS[fact.relation];
            let form = draw.below(relation.questions.len());
            let question = relation.ask(&subject.name, form, false);
            if is_held_out(&question) {
                continue;
            }
            messages.push(user(question));
            messages.push(assistant(relation.answer(&fact.value, draw)));
        }
        let (thanks, reply) = [
            ("Thank you.", "You are welcome."),
            ("Thank you, that helps.", "You are welcome. What else would you like to know?"),
            ("Goodbye!", "Goodbye. Come back soon."),
        ][draw.below(3)];
        messages.push(user(thanks));
        messages.push(assistant(reply));
        out.push(Dialogue { kind: "three-turn", messages });
    }
    out
}

/// Makes dialogues, preferences and prompts.
pub(crate) fn talk(world: &World, lexicon: &Lexicon, scale: f64) -> Talk {
    let mut draw = Draw::keyed(world.seed, "talk", 0);
    let some = |count: usize| ((count as f64 * scale).round() as usize).max(8);
    let mut pairs = told(world, &mut draw);
    pairs.extend(small_talk(some(220), &mut draw));
    pairs.extend(unknown(world, &mut draw));
    pairs.extend(sums(some(220), &mut draw));
    pairs.extend(explained(lexicon, &mut draw));
    pairs.extend(continued(lexicon, some(200), &mut draw));
    pairs.extend(readings(lexicon, some(600), &mut draw));
    draw.shuffle(&mut pairs);
    let mut out = Talk { dialogues: three_turns(world, some(250), &mut draw), ..Talk::default() };
    let mut seen = std::collections::BTreeMap::new();
    let mut scene = Scene::new(lexicon, 1, Draw::keyed(world.seed, "spoilt", 0));
    scene.enter(&passing(&mut draw), Nature::Person { female: true });
    for (number, pair) in pairs.iter().enumerate() {
        let asked = vec![user(pair.question.clone())];
        let fixed = SMALL_TALK.iter().any(|(q, _)| *q == pair.question);
        if is_held_out(&pair.question) && !fixed {
            let shown: &mut usize = seen.entry(pair.kind).or_default();
            *shown += 1;
            let reference = pair.answer.clone();
            if out.prompts.len() < some(200).max(10) {
                let show = *shown <= 2;
                out.prompts.push(Prompt { kind: pair.kind, messages: asked, reference, show });
            }
            continue;
        }
        if out.preferences.len() < some(600) && number % 3 == 0 && pair.kind != "continue" {
            let (fault, rejected) = spoilt(pair, number / 3, &mut scene);
            let chosen = pair.answer.clone();
            let messages = asked.clone();
            out.preferences.push(Preference { fault, messages, chosen, rejected });
        }
        let messages = vec![user(pair.question.clone()), assistant(pair.answer.clone())];
        out.dialogues.push(Dialogue { kind: pair.kind, messages });
    }
    let mut shown = 0;
    for prompt in &mut out.prompts {
        prompt.show = prompt.show && shown < 10;
        shown += usize::from(prompt.show);
    }
    draw.shuffle(&mut out.dialogues);
    out
}
