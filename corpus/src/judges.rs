//! Everything that judges pages one by one, read once for a run: the rules that act, lists of
//! addresses and words, the evaluation sets that must not be trained on.
//!
//! A recipe names files; here they are read and checked, before the first page is. Not here: what
//! each judge does.

use crate::classify::{Scorer, Scoring};
use crate::decontaminate::{Index, Items};
use crate::domains::{Addresses, DomainList, UrlWords};
use crate::language::Identifier;
use crate::recipe;
use crate::rules::{DirtyWords, Judge, Strict};
use crate::{Error, Recipe};
use std::path::{Path, PathBuf};

/// The judges of a run.
pub(crate) struct Judges {
    /// The heuristic rules.
    pub rules: Judge,
    /// The same with stricter thresholds, which name near misses.
    pub strict: Strict,
    /// The lists of addresses.
    pub addresses: Addresses,
    /// The evaluation items, where there are any.
    pub evaluations: Option<Index>,
    /// Who says which language a text is in.
    pub identifier: Identifier,
    /// Classifiers with the names of their scores.
    pub scorers: Vec<(String, Scorer)>,
}

impl Judges {
    /// Reads what the recipe names.
    pub fn of(recipe: &Recipe) -> Result<Judges, Error> {
        let mut lists = Vec::new();
        for (language, path) in &recipe.dirty_words {
            lists.push((language.as_str(), text(path)?));
        }
        let dirty = DirtyWords::with_lists(lists.iter().map(|(l, text)| (*l, text.as_str())))
            .map_err(|e| refuse("dirty_words", e))?;
        let rules = Judge::of(recipe, dirty);
        Ok(Judges {
            strict: Strict::of(&rules),
            rules,
            addresses: addresses(recipe)?,
            evaluations: evaluations(recipe)?,
            identifier: match &recipe.language_model {
                Some(path) => Identifier::open(path)?,
                None => Identifier::Own,
            },
            scorers: scorers(recipe)?,
        })
    }
}

fn scorers(recipe: &Recipe) -> Result<Vec<(String, Scorer)>, Error> {
    let open = |of: &recipe::Classifier| {
        let recipe::Classifier { model, name, label } = of.clone();
        let scorer = Scorer::open(&Scoring { model, name: name.clone(), label })?;
        Ok((name, scorer))
    };
    recipe.classifiers.iter().map(open).collect()
}

fn addresses(recipe: &Recipe) -> Result<Addresses, Error> {
    let lists = &recipe.addresses;
    let domains = |paths: &[PathBuf]| -> Result<DomainList, Error> {
        let mut all = DomainList::default();
        for path in paths {
            let file = std::fs::File::open(path).map_err(Error::io(path))?;
            let list = DomainList::read(std::io::BufReader::new(file));
            all.merge(&list.map_err(|e| refuse("addresses", format!("{}: {e}", path.display())))?);
        }
        Ok(all)
    };
    let words = |paths: &[PathBuf]| -> Result<Vec<String>, Error> {
        let mut all = Vec::new();
        for path in paths {
            all.extend(text(path)?.lines().map(str::to_owned));
        }
        Ok(all)
    };
    let (plain, soft, parts) = (words(&lists.words)?, words(&lists.soft)?, words(&lists.parts)?);
    fn refs(all: &[String]) -> Vec<&str> {
        all.iter().map(String::as_str).collect()
    }
    Ok(Addresses {
        allowed: domains(&lists.allow)?,
        blocked: domains(&lists.block)?,
        words: UrlWords::new(&refs(&plain), &refs(&soft), &refs(&parts)),
    })
}

fn evaluations(recipe: &Recipe) -> Result<Option<Index>, Error> {
    if recipe.evaluations.is_empty() {
        return Ok(None);
    }
    let mut items = Items::default();
    for path in recipe.evaluation_files()? {
        items.file(&path).map_err(|e| refuse("evaluations", e))?;
    }
    Ok(Some(Index::new(items)))
}

fn text(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::io(path))
}

fn refuse(key: &'static str, reason: impl std::fmt::Display) -> Error {
    Error::List { key, reason: reason.to_string() }
}
