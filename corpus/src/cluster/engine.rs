//! Runs a plan in a session of DataFusion: rows to Parquet, Parquet through SQL, rows back.
//!
//! A plan is one task of its stage, so that a run that was killed does not repeat it and a process
//! that joined waits for it. What the session gives back is sorted within a limit of memory and
//! written as runs. A failure that is not ours (a lost executor, a full disk of another machine) is
//! answered by running the plan again from its own input, a few times. Not here: which session.

use super::Error;
use super::plans;
use super::staging;
use crate::shuffle::{Plan, Runs, Shuffle, Sorter};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use quipu_store::crew::Crew;
use quipu_store::{Cancel, Cancelled};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Bytes of input rows of a partition.
const PART: u64 = 64 << 20;
/// Partitions beyond which a scheduler is busier than its executors.
const MOST_PARTS: u64 = 4096;
/// How often a request to stop is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// The table that a plan reads.
const TABLE: &str = "staged";

/// Where plans run.
pub(super) trait Seat: Sync {
    /// A session of its own for one plan whose rows are worth `parts` partitions, for its attempt of
    /// this number, from 1.
    fn session(&self, parts: usize, attempt: usize) -> Result<SessionContext, Error>;

    /// How often a plan is tried.
    fn attempts(&self) -> usize;

    /// Waits until plans can run, before each attempt.
    fn ready(&self, cancel: &Cancel) -> Result<(), crate::Error>;

    /// What to look at when plans fail here.
    fn hint(&self) -> &'static str;
}

/// Runs shuffles as plans: in this process ([`Plans::here`]), in a cluster within it
/// ([`Plans::standalone`]), or on one ([`Plans::at`]).
pub struct Plans<'a> {
    crew: &'a Crew,
    cancel: Cancel,
    runtime: Runtime,
    /// Bytes for the rows that a plan gives back.
    memory: u64,
    seat: Box<dyn Seat>,
}

/// What a plan left, as names below the stage's folder.
#[derive(Serialize, Deserialize)]
struct Written {
    runs: Vec<String>,
}

/// Why one attempt ended.
enum Failure {
    /// Worth another try.
    Plan(DataFusionError),
    /// Ours: it would happen again.
    Own(crate::Error),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Failure {
        Failure::Plan(error)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Failure {
        Failure::Own(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Own(error.into())
    }
}

impl<'a> Plans<'a> {
    /// With the workers of `crew` as threads, `memory` bytes for results, and the seat that `seat`
    /// makes within those threads.
    pub(super) fn new(
        crew: &'a Crew,
        cancel: &Cancel,
        memory: u64,
        seat: impl AsyncFnOnce() -> Result<Box<dyn Seat>, Error>,
    ) -> Result<Plans<'a>, crate::Error> {
        super::service::speak();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(crew.workers())
            .thread_name("plan")
            .enable_all()
            .build()
            .map_err(Error::session)?;
        let seat = runtime.block_on(seat())?;
        Ok(Plans { crew, cancel: cancel.clone(), runtime, memory, seat })
    }

    fn task(
        &self,
        name: &str,
        plan: Plan,
        input: &Runs,
        dir: &Path,
    ) -> Result<Written, crate::Error> {
        // A name of this process: one that holds the same task, taken for dead, keeps its own.
        let staged = staging::stage(&dir.join(format!("rows-{}", std::process::id())), input)?;
        if staged.rows == 0 {
            return Ok(Written { runs: Vec::new() });
        }
        let sql = plans::sql(plan, input.width, TABLE);
        let mirrored = plans::is_mirrored(plan);
        let stem = dir.join("made");
        let mut attempt = 1;
        loop {
            self.seat.ready(&self.cancel)?;
            let (width, memory) = (input.width, self.memory);
            let parts = (staged.rows * 8 * width as u64).div_ceil(PART).min(MOST_PARTS) as usize;
            let session = self.seat.session(parts, attempt)?;
            let source = Source { session: &session, dir: staged.dir(), width, sql: &sql };
            let made = match plan.width(width) {
                2 => self.attempt(source, Rows::<2>::new(memory, &stem, mirrored)),
                3 => self.attempt(source, Rows::<3>::new(memory, &stem, mirrored)),
                _ => self.attempt(source, Rows::<4>::new(memory, &stem, mirrored)),
            };
            match made {
                Ok(runs) => return Ok(Written { runs: names(&runs) }),
                Err(Failure::Own(error)) => return Err(error),
                Err(Failure::Plan(error)) if attempt == self.seat.attempts() => {
                    let (stage, reason) = (name.to_owned(), error.strip_backtrace());
                    let hint = self.seat.hint();
                    return Err(Error::Plan { stage, attempts: attempt, reason, hint }.into());
                }
                Err(Failure::Plan(error)) => {
                    log::warn!("stage {name}, attempt {attempt}: {}", error.strip_backtrace());
                    attempt += 1;
                }
            }
        }
    }

    fn attempt<const W: usize>(&self, source: Source<'_>, rows: Rows<W>) -> Result<Runs, Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                // In this order: a request that came before the plan is heard even if the plan
                // would be done at its first poll.
                biased;
                () = stopped(&self.cancel) => Err(Failure::Own(Cancelled.into())),
                made = collect(source, rows) => made,
            }
        })
    }
}

impl Shuffle for Plans<'_> {
    fn run(&self, name: &str, plan: Plan, input: &Runs) -> Result<Runs, crate::Error> {
        assert!(plan.takes(input.width), "{plan:?} of rows of {} words", input.width);
        let dir = self.crew.stage(name);
        let task = |_: usize| self.task(name, plan, input, &dir);
        let written = self.crew.run(name, 1, task, |_: &Written, _| ())?;
        let names = written.into_iter().flat_map(|w| w.runs);
        Ok(Runs {
            width: plan.width(input.width),
            paths: names.map(|name| dir.join(name)).collect(),
        })
    }
}

/// A query and the rows that it is over.
struct Source<'a> {
    session: &'a SessionContext,
    /// Of Parquet files, whose rows have `width` words.
    dir: &'a Path,
    width: usize,
    sql: &'a str,
}

/// Runs a query and sorts what it gives.
async fn collect<const W: usize>(source: Source<'_>, mut rows: Rows<W>) -> Result<Runs, Failure> {
    let schema = staging::schema(source.width);
    let options = ParquetReadOptions::default().schema(&schema);
    source.session.register_parquet(TABLE, folder_url(source.dir)?, options).await?;
    let mut batches = source.session.sql(source.sql).await?.execute_stream().await?;
    while let Some(batch) = batches.next().await {
        rows.take(&batch?)?;
    }
    Ok(rows.finish()?)
}

/// A folder as a URL: a plain path would have its `*`, `?` and `[` read as patterns.
fn folder_url(dir: &Path) -> Result<String, Failure> {
    let url = url::Url::from_directory_path(dir).map_err(|()| Error::Parquet {
        path: dir.to_owned(),
        reason: "no absolute path, which executors need".into(),
    })?;
    Ok(url.into())
}

/// Returns when stopping was asked for.
async fn stopped(cancel: &Cancel) {
    while !cancel.is_requested() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes batches of words and makes sorted runs of them.
struct Rows<const W: usize> {
    sorter: Sorter<W>,
    mirrored: bool,
}

impl<const W: usize> Rows<W> {
    fn new(memory: u64, stem: &Path, mirrored: bool) -> Rows<W> {
        Rows { sorter: Sorter::new(stem, memory), mirrored }
    }

    fn take(&mut self, batch: &RecordBatch) -> Result<(), Failure> {
        let mut words = Vec::with_capacity(W);
        for column in batch.columns() {
            if column.data_type() != &DataType::UInt64 || column.null_count() > 0 {
                let found = format!("{} nulls in {}", column.null_count(), column.data_type());
                return Err(DataFusionError::Internal(format!(
                    "a result of words was expected, found {found}"
                ))
                .into());
            }
            words.push(column.as_primitive::<UInt64Type>().values());
        }
        if words.len() != W {
            let found = words.len();
            return Err(DataFusionError::Internal(format!(
                "a result of {W} columns was expected, found {found}"
            ))
            .into());
        }
        for at in 0..batch.num_rows() {
            let mut row = [0; W];
            row.iter_mut().zip(&words).for_each(|(word, column)| *word = column[at]);
            self.sorter.push(row)?;
            if self.mirrored {
                let mut other = row;
                other.swap(0, 1);
                self.sorter.push(other)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Runs, crate::Error> {
        self.sorter.finish()
    }
}

fn names(runs: &Runs) -> Vec<String> {
    let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    runs.paths.iter().filter_map(name).collect()
}

/// The settings of every session: `parts` partitions, joins that spill (there are none, and if a
/// planner made one, it should be of that kind), and of `memory` bytes for each partition a part
/// that its last merge is sure of. Without statistics of the files a plan has the same shape for all
/// rows: told that a column has one value only, the planner leaves it out of the sort, and once
/// the plan is cut into stages nobody knows that any more.
pub(super) fn settings(config: SessionConfig, parts: usize, memory: u64) -> SessionConfig {
    let reserved = (memory / 8).clamp(1 << 16, 10 << 20) as usize;
    config
        .with_target_partitions(parts.max(1))
        .with_sort_spill_reservation_bytes(reserved)
        .set_bool("datafusion.optimizer.prefer_hash_join", false)
        .set_bool("datafusion.execution.collect_statistics", false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::agreement::{rows, runs};
    use arrow::array::UInt64Array;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A seat whose first sessions have no memory at all, so that their plans fail.
    struct Flaky(AtomicUsize);

    impl Seat for Flaky {
        fn session(&self, parts: usize, _: usize) -> Result<SessionContext, Error> {
            let fails =
                self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            let builder = RuntimeEnvBuilder::new();
            let builder = if fails.is_ok() { builder.with_memory_limit(1, 1.0) } else { builder };
            let runtime = builder.build_arc().map_err(Error::session)?;
            let config = settings(SessionConfig::new(), parts, 64 << 20);
            Ok(SessionContext::new_with_config_rt(config, runtime))
        }

        fn attempts(&self) -> usize {
            3
        }

        fn ready(&self, _: &Cancel) -> Result<(), crate::Error> {
            Ok(())
        }

        fn hint(&self) -> &'static str {
            "look elsewhere"
        }
    }

    /// What comes of a plan whose first `failures` attempts fail, and what is left of its work.
    fn tried(failures: usize) -> (Result<Vec<Vec<u64>>, crate::Error>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let crew = Crew::new(&dir.path().join("work"), 1, &Cancel::new()).unwrap();
        let flaky = async || Ok(Box::new(Flaky(AtomicUsize::new(failures))) as Box<dyn Seat>);
        let plans = Plans::new(&crew, &Cancel::new(), 1 << 20, flaky).unwrap();
        let input = runs(dir.path(), "in", (0..9000u64).map(|n| [n / 3, n]));
        let made = plans.run("lines", Plan::Frequent(2), &input).map(|made| rows(&made));
        let left = std::fs::read_dir(crew.stage("lines")).unwrap();
        (made, left.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn a_plan_that_fails_is_tried_again() {
        let expected: Vec<Vec<u64>> = (0..9000).map(|n| vec![n, n / 3]).collect();
        for failures in [0, 2] {
            let (made, mut left) = tried(failures);
            assert_eq!(made.unwrap(), expected);
            left.sort();
            assert!(left.len() == 2 && left[0] == "000000.done", "staged rows are gone: {left:?}");
            assert!(left[1].starts_with("made-") && left[1].ends_with("-0.run"), "{left:?}");
        }
    }

    #[test]
    fn a_plan_that_always_fails_says_how_often_and_what_to_do() {
        let (made, left) = tried(3);
        let error = made.unwrap_err().to_string();
        for part in ["lines", "3 times", "look elsewhere", "run the same command again"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(left, Vec::<String>::new());
    }

    #[test]
    fn results_that_are_no_words_are_no_rows() {
        let dir = tempfile::tempdir().unwrap();
        let rows = || Rows::<2>::new(1 << 20, &dir.path().join("r"), false);
        let words: arrow::array::ArrayRef = Arc::new(UInt64Array::from(vec![1]));
        let signed: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1]));
        let null: arrow::array::ArrayRef = Arc::new(UInt64Array::from(vec![None]));
        let batch = |columns: Vec<(&str, arrow::array::ArrayRef)>| {
            RecordBatch::try_from_iter(columns).unwrap()
        };
        assert!(rows().take(&batch(vec![("a", words.clone()), ("b", words.clone())])).is_ok());
        assert!(rows().take(&batch(vec![("a", words.clone()), ("b", signed)])).is_err());
        assert!(rows().take(&batch(vec![("a", words.clone()), ("b", null)])).is_err());
        assert!(rows().take(&batch(vec![("a", words)])).is_err());
    }
}
