//! The plans in this process: DataFusion with a limit of memory, spilling to the work folder.
//!
//! It is the oracle of the embedded shuffles and the way to try a plan without a cluster. The
//! limit covers what sorts and exchanges hold; beside it stand the batches that are under way (a
//! few MiB for each worker) and the rows of the result that wait to be sorted. A plan that fails is
//! tried once more in one partition.

use super::Error;
use super::engine::{self, Plans, Seat};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use quipu_store::Cancel;
use quipu_store::crew::Crew;
use std::path::PathBuf;
use std::sync::Arc;

/// Less than this no plan can work with: some batches for each worker.
const LEAST: u64 = 4 << 20;

/// The session of this process.
struct Here {
    /// Where spills go.
    spill: PathBuf,
    workers: usize,
    /// Bytes of all of them.
    memory: u64,
}

impl<'a> Plans<'a> {
    /// In this process, with the workers of `crew` as threads and `memory` bytes for all of them;
    /// spills go below the crew's folder.
    ///
    /// # Errors
    /// When threads or the folder of spills cannot be made.
    pub fn here(crew: &'a Crew, cancel: &Cancel, memory: u64) -> Result<Plans<'a>, crate::Error> {
        let workers = crew.workers();
        // A quarter for the rows that come back, the rest for the plan.
        let plan = (memory / 4 * 3).max(LEAST * workers as u64);
        let spill = crew.stage("spill");
        quipu_store::atomic::create_dir(&spill)?;
        Plans::new(crew, cancel, memory / 4, async || {
            Ok(Box::new(Here { spill, workers, memory: plan }) as Box<dyn Seat>)
        })
    }
}

impl Here {
    /// Memory and spills of one attempt. What is left of the one before it may hold memory for a
    /// moment after it has failed, which is not to be missed by this one.
    fn runtime(&self) -> Result<Arc<RuntimeEnv>, Error> {
        RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(self.memory as usize)))
            .with_temp_file_path(&self.spill)
            .with_max_temp_directory_size(u64::MAX)
            .build_arc()
            .map_err(Error::session)
    }
}

impl Seat for Here {
    fn session(&self, _: usize, attempt: usize) -> Result<SessionContext, Error> {
        // More partitions than workers would only share the memory among more sorts. What several
        // hold at a time hangs on the moment: when one begins its merge, the others may hold what
        // that needs. Alone it has all.
        let parts = if attempt == 1 { self.workers } else { 1 };
        let config = engine::settings(SessionConfig::new(), parts, self.memory / parts as u64);
        Ok(SessionContext::new_with_config_rt(config, self.runtime()?))
    }

    fn attempts(&self) -> usize {
        if self.workers > 1 { 2 } else { 1 }
    }

    fn ready(&self, _: &Cancel) -> Result<(), crate::Error> {
        Ok(())
    }

    fn hint(&self) -> &'static str {
        "if memory is what it lacks, give more or fewer workers"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::agreement::{drawn, on_all_plans, rows, runs};
    use crate::shuffle::{Embedded, Plan, Shuffle, components};

    #[test]
    fn every_plan_makes_the_rows_of_the_embedded_one() {
        let dir = tempfile::tempdir().unwrap();
        let crew = Crew::new(dir.path(), 3, &Cancel::new()).unwrap();
        let local = Plans::here(&crew, &Cancel::new(), 256 << 20).unwrap();
        on_all_plans(&local, 20_000);
    }

    /// 32 MB of rows, half of them one group, in 16 MiB: it cannot be done without spilling.
    #[test]
    fn what_does_not_fit_is_spilled() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let crew = Crew::new(&dir.path().join("work"), 2, &cancel).unwrap();
        let many = (0..2_000_000u64)
            .map(|n| [if n % 2 == 0 { 5 } else { drawn(n, 50_000) }, drawn(n * 7, 1 << 50)]);
        let input = runs(dir.path(), "in", many);
        let local = Plans::here(&crew, &cancel, 16 << 20).unwrap();
        let embedded = Embedded::new(&crew, 64 << 20);
        for (name, plan) in [("first", Plan::First), ("frequent", Plan::Frequent(2))] {
            let found = rows(&local.run(&format!("{name}-local"), plan, &input).unwrap());
            let expected = rows(&embedded.run(name, plan, &input).unwrap());
            assert!(expected.len() > 1_000_000);
            assert!(found == expected, "{name}: {} rows, not {}", found.len(), expected.len());
        }
        let left = std::fs::read_dir(crew.stage("spill")).unwrap().flatten();
        let bytes: u64 = left
            .flat_map(|d| std::fs::read_dir(d.path()).into_iter().flatten().flatten())
            .map(|file| file.metadata().unwrap().len())
            .sum();
        assert_eq!(bytes, 0, "spills are gone when their plan is done");
    }

    #[test]
    fn components_need_no_more_than_the_plans() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let crew = Crew::new(&dir.path().join("work"), 2, &cancel).unwrap();
        // chains of 40, some of them tied together
        let chains = (1..2_000u64).filter(|n| n % 40 != 0).map(|n| [n, n - 1]);
        let ties = (0..30).map(|n| [drawn(n, 2_000), drawn(n * 3 + 1, 2_000)]);
        let edges = chains.chain(ties).filter(|[a, b]| a != b).flat_map(|[a, b]| [[a, b], [b, a]]);
        let edges = runs(dir.path(), "edges", edges);
        let local = Plans::here(&crew, &cancel, 64 << 20).unwrap();
        let found = rows(&components(&local, "local", edges.clone()).unwrap());
        let embedded = Embedded::new(&crew, 64 << 20);
        assert_eq!(found, rows(&components(&embedded, "embedded", edges).unwrap()));
        assert!(found.len() > 3_000);
    }

    #[test]
    fn a_finished_plan_is_not_run_again_and_a_request_stops_one() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let crew = Crew::new(&dir.path().join("work"), 1, &Cancel::new()).unwrap();
        let input = runs(dir.path(), "in", (0..1000u64).map(|n| [n / 3, n]));
        let local = Plans::here(&crew, &cancel, 64 << 20).unwrap();
        let first = local.run("s", Plan::First, &input).unwrap();
        for path in &input.paths {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(local.run("s", Plan::First, &input).unwrap(), first);
        assert!(local.run("t", Plan::First, &input).is_err(), "its runs are gone");
        let input = runs(dir.path(), "in", (0..1000u64).map(|n| [n / 3, n]));
        cancel.request();
        let stopped = local.run("u", Plan::First, &input).unwrap_err();
        assert!(matches!(stopped, crate::Error::Cancelled(_)), "{stopped}");
        let left: Vec<_> = std::fs::read_dir(crew.stage("u")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_folder_whose_name_looks_like_a_pattern() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a [b]*? 100% ü#");
        let crew = Crew::new(&odd, 1, &Cancel::new()).unwrap();
        let input = runs(dir.path(), "in", [[1u64, 2], [1, 3]].into_iter());
        let local = Plans::here(&crew, &Cancel::new(), 64 << 20).unwrap();
        let made = local.run("s", Plan::First, &input).unwrap();
        assert_eq!(rows(&made), [[3, 2]]);
    }
}
