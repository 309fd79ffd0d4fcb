//! The house rules as checks over the files of the work tree, held in memory so that each rule's
//! test is a few lines of a made-up tree. Not a compiler: sources are masked (comments, strings)
//! and matched by brace. The habit is TigerBeetle's `tidy`.

mod house;
mod mask;
mod source;

use crate::run::{self, Error};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Where exceptions stand, each with its reason.
const EXCEPTIONS: &str = "xtask/exceptions.toml";

/// The text files of the work tree by their path, and all other paths.
#[derive(Default)]
pub struct Tree {
    texts: BTreeMap<String, String>,
    paths: BTreeSet<String>,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    message: String,
}

/// Runs the command; true when nothing was found.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &[])?;
    Ok(report(&run::root())? == 0)
}

/// Prints what breaks a rule and returns how much that is.
pub fn report(root: &Path) -> Result<usize, Error> {
    let tree = Tree::read(root)?;
    let findings = check(&tree)?;
    for f in &findings {
        println!("{}:{}: {} [{}]", f.path, f.line, f.message, f.rule);
    }
    println!("tidy: {} files, {} findings", tree.paths.len(), findings.len());
    Ok(findings.len())
}

/// All rules over `tree`, less the named exceptions. An exception that no longer excuses anything
/// is itself a finding.
fn check(tree: &Tree) -> Result<Vec<Finding>, Error> {
    let mut findings = house::check(tree);
    for (path, text) in &tree.texts {
        if path.ends_with(".rs") {
            findings.extend(source::check(path, text));
        }
    }
    let mut exceptions = read_exceptions(tree)?;
    findings.retain(|f| {
        let excuse = exceptions.iter_mut().find(|e| e.path == f.path && e.rule == f.rule);
        excuse.is_none_or(|e| {
            e.used = true;
            false
        })
    });
    for e in exceptions.iter().filter(|e| !e.used) {
        let message = format!("the exception for {} of rule {} excuses nothing", e.path, e.rule);
        findings.push(Finding { path: EXCEPTIONS.into(), line: 1, rule: "exceptions", message });
    }
    findings.sort();
    Ok(findings)
}

struct Exception {
    path: String,
    rule: String,
    used: bool,
}

fn read_exceptions(tree: &Tree) -> Result<Vec<Exception>, Error> {
    let Some(text) = tree.texts.get(EXCEPTIONS) else { return Ok(Vec::new()) };
    let table: toml::Table = text.parse().map_err(|e| format!("{EXCEPTIONS}: {e}"))?;
    let list = table.get("exception").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let entry =
        |e: &toml::Value| {
            let key = |k| e.get(k).and_then(toml::Value::as_str).filter(|v| v.len() > 2);
            match (key("path"), key("rule"), key("reason")) {
                (Some(path), Some(rule), Some(_)) => {
                    Ok(Exception { path: path.into(), rule: rule.into(), used: false })
                }
                _ => Err(format!("{EXCEPTIONS}: an exception has path, rule and reason, not: {e}")
                    .into()),
            }
        };
    list.iter().map(entry).collect()
}

impl Tree {
    /// The files that git tracks or would track, as they are in the work tree.
    fn read(root: &Path) -> Result<Self, Error> {
        let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = run::output(Command::new("git").current_dir(root).args(arguments))?;
        let mut tree = Self::default();
        for path in listed.split('\0').filter(|p| root.join(p).is_file()) {
            let bytes = std::fs::read(root.join(path)).map_err(|e| format!("{path}: {e}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                tree.texts.insert(path.into(), text);
            }
            tree.paths.insert(path.into());
        }
        Ok(tree)
    }

    fn text(&self, path: &str) -> &str {
        self.texts.get(path).map_or("", String::as_str)
    }

    /// Whether `path` is a file of the tree, a folder of it, or a pattern with `*` for either.
    fn has(&self, path: &str) -> bool {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        let folder = format!("{path}/");
        self.paths.iter().any(|p| p == path || p.starts_with(&folder))
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let texts: BTreeMap<String, String> =
            files.iter().map(|(p, t)| ((*p).into(), (*t).into())).collect();
        Self { paths: texts.keys().cloned().collect(), texts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "//! Head.\n// 0123456789 0123456789 0123456789 0123456789 0123456789 \
        0123456789 0123456789 0123456789 0123456789 0123456789 0123456789\n";

    #[test]
    fn an_exception_excuses_one_rule_of_one_file_and_must_be_needed() {
        let excuse = |path: &str| {
            format!("[[exception]]\npath = \"{path}\"\nrule = \"columns\"\nreason = \"a table\"\n")
        };
        let rules = |tree: &Tree| -> Vec<&'static str> {
            let of_sources = |f: &Finding| f.path.ends_with(".rs") || f.path == EXCEPTIONS;
            check(tree).unwrap().iter().filter(|f| of_sources(f)).map(|f| f.rule).collect()
        };
        assert_eq!(rules(&Tree::of(&[("a/src/x.rs", LONG)])), ["columns"]);
        let excused = excuse("a/src/x.rs");
        assert_eq!(rules(&Tree::of(&[("a/src/x.rs", LONG), (EXCEPTIONS, &excused)])), [""; 0]);
        let idle = excuse("a/src/y.rs");
        let tree = Tree::of(&[("a/src/x.rs", LONG), (EXCEPTIONS, &idle)]);
        assert_eq!(rules(&tree), ["columns", "exceptions"]);
        let bare = "[[exception]]\npath = \"a/src/x.rs\"\nrule = \"columns\"\n";
        assert!(check(&Tree::of(&[(EXCEPTIONS, bare)])).is_err());
    }
}
