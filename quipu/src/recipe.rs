//! A whole run as data: TOML in, checked before anything runs. Each crate owns its table; here
//! they are put together, unknown keys are refused with what was perhaps meant, and `--set` is
//! applied. The resolved recipe is written beside the results.

use crate::error::{Error, RecipeError};
use crate::extension::Extension;
use crate::origin::{Origin, REPLAY};
use crate::stage::sets::is_of_world;
use crate::terminal::thousands;
use miette::NamedSource;
use quipu_tokens::{prepare::Grouping, spelling};
use quipu_train::Curve;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The recipe that the program brings along.
const SPEEDRUN: &str = include_str!("../../recipes/speedrun.toml");
/// The recipe for whoever goes on with a checkpoint and names no other.
const CONTINUED: &str = include_str!("../../recipes/continued.toml");

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// what the run is called; its folder is `runs/NAME` unless `--run-dir` says otherwise
    pub name: String,
    /// the seed of everything: world, validation split, initial weights, order of data
    pub seed: u64,
    /// the ranks, such as `dp=2`
    pub mesh: String,
    /// the checkpoint that pre-training goes on with; none: random weights
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origin>,
    /// the simulated world, unless there is other input
    pub world: World,
    /// curation
    pub corpus: quipu_corpus::Recipe,
    /// texts beside the input, by the name by which a mix calls them; no rule is applied to them,
    /// and what has no mix does not read them. Named as inputs are; `world/…` is the run's own
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, Vec<PathBuf>>,
    /// tokenizer and shards
    pub tokens: Tokens,
    /// the model's shape
    pub model: Shape,
    /// pre-training
    pub train: quipu_train::Recipe,
    /// stages in which the context grows, in order
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extend: Vec<Extension>,
    /// the end of pre-training: a rate that falls to 0, better data
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anneal: Option<quipu_train::Recipe>,
    /// fine-tuning on dialogues
    pub sft: quipu_train::Recipe,
    /// preference training, a pair a sample
    pub dpo: quipu_train::Recipe,
    /// the weights of the preference loss
    pub preference: quipu_tune::dpo::Weights,
}

/// The world that is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// multiples of the default world of some 6,200 pages
    pub size: f64,
}

/// Tokenizer and shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// entries of the vocabulary, special tokens included
    pub vocabulary: usize,
    /// numbers of up to this many digits, at most 3, are entries whatever the text holds
    #[serde(default = "one")]
    pub digits: u32,
    /// share of documents, chosen by hash, that is kept for validation
    pub validation_share: f64,
    /// what a mix names: the documents' `route` or their `source`
    #[serde(default)]
    pub grouping: Grouping,
}

fn one() -> u32 {
    1
}

/// The model's shape, as far as a recipe decides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// width of the residual stream
    pub hidden_size: usize,
    /// layers
    pub layers: usize,
    /// attention heads
    pub heads: usize,
    /// key-value heads; divides `heads`
    pub kv_heads: usize,
    /// width of the feed-forward network
    pub ffn_size: usize,
    /// positions that the model is made for
    pub positions: usize,
    /// base of the rotary embedding
    pub rope_theta: f64,
    /// whether the output head is the embedding
    pub tied: bool,
    /// how the rotary frequencies are changed; none: not at all
    #[serde(default)]
    pub rope_scaling: Option<Scaling>,
}

/// Llama 3.1's scaling of the rotary frequencies; keys as in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// by how much the lowest frequencies are divided
    pub factor: f64,
    /// original / wavelength below which a frequency is divided
    pub low_freq_factor: f64,
    /// original / wavelength above which a frequency is left alone
    pub high_freq_factor: f64,
    /// positions of the first pre-training
    pub original_max_position_embeddings: usize,
}

impl Recipe {
    /// The embedded recipe or a file's, with `--set` changes, checked. Where it begins with a
    /// checkpoint of others, that says what the model is.
    pub fn resolve(file: Option<&Path>, sets: &[String]) -> Result<Self, Error> {
        let own = sets.iter().any(|set| set.trim_start().starts_with("from."));
        let embedded = match own {
            true => ("recipes/continued.toml", CONTINUED),
            false => ("recipes/speedrun.toml", SPEEDRUN),
        };
        let (name, text) = match file {
            Some(path) => (path.to_string_lossy().into_owned(), text_of(path)?),
            None => (embedded.0.to_owned(), embedded.1.to_owned()),
        };
        Self::from_text(&name, &text, sets, Self::adopt)
    }

    /// A run's recipe, checked: what it took from a checkpoint of others stands in it.
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::from_text(&path.to_string_lossy(), &text_of(path)?, &[], |_| Ok(()))
    }

    fn from_text(
        name: &str,
        text: &str,
        sets: &[String],
        finish: fn(&mut Self) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let (mut recipe, name, text) = read::<Self>(name, text, sets)?;
        finish(&mut recipe)?;
        recipe.spread_seed();
        recipe.check().map_err(|(key, message)| refusal(&name, &text, &key, message))?;
        Ok(recipe)
    }

    /// One seed decides everything; the tables' own would only hide that.
    pub fn spread_seed(&mut self) {
        let tables = [(0, &mut self.train), (1, &mut self.sft), (2, &mut self.dpo)].into_iter();
        let tables = tables.chain(self.anneal.as_mut().map(|anneal| (3, anneal)));
        let extend = self.extend.iter_mut().map(|stage| &mut stage.train);
        for (stream, recipe) in tables.chain((4..).zip(extend)) {
            recipe.seed = self.seed.wrapping_add(stream);
        }
    }

    /// The model's shape after so many of the stages in which its context grows.
    pub fn shape(&self, stages: usize) -> Shape {
        let stages = self.extend.iter().take(stages);
        stages.fold(self.model.clone(), |shape, stage| stage.applied(&shape))
    }

    /// The shape of the base model and of all that is made of it.
    pub fn last_shape(&self) -> Shape {
        self.shape(self.extend.len())
    }

    /// The recipe as TOML, every key spelt out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is tables of numbers, strings and lists")
    }

    /// Divides the run over another mesh, where one is named.
    pub fn divide(&mut self, mesh: Option<&str>) -> Result<(), Error> {
        let Some(mesh) = mesh else { return Ok(()) };
        mesh.clone_into(&mut self.mesh);
        self.check().map_err(|(_, message)| Error::usage(format!("--mesh {mesh}: {message}")))
    }

    /// The first key in which `self` differs from `other`, with both values.
    pub fn first_difference(&self, other: &Self) -> Option<(String, String, String)> {
        self.own_differences(other).next()
    }

    /// What `--set` changes in the embedded recipe to make this one, as `key=value`.
    pub fn as_sets(&self) -> Vec<String> {
        let Ok(embedded) = Self::resolve(None, &[]) else { return Vec::new() };
        self.own_differences(&embedded).map(|(key, now, _)| format!("{key}={now}")).collect()
    }

    /// Differences without those of the tables' seeds, which follow from the one.
    fn own_differences(&self, other: &Self) -> impl Iterator<Item = (String, String, String)> {
        self.differences(other).into_iter().filter(|(key, ..)| !key.ends_with(".seed"))
    }

    fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let table = |recipe: &Self| recipe.to_toml().parse::<Table>().unwrap_or_default();
        let mut found = Vec::new();
        differences("", &table(self), &table(other), &mut found);
        found
    }

    /// Refuses what cannot be, by key.
    fn check(&self) -> Result<(), (String, String)> {
        let no = |key: &str, message: String| Err((key.to_owned(), message));
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(plain) {
            let message =
                "a run is called by letters, digits, -, _ and . (its folder is runs/NAME)";
            return no("name", message.to_owned());
        }
        for (key, value) in
            [("beta", self.preference.beta), ("likelihood", self.preference.likelihood)]
        {
            if !(value >= 0.0 && value.is_finite()) {
                let message = format!("{value} is no finite weight from 0 on");
                return no(&format!("preference.{key}"), message);
            }
        }
        self.model.check()?;
        self.from.as_ref().map_or(Ok(()), Origin::check)?;
        quipu_world::Size::new(self.world.size)
            .map_err(|e| ("world.size".to_owned(), e.to_string()))?;
        if !(288..=1 << 20).contains(&self.tokens.vocabulary) {
            let message = format!(
                "{} entries: bytes and special tokens are at least 288, at most 1,048,576",
                self.tokens.vocabulary
            );
            return no("tokens.vocabulary", message);
        }
        if !(1..=3).contains(&self.tokens.digits) {
            let message = format!("{} is not in 1..=3", self.tokens.digits);
            return no("tokens.digits", message);
        }
        if !(self.tokens.validation_share > 0.0 && self.tokens.validation_share <= 0.5) {
            let message = format!("{} is not in (0, 0.5]", self.tokens.validation_share);
            return no("tokens.validation_share", message);
        }
        self.check_sets()?;
        self.corpus.validate().map_err(|e| keyed("corpus", &e.to_string()))?;
        let of_mesh = |e: &dyn std::fmt::Display| ("mesh".to_owned(), e.to_string());
        let parallel: quipu_train::Parallel = self.mesh.parse().map_err(|e| of_mesh(&e))?;
        let config = crate::stage::config(self).map_err(|e| of_model(&e))?;
        parallel.check(&config).map_err(|e| of_mesh(&e))?;
        let parameters = crate::stage::parameters(self).map_err(|e| of_model(&e))?;
        self.check_stages()?;
        for (table, recipe) in self.trained() {
            let checked = recipe.check().and_then(|()| recipe.check_patterns(&parameters));
            checked.map_err(|e| keyed(&table, &e.to_string()))?;
            let of_documents = [("ramp", recipe.ramp.is_empty()), ("mix", recipe.mix.is_empty())];
            if ["sft", "dpo"].contains(&&*table)
                && let Some((key, _)) = of_documents.iter().find(|(_, empty)| !empty)
            {
                let message = "dialogues have one length and one source; it goes with [train]";
                return no(&format!("{table}.{key}"), message.to_owned());
            }
            self.shape_in(&table).holds(&table, recipe)?;
        }
        Ok(())
    }

    /// Names of sets become folders and stand among the names of sources.
    fn check_sets(&self) -> Result<(), (String, String)> {
        let sound = |name: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
        };
        let routes = ["prose", "code", "mathematics", REPLAY];
        for (name, paths) in &self.sets {
            let key = format!("sets.{name}");
            if !sound(name) || routes.contains(&name.as_str()) {
                let message = "a set is called by letters, digits and -, and by no name that texts \
                               of the input have (prose, code, mathematics, replay)";
                return Err((key, message.to_owned()));
            }
            if paths.is_empty() {
                return Err((key, "it has no texts: name files or folders".to_owned()));
            }
        }
        Ok(())
    }

    /// Where there is other input there is no world: its sets go, from the mixes too.
    pub fn leave_world(&mut self) {
        let of_world = |paths: &Vec<PathBuf>| paths.iter().any(|path| is_of_world(path));
        let gone: Vec<String> =
            self.sets.iter().filter(|(_, p)| of_world(p)).map(|(name, _)| name.clone()).collect();
        self.sets.retain(|name, _| !gone.contains(name));
        let extend = self.extend.iter_mut().map(|stage| &mut stage.train);
        for recipe in [&mut self.train].into_iter().chain(extend).chain(&mut self.anneal) {
            for phase in &mut recipe.mix {
                phase.shares.retain(|name, _| !gone.contains(name));
            }
            if recipe.mix.iter().any(|phase| phase.shares.is_empty()) {
                recipe.mix.clear();
            }
        }
    }

    /// The tables of pre-training, by name, in their order.
    pub fn pretrained(&self) -> Vec<(String, &quipu_train::Recipe)> {
        let mut tables = vec![("train".to_owned(), &self.train)];
        let extend = self.extend.iter().enumerate();
        tables.extend(extend.map(|(i, stage)| (format!("extend.{i}.train"), &stage.train)));
        tables.extend(self.anneal.iter().map(|anneal| ("anneal".to_owned(), anneal)));
        tables
    }

    /// All tables that train.
    pub fn trained(&self) -> Vec<(String, &quipu_train::Recipe)> {
        let mut tables = self.pretrained();
        tables.extend([("sft".to_owned(), &self.sft), ("dpo".to_owned(), &self.dpo)]);
        tables
    }

    /// The model's shape while a table is trained.
    pub fn shape_in(&self, table: &str) -> Shape {
        let number = table.strip_prefix("extend.").and_then(|rest| rest.split('.').next());
        match number.and_then(|number| number.parse::<usize>().ok()) {
            Some(stage) => self.shape(stage + 1),
            None if table == "train" => self.model.clone(),
            None => self.last_shape(),
        }
    }

    fn check_stages(&self) -> Result<(), (String, String)> {
        for (i, stage) in self.extend.iter().enumerate() {
            let at = |(key, message)| (format!("extend.{i}.{key}"), message);
            stage.check(&self.shape(i)).map_err(at)?;
            let shape = self.shape(i + 1);
            shape.check().map_err(at)?;
            let config = crate::stage::train::config(&shape, self.tokens.vocabulary);
            config.map_err(|e| at(of_model(&e)))?;
        }
        match &self.anneal {
            Some(anneal) if anneal.schedule != Curve::Linear || anneal.floor_lr != 0.0 => {
                let message = "annealing takes the rate to 0 in a line: schedule = \"linear\" and \
                               floor_lr = 0.0";
                Err(("anneal.schedule".to_owned(), message.to_owned()))
            }
            _ => Ok(()),
        }
    }
}

impl Shape {
    /// Refuses what makes no model, by key.
    fn check(&self) -> Result<(), (String, String)> {
        let no = |key: &str, message: String| Err((key.to_owned(), message));
        if self.heads == 0 || !self.hidden_size.is_multiple_of(self.heads.max(1)) {
            let (found, heads) = (self.hidden_size, self.heads);
            return no("model.heads", format!("{heads} heads do not divide hidden_size {found}"));
        }
        if !(self.hidden_size / self.heads).is_multiple_of(2) || self.hidden_size == 0 {
            let head = self.hidden_size / self.heads;
            let message = format!("a head of {head} cannot be rotated: it must be even, above 0");
            return no("model.hidden_size", message);
        }
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            let (kv, heads) = (self.kv_heads, self.heads);
            return no(
                "model.kv_heads",
                format!("{kv} key-value heads do not divide {heads} heads"),
            );
        }
        for (key, n) in [("model.layers", self.layers), ("model.ffn_size", self.ffn_size)] {
            if n == 0 {
                return no(key, "it must be at least 1".into());
            }
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return no("model.rope_theta", format!("{} is not above 1", self.rope_theta));
        }
        match self.rope_scaling.map(|scaling| scaling.original_max_position_embeddings) {
            Some(original) if original == 0 || original > self.positions => {
                let (key, most) = ("original_max_position_embeddings", self.positions);
                let message = format!("{original} is not from 1 to model.positions, {most}");
                no(&format!("model.rope_scaling.{key}"), message)
            }
            _ => Ok(()),
        }
    }

    /// Refuses sequences that are longer than the model has positions, at any level of a ramp.
    fn holds(&self, table: &str, recipe: &quipu_train::Recipe) -> Result<(), (String, String)> {
        let positions = self.positions;
        let ramp = recipe.ramp.iter().map(|level| ("ramp.sequence_length", *level));
        let mut levels = [("sequence_length", recipe.first_level())].into_iter().chain(ramp);
        let Some((key, level)) = levels.find(|(_, level)| level.sequence_length > positions) else {
            return Ok(());
        };
        let (length, after) = (level.sequence_length, level.after_tokens);
        let from =
            if after > 0 { format!(" (after {} tokens)", thousands(after)) } else { String::new() };
        let message = format!(
            "{length} is more than model.positions, {positions}{from}; shorten it, or raise \
             model.positions"
        );
        Err((format!("{table}.{key}"), message))
    }
}

/// The key of what the model's own check refuses: it speaks in keys of `config.json`.
fn of_model(error: &Error) -> (String, String) {
    let message = error.to_string();
    let scaling = message.split('\'').find(|word| word.starts_with("rope_scaling."));
    (scaling.map_or("model".into(), |key| format!("model.{key}")), message)
}

/// The key of a crate's refusal: the crates begin their messages with it.
pub fn keyed(table: &str, message: &str) -> (String, String) {
    let message = message.strip_prefix("recipe: ").unwrap_or(message);
    let found = message.split([':', ' ', '=']).next().unwrap_or_default().trim_matches('`');
    let key = found.strip_prefix(table).unwrap_or(found).trim_start_matches('.');
    (format!("{table}.{key}"), message.to_owned())
}

fn text_of(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path)
        .map_err(|e| Error::data(format!("cannot read the recipe {}: {e}", path.display())))
}

/// A recipe of some kind from TOML, with `--set` changes; with it the name and the text in which
/// a place can be shown.
pub fn read<T: DeserializeOwned>(
    name: &str,
    text: &str,
    sets: &[String],
) -> Result<(T, String, String), Error> {
    let (name, text) = if sets.is_empty() {
        (name.to_owned(), text.to_owned())
    } else {
        let name_with = format!("{name} with --set {}", sets.join(" --set "));
        (name_with, with_sets::<T>(name, text, sets)?)
    };
    Ok((parse(&name, &text)?, name, text))
}

fn parse<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|s| (s.start, s.len().max(1)));
        let message = error.message().to_owned();
        let help = meant(&message);
        let source = NamedSource::new(name, text.to_owned());
        Error::recipe(RecipeError { message: format!("{name}: {message}"), help, source, place })
    })
}

/// What cannot be in a recipe, at its place.
pub fn refusal(name: &str, text: &str, key: &str, message: String) -> Error {
    let source = NamedSource::new(name, text.to_owned());
    let message = if message.contains(key) { message } else { format!("{key}: {message}") };
    let message = format!("{name}: {message}");
    Error::recipe(RecipeError { message, help: None, source, place: locate(text, key) })
}

/// Applies `key=value` to the recipe's text. The value is TOML; a bare word is a string.
fn with_sets<T: DeserializeOwned>(
    name: &str,
    text: &str,
    sets: &[String],
) -> Result<String, Error> {
    // What is wrong in the file itself is told at its place in the file.
    parse::<T>(name, text)?;
    let mut table: Table = text.parse().map_err(|e| Error::usage(format!("{name}: {e}")))?;
    for set in sets {
        let (key, value) = set.split_once('=').ok_or_else(|| {
            Error::usage(format!("--set {set}: expected key=value, such as train.steps=100"))
        })?;
        let parsed = format!("value = {value}").parse::<Table>().ok();
        let value = parsed
            .and_then(|mut t| t.remove("value"))
            .unwrap_or_else(|| Value::String(value.to_owned()));
        put(&mut table, key.trim(), value)
            .map_err(|e| Error::usage(format!("--set {set}: {e}")))?;
    }
    toml::to_string(&table).map_err(|e| Error::usage(e.to_string()))
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return Ok(());
    };
    let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
    match inner {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(entries) => put_entry(entries, first, rest, value),
        other => Err(format!("{first} is {other}, not a table")),
    }
}

/// `0.train.steps` of a list of tables.
fn put_entry(entries: &mut [Value], list: &str, key: &str, value: Value) -> Result<(), String> {
    let (number, rest) = key.split_once('.').unwrap_or((key, ""));
    let count = entries.len();
    let entry = number.parse::<usize>().ok().and_then(|number| entries.get_mut(number));
    match entry {
        Some(Value::Table(entry)) if !rest.is_empty() => put(entry, rest, value),
        Some(entry) if rest.is_empty() => {
            *entry = value;
            Ok(())
        }
        _ => Err(format!("{list} has {count} entries, counted from 0; {key} is not in one")),
    }
}

/// For `unknown field `x`, expected one of `a`, `b``: the nearest of what was expected.
fn meant(message: &str) -> Option<String> {
    let rest =
        message.strip_prefix("unknown field `").or(message.strip_prefix("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    spelling::nearest(unknown, known).map(|nearest| format!("did you mean `{nearest}`?"))
}

/// Offset and length of the line that sets `table.key`.
fn locate(text: &str, key: &str) -> Option<(usize, usize)> {
    let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
    let (mut offset, mut inside) = (0, table.is_empty());
    for line in text.split_inclusive('\n') {
        let bare = line.trim();
        if bare.starts_with('[') {
            inside = bare.trim_matches(['[', ']']) == table;
        } else if inside && bare.split('=').next().map(str::trim) == Some(key) {
            let indent = line.len() - line.trim_start().len();
            return Some((offset + indent, bare.len()));
        }
        offset += line.len();
    }
    None
}

pub fn differences(above: &str, a: &Table, b: &Table, found: &mut Vec<(String, String, String)>) {
    let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
    for key in keys {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match (a.get(key), b.get(key)) {
            (Some(Value::Table(a)), Some(Value::Table(b))) => differences(&path, a, b, found),
            (x, y) if x != y => {
                let show = |v: Option<&Value>| v.map_or("unset".into(), ToString::to_string);
                found.push((path, show(x), show(y)));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quipu_model::RopeScaling;

    fn check(sets: &[&str], expected: &[&str]) {
        let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
        let error = Recipe::resolve(None, &sets).unwrap_err();
        assert_eq!(error.kind().code(), 2);
        // miette wraps and frames lines; only the words matter here.
        let words = |t: &str| t.split(|c: char| !c.is_alphanumeric()).collect::<Vec<_>>().concat();
        for part in expected {
            assert!(words(&error.to_string()).contains(&words(part)), "{error} lacks {part:?}");
        }
    }

    #[test]
    fn the_embedded_recipe_stands_and_comes_back() {
        let recipe = Recipe::resolve(None, &[]).unwrap();
        let again: Recipe = toml::from_str(&recipe.to_toml()).unwrap();
        assert_eq!(recipe, again);
        assert_eq!(recipe.first_difference(&again), None);
    }

    #[test]
    fn sets_change_values() {
        let sets =
            ["train.steps=77".into(), "name=mine".into(), "corpus.languages=[\"en\"]".into()];
        let recipe = Recipe::resolve(None, &sets).unwrap();
        assert_eq!((recipe.train.steps, recipe.name.as_str()), (77, "mine"));
        let (key, now, _) = recipe.first_difference(&Recipe::resolve(None, &[]).unwrap()).unwrap();
        assert_eq!((key.as_str(), now.as_str()), ("name", "\"mine\""));
        let again = Recipe::resolve(None, &recipe.as_sets()).unwrap();
        assert_eq!((recipe.as_sets().len(), again), (2, recipe));
    }

    #[test]
    fn tables_come_back() {
        let sets = [
            "train.ramp=[{after_tokens=9000,sequence_length=128,batch_tokens=1024,\
             micro_batch_tokens=1024}]",
            "train.mix=[{after_tokens=0,shares={prose=0.5,code=0.5}}]",
            "train.max_epochs.code=4.0",
            "train.groups=[{parameters=[\"*norm*\"],rate=0.5}]",
            "train.freeze=[\"embedding\"]",
            "train.spikes.window=64",
            "train.average={from=3000,every=100}",
            "tokens.grouping=\"source\"",
        ];
        let recipe = Recipe::resolve(None, &sets.map(str::to_owned)).unwrap();
        let again: Recipe = toml::from_str(&recipe.to_toml()).unwrap();
        assert_eq!(recipe, again);
        assert_eq!(Recipe::resolve(None, &recipe.as_sets()).unwrap(), recipe);
        assert_eq!((recipe.train.ramp.len(), recipe.train.spikes.unwrap().window), (1, 64));
    }

    #[test]
    fn a_scaling_of_the_frequencies_reaches_the_model_and_comes_back() {
        let scaling = |factor: &str, original: &str| {
            format!(
                "model.rope_scaling={{factor={factor},low_freq_factor=1.0,high_freq_factor=4.0,\
                 original_max_position_embeddings={original}}}"
            )
        };
        let recipe = Recipe::resolve(None, &[scaling("8.0", "64")]).unwrap();
        let config = crate::stage::config(&recipe).unwrap();
        let RopeScaling::Llama3 { factor, .. } = config.rope_scaling else { panic!("not scaled") };
        assert_eq!(factor, 8.0);
        let again: Recipe = toml::from_str(&recipe.to_toml()).unwrap();
        assert_eq!((&again, recipe.as_sets().len()), (&recipe, 1));
        // Recipes of runs that were begun before the key was there stay what they are.
        assert!(!Recipe::resolve(None, &[]).unwrap().to_toml().contains("rope_scaling"));
        check(&[&scaling("0.5", "64")], &["model.rope_scaling.factor", "a number ≥ 1"]);
        check(&[&scaling("8.0", "4096")], &["4096 is not from 1 to model.positions, 512"]);
        check(&["model.rope_scaling.factr=8.0"], &["did you mean `factor`"]);
    }

    #[test]
    fn wrong_keys_and_values_are_refused_by_name() {
        check(&["train.freeze=[\"embeding\"]"], &["train.freeze", "did you mean", "embedding"]);
        check(&["train.schedule=\"linaer\""], &["did you mean `linear`"]);
        check(&["train.average={from=9,every=9}"], &["train.average.every"]);
        check(&["sft.mix=[{after_tokens=0,shares={prose=1.0}}]"], &["sft.mix", "[train]"]);
        let level = "{after_tokens=9000,sequence_length=1024,batch_tokens=1024,\
                     micro_batch_tokens=1024}";
        check(&[&format!("train.ramp=[{level}]")], &["1024 is more than model.positions"]);
        check(&[&format!("train.ramp=[{level}]")], &["ramp.sequence_length", "after 9000 tokens"]);
        check(&["train.stepz=5"], &["unknown field `stepz`", "did you mean `steps`"]);
        check(&["modell.layers=5"], &["unknown field `modell`", "did you mean `model`"]);
        check(&["train.steps=\"many\""], &["invalid type", "steps"]);
        check(&["train.steps=0"], &["steps"]);
        check(&["model.heads=7"], &["7 heads do not divide"]);
        check(&["name=\"../x\""], &["name", "runs/NAME"]);
        check(&["preference.beta=nan"], &["preference.beta", "finite"]);
        check(&["train.peak_lr=1e300"], &["train.peak_lr", "32 bits"]);
        check(&["train.steps=9223372036854775807"], &["train.steps", "at most"]);
        check(&["tokens.digits=4"], &["tokens.digits", "1..=3"]);
        check(&["tokens.vocabulary=10"], &["tokens.vocabulary", "special tokens"]);
        check(&["corpus.line_limit=0"], &["line_limit"]);
        check(&["nonsense"], &["expected key=value"]);
        check(&["train.steps.more=1"], &["not a table"]);
    }
}
