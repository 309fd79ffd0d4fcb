//! A door for what this program does not have: documents through a command of the user's.
//!
//! The command is run by the shell once for each output file. It reads JSON Lines, one document
//! each (`id`, `url`, `date` in milliseconds, `source`, `title`, `route`, `language`,
//! `language_score`, `category`, `weight`, `text`, `scores`), and writes JSON Lines with at least
//! `id`, in any order: what it writes stays, with `text`, `title`, `language`, `category`, `weight`
//! and `scores` as it says where it says them; what it does not write goes, with a fate of the rule
//! `pipe`. An id that was not sent, or comes twice, a line that does not parse, an exit status other
//! than 0: an error, and nothing of that file is written; the run goes on there. Not here: when it
//! acts.

use crate::Error;
use quipu_documents::{Document, Id};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, Command, Stdio};

/// Bytes of what the command says on standard error that an error repeats.
const SAID: usize = 2000;

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
/// A command that cannot be started, dies, or answers with what was not asked.
pub(crate) fn through(command: &str, documents: Vec<Document>) -> Result<Piped, Error> {
    let fail = |reason: String| Error::Pipe { command: command.to_owned(), reason };
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| fail(format!("cannot be started: {e}")))?;
    let result = exchange(&mut child, &documents);
    if result.is_err() {
        // It may wait for a reader that is gone.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| fail(e.to_string()))?;
    let (answers, said) = result.map_err(&fail)?;
    if !status.success() {
        let said = if said.is_empty() { String::new() } else { format!("; it said: {said}") };
        return Err(fail(format!("ended with {status}{said}")));
    }
    sort_out(documents, answers).map_err(fail)
}

/// The lines that came back, and the end of what was said on standard error.
fn exchange(child: &mut Child, documents: &[Document]) -> Result<(Vec<String>, String), String> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        return Err("has no pipes".into());
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut out = BufWriter::new(stdin);
            for document in documents {
                // A command may read no further once it has what it wants: its answers tell.
                if writeln!(out, "{}", line(document)).is_err() {
                    return;
                }
            }
            let _ = out.flush();
        });
        let listener = scope.spawn(move || {
            let mut said = Vec::new();
            let _ = BufReader::new(stderr).read_to_end(&mut said);
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            said[said.ceil_char_boundary(said.len().saturating_sub(SAID))..].to_owned()
        });
        let lines: Result<Vec<String>, _> = BufReader::new(stdout).lines().collect();
        let lines = lines.map_err(|e| format!("wrote what is no UTF-8: {e}"));
        let joined = (writer.join().is_ok(), listener.join());
        let said = joined.1.unwrap_or_default();
        lines.map(|lines| (lines, said))
    })
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

fn sort_out(documents: Vec<Document>, answers: Vec<String>) -> Result<Piped, String> {
    let mut places: HashMap<Id, usize> =
        documents.iter().enumerate().map(|(place, document)| (document.id, place)).collect();
    let mut answered: Vec<Option<Value>> = vec![None; documents.len()];
    for (number, answer) in answers.iter().enumerate().filter(|(_, a)| !a.trim().is_empty()) {
        let place = format!("line {} of its answer", number + 1);
        let value: Value =
            serde_json::from_str(answer).map_err(|e| format!("{place} is no JSON: {e}"))?;
        let id = value["id"].as_str().ok_or_else(|| format!("{place} has no `id`"))?;
        let Some(sent) = places.remove(&Id::parse(id)) else {
            return Err(format!("{place}: the id {id} was not sent, or came before"));
        };
        answered[sent] = Some(value);
    }
    let mut piped = Piped { kept: Vec::new(), dropped: Vec::new() };
    for (mut document, answer) in documents.into_iter().zip(answered) {
        let Some(answer) = answer else {
            piped.dropped.push(document);
            continue;
        };
        take(&mut document.text, &answer["text"]);
        take(&mut document.title, &answer["title"]);
        take(&mut document.language, &answer["language"]);
        take(&mut document.category, &answer["category"]);
        if let Some(weight) = answer["weight"].as_f64() {
            document.weight = weight as f32;
        }
        for (name, score) in answer["scores"].as_object().into_iter().flatten() {
            let score = score.as_f64().ok_or_else(|| format!("the score {name:?} is {score}"))?;
            document.scores.retain(|(known, _)| known != name);
            document.scores.push((name.clone(), score as f32));
        }
        let text = &document.text;
        document.headings.retain(|heading| text.lines().any(|line| line.trim() == heading));
        piped.kept.push(document);
    }
    Ok(piped)
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
        let piped = through(command, documents(4)).unwrap();
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
        let piped = through(add, documents(2)).unwrap();
        assert_eq!(piped.kept[1].weight, 2.0);
        assert_eq!(piped.kept[1].scores, [("mine".to_owned(), 0.5)]);
    }

    fn check_error(command: &str, parts: &[&str]) {
        let error = through(command, documents(4)).err().unwrap().to_string();
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
        let piped = through("cat", much(300).collect()).unwrap();
        assert_eq!(piped.kept.len(), 300);
        let error = through("exit 1", much(300).collect()).err().unwrap().to_string();
        assert!(error.contains("exit status: 1"), "{error}");
    }
}
