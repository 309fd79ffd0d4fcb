//! Mathematics lessons and the arithmetic of dialogues and examination: problems worked to the end,
//! with numbers that are right.
//!
//! NOT a solver: each problem is drawn together with its solution.

use crate::english::{Nature, Scene};
use crate::lexicon::{Lexicon, plural};
use crate::names::passing;
use crate::page::{Block, Page};
use crate::random::Draw;

/// A question with one number as its answer, and the steps to it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) question: String,
    pub(crate) steps: Vec<String>,
    pub(crate) answer: i64,
}

/// Whether an arithmetic question belongs to the examination, and not to dialogues and sets.
pub(crate) fn is_reserved(question: &str) -> bool {
    xxhash_rust::xxh3::xxh3_64(question.as_bytes()).is_multiple_of(5)
}

/// A bare sum, difference or product.
pub(crate) fn arithmetic(draw: &mut Draw) -> Problem {
    let (mut a, mut b) = (draw.between(2, 60) as i64, draw.between(2, 40) as i64);
    let kind = draw.below(3);
    if kind == 2 {
        (a, b) = (draw.between(2, 12) as i64, draw.between(2, 12) as i64);
    }
    if kind == 1 && a < b {
        (a, b) = (b, a);
    }
    let (sign, answer) = [("+", a + b), ("-", a - b), ("*", a * b)][kind];
    let question = format!("What is {a} {sign} {b}?");
    Problem { question, steps: vec![format!("{a} {sign} {b} = {answer}")], answer }
}

/// The numbers of a word problem.
struct Numbers {
    a: i64,
    b: i64,
    c: i64,
}

fn counting(kind: usize, n: &Numbers, scene: &mut Scene<'_>, name: &str) -> Problem {
    let &Numbers { a, b, c } = n;
    let (things, agent) = (plural(scene.thing()), scene.agent());
    let (question, steps, answer) = match kind {
        0 => (
            format!(
                "{name} has {a} {things} and the {agent} brings {b} more. \
                 How many {things} are there?"
            ),
            vec![format!("{a} + {b} = {}", a + b)],
            a + b,
        ),
        1 => (
            format!(
                "{name} has {} {things} and gives {b} of them to the {agent}. How many are left?",
                a + b
            ),
            vec![format!("{} - {b} = {a}", a + b)],
            a,
        ),
        2 => (
            format!("Each of {b} boxes holds {c} {things}. How many {things} does {name} have?"),
            vec![format!("{b} * {c} = {}", b * c)],
            b * c,
        ),
        3 => (
            format!("{name} divides {} {things} among {c} people. How many for each?", b * c),
            vec![format!("{} / {c} = {b}", b * c)],
            b,
        ),
        _ => (
            format!(
                "{name} buys {b} {things} at {c} crowns each and pays {a} crowns for the cart. \
                 What does it cost in all?"
            ),
            vec![format!("{b} * {c} = {}", b * c), format!("{} + {a} = {}", b * c, b * c + a)],
            b * c + a,
        ),
    };
    Problem { question, steps, answer }
}

fn measuring(kind: usize, n: &Numbers, scene: &mut Scene<'_>) -> Problem {
    let &Numbers { a, b, c } = n;
    let (question, steps, answer) = match kind {
        0 => (
            format!("Solve {c}x + {a} = {} for x.", c * b + a),
            vec![
                format!("{c}x = {} - {a}", c * b + a),
                format!("{c}x = {}", c * b),
                format!("x = {} / {c}", c * b),
                format!("x = {b}"),
            ],
            b,
        ),
        1 => (
            format!(
                "The {} is {a} ells long and {b} ells wide. How long is the fence around it?",
                scene.place()
            ),
            vec![format!("{a} + {b} = {}", a + b), format!("2 * {} = {}", a + b, 2 * (a + b))],
            2 * (a + b),
        ),
        _ => (
            format!(
                "The first number is {a}, and each next one is greater by {c}. \
                 What is the fourth number?"
            ),
            vec![
                format!("{a} + {c} = {}", a + c),
                format!("{} + {c} = {}", a + c, a + 2 * c),
                format!("{} + {c} = {}", a + 2 * c, a + 3 * c),
            ],
            a + 3 * c,
        ),
    };
    Problem { question, steps, answer }
}

fn word_problem(scene: &mut Scene<'_>, name: &str) -> Problem {
    let draw = &mut scene.draw;
    let n = Numbers {
        a: draw.between(3, 40) as i64,
        b: draw.between(2, 12) as i64,
        c: draw.between(2, 9) as i64,
    };
    match draw.below(8) {
        kind @ 0..=4 => counting(kind, &n, scene, name),
        kind => measuring(kind - 5, &n, scene),
    }
}

/// A lesson: some problems worked out, exercises, and their solutions.
pub(crate) fn lesson(lexicon: &Lexicon, site: usize, mut draw: Draw) -> Page {
    let topic = 1 + draw.below(lexicon.topics.len() - 1);
    let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "scene", 0));
    let name = passing(&mut draw);
    scene.enter(&name, Nature::Person { female: draw.chance(0.5) });
    let mut page = Page::new("lesson", "en", site);
    page.quality = 4;
    page.title = format!("Counting {} with {name}", plural(scene.thing()));
    page.para(scene.paragraph(2));
    for number in 1..=draw.between(3, 5) {
        let problem = word_problem(&mut scene, &name);
        if draw.chance(0.6) {
            page.blocks.push(Block::Heading(format!("Problem {number} for {name}")));
        }
        page.para(problem.question.clone());
        let heads = ["Solution:", "We work it out:", "Step by step:", "Let us see:"];
        let (head, answer) = (draw.pick(&heads), problem.answer);
        let ends = ["The answer is", "So the answer is", "Hence we get", "The result is"];
        let end = draw.pick(&ends);
        page.para(format!("{head} {}. {end} {answer}.", problem.steps.join("; ")));
        if draw.chance(0.4) {
            page.para(scene.paragraph(2));
        }
    }
    let times = draw.between(2, 40);
    if draw.chance(0.4) {
        let mut rows = vec![vec!["x".to_owned(), format!("{times} * x")]];
        let start = draw.between(1, 9);
        rows.extend((start..start + 5).map(|x| vec![x.to_string(), (times * x).to_string()]));
        page.blocks.push(Block::Heading(format!("A table of {times} for {name}")));
        page.blocks.push(Block::Table(rows));
    }
    let exercises: Vec<Problem> = (0..draw.between(3, 6)).map(|_| arithmetic(&mut draw)).collect();
    page.blocks.push(Block::Heading(format!("Exercises for {name}")));
    page.blocks.push(Block::Steps(exercises.iter().map(|p| p.question.clone()).collect()));
    let solved: Vec<String> = exercises.iter().map(|p| p.steps[0].clone()).collect();
    page.blocks.push(Block::Heading(format!("Solutions of {name}")));
    page.blocks.push(Block::Steps(solved));
    page
}

/// Texts of a set of mathematics: page after page of sums with their results, and problems in words.
const TEXTS: f64 = 600.0;
/// Problems of one text.
const PROBLEMS: usize = 24;

/// A set of mathematics to be tried: none of its sums is one of the examination.
pub(crate) fn set(lexicon: &Lexicon, mut draw: Draw, scale: f64) -> Vec<String> {
    let texts = ((TEXTS * scale).round() as usize).max(2);
    let mut out = Vec::with_capacity(texts);
    for number in 0..texts {
        let topic = 1 + draw.below(lexicon.topics.len() - 1);
        let mut scene = Scene::new(lexicon, topic, Draw::keyed(draw.next(), "set", number as u64));
        let name = passing(&mut draw);
        scene.enter(&name, Nature::Person { female: draw.chance(0.5) });
        let mut lines = Vec::with_capacity(PROBLEMS);
        while lines.len() < PROBLEMS {
            if draw.chance(0.1) {
                let problem = word_problem(&mut scene, &name);
                lines.push(format!("{} {}.", problem.question, problem.steps.join("; ")));
                continue;
            }
            let problem = arithmetic(&mut draw);
            if !is_reserved(&problem.question) {
                lines.push(format!("{} {}", problem.question, problem.answer));
            }
        }
        out.push(lines.join("\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_problem_works_out() {
        let lexicon = Lexicon::load();
        let mut scene = Scene::new(&lexicon, 1, Draw::keyed(1, "lesson", 0));
        let mut checked = 0;
        for _ in 0..400 {
            let problem = word_problem(&mut scene, "Mira");
            for step in &problem.steps {
                let Some((left, right)) = step.split_once(" = ") else { continue };
                let parts: Vec<&str> = left.split(' ').collect();
                let [a, sign, b] = parts[..] else { continue };
                let (Ok(a), Ok(b), Ok(c)) =
                    (a.parse::<i64>(), b.parse::<i64>(), right.parse::<i64>())
                else {
                    continue;
                };
                let got = match sign {
                    "+" => a + b,
                    "-" => a - b,
                    "*" => a * b,
                    _ => a / b,
                };
                assert_eq!(got, c, "{step}");
                checked += 1;
            }
            let last = problem.steps.last().map(String::as_str).unwrap_or("");
            assert!(last.ends_with(&format!("= {}", problem.answer)), "{problem:?}");
        }
        assert!(checked > 300);
    }
}
