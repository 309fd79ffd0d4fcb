//! Dialogues and preference pairs as JSON Lines, read with line numbers in every error. Not how
//! they become tokens: the chat format belongs to `tokens`.
//!
//! A dialogue is `{"messages": [{"role": "user", "content": "…"}, …]}`; a pair adds to the
//! messages before the answer `"chosen": "…", "rejected": "…"`. Other keys are ignored, for
//! such files come from everywhere.

use crate::Error;
use quipu_tokens::chat::{Message, Role};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A dialogue; at least one message is the assistant's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dialogue {
    /// The messages in order.
    pub messages: Vec<Message>,
}

/// Two answers to one dialogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// What was said before; the last message is not the assistant's.
    pub messages: Vec<Message>,
    /// The better answer.
    pub chosen: String,
    /// The worse answer.
    pub rejected: String,
}

impl Preference {
    /// The dialogue that ends with the better answer, and the one that ends with the worse.
    #[must_use]
    pub fn sides(&self) -> [Vec<Message>; 2] {
        [&self.chosen, &self.rejected].map(|answer| {
            let mut messages = self.messages.clone();
            messages.push(assistant(answer.clone()));
            messages
        })
    }
}

/// A message of the user.
#[must_use]
pub fn user(content: impl Into<String>) -> Message {
    Message::new(Role::User, content)
}

/// A message of the assistant.
#[must_use]
pub fn assistant(content: impl Into<String>) -> Message {
    Message::new(Role::Assistant, content)
}

/// Reads dialogues.
///
/// # Errors
/// [`Error::Line`] with the first line that is no dialogue, [`Error::Empty`], [`Error::Io`].
pub fn read_dialogues(path: &Path) -> Result<Vec<Dialogue>, Error> {
    parse_dialogues(&bytes(path)?, path)
}

fn parse_dialogues(bytes: &[u8], path: &Path) -> Result<Vec<Dialogue>, Error> {
    let check = |dialogue: &Dialogue| {
        let answers = dialogue.messages.iter().filter(|m| m.role == Role::Assistant);
        match answers.clone().count() {
            0 => Some("no message has the role assistant, so there is nothing to learn".to_owned()),
            _ => answers
                .clone()
                .any(|m| m.content.trim().is_empty())
                .then(|| "a message of the assistant is empty".to_owned()),
        }
    };
    let example =
        r#"{"messages":[{"role":"user","content":"…"},{"role":"assistant","content":"…"}]}"#;
    parse(bytes, path, "dialogues", example, check)
}

/// Reads preference pairs.
///
/// # Errors
/// As [`read_dialogues`].
pub fn read_preferences(path: &Path) -> Result<Vec<Preference>, Error> {
    parse_preferences(&bytes(path)?, path)
}

fn parse_preferences(bytes: &[u8], path: &Path) -> Result<Vec<Preference>, Error> {
    let check = |pair: &Preference| match pair.messages.last().map(|m| m.role) {
        None => Some("`messages` is empty; expected what was said before the answers".to_owned()),
        Some(Role::Assistant) => {
            Some("the last of `messages` is the assistant's; the answers come after it".to_owned())
        }
        Some(_) => (pair.chosen.trim().is_empty() || pair.rejected.trim().is_empty())
            .then(|| "an answer is empty".to_owned()),
    };
    let example = r#"{"messages":[{"role":"user","content":"…"}],"chosen":"…","rejected":"…"}"#;
    parse(bytes, path, "preference pairs", example, check)
}

fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn parse<T: for<'de> Deserialize<'de>>(
    bytes: &[u8],
    path: &Path,
    what: &'static str,
    example: &'static str,
    check: impl Fn(&T) -> Option<String>,
) -> Result<Vec<T>, Error> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut items = Vec::new();
    for (i, line) in bytes.split(|&b| b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let fail = |what| Error::Line { path: path.to_owned(), line: i + 1, what };
        let item: T =
            serde_json::from_slice(line).map_err(|e| fail(format!("{e}; expected {example}")))?;
        if let Some(what) = check(&item) {
            return Err(fail(what));
        }
        items.push(item);
    }
    match items.is_empty() {
        true => Err(Error::Empty { path: path.to_owned(), what, example }),
        false => Ok(items),
    }
}

/// Writes dialogues or pairs, one a line, whole or not at all.
///
/// # Errors
/// [`quipu_store::Error`] of the atomic writer.
pub fn write<T: Serialize>(path: &Path, items: &[T]) -> Result<(), quipu_store::Error> {
    quipu_store::atomic::write(path, |out| {
        for item in items {
            serde_json::to_writer(&mut *out, item)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"messages":[{"role":"user","content":"Who?"},{"role":"assistant","content":"Me."}],"id":7}"#;
    const PAIR: &str =
        r#"{"messages":[{"role":"user","content":"Who?"}],"chosen":"Me.","rejected":"You."}"#;

    fn file(text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.jsonl");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    /// An attack: a text, and what its error must say.
    #[track_caller]
    fn check(text: &str, says: &[&str]) {
        let (_dir, path) = file(text.as_bytes());
        let error = read_dialogues(&path).unwrap_err().to_string();
        assert!(says.iter().all(|s| error.contains(s)), "{error}");
    }

    #[test]
    fn what_was_written_is_read() {
        let (_dir, path) = file(format!("\u{feff}{GOOD}\r\n\n{GOOD}").as_bytes());
        let dialogues = read_dialogues(&path).unwrap();
        assert_eq!((dialogues.len(), &*dialogues[1].messages[1].content), (2, "Me."));
        write(&path, &dialogues).unwrap();
        assert_eq!(read_dialogues(&path).unwrap(), dialogues);
        let (_dir, path) = file(PAIR.as_bytes());
        let pairs = read_preferences(&path).unwrap();
        let [chosen, rejected] = pairs[0].sides();
        assert_eq!((&*chosen[1].content, &*rejected[1].content), ("Me.", "You."));
    }

    #[test]
    fn bad_lines_are_named() {
        check("", &["no dialogues", "messages"]);
        check(&format!("{GOOD}\nnot json"), &["line 2"]);
        check(&format!("{GOOD}\n\n{{}}"), &["line 3", "messages"]);
        check(&GOOD.replace("assistant", "wizard"), &["line 1", "wizard", "assistant"]);
        check(&GOOD.replace("assistant", "user"), &["line 1", "nothing to learn"]);
        check(&GOOD.replace("Me.", " "), &["line 1", "empty"]);
        check(&"[".repeat(100_000), &["line 1"]);
        let (_dir, path) = file(PAIR.replace("You.", "").as_bytes());
        assert!(read_preferences(&path).unwrap_err().to_string().contains("empty"));
        let (_dir, path) = file(PAIR.replace("user", "assistant").as_bytes());
        assert!(read_preferences(&path).unwrap_err().to_string().contains("assistant's"));
    }

    /// Flipped and cut bytes: an error or dialogues, never a panic.
    #[test]
    fn mutations_never_panic() {
        let path = Path::new("mutated.jsonl");
        let valid = format!("{GOOD}\n{PAIR}\n");
        let mut state = 1u64;
        for _ in 0..2_000 {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize
            };
            let mut bytes = valid.clone().into_bytes();
            for _ in 0..1 + next() % 4 {
                let at = next() % bytes.len();
                bytes[at] ^= 1 << (next() % 8);
            }
            bytes.truncate(1 + next() % bytes.len());
            let _ = (parse_dialogues(&bytes, path), parse_preferences(&bytes, path));
        }
    }
}
