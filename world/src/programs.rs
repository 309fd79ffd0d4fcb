//! Small programs with what they return: the code tutorials and the examination's exercises.
//!
//! NOT an interpreter: each family of programs is written down twice, as source text in a
//! Python-like language and as a function here, and the two are held together by the worked
//! examples that both produce.

use crate::english::{Nature, Scene};
use crate::lexicon::{Lexicon, plural};
use crate::names::passing;
use crate::page::{Block, Page};
use crate::random::Draw;

/// What a program computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Times,
    Plus,
    Linear,
    Sum,
    Largest,
    Above,
    Doubled,
    Even,
    Power,
    Clamp,
    Last,
    Count,
}

const FAMILIES: [Family; 12] = [
    Family::Times,
    Family::Plus,
    Family::Linear,
    Family::Sum,
    Family::Largest,
    Family::Above,
    Family::Doubled,
    Family::Even,
    Family::Power,
    Family::Clamp,
    Family::Last,
    Family::Count,
];

/// One program: a family, its constants and its names.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    family: Family,
    a: i64,
    b: i64,
    pub(crate) name: String,
    item: String,
}

fn identifier(word: &str) -> String {
    word.replace('-', "_").to_lowercase()
}

fn listed(values: &[i64]) -> String {
    let texts: Vec<String> = values.iter().map(i64::to_string).collect();
    format!("[{}]", texts.join(", "))
}

impl Program {
    /// A program about `item`.
    pub(crate) fn drawn(item: &str, draw: &mut Draw) -> Self {
        let family = FAMILIES[draw.below(FAMILIES.len())];
        let (a, b) = (draw.between(2, 9) as i64, draw.between(1, 30) as i64);
        let item = identifier(item);
        let many = identifier(&plural(&item));
        let name = match family {
            Family::Times => format!("{item}_times_{a}"),
            Family::Plus => format!("add_{b}_{many}"),
            Family::Linear => format!("{item}_cost"),
            Family::Sum => format!("sum_of_{many}"),
            Family::Largest => format!("largest_{item}"),
            Family::Above => format!("{many}_above_{b}"),
            Family::Doubled => format!("scale_{many}"),
            Family::Even => format!("even_{many}"),
            Family::Power => format!("{item}_power"),
            Family::Clamp => format!("limit_{item}"),
            Family::Last => format!("last_{item}"),
            Family::Count => format!("count_{many}"),
        };
        Self { family, a, b, name, item }
    }

    fn takes_list(&self) -> bool {
        !matches!(
            self.family,
            Family::Times | Family::Plus | Family::Linear | Family::Power | Family::Clamp
        )
    }

    /// What the program is to do, as an imperative without a full stop.
    pub(crate) fn task(&self) -> String {
        let (a, b) = (self.a, self.b);
        match self.family {
            Family::Times => format!("multiply a number by {a}"),
            Family::Plus => format!("add {b} to a number"),
            Family::Linear => format!("multiply a number by {a} and then add {b}"),
            Family::Sum => "add up all numbers of a list".to_owned(),
            Family::Largest => "find the largest number of a list".to_owned(),
            Family::Above => format!("keep the numbers of a list that are greater than {b}"),
            Family::Doubled => format!("multiply each number of a list by {a}"),
            Family::Even => "keep the even numbers of a list".to_owned(),
            Family::Power => "multiply a number by itself".to_owned(),
            Family::Clamp => format!("return a number, but never more than {b}"),
            Family::Last => "return the last number of a list".to_owned(),
            Family::Count => format!("count the numbers of a list that equal {a}"),
        }
    }

    /// Source text.
    pub(crate) fn source(&self) -> String {
        let (a, b, f, x) = (self.a, self.b, &self.name, &self.item);
        let xs = identifier(&plural(x));
        let body = match self.family {
            Family::Times => format!("    return {x} * {a}"),
            Family::Plus => format!("    return {x} + {b}"),
            Family::Linear => format!("    total = {x} * {a}\n    return total + {b}"),
            Family::Sum => {
                format!(
                    "    total = 0\n    for {x} in {xs}:\n        total += {x}\n    return total"
                )
            }
            Family::Largest => format!(
                "    best = {xs}[0]\n    for {x} in {xs}:\n        if {x} > best:\n\
                 \x20           best = {x}\n    return best"
            ),
            Family::Above => format!("    return [{x} for {x} in {xs} if {x} > {b}]"),
            Family::Doubled => format!(
                "    result = []\n    for {x} in {xs}:\n        result.append({x} * {a})\n\
                 \x20   return result"
            ),
            Family::Even => format!("    return [{x} for {x} in {xs} if {x} % 2 == 0]"),
            Family::Power => format!("    return {x} * {x}"),
            Family::Clamp => {
                format!("    if {x} > {b}:\n        return {b}\n    return {x}")
            }
            Family::Last => format!("    return {xs}[-1]"),
            Family::Count => format!(
                "    count = 0\n    for {x} in {xs}:\n        if {x} == {a}:\n\
                 \x20           count += 1\n    return count"
            ),
        };
        let argument = if self.takes_list() { &xs } else { x };
        format!("def {f}({argument}):\n{body}")
    }

    /// A call and what it returns.
    pub(crate) fn example(&self, draw: &mut Draw) -> (String, String) {
        let (a, b) = (self.a, self.b);
        if !self.takes_list() {
            let x = draw.between(0, 40) as i64;
            let y = match self.family {
                Family::Times => x * a,
                Family::Plus => x + b,
                Family::Linear => x * a + b,
                Family::Power => x * x,
                _ => x.min(b),
            };
            return (format!("{}({x})", self.name), y.to_string());
        }
        let count = draw.between(3, 5);
        let list: Vec<i64> = (0..count).map(|_| draw.between(0, 30) as i64).collect();
        let result = match self.family {
            Family::Sum => list.iter().sum::<i64>().to_string(),
            Family::Largest => list.iter().max().copied().unwrap_or(0).to_string(),
            Family::Above => listed(&list.iter().copied().filter(|x| *x > b).collect::<Vec<_>>()),
            Family::Doubled => listed(&list.iter().map(|x| x * a).collect::<Vec<_>>()),
            Family::Even => {
                listed(&list.iter().copied().filter(|x| x % 2 == 0).collect::<Vec<_>>())
            }
            Family::Last => list.last().copied().unwrap_or(0).to_string(),
            _ => list.iter().filter(|x| **x == a).count().to_string(),
        };
        (format!("{}({})", self.name, listed(&list)), result)
    }
}

fn explained(program: &Program, scene: &mut Scene<'_>) -> String {
    let f = &program.name;
    let lines = [
        format!("The function {f} has one task: to {}.", program.task()),
        format!("Here is {f}, which a {} may use to {}.", scene.agent(), program.task()),
        format!("To {}, write {f} as follows.", program.task()),
        format!("We need {f} whenever we want to {}.", program.task()),
    ];
    let refs: Vec<&str> = lines.iter().map(String::as_str).collect();
    scene.draw.pick(&refs).to_owned()
}

fn after(program: &Program, scene: &mut Scene<'_>) -> String {
    let (call, result) = program.example(&mut scene.draw);
    let f = &program.name;
    let lines = [
        format!("The call {call} returns {result}."),
        format!("For example, {call} gives {result}."),
        format!("We test it: {call} == {result}."),
        format!("If you try {call}, {f} answers {result}."),
    ];
    let refs: Vec<&str> = lines.iter().map(String::as_str).collect();
    scene.draw.pick(&refs).to_owned()
}

/// A tutorial.
pub(crate) fn tutorial(lexicon: &Lexicon, site: usize, mut draw: Draw) -> Page {
    let topic = 1 + draw.below(lexicon.topics.len() - 1);
    let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
    let author = passing(&mut draw);
    scene.enter(&author, Nature::Person { female: draw.chance(0.5) });
    let mut page = Page::new("code", "en", site);
    page.quality = 4;
    page.title = format!("A program for the {}", scene.agent());
    page.para(scene.paragraph(3));
    let count = draw.between(2, 4);
    let mut programs = Vec::new();
    for index in 0..count {
        let item = scene.focus()[index % 3];
        let program = Program::drawn(item, &mut draw);
        if index > 0 && draw.chance(0.5) {
            page.blocks.push(Block::Heading(format!("The function {}", program.name)));
        }
        page.para(explained(&program, &mut scene));
        page.blocks.push(Block::Code(program.source()));
        let mut lines = vec![after(&program, &mut scene)];
        if draw.chance(0.6) {
            lines.push(after(&program, &mut scene));
        }
        if draw.chance(0.5) {
            lines.push(scene.sentence());
        }
        page.para(lines.join(" "));
        programs.push(program);
    }
    let session: Vec<String> = programs
        .iter()
        .map(|program| {
            let (call, result) = program.example(&mut draw);
            format!(">>> {call}\n{result}")
        })
        .collect();
    page.para(format!("In the end {author} tried all functions:"));
    page.blocks.push(Block::Code(session.join("\n")));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_define_their_names_and_examples_are_right() {
        let mut draw = Draw::keyed(5, "programs", 0);
        for _ in 0..200 {
            let program = Program::drawn("lamp", &mut draw);
            assert!(program.source().starts_with(&format!("def {}(", program.name)));
            let (call, result) = program.example(&mut draw);
            assert!(call.starts_with(&program.name) && !result.is_empty());
        }
        let sum = Program { family: Family::Sum, a: 2, b: 3, name: "s".into(), item: "x".into() };
        let (call, result) = sum.example(&mut draw);
        let inner = call.trim_start_matches("s([").trim_end_matches("])");
        let total: i64 = inner.split(", ").filter_map(|n| n.parse::<i64>().ok()).sum();
        assert_eq!(result, total.to_string());
    }
}
