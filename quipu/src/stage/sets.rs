//! Texts beside the input that mixes call by a name: the recipe's sets, taken as they come, and what
//! continued pre-training reads again, which is curated like the input. Each has documents and token
//! shards of its own below `sets/`; what is read of them is said by the stages' mixes.

use super::Context;
use crate::error::Error;
use crate::origin::REPLAY;
use quipu_corpus::Part;
use quipu_tokens::Tokens;
use quipu_tokens::prepare::{Preparation, Summary, prepare};
use std::path::{Path, PathBuf};

/// Whether a path of a recipe is a file of the run's own world.
pub fn is_of_world(path: &Path) -> bool {
    path.starts_with("world")
}

/// One set.
struct Set<'a> {
    name: &'a str,
    inputs: Vec<PathBuf>,
    /// whether the recipe's rules are applied
    is_curated: bool,
    /// its folder
    dir: PathBuf,
}

fn all(context: &Context) -> Vec<Set<'_>> {
    let sets = context.recipe.sets.iter().map(|(name, paths)| (name.as_str(), paths, false));
    let replay = context.recipe.from.iter().filter(|origin| !origin.replay.is_empty());
    let replay = replay.map(|origin| (REPLAY, &origin.replay, true));
    let of = |(name, paths, is_curated): (_, &Vec<PathBuf>, bool)| {
        let own = |path: &PathBuf| match is_of_world(path) {
            true => context.run.dir().join(path),
            false => path.clone(),
        };
        let dir = context.run.path("sets").join(name);
        Set { name, inputs: paths.iter().map(own).collect(), is_curated, dir }
    };
    sets.chain(replay).map(of).collect()
}

/// Makes the documents of each set.
pub fn curate(context: &Context) -> Result<(), Error> {
    for set in all(context) {
        set.curate(context)?;
    }
    Ok(())
}

impl Set<'_> {
    fn curate(&self, context: &Context) -> Result<(), Error> {
        let recipe = match self.is_curated {
            true => context.recipe.corpus.clone(),
            // Addresses alone: nothing of it is judged.
            false => quipu_corpus::Recipe { only: vec![Part::Addresses], ..Default::default() },
        };
        let (out, options) = (self.dir.join("corpus"), quipu_corpus::Options::default());
        let (progress, cancel) = (&*context.progress, &context.cancel);
        quipu_corpus::run(&self.inputs, &recipe, &out, &options, progress, cancel)?;
        Ok(())
    }

    /// Makes its token shards with the tokenizer of the run.
    fn tokenise(&self, context: &Context, options: &Preparation) -> Result<Summary, Error> {
        let own = context.run.path("tokens/tokenizer.json");
        let options = Preparation {
            tokenizer: Some(quipu_tokens::Tokenizer::load(&own)?),
            source: Some(self.name.to_owned()),
            ..options.clone()
        };
        let (documents, out) = (self.dir.join("corpus"), self.dir.join("tokens"));
        Ok(prepare(&documents, &out, &options, &*context.progress, &context.cancel)?)
    }
}

/// Documents and token shards in `dir` of a set that is none of the recipe's; the folder of shards.
pub fn make(
    context: &Context,
    name: &str,
    inputs: &[PathBuf],
    dir: &Path,
) -> Result<PathBuf, Error> {
    let set = Set { name, inputs: inputs.to_vec(), is_curated: false, dir: dir.to_owned() };
    set.curate(context)?;
    set.tokenise(context, &Preparation::default())?;
    Ok(dir.join("tokens"))
}

/// Makes the token shards of each set, with the tokenizer of the run; what was made, by name.
pub fn tokenise(context: &Context, options: &Preparation) -> Result<Vec<(String, Summary)>, Error> {
    let one = |set: Set| Ok((set.name.to_owned(), set.tokenise(context, options)?));
    all(context).into_iter().map(one).collect()
}

/// The tokens that a run learns from: its own, and those of its sets.
pub fn tokens(context: &Context) -> Result<Tokens, Error> {
    tokens_with(context, &[])
}

/// The same, with further folders of tokens.
pub fn tokens_with(context: &Context, more: &[PathBuf]) -> Result<Tokens, Error> {
    let mut others: Vec<PathBuf> = all(context).iter().map(|set| set.dir.join("tokens")).collect();
    others.extend_from_slice(more);
    let others: Vec<&Path> = others.iter().map(PathBuf::as_path).collect();
    Ok(Tokens::open_with(&context.run.path("tokens"), &others)?)
}

/// Whether a run reads anything beside its input.
pub fn are_any(context: &Context) -> bool {
    !all(context).is_empty()
}

/// Whether a source is a set and not the input's.
pub fn is_set(context: &Context, source: &str) -> bool {
    all(context).iter().any(|set| set.name == source)
}
