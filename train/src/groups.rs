//! Which parameters are learned, and which of them at another rate or decay: by patterns over their
//! names. Not the update itself, which is the optimizer's, and no saving of work: gradients of
//! frozen parameters are computed, but neither counted in the norm nor applied.
//!
//! A pattern is a parameter's name, with or without `model.` before it, in which `*` stands for any
//! letters; `embedding` and `head` are those two by what they are (a tied head is the embedding).
//! Two entries of a recipe that name one parameter contradict each other and are refused: no order
//! of rules is to be remembered.

use crate::recipe::refuse;
use crate::{Error, Recipe};
use quipu_model::{Entry, Kind, Table};
use quipu_tokens::spelling;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Parameters that are learned at another rate, or with another decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Patterns of their names.
    pub parameters: Vec<String>,
    /// What the schedule's rate is multiplied with.
    #[serde(default = "once")]
    pub rate: f64,
    /// Their weight decay; without it the recipe's, on matrices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
}

fn once() -> f64 {
    1.0
}

/// What the optimizer does with a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Treatment {
    /// Nothing.
    Frozen,
    /// It is learned.
    Learned {
        /// What the schedule's rate is multiplied with.
        rate: f64,
        /// Weight decay.
        decay: f64,
    },
}

impl Recipe {
    /// The flat range of parameters cut into stretches of equal treatment: what the optimizer needs
    /// one call for.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a parameter that is named twice.
    pub fn treatments(&self, table: &Table) -> Result<Vec<(Range<usize>, Treatment)>, Error> {
        let mut stretches: Vec<(Range<usize>, Treatment)> = Vec::new();
        for entry in table.entries() {
            let treatment = self.treatment(entry)?;
            match stretches.last_mut() {
                Some((range, last)) if *last == treatment => range.end = entry.range().end,
                Some((range, _)) => {
                    range.end = entry.offset;
                    stretches.push((entry.range(), treatment));
                }
                None => stretches.push((entry.range(), treatment)),
            }
        }
        if let Some((range, _)) = stretches.last_mut() {
            range.end = table.elements();
        }
        Ok(stretches)
    }

    /// Holds the patterns against the table of the whole model.
    ///
    /// # Errors
    /// [`Error::Recipe`] for a pattern that names nothing, a parameter that is named twice, and
    /// where nothing is left to learn.
    pub fn check_patterns(&self, table: &Table) -> Result<(), Error> {
        let groups = self.groups.iter().map(|group| ("groups.parameters", &group.parameters));
        for (key, patterns) in groups.chain([("freeze", &self.freeze)]) {
            patterns.iter().try_for_each(|pattern| check_pattern(key, pattern, table))?;
        }
        let treatments = self.treatments(table)?;
        match treatments.iter().all(|(_, treatment)| *treatment == Treatment::Frozen) {
            true => refuse(
                "freeze",
                format!("{:?}", self.freeze),
                "it names every parameter, so that nothing is learned",
                "leave a pattern out",
            ),
            false => Ok(()),
        }
    }

    fn treatment(&self, entry: &Entry) -> Result<Treatment, Error> {
        let named = |patterns: &[String]| patterns.iter().any(|p| matches(p, entry));
        let mut groups = self.groups.iter().filter(|group| named(&group.parameters));
        let (first, second) = (groups.next(), groups.next());
        let frozen = named(&self.freeze);
        if second.is_some() || (frozen && first.is_some()) {
            let other = if frozen { "is frozen" } else { "is in another group" };
            return refuse(
                "groups.parameters",
                format!("{:?}", first.map(|group| &group.parameters).unwrap_or(&self.freeze)),
                format!("it names {}, which {other}", entry.name),
                "name each parameter once",
            );
        }
        if frozen {
            return Ok(Treatment::Frozen);
        }
        let rate = first.map_or(1.0, |group| group.rate);
        let usual = if entry.decays { self.decay } else { 0.0 };
        let decay = first.and_then(|group| group.decay).unwrap_or(usual);
        Ok(Treatment::Learned { rate, decay })
    }

    pub(crate) fn check_groups(&self) -> Result<(), Error> {
        for Group { parameters, rate, decay } in &self.groups {
            if parameters.is_empty() {
                let expected = "a group names parameters";
                return refuse("groups.parameters", "[]", expected, "write [\"*norm*\"]");
            }
            if !(*rate > 0.0 && rate.is_finite()) {
                let expected = "it must be above 0 and finite";
                return refuse(
                    "groups.rate",
                    rate,
                    expected,
                    "name what is not learned in `freeze`",
                );
            }
            if let Some(decay) = decay.filter(|decay| !(*decay >= 0.0 && decay.is_finite())) {
                return refuse("groups.decay", decay, "it must be at least 0", "use 0.1");
            }
        }
        Ok(())
    }
}

/// The names of a parameter: in a checkpoint, shorter, and by what it is.
fn names(entry: &Entry) -> impl Iterator<Item = &str> {
    let by_kind = match entry.kind {
        Kind::Embedding => Some("embedding"),
        Kind::Head => Some("head"),
        _ => None,
    };
    [Some(&*entry.name), entry.name.strip_prefix("model."), by_kind].into_iter().flatten()
}

fn matches(pattern: &str, entry: &Entry) -> bool {
    names(entry).any(|name| glob(pattern, name))
}

/// Whether `name` is `pattern`, in which each `*` stands for any letters.
fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

fn check_pattern(key: &'static str, pattern: &str, table: &Table) -> Result<(), Error> {
    if table.entries().iter().any(|entry| matches(pattern, entry)) {
        return Ok(());
    }
    let layers: Vec<String> = (0..table.layers()).map(|n| format!("layers.{n}.*")).collect();
    let known = table.entries().iter().flat_map(names).chain(layers.iter().map(String::as_str));
    let meant = spelling::nearest(pattern, known);
    refuse(
        key,
        format!("{pattern:?}"),
        "no parameter of the model has such a name",
        meant.map_or("use embedding, layers.0.* or *norm*".to_owned(), |near| {
            format!("did you mean {near:?}?")
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_model::{Config, Sizes};

    fn table(tied: bool) -> Table {
        let sizes = Sizes {
            vocab_size: 32,
            hidden_size: 16,
            intermediate_size: 24,
            layers: 2,
            heads: 2,
            kv_heads: 1,
            max_positions: 16,
            tied,
        };
        Table::new(&Config::new(sizes).unwrap())
    }

    fn recipe(freeze: &[&str], groups: Vec<Group>) -> Recipe {
        let freeze = freeze.iter().map(|p| (*p).to_owned()).collect();
        Recipe { freeze, groups, ..Recipe::default() }
    }

    fn group(parameters: &[&str], rate: f64, decay: Option<f64>) -> Group {
        Group { parameters: parameters.iter().map(|p| (*p).to_owned()).collect(), rate, decay }
    }

    /// What is frozen, by name.
    fn frozen(recipe: &Recipe, table: &Table) -> Vec<String> {
        let treatments = recipe.treatments(table).unwrap();
        let of = |entry: &&Entry| {
            let place = treatments.iter().find(|(range, _)| range.contains(&entry.offset));
            place.unwrap().1 == Treatment::Frozen
        };
        table.entries().iter().filter(of).map(|entry| entry.name.clone()).collect()
    }

    #[track_caller]
    fn check(recipe: &Recipe, tied: bool, key: &str, says: &str) {
        let found = recipe.check().and_then(|()| recipe.check_patterns(&table(tied)));
        match found {
            Err(error @ Error::Recipe { key: found, .. }) => {
                assert!(found == key && error.to_string().contains(says), "{error}");
            }
            other => panic!("expected a refusal of {key}, found {other:?}"),
        }
    }

    #[test]
    fn without_names_it_is_the_table_itself() {
        let table = table(false);
        let decays: Vec<_> = table
            .decay_ranges()
            .into_iter()
            .map(|(range, decays)| (range, if decays { 0.1 } else { 0.0 }))
            .map(|(range, decay)| (range, Treatment::Learned { rate: 1.0, decay }))
            .collect();
        assert_eq!(Recipe::default().treatments(&table).unwrap(), decays);
    }

    #[test]
    fn patterns_name_parameters() {
        let whole = |pattern: &str| frozen(&recipe(&[pattern], Vec::new()), &table(false));
        assert_eq!(whole("embedding"), ["model.embed_tokens.weight"]);
        assert_eq!(whole("head"), ["lm_head.weight"]);
        assert_eq!(whole("model.norm.weight"), ["model.norm.weight"]);
        assert_eq!(whole("layers.1.*").len(), 9);
        assert!(whole("layers.1.*").iter().all(|name| name.starts_with("model.layers.1.")));
        assert_eq!(whole("*norm*").len(), 5);
        assert_eq!(whole("layers.*.self_attn.*_proj.weight").len(), 8);
    }

    #[test]
    fn groups_change_rate_and_decay() {
        let recipe =
            recipe(&[], vec![group(&["*norm*"], 0.5, Some(0.2)), group(&["head"], 2.0, None)]);
        let table = table(false);
        let treatments = recipe.treatments(&table).unwrap();
        for entry in table.entries() {
            let (_, found) = treatments.iter().find(|(r, _)| r.contains(&entry.offset)).unwrap();
            let (rate, decay) = match entry.kind {
                Kind::Head => (2.0, 0.1),
                _ if entry.decays => (1.0, 0.1),
                _ => (0.5, 0.2),
            };
            assert_eq!(*found, Treatment::Learned { rate, decay }, "{}", entry.name);
        }
        let mut at = 0;
        for (range, _) in treatments {
            assert_eq!(range.start, at);
            at = range.end;
        }
        assert_eq!(at, table.elements());
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let freeze = |pattern: &str| recipe(&[pattern], Vec::new());
        check(&freeze("embeding"), false, "freeze", "did you mean \"embedding\"?");
        check(&freeze("layer.0.*"), false, "freeze", "did you mean \"layers.0.*\"?");
        check(&freeze("layers.7.*"), false, "freeze", "no parameter");
        check(&freeze("head"), true, "freeze", "no parameter");
        check(&freeze("*"), false, "freeze", "nothing is learned");
        let of = |group| recipe(&["embedding"], vec![group]);
        check(&of(group(&["nrom"], 1.0, None)), false, "groups.parameters", "no parameter");
        check(&of(group(&[], 1.0, None)), false, "groups.parameters", "names parameters");
        check(&of(group(&["*"], 2.0, None)), false, "groups.parameters", "is frozen");
        check(&of(group(&["head"], 0.0, None)), false, "groups.rate", "`freeze`");
        check(&of(group(&["head"], 1.0, Some(-1.0))), false, "groups.decay", "at least 0");
        let twice = vec![group(&["head"], 2.0, None), group(&["*head*"], 3.0, None)];
        check(&recipe(&[], twice), false, "groups.parameters", "another group");
    }
}
