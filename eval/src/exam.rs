//! Examinations: questions through the chat format, generated answers, right where an accepted value
//! stands in the answer as whole words, and for tool questions where the answer is the accepted
//! call. Accuracy by class with intervals, held-out question forms apart, beside chance: the
//! constant answer that is right most often; and how often the answer is that the model does not
//! know. Not here: where questions come from; programs, which would have to be run.

use std::collections::BTreeMap;
use std::path::Path;

use quipu_infer::{Engine, Finish, Sampling, Settings, replies};
use quipu_tokens::{Message, Role, Tokenizer, special};
use serde::{Deserialize, Serialize};

use crate::{Error, Share, lines};

/// A question of `exam.jsonl`; other keys are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Question {
    /// Its name.
    pub id: String,
    /// `fact`, `arithmetic`, `tool` and so on.
    #[serde(default)]
    pub kind: String,
    /// What results are counted by: how often the fact was stated, or the kind of question.
    pub class: String,
    /// Whether its wording occurs in no dialogue.
    #[serde(default)]
    pub held_out_form: bool,
    /// What is to be read before the question.
    #[serde(default)]
    pub context: Option<String>,
    /// The question.
    pub question: String,
    /// Any of these in the answer makes it right.
    #[serde(default)]
    pub accept: Vec<String>,
    /// Unit tests of a program to be written: such a question is not asked here.
    #[serde(default)]
    pub tests: Vec<String>,
}

impl Question {
    /// The user's turn.
    #[must_use]
    pub fn dialogue(&self) -> Vec<Message> {
        let text = match &self.context {
            Some(context) => format!("{context}\n\n{}", self.question),
            None => self.question.clone(),
        };
        vec![Message::new(Role::User, text)]
    }

    /// Whether the answer is to be a call of a tool.
    #[must_use]
    pub fn asks_for_call(&self) -> bool {
        self.kind == "tool"
    }

    /// Whether it can be asked here: right is what text says, not what a program does.
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        self.tests.is_empty() && !self.accept.is_empty()
    }

    /// Whether an answer is right.
    #[must_use]
    pub fn is_right(&self, answer: &str) -> bool {
        if self.asks_for_call() {
            is_call(answer, &self.accept)
        } else if self.kind == "arithmetic" {
            is_result(answer, &self.question, &self.accept)
        } else {
            is_right(answer, &self.accept)
        }
    }
}

/// Reads `exam.jsonl`, with the questions that cannot be asked here.
///
/// # Errors
/// [`Error::Read`], or [`Error::Line`] with the line that is no question.
pub fn read(path: &Path) -> Result<Vec<Question>, Error> {
    lines::read(path)
}

/// A question with the answer that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Graded {
    /// The question's name.
    pub id: String,
    /// Its class.
    pub class: String,
    /// Whether its wording occurs in no dialogue.
    pub held_out_form: bool,
    /// The question.
    pub question: String,
    /// What would have been right.
    pub accept: Vec<String>,
    /// What was said.
    pub answer: String,
    /// Whether that is right.
    pub right: bool,
    /// Whether the model ended the answer itself.
    pub ended: bool,
}

/// Asks all questions, greedily, with at most `max_new` tokens an answer. Cancelled answers count
/// as given so far.
///
/// # Errors
/// What the engine says, such as a prompt longer than the context.
pub fn examine(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    questions: &[Question],
    max_new: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Graded>, Error> {
    let dialogues: Vec<Vec<Message>> = questions.iter().map(Question::dialogue).collect();
    let settings = Settings { max_new, sampling: Sampling::greedy() };
    let (answers, _) = replies(engine, tokenizer, &dialogues, settings, cancelled)?;
    Ok(questions.iter().zip(answers).map(|(q, reply)| graded(q, reply)).collect())
}

/// Asks a model that completes text and was never tuned: each question on a line behind those
/// `shots` with their answers (paper, section 5.1: pre-trained models are asked with examples), and
/// what it says up to the end of the line is its answer.
///
/// # Errors
/// What the engine says, such as a prompt longer than the context.
pub fn complete(
    engine: &mut Engine<'_>,
    tokenizer: &Tokenizer,
    (shots, questions): (&[Question], &[Question]),
    max_new: usize,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Graded>, Error> {
    let shown = |q: &Question| format!("{} {}\n", q.question, q.accept.join(" or "));
    let head: String = shots.iter().map(shown).collect();
    let prompt = |q: &Question| -> Result<Vec<u32>, Error> {
        let mut ids = vec![tokenizer.required(special::BEGIN_OF_TEXT)?];
        ids.extend(tokenizer.encode(&format!("{head}{}", q.question))?);
        Ok(ids)
    };
    let prompts = questions.iter().map(prompt).collect::<Result<Vec<_>, _>>()?;
    let settings = Settings { max_new, sampling: Sampling::greedy() };
    let stop = tokenizer.stop_ids();
    let (replies, _) =
        quipu_infer::complete(engine, tokenizer, prompts, stop, settings, cancelled)?;
    let grade = |(q, mut reply): (&Question, quipu_infer::Reply)| {
        let line = reply.text.split('\n').next().unwrap_or_default().trim().to_owned();
        reply.completion.finish = match line.len() < reply.text.len() {
            true => Finish::Stop(0),
            false => reply.completion.finish,
        };
        reply.text = line;
        graded(q, reply)
    };
    Ok(questions.iter().zip(replies).map(grade).collect())
}

fn graded(q: &Question, reply: quipu_infer::Reply) -> Graded {
    Graded {
        id: q.id.clone(),
        class: q.class.clone(),
        held_out_form: q.held_out_form,
        question: q.question.clone(),
        accept: q.accept.clone(),
        right: q.is_right(&reply.text),
        ended: reply.ended(),
        answer: reply.text,
    }
}

/// Accuracy in one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    /// The class.
    pub class: String,
    /// All its questions.
    pub accuracy: Share,
    /// Questions in wordings that occur in no dialogue.
    pub held_out_forms: Share,
    /// Answers that say themselves that they are not known.
    pub declined: Share,
    /// The constant answer that is right most often.
    pub constant: String,
    /// How often it is right.
    pub chance: Share,
}

/// Results by class, in the order in which classes first occur.
#[must_use]
pub fn results(graded: &[Graded]) -> Vec<ClassResult> {
    let mut classes: Vec<&str> = Vec::new();
    for g in graded {
        if !classes.contains(&g.class.as_str()) {
            classes.push(&g.class);
        }
    }
    let of = |class: &str| {
        let all: Vec<&Graded> = graded.iter().filter(|g| g.class == class).collect();
        let held: Vec<&Graded> = all.iter().copied().filter(|g| g.held_out_form).collect();
        let right = |of: &[&Graded]| Share::new(of.iter().filter(|g| g.right).count(), of.len());
        let declined = all.iter().filter(|g| declines(&g.answer)).count();
        let (constant, count) = best_constant(&all);
        ClassResult {
            class: class.to_owned(),
            accuracy: right(&all),
            held_out_forms: right(&held),
            declined: Share::new(declined, all.len()),
            constant,
            chance: Share::new(count, all.len()),
        }
    };
    classes.into_iter().map(of).collect()
}

/// The accepted value that, said to every question, is right most often; the first in order of text
/// among equals.
fn best_constant(graded: &[&Graded]) -> (String, usize) {
    let values: BTreeMap<String, &str> = graded
        .iter()
        .flat_map(|g| &g.accept)
        .map(|value| (words(value).join(" "), value.as_str()))
        .collect();
    let mut best = (String::new(), 0);
    for value in values.values() {
        let count = graded.iter().filter(|g| is_right(value, &g.accept)).count();
        if count > best.1 {
            best = ((*value).to_owned(), count);
        }
    }
    best
}

/// Whether the answer begins as the world's dialogues answer what they cannot know.
#[must_use]
pub fn declines(answer: &str) -> bool {
    answer.trim_start().starts_with("I do not know")
}

/// Whether any accepted value stands in the answer as whole words, in any case and punctuation.
#[must_use]
pub fn is_right(answer: &str, accept: &[String]) -> bool {
    let answer = words(answer);
    accept.iter().any(|value| {
        let value = words(value);
        !value.is_empty() && answer.windows(value.len()).any(|w| w == value)
    })
}

/// Whether the answer to a sum ends with the accepted number and states no other sum than the
/// one asked for: 16 is no right answer to 4 * 4 as that of 5 * 2.
#[must_use]
pub fn is_result(answer: &str, question: &str, accept: &[String]) -> bool {
    let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let asked = bare(question.trim_matches(|c: char| !c.is_ascii_digit()));
    let result = match answer.split_once('=') {
        None => answer,
        Some((sum, result)) => {
            let sum = bare(sum);
            let before = sum.strip_suffix(&asked).map(|rest| rest.chars().last());
            let more = |c: char| c.is_ascii_digit() || "+-−*/.".contains(c);
            if before.is_none_or(|last| last.is_some_and(more)) || result.contains('=') {
                return false;
            }
            result
        }
    };
    let last = words(result).into_iter().rfind(|word| word.parse::<f64>().is_ok());
    last.is_some_and(|last| accept.iter().any(|value| words(value) == [last.as_str()]))
}

/// Whether the answer, without blanks around it, is one of these calls as JSON: the same name and
/// the same arguments, in any order and spacing.
#[must_use]
pub fn is_call(answer: &str, accept: &[String]) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let answer = parse(answer.trim());
    answer.is_some() && accept.iter().any(|call| parse(call) == answer)
}

/// Lower-case words of letters and digits; what stands inside a word or number stays (12.5,
/// o'clock), a minus before a number too.
fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| c.is_whitespace() || "\"“”„«»()[]{}<>;:?!/".contains(c));
    let trim = |word: &str| {
        let word = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        let from = word.find(char::is_alphanumeric)?;
        let first = word[from..].chars().next()?;
        let minus = first.is_ascii_digit() && word[..from].ends_with(['-', '−']);
        let plain: String = word[from..].chars().filter(|c| *c != ',').collect();
        Some(format!("{}{}", if minus { "-" } else { "" }, plain.to_lowercase()))
    };
    split.filter_map(trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(answer: &str, value: &str, right: bool) {
        assert_eq!(is_right(answer, &[value.to_owned()]), right, "{answer:?} {value:?}");
    }

    #[track_caller]
    fn check_call(answer: &str, right: bool) {
        let accept = [r#"{"name":"ferry","parameters":{"from":"Timbon","to":"Kirdo"}}"#.to_owned()];
        assert_eq!(is_call(answer, &accept), right, "{answer}");
    }

    #[test]
    fn a_sum_is_right_with_its_own_result_only() {
        let right = |answer, question| is_result(answer, question, &["16".to_owned()]);
        for answer in ["16", "4 * 4 = 16.", "4*4=16", "It is 4 * 4 = 16 .", "The answer is 16."] {
            assert!(right(answer, "What is 4 * 4?"), "{answer}");
        }
        for answer in ["5 * 2 = 16.", "14 * 4 = 16", "16 or 17", "4 * 4 = 8 = 16", "", "= 16"] {
            assert!(!right(answer, "What is 4 * 4?"), "{answer}");
        }
    }

    #[test]
    fn calls_are_compared_as_json() {
        check_call(r#"{"name": "ferry", "parameters": {"to": "Kirdo", "from": "Timbon"}}"#, true);
        check_call(r#" {"name":"ferry","parameters":{"from":"Timbon","to":"Kirdo"}}"#, true);
        check_call(r#"{"name":"ferry","parameters":{"from":"Kirdo","to":"Timbon"}}"#, false);
        check_call(r#"{"name":"ferry","parameters":{"from":"Timbon"}}"#, false);
        check_call("The ferry goes from Timbon to Kirdo.", false);
        check_call("", false);
    }

    #[test]
    fn values_match_as_whole_words() {
        check("She was born in Tarn Ovel.", "Tarn Ovel", true);
        check("tarn ovel", "Tarn Ovel", true);
        check("Tarn-Ovel", "Tarn Ovel", false);
        check("She was born in Tarnovel.", "Tarn", false);
        check("\"Ovel\", I think", "ovel", true);
        check("It is 12.", "12", true);
        check("It is 1200.", "12", false);
        check("It is 1,200 m.", "1200", true);
        check("-7", "7", false);
        check("The answer is −7.", "-7", true);
        check("12.5%", "12.5", true);
        check("", "x", false);
        check("x", "...", false);
    }

    fn graded(class: &str, held_out_form: bool, accept: &str, right: bool) -> Graded {
        Graded {
            id: String::new(),
            class: class.to_owned(),
            held_out_form,
            question: String::new(),
            accept: vec![accept.to_owned()],
            answer: String::new(),
            right,
            ended: true,
        }
    }

    #[test]
    fn results_by_class_with_chance() {
        let mut all = [
            graded("often", false, "red", true),
            graded("often", true, "Red", false),
            graded("never", false, "blue", false),
            graded("often", false, "green", true),
        ];
        all[2].answer = "I do not know. I have read nothing about that name.".to_owned();
        all[3].answer = "Green, I do not know why.".to_owned();
        let results = results(&all);
        assert_eq!(results.len(), 2);
        let declined = |i: usize| (results[i].declined.count, results[i].declined.of);
        assert_eq!((declined(0), declined(1)), ((0, 3), (1, 1)));
        assert_eq!((results[0].accuracy.count, results[0].accuracy.of), (2, 3));
        assert_eq!((results[0].held_out_forms.count, results[0].held_out_forms.of), (0, 1));
        assert_eq!(
            (results[0].constant.to_lowercase().as_str(), results[0].chance.count),
            ("red", 2)
        );
        assert_eq!(results[1].class, "never");
        assert!(super::results(&[]).is_empty());
    }

    #[test]
    fn files_are_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exam.jsonl");
        let line = r#"{"id":"a","class":"often","question":"Who?","accept":["x"],"form":"f/1"}"#;
        let program = r#"{"id":"p","class":"program","question":"W","accept":["x"],"tests":["t"]}"#;
        std::fs::write(&path, format!("{line}\n\n{program}\n")).unwrap();
        let questions = read(&path).unwrap();
        let asked: Vec<bool> = questions.iter().map(Question::can_be_asked).collect();
        assert_eq!(asked, [true, false]);
        assert_eq!(questions[0].dialogue()[0].content, "Who?");
        std::fs::write(&path, format!("{line}\n{{\"id\":3}}\n")).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("exam.jsonl: line 2"), "{error}");
    }
}
