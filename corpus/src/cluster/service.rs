//! The services of a cluster, from this very program: the scheduler, and executors that serve it.
//!
//! Executors ask the scheduler for work, so that only the ports of the executors' rows need to be
//! reachable, and by each other and the client alone. All plans are of DataFusion's own functions,
//! which both services register. The scheduler keeps its state in memory: when it ends, running
//! plans fail, and the client sends them again when it is back. There are no passwords: a cluster
//! belongs into a network of its own.
//!
//! Both run until they are interrupted or terminated. Not here: the client; see
//! [`super::Plans::at`].

use super::Error;
use super::ballista::host_and_port;
use ballista_core::RuntimeProducer;
use ballista_core::config::TaskSchedulingPolicy;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Seconds between two looks for dead executors.
const LOOK_FOR_DEAD: u64 = 2;
/// Seconds for which the rows of a finished plan are kept on the executors.
const KEEP_ROWS: u64 = 120;
/// Seconds for which an executor waits for its scheduler when it starts.
const CONNECT: u16 = 60;
/// How often jobs are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Looks at which a job may stand still: thrice as long as executors wait before they ask again.
const PATIENCE: usize = 8;
/// After how long a warning is repeated that was the last one too.
const AGAIN: Duration = Duration::from_secs(60);
/// How often a task, and a stage, is tried before the plan fails.
const TRIES: usize = 4;

/// How an executor is started.
#[derive(Clone, Debug)]
pub struct Executor {
    /// HOST:PORT of the scheduler.
    pub scheduler: String,
    /// Where it hands its rows to others; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The folder for rows under way and spills; a folder of its own is made in it.
    pub work: PathBuf,
    /// Tasks at a time.
    pub workers: usize,
    /// Bytes for all of them.
    pub memory: u64,
}

/// Runs a scheduler at `bind`, HOST:PORT with port 0 for a free one, until it is interrupted.
/// An executor that says nothing for `dead_after` counts as dead; they ask for work every five
/// seconds at least, also while they are busy. `started` hears where it listens.
///
/// # Errors
/// An address that is none or in use; what Ballista ends with.
pub fn scheduler(
    bind: &str,
    dead_after: Duration,
    started: impl FnOnce(SocketAddr),
) -> Result<(), Error> {
    let bind = host_and_port(bind, "0.0.0.0:50050")?;
    let fail = |reason: String| Error::Service { what: "scheduler", address: bind.clone(), reason };
    runtime(None).map_err(&fail)?.block_on(async {
        let in_use = |e: std::io::Error| fail(format!("{e}; choose another --bind HOST:PORT"));
        let listener = TcpListener::bind(&bind).await.map_err(in_use)?;
        let address = listener.local_addr().map_err(in_use)?;
        let config = SchedulerConfig {
            external_host: address.ip().to_string(),
            bind_port: address.port(),
            scheduling_policy: TaskSchedulingPolicy::PullStaged,
            executor_timeout_seconds: dead_after.as_secs(),
            expire_dead_executor_interval_seconds: LOOK_FOR_DEAD,
            no_executors_grace_period_seconds: dead_after.as_secs(),
            finished_job_data_clean_up_interval_seconds: KEEP_ROWS,
            task_max_failures: TRIES,
            stage_max_failures: TRIES,
            ..SchedulerConfig::default()
        };
        let said = |e: ballista_core::error::BallistaError| fail(e.to_string());
        let cluster = BallistaCluster::new_from_config(&config).await.map_err(said)?;
        let server = create_scheduler::<LogicalPlanNode, PhysicalPlanNode>(cluster, config.into())
            .await
            .map_err(said)?;
        started(address);
        let watched = server.clone();
        tokio::select! {
            () = watch(&watched) => Ok(()),
            ended = start_grpc_service_with_listener(listener, server) => ended.map_err(said),
            () = interrupted() => Ok(()),
        }
    })
}

/// Ends jobs that stand still: with an executor that asks for work, a job of which nothing runs and
/// nothing can be started has lost a stage. Its client hears that it was cancelled and sends it
/// again. Never returns.
async fn watch(server: &SchedulerServer<LogicalPlanNode, PhysicalPlanNode>) {
    let mut still = Still::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let mut idle = Vec::new();
        if server.is_ready() {
            for (job, known) in server.state.task_manager.get_running_job_cache().iter() {
                let graph = known.execution_graph.read().await;
                if graph.running_tasks().is_empty() && graph.available_tasks() == 0 {
                    idle.push(job.to_string());
                }
            }
        }
        for job in still.look(idle) {
            log::warn!("job {job} lost a stage and is ended, to be sent again");
            if let Err(error) = server.cancel_job(job.into()).await {
                log::warn!("it could not be ended: {error}");
            }
        }
    }
}

/// For how many looks each job has stood still.
#[derive(Default)]
struct Still(HashMap<String, usize>);

impl Still {
    /// Takes the jobs that stand still now; gives those that did so at all of the last
    /// [`PATIENCE`] looks, once.
    fn look(&mut self, idle: Vec<String>) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        for job in idle {
            let looks = before.get(&job).map_or(1, |looks| looks + 1);
            self.0.insert(job, looks);
        }
        let ripe = self.0.iter().filter(|(_, looks)| **looks == PATIENCE);
        ripe.map(|(job, _)| job.clone()).collect()
    }
}

/// Runs an executor until it is interrupted. `started` hears where it hands out its rows, which is
/// before the scheduler has heard of it.
///
/// # Errors
/// An address that is none or in use; a scheduler that does not answer within a minute; a folder
/// that cannot be written; what Ballista ends with.
pub fn executor(options: &Executor, started: impl FnOnce(SocketAddr)) -> Result<(), crate::Error> {
    let scheduler = host_and_port(&options.scheduler, "localhost:50050")?;
    let fail =
        |reason: String| Error::Service { what: "executor", address: scheduler.clone(), reason };
    let bind = free(options.bind).map_err(|e| {
        fail(format!("cannot listen at {}: {e}; choose another --bind", options.bind))
    })?;
    let work = options.work.join(format!("executor-{}", std::process::id()));
    quipu_store::atomic::create_dir(&work)?;
    let config = Arc::new(configuration(options, &scheduler, bind, &work));
    let ended = runtime(Some(options.workers)).map_err(&fail)?.block_on(async {
        started(bind);
        start_executor_process(config).await
    });
    std::fs::remove_dir_all(&work).map_err(crate::Error::io(&work))?;
    Ok(ended.map_err(|e| fail(e.to_string()))?)
}

fn configuration(
    options: &Executor,
    scheduler: &str,
    bind: SocketAddr,
    work: &Path,
) -> ExecutorProcessConfig {
    let (host, port) = scheduler.rsplit_once(':').unwrap_or((scheduler, ""));
    let spills = work.to_owned();
    // The default gives up at 100 GB of spills; here the disk is the limit.
    let producer: RuntimeProducer = Arc::new(move |_| {
        RuntimeEnvBuilder::new()
            .with_temp_file_path(spills.clone())
            .with_max_temp_directory_size(u64::MAX)
            .build_arc()
    });
    // Listening everywhere, it is known by the address that the scheduler sees it come from.
    let named = (!bind.ip().is_unspecified()).then(|| bind.ip().to_string());
    ExecutorProcessConfig {
        bind_host: bind.ip().to_string(),
        external_host: named,
        port: bind.port(),
        scheduler_host: host.to_owned(),
        scheduler_port: port.parse().unwrap_or_default(),
        scheduler_connect_timeout_seconds: CONNECT,
        vcores: options.workers.max(1),
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        work_dir: Some(work.to_string_lossy().into_owned()),
        memory_pool_size: Some(options.memory),
        override_runtime_producer: Some(producer),
        ..ExecutorProcessConfig::default()
    }
}

/// The address with a port that is free now: Ballista tells the scheduler the port it is given.
fn free(bind: SocketAddr) -> std::io::Result<SocketAddr> {
    std::net::TcpListener::bind(bind)?.local_addr()
}

fn runtime(workers: Option<usize>) -> Result<Runtime, String> {
    speak();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        // One more, so that heartbeats never wait for tasks.
        builder.worker_threads(workers + 1);
    }
    builder.enable_all().build().map_err(|e| e.to_string())
}

/// Returns when the process is asked to end.
async fn interrupted() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => _ = signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        () = terminated => (),
    }
}

/// Lets what Ballista warns of reach standard error: a lost executor, a task tried again. What it
/// says over and over (a scheduler that is gone) is said again only after [`AGAIN`].
pub(super) fn speak() {
    struct Voice(Mutex<Option<(String, Instant)>>);
    impl log::Log for Voice {
        fn enabled(&self, of: &log::Metadata) -> bool {
            of.level() <= log::Level::Warn
        }

        fn log(&self, record: &log::Record) {
            if !self.enabled(record.metadata()) {
                return;
            }
            let line = format!("{}: {}", record.level().as_str().to_lowercase(), record.args());
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.as_ref().is_some_and(|(said, at)| *said == line && at.elapsed() < AGAIN) {
                return;
            }
            eprintln!("{}", line.trim_end());
            *last = Some((line, Instant::now()));
        }

        fn flush(&self) {}
    }
    static VOICE: Voice = Voice(Mutex::new(None));
    // Where a program has a logger of its own, that one speaks.
    if log::set_logger(&VOICE).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_still_for_long_is_ended() {
        let mut still = Still::default();
        let idle = |jobs: &[&str]| jobs.iter().map(|j| (*j).to_owned()).collect::<Vec<_>>();
        for look in 1..PATIENCE {
            assert!(still.look(idle(&["a", "b"])).is_empty(), "look {look}");
        }
        // One moved on, and is counted from the start when it stops again.
        assert_eq!(still.look(idle(&["a"])), ["a"]);
        for _ in 1..PATIENCE {
            assert!(still.look(idle(&["a", "b"])).is_empty(), "a was named once");
        }
        assert_eq!(still.look(idle(&["a", "b"])), ["b"]);
    }
}
