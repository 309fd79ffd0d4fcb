//! A door for what this program does not have: documents through a command of the user's.
//!
//! The command is run by bash with `pipefail` where there is one, else by the shell, once for each
//! output file. It reads JSON Lines, one document each (`id`, `url`, `date` in milliseconds,
//! `source`, `title`, `route`, `language`, `language_score`, `category`, `weight`, `text`,
//! `scores`), and writes JSON Lines with at least `id`, in any order: what it writes stays, with
//! `text`, `title`, `language`, `category`, `weight` and `scores` as it says where it says them;
//! what it does not write, or writes without a text, goes, with a fate of the rule `pipe`. An id that
//! was not sent, or comes twice, a line that does not parse, a value of another type, input that it
//! did not read to its end, an exit status other than 0: an error, and nothing of that file is
//! written; the run goes on there. Answers are looked at as they come, so that a command that talks
//! without end is stopped at its first wrong line. Not here: when it acts.

use crate::Error;
use crate::page::settle_headings;
use crate::rules::View;
use quipu_documents::{Document, Id};
use quipu_store::Cancel;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of what the command says on standard error that an error repeats.
const SAID: usize = 2000;
/// Longest line of an answer.
const LONGEST_LINE: u64 = 256 << 20;
/// How often a request to stop is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// The shell, with the flag that makes a pipe fail where any part of it does.
static SHELL: LazyLock<&[&str]> = LazyLock::new(|| {
    let strict: &[&str] = &["bash", "-o", "pipefail", "-c"];
    let there = Command::new("bash").args(["-c", ":"]).stdin(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) { strict } else { &["sh", "-c"] }
});

/// What came back.
pub(crate) struct Piped {
    /// What stays, in the order in which it was sent.
    pub kept: Vec<Document>,
    /// What the command left out.
    pub dropped: Vec<Document>,
}

/// Sends documents through `command`.
///
/// # Errors
/// A command that cannot be started, dies, reads only a part, or answers with what was not asked; a
/// request to stop, which ends the command too.
pub(crate) fn through(
    command: &str,
    documents: Vec<Document>,
    cancel: &Cancel,
) -> Result<Piped, Error> {
    let fail = |reason: String| Error::Pipe { command: command.to_owned(), reason };
    let mut child = Command::new(SHELL[0])
        .args(&SHELL[1..])
        .arg(command)
        // A group of its own: it ends as a whole, by us, also where a terminal is interrupted.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(format!("cannot be started: {e}")))?;
    let exchanged = exchange(&mut child, &documents, cancel);
    let status = child.wait().map_err(|e| fail(e.to_string()))?;
    cancel.check()?;
    let Exchanged { answers, sent, said } = exchanged.map_err(&fail)?;
    // A wrong answer is the cause of what the command, stopped for it, ends with.
    let answers = answers.map_err(&fail)?;
    if !status.success() {
        let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
        return Err(fail(format!("ended with {status}{said}")));
    }
    if sent < documents.len() {
        return Err(fail(format!(
            "stopped reading after some {sent} of {} documents; it must read all of them",
            documents.len()
        )));
    }
    Ok(sort_out(documents, answers))
}

/// What went to and fro.
struct Exchanged {
    /// Answers by the place of their document; or what was wrong with one.
    answers: Result<Vec<Option<Value>>, String>,
    /// Documents that were taken.
    sent: usize,
    /// The end of what was said on standard error.
    said: String,
}

fn exchange(
    child: &mut Child,
    documents: &[Document],
    cancel: &Cancel,
) -> Result<Exchanged, String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err("has no pipes".into());
    };
    let group = child.id();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || send(stdin, documents));
        let listener = scope.spawn(move || {
            let (mut said, mut stderr) = (Vec::new(), BufReader::new(stderr));
            // A command may talk all the time: what it said last is kept.
            while let Ok(more) = stderr.fill_buf()
                && !more.is_empty()
            {
                let read = more.len();
                said.extend_from_slice(more);
                stderr.consume(read);
                said.drain(..said.len().saturating_sub(SAID));
            }
            String::from_utf8_lossy(&said).trim().to_owned()
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if cancel.is_requested() {
                    return stop(group);
                }
                std::thread::sleep(LOOK);
            }
        });
        let answers = receive(BufReader::new(stdout), documents);
        if answers.is_err() {
            // It may write on, or wait for a reader that is gone.
            stop(group);
        }
        let sent = writer.join().unwrap_or(0);
        let said = listener.join().unwrap_or_default();
        over.store(true, Ordering::Relaxed);
        Ok(Exchanged { answers, sent, said })
    })
}

/// Ends a command with all that it started.
fn stop(group: u32) {
    let group = format!("-{group}");
    let mut kill = Command::new("kill");
    kill.args(["-KILL", "--", &group]).stdout(Stdio::null()).stderr(Stdio::null());
    // Where it is gone already, that is what was wanted.
    let _ = kill.status();
}

/// Writes all documents; how many were taken.
fn send(stdin: ChildStdin, documents: &[Document]) -> usize {
    let mut out = BufWriter::new(stdin);
    for (sent, document) in documents.iter().enumerate() {
        if writeln!(out, "{}", line(document)).is_err() {
            return sent;
        }
    }
    // What is left in the buffer is the last of them.
    if out.flush().is_err() { documents.len().saturating_sub(1) } else { documents.len() }
}

/// Reads answers, each held against what was sent.
fn receive(mut stdout: impl BufRead, documents: &[Document]) -> Result<Vec<Option<Value>>, String> {
    let mut places: HashMap<Id, usize> =
        documents.iter().enumerate().map(|(place, document)| (document.id, place)).collect();
    let mut answers: Vec<Option<Value>> = vec![None; documents.len()];
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = stdout.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        match read.map_err(|e| format!("cannot be read from: {e}"))? {
            0 => break,
            n if n as u64 == LONGEST_LINE => {
                return Err(format!("line {number} of its answer is longer than {n} bytes"));
            }
            _ => {}
        }
        let place = format!("line {number} of its answer");
        let text = std::str::from_utf8(&line).map_err(|e| format!("{place} is no UTF-8: {e}"))?;
        if text.trim().is_empty() {
            continue;
        }
        let value: Value =
            serde_json::from_str(text).map_err(|e| format!("{place} is no JSON: {e}"))?;
        let id = value["id"].as_str().ok_or_else(|| format!("{place} has no `id`"))?;
        let Some(sent) = places.remove(&Id::parse(id)) else {
            return Err(format!("{place}: the id {id} was not sent, or came before"));
        };
        check_types(&value).map_err(|reason| format!("{place}: {reason}"))?;
        answers[sent] = Some(value);
    }
    Ok(answers)
}

/// Refuses values of other types than they were sent with; null is as good as absent.
fn check_types(answer: &Value) -> Result<(), String> {
    let refuse = |key: &str, expected: &str, found: &Value| {
        Err(format!("`{key}` is {found}, expected {expected}"))
    };
    for key in ["text", "title", "language", "category"] {
        let value = &answer[key];
        if !(value.is_string() || value.is_null()) {
            return refuse(key, "a string", value);
        }
    }
    let weight = &answer["weight"];
    let weighs = |w: f64| w.is_finite() && w >= 0.0;
    if !weight.is_null() && !weight.as_f64().is_some_and(weighs) {
        return refuse("weight", "a number from 0 on", weight);
    }
    match &answer["scores"] {
        Value::Null => Ok(()),
        Value::Object(scores) => match scores.iter().find(|(_, score)| !score.is_number()) {
            Some((name, score)) => refuse(&format!("scores.{name}"), "a number", score),
            None => Ok(()),
        },
        other => refuse("scores", "an object of numbers", other),
    }
}

/// A document as the command reads it.
fn line(document: &Document) -> Value {
    let scores: serde_json::Map<String, Value> =
        document.scores.iter().map(|(name, score)| (name.clone(), json!(score))).collect();
    json!({
        "id": document.id.to_string(), "url": document.url, "date": document.date,
        "source": document.source, "title": document.title, "route": document.route.name(),
        "language": document.language, "language_score": document.language_score,
        "category": document.category, "weight": document.weight, "text": document.text,
        "scores": scores,
    })
}

fn sort_out(documents: Vec<Document>, answers: Vec<Option<Value>>) -> Piped {
    let mut piped = Piped { kept: Vec::new(), dropped: Vec::new() };
    for (mut document, answer) in documents.into_iter().zip(answers) {
        let is_empty = |text: &str| text.trim().is_empty();
        // One that had no text before keeps none.
        let has_text = |a: &Value| {
            a["text"].as_str().is_none_or(|text| !is_empty(text) || is_empty(&document.text))
        };
        let Some(answer) = answer.filter(has_text) else {
            piped.dropped.push(document);
            continue;
        };
        let before = document.text.clone();
        take(&mut document.text, &answer["text"]);
        take(&mut document.title, &answer["title"]);
        take(&mut document.language, &answer["language"]);
        take(&mut document.category, &answer["category"]);
        if let Some(weight) = answer["weight"].as_f64() {
            document.weight = weight as f32;
        }
        if document.text != before {
            let words = View::of(&document.text, &document.language, 0).words.len();
            document.scores.retain(|(name, _)| name != "words");
            document.scores.push(("words".into(), words as f32));
        }
        for (name, score) in answer["scores"].as_object().into_iter().flatten() {
            // What it repeats of the text that it changed is not so any more.
            if let Some(score) = score.as_f64().filter(|_| name != "words") {
                document.scores.retain(|(known, _)| known != name);
                document.scores.push((name.clone(), score as f32));
            }
        }
        settle_headings(&mut document);
        piped.kept.push(document);
    }
    piped
}

fn take(field: &mut String, answer: &Value) {
    if let Some(text) = answer.as_str() {
        text.clone_into(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(count: u128) -> Vec<Document> {
        (0..count)
            .map(|n| Document { id: Id(n + 1), text: format!("text {n}"), ..Document::default() })
            .collect()
    }

    fn check(command: &str, kept: &[&str], dropped: usize) {
        let piped = through(command, documents(4), &Cancel::new()).unwrap();
        let texts: Vec<&str> = piped.kept.iter().map(|d| d.text.as_str()).collect();
        assert_eq!((texts.as_slice(), piped.dropped.len()), (kept, dropped), "{command}");
    }

    #[test]
    fn what_a_command_writes_stays() {
        check("cat", &["text 0", "text 1", "text 2", "text 3"], 0);
        check("sed 1d", &["text 1", "text 2", "text 3"], 1);
        check("tac | head -n 2", &["text 2", "text 3"], 2);
        check("sed 's/text \\([0-9]\\)/changed \\1/' | head -n 1", &["changed 0"], 3);
        check("cat > /dev/null", &[], 4);
    }

    #[test]
    fn scores_and_weights_are_taken() {
        let add =
            "sed 's/\"scores\":{}/\"scores\":{\"mine\":0.5}/; s/\"weight\":1.0/\"weight\":2/'";
        let piped = through(add, documents(2), &Cancel::new()).unwrap();
        assert_eq!(piped.kept[1].weight, 2.0);
        assert_eq!(piped.kept[1].scores, [("mine".to_owned(), 0.5)]);
    }

    fn check_error(command: &str, parts: &[&str]) {
        let error = through(command, documents(4), &Cancel::new()).err().unwrap().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{command}: {error}");
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_words() {
        check_error("echo no space >&2; exit 3", &["exit 3", "exit status: 3", "no space"]);
        check_error("cat; kill -9 $$", &["signal: 9"]);
        check_error("echo '{'", &["line 1", "no JSON"]);
        check_error("echo '{\"text\":1}'", &["line 1", "no `id`"]);
        check_error("head -n 1 | sed p", &["line 2", "was not sent, or came before"]);
        check_error("echo '{\"id\":\"another\"}'", &["another", "was not sent"]);
        check_error("no-such-program-here", &["127"]);
        check_error("printf '\\377\\n'", &["UTF-8"]);
    }

    #[test]
    fn values_of_other_types_are_refused() {
        check_error("sed 's/\"text\":\"[^\"]*\"/\"text\":5/'", &["line 1", "`text` is 5"]);
        check_error("sed 's/\"weight\":1.0/\"weight\":\"9\"/'", &["`weight` is \"9\""]);
        check_error("sed 's/\"scores\":{}/\"scores\":[1]/'", &["`scores` is [1]"]);
        check_error("sed 's/\"scores\":{}/\"scores\":{\"a\":\"b\"}/'", &["scores.a"]);
        // No text is no document.
        check("sed '1s/\"text\":\"[^\"]*\"/\"text\":\" \"/'", &["text 1", "text 2", "text 3"], 1);
    }

    #[test]
    fn words_are_those_of_the_text_that_came_back() {
        let change = "sed 's/text 0/one two three/; s/\"scores\":{}/\"scores\":{\"words\":9}/'";
        let piped = through(change, documents(1), &Cancel::new()).unwrap();
        assert_eq!(piped.kept[0].scores, [("words".to_owned(), 3.0)]);
    }

    #[test]
    fn a_command_that_reads_a_part_or_talks_without_end_is_stopped() {
        let much = || -> Vec<Document> {
            let document =
                |k: u128| Document { id: Id(k + 1), text: "x".repeat(9000), ..Document::default() };
            (0..300u128).map(document).collect()
        };
        let error =
            |command: &str| through(command, much(), &Cancel::new()).err().unwrap().to_string();
        let partial = error("head -n 3");
        assert!(partial.contains("of 300 documents"), "{partial}");
        let endless = error("yes | cat");
        assert!(endless.contains("line 1 of its answer is no JSON"), "{endless}");
        let cancel = Cancel::new();
        let asked = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            asked.request();
        });
        let stopped = through("sleep 600 | sleep 600", much(), &cancel).err().unwrap();
        assert!(matches!(stopped, Error::Cancelled(_)), "{stopped}");
    }

    /// More than pipes hold, in both directions, by a command that answers at once and by one that
    /// reads nothing.
    #[test]
    fn much_text_does_not_hang() {
        let much = |n| {
            (0..n).map(|k| Document {
                id: Id(k + 1),
                text: "x".repeat(9000),
                ..Document::default()
            })
        };
        let piped = through("cat", much(300).collect(), &Cancel::new()).unwrap();
        assert_eq!(piped.kept.len(), 300);
        let error =
            through("exit 1", much(300).collect(), &Cancel::new()).err().unwrap().to_string();
        assert!(error.contains("exit status: 1"), "{error}");
    }
}
