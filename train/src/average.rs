//! The mean of a run's last checkpoints (Polyak; paper, section 3.4.3: the final pre-trained model
//! is the average of the checkpoints of annealing, at an interval that it does not give). Uniform,
//! and of the master weights alone: moments have no mean that means anything, so that a run cannot
//! go on from it. Not the mean of other runs' models (section 4.1.5), which have no common steps.
//!
//! Each weight is added up in f64, in the order of the steps, divided once, and rounded once to the
//! type of the master weights: the mean does not depend on ranks, threads or the size of the pieces
//! in which it is read.

use crate::optimizer::State;
use crate::recipe::refuse;
use crate::{Error, Recipe, checkpoint, folder};
use quipu_math::DType;
use quipu_model::checkpoint::{Reader, Writer, seal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Which checkpoints are averaged: those after `from`, `from + every`, … steps, up to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Average {
    /// Steps behind the first.
    pub from: u64,
    /// Steps between them.
    pub every: u64,
}

impl Average {
    /// Whether the checkpoint of `step` is one of them.
    #[must_use]
    pub fn takes(&self, step: u64) -> bool {
        step >= self.from && (step - self.from).is_multiple_of(self.every.max(1))
    }

    pub(crate) fn check(&self, steps: u64) -> Result<(), Error> {
        let Self { from, every } = *self;
        if from == 0 || from >= steps {
            let expected = format!("it must lie above 0 and below steps = {steps}");
            return refuse("average.from", from, expected, "begin where the rate falls to 0");
        }
        if every == 0 || !(steps - from).is_multiple_of(every) {
            return refuse(
                "average.every",
                every,
                format!("it must divide the {} steps from {from} to the last", steps - from),
                "the last checkpoint is one of those that are averaged",
            );
        }
        Ok(())
    }
}

/// Name of the mean's folder, beside the checkpoints.
const NAME: &str = "average";
/// Elements that are added up at a time.
const PIECE: usize = 1 << 22;

/// Where the mean of the checkpoints in `dir` stands.
#[must_use]
pub fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Writes the mean of the checkpoints after `steps`, ascending, in `dir`: a checkpoint without
/// moments, which [`crate::export`] takes.
///
/// # Errors
/// A checkpoint that is missing, damaged or of another model; a full disk. Nothing is then left
/// under its final name.
pub fn write(dir: &Path, steps: &[u64]) -> Result<PathBuf, Error> {
    let (target, temporary) = (path(dir), dir.join(format!(".unfinished-{NAME}")));
    let remove = |old: &Path| match old.exists() {
        true => fs::remove_dir_all(old).map_err(Error::io(old)),
        false => Ok(()),
    };
    remove(&temporary)?;
    let written = write_into(&temporary, dir, steps);
    if written.is_err() {
        // The error that stopped the writing is the one to tell.
        let _ = fs::remove_dir_all(&temporary);
    }
    written?;
    // What stood there goes when its successor is whole.
    remove(&target)?;
    fs::rename(&temporary, &target).map_err(Error::io(&target))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io(dir))?;
    Ok(target)
}

fn write_into(temporary: &Path, dir: &Path, steps: &[u64]) -> Result<(), Error> {
    let paths: Vec<PathBuf> = steps.iter().map(|step| folder::path(dir, *step)).collect();
    let Some(last) = paths.last() else {
        let what = "no checkpoints were named to be averaged".to_owned();
        return Err(Error::Checkpoint { path: dir.to_owned(), what });
    };
    let readers = paths.iter().map(|path| Ok(Reader::open(path)?));
    let readers = readers.collect::<Result<Vec<_>, Error>>()?;
    let facts = checkpoint::Facts { averaged: steps.into(), ..checkpoint::facts(last)? };
    let mut writer = Writer::create(temporary, 0)?;
    let prefix = format!("{}.", State::Master.name());
    let last = &readers[readers.len() - 1];
    for name in last.names().filter(|name| name.starts_with(&prefix)) {
        let info = last.info(name)?;
        for (reader, path) in readers.iter().zip(&paths) {
            let found = reader.info(name)?;
            if found != info {
                let what = format!("{name} is {found:?}, in the last checkpoint {info:?}");
                return Err(Error::Checkpoint { path: path.clone(), what });
            }
        }
        let mut bytes = Vec::with_capacity(info.elements() * info.dtype.size());
        for start in (0..info.elements()).step_by(PIECE) {
            let range = start..info.elements().min(start + PIECE);
            let parts = readers.iter().map(|reader| Ok(reader.read(name, range.clone())?));
            let parts = parts.collect::<Result<Vec<_>, Error>>()?;
            let mean = mean(info.dtype, &parts).ok_or_else(|| Error::Checkpoint {
                path: dir.to_owned(),
                what: format!("{name} is {}; a mean is taken of f32 or f64", info.dtype),
            })?;
            bytes.extend(mean);
        }
        writer.put(name, info.dtype, &info.shape, 0..info.elements(), &bytes)?;
    }
    writer.finish()?;
    let facts = serde_json::to_value(&facts).map_err(|e| Error::Checkpoint {
        path: temporary.to_owned(),
        what: format!("its facts cannot be written: {e}"),
    })?;
    Ok(seal(temporary, 1, facts)?)
}

/// The mean of equally long stretches of numbers, none of another type than f32 or f64.
fn mean(dtype: DType, parts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let numbers = |bytes: &[u8]| -> Option<Vec<f64>> {
        match dtype {
            DType::F32 => {
                Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b).into()).collect())
            }
            DType::F64 => {
                Some(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
            }
            _ => None,
        }
    };
    let mut sums = numbers(parts.first()?)?;
    for part in &parts[1..] {
        for (sum, value) in sums.iter_mut().zip(numbers(part)?) {
            *sum += value;
        }
    }
    let means = sums.into_iter().map(|sum| sum / parts.len() as f64);
    Some(match dtype {
        DType::F32 => means.flat_map(|mean| (mean as f32).to_le_bytes()).collect(),
        _ => means.flat_map(f64::to_le_bytes).collect(),
    })
}

impl Recipe {
    /// The steps whose checkpoints are averaged, ascending.
    #[must_use]
    pub fn averaged_steps(&self) -> Vec<u64> {
        let takes = |step: &u64| self.average.is_some_and(|average| average.takes(*step));
        let first = self.average.map_or(1, |average| average.from);
        (first..=self.steps).filter(takes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_rounded_once() {
        let bytes =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        // In f32 the small ones would be lost one by one.
        let parts =
            [bytes(&[1e8, 1.0]), bytes(&[3.0, 2.0]), bytes(&[3.0, 6.0]), bytes(&[2.0, 7.0])];
        assert_eq!(mean(DType::F32, &parts).unwrap(), bytes(&[25_000_002.0, 4.0]));
        assert_eq!(mean(DType::BF16, &parts), None);
        assert_eq!(mean(DType::F32, &[]), None);
    }

    #[test]
    fn what_is_averaged_ends_with_the_last_step() {
        let recipe = |from, every| Recipe {
            steps: 100,
            warm_up: 5,
            average: Some(Average { from, every }),
            ..Recipe::default()
        };
        assert_eq!(recipe(80, 5).averaged_steps(), [80, 85, 90, 95, 100]);
        assert!(Recipe::default().averaged_steps().is_empty());
        recipe(80, 5).check().unwrap();
        let check = |recipe: Recipe, key: &str| match recipe.check() {
            Err(Error::Recipe { key: found, .. }) => assert_eq!(found, key),
            other => panic!("expected a refusal of {key}, found {other:?}"),
        };
        check(recipe(0, 5), "average.from");
        check(recipe(100, 5), "average.from");
        check(recipe(80, 0), "average.every");
        check(recipe(80, 3), "average.every");
    }
}
