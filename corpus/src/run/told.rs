//! The fate of a document in words. Not how it is found out ([`super::explain`]).

use super::explain::{Explained, Verdict, Visit};
use std::fmt;

/// Lines of a document that are listed.
const LINES: usize = 20;

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(unfinished) = &self.unfinished {
            writeln!(f, "{unfinished}")?;
        }
        match self.visits.len() {
            0 if self.nearest.is_empty() => {
                return writeln!(f, "{}: not here, and nothing of such a name", self.query);
            }
            0 => {
                writeln!(f, "{}: not here; the nearest are", self.query)?;
                for (id, url) in &self.nearest {
                    writeln!(f, "  {id} {url}")?;
                }
                return Ok(());
            }
            1 => {}
            n => writeln!(f, "{n} documents, such as several visits of one URL")?,
        }
        self.visits.iter().try_for_each(|visit| write!(f, "{visit}"))
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Changed => "changed",
            Verdict::Removed => "REMOVED",
            Verdict::NotReached => "not reached",
            Verdict::NotDecided => "not decided",
            Verdict::NotAsked => "not asked",
        }
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.kept {
            Some(true) => "kept",
            Some(false) => "removed",
            None => "not decided",
        };
        writeln!(f, "\n{} · {state}\n{}", self.id, self.url)?;
        for stage in &self.stages {
            let (name, word) = (&stage.name, stage.verdict.word());
            writeln!(f, "{}", format!("  {name:13} {word:12} {}", stage.why).trim_end())?;
            for (rule, verdict, limit) in &stage.rules {
                writeln!(f, "    {rule:23} {:12} goes: {limit}", verdict.word())?;
            }
        }
        for (number, text) in self.lines.iter().take(LINES) {
            writeln!(f, "    line {}: {text}", number + 1)?;
        }
        if self.lines.len() > LINES {
            writeln!(f, "    and {} more", self.lines.len() - LINES)?;
        }
        if !self.instead_of.is_empty() {
            writeln!(f, "  kept instead of")?;
        }
        for (name, similarity) in &self.instead_of {
            writeln!(f, "    {similarity:.3} {name}")?;
        }
        if !self.facts.is_empty() {
            let facts: Vec<String> =
                self.facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
            writeln!(f, "  {}", facts.join(" · "))?;
        }
        if !self.text.is_empty() {
            let more = if self.kept == Some(false) { "it began" } else { "it begins" };
            writeln!(f, "  {more}:")?;
            self.text.lines().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::explain::Stage;

    #[test]
    fn it_reads_as_a_list_of_stages() {
        let why = "menu-only measured 0.9".to_owned();
        let rules = vec![("menu-only".to_owned(), Verdict::Removed, "below 0.15".to_owned())];
        let stages = vec![
            Stage { name: "read".into(), ..Stage::default() },
            Stage { name: "rules".into(), verdict: Verdict::Removed, why, rules },
        ];
        let (id, url, lines) = ("0f".into(), "https://a".into(), vec![(3, "Home".into())]);
        let visit = Visit { id, url, kept: Some(false), stages, lines, ..Visit::default() };
        let visits = vec![visit];
        let said = Explained { visits, ..Explained::default() }.to_string();
        let expected = "\n0f · removed\nhttps://a\n  read          passed\n  rules         REMOVED      \
                        menu-only measured 0.9\n    menu-only               REMOVED      goes: below \
                        0.15\n    line 4: Home\n";
        assert_eq!(said, expected);
        let nearest = vec![("0e".to_owned(), "https://b".to_owned())];
        let none = Explained { query: "x".into(), nearest, ..Explained::default() };
        assert_eq!(none.to_string(), "x: not here; the nearest are\n  0e https://b\n");
    }
}
