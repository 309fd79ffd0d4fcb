//! The plans on an Apache Ballista cluster.
//!
//! The client sends a plan, the scheduler cuts it into stages, executors read the staged rows from
//! the work folder (which they must see under the same path) and hand rows to each other; the last
//! rows come back here. When an executor dies, the scheduler gives its tasks to another, and makes
//! the rows that died with it anew; where that fails, or the rows of a finished job are gone with
//! their holder, the plan is sent again from its own input.
//!
//! Not here: starting a cluster; see [`super::service`].

use super::Error;
use super::engine::{self, Plans, Seat};
use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_core::config::BALLISTA_ADAPTIVE_PLANNER_ENABLED;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use quipu_store::Cancel;
use quipu_store::crew::Crew;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// How often a plan is sent.
const ATTEMPTS: usize = 4;
/// How long an executor may take to register: longer than a scheduler takes to find one dead.
const PATIENCE: Duration = Duration::from_secs(60);
/// After how long it is said that there is none yet.
const SOON: Duration = Duration::from_secs(2);
/// How long the scheduler may take to answer whether it is ready.
const ANSWER: Duration = Duration::from_secs(5);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(250);
/// Partitions of a plan: two rounds of a small cluster.
const PARTS: usize = 8;
/// Bytes that a task of an executor is taken to have for a sort.
const TASK_MEMORY: u64 = 64 << 20;

/// A session that sends its plans to a scheduler.
struct There {
    /// `HOST:PORT` of the scheduler; none where it lives in this process.
    address: Option<String>,
    state: SessionState,
}

impl<'a> Plans<'a> {
    /// On the cluster whose scheduler is at `address`, HOST:PORT; `memory` bytes for the rows that
    /// come back.
    ///
    /// # Errors
    /// An address that is none; nobody who answers there.
    pub fn at(
        address: &str,
        crew: &'a Crew,
        cancel: &Cancel,
        memory: u64,
    ) -> Result<Plans<'a>, crate::Error> {
        let address = host_and_port(address, "localhost:50050")?;
        // At once, before anything is staged for a scheduler that is not there.
        ask(&address)?;
        Plans::new(crew, cancel, memory, async || {
            let url = format!("df://{address}");
            let context = SessionContext::remote_with_state(&url, plain_state()).await;
            let state = context.map_err(Error::session)?.state();
            Ok(Box::new(There { address: Some(address), state }) as Box<dyn Seat>)
        })
    }

    /// On a whole cluster within this process, with `crew`'s workers as the executor's: what tests
    /// run the plans on, and a way to see them cut into stages without a second process.
    ///
    /// # Errors
    /// When it cannot listen on a port of this machine.
    pub fn standalone(
        crew: &'a Crew,
        cancel: &Cancel,
        memory: u64,
    ) -> Result<Plans<'a>, crate::Error> {
        Plans::new(crew, cancel, memory, async || {
            let context = SessionContext::standalone_with_state(plain_state()).await;
            let state = context.map_err(Error::session)?.state();
            Ok(Box::new(There { address: None, state }) as Box<dyn Seat>)
        })
    }
}

fn plain_state() -> SessionState {
    // The adaptive planner of Ballista 55 forgets a stage whose executor died while another ran its
    // tasks, and the job then waits for ever. What it would adapt, joins, the plans do not have.
    let config = engine::settings(SessionConfig::new_with_ballista(), PARTS, TASK_MEMORY)
        .set_bool(BALLISTA_ADAPTIVE_PLANNER_ENABLED, false);
    SessionStateBuilder::new().with_config(config).with_default_features().build()
}

/// `HOST:PORT` of an address that may have a scheme before and a slash behind.
pub(super) fn host_and_port(given: &str, example: &'static str) -> Result<String, Error> {
    let fail = |reason: &str| Error::Address {
        given: given.to_owned(),
        reason: reason.to_owned(),
        example,
    };
    let bare = given.split_once("://").map_or(given, |(_, rest)| rest).trim_end_matches('/');
    let (host, port) = bare.rsplit_once(':').ok_or_else(|| fail("it has no port"))?;
    if host.is_empty() || host.contains('/') {
        return Err(fail("it has no host"));
    }
    match port.parse::<u16>() {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(fail("its port is no number from 0 to 65535")),
    }
}

/// What the scheduler says to the question whether it has executors: status and first line.
fn ask(address: &str) -> Result<(bool, String), Error> {
    let unreachable = |source| Error::NoScheduler { address: address.to_owned(), source };
    let answer = || -> std::io::Result<String> {
        let missing = || std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        let socket = address.to_socket_addrs()?.next().ok_or_else(missing)?;
        let mut stream = TcpStream::connect_timeout(&socket, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let request =
            format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.take(1 << 16).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let answer = answer().map_err(unreachable)?;
    let ready = answer.split_whitespace().nth(1) == Some("200");
    let body = answer.split_once("\r\n\r\n").map_or(answer.as_str(), |(_, body)| body);
    Ok((ready, body.lines().find(|l| l.contains("ready")).unwrap_or("nothing").trim().to_owned()))
}

impl Seat for There {
    fn session(&self, parts: usize, _: usize) -> Result<SessionContext, Error> {
        let config = self.state.config().clone().with_target_partitions(parts.max(PARTS));
        let state =
            SessionStateBuilder::new_from_existing(self.state.clone()).with_config(config).build();
        let context = SessionContext::new_with_state(state);
        Ok(context)
    }

    fn attempts(&self) -> usize {
        ATTEMPTS
    }

    fn ready(&self, cancel: &Cancel) -> Result<(), crate::Error> {
        let Some(address) = &self.address else { return Ok(()) };
        let began = Instant::now();
        let mut said = false;
        loop {
            cancel.check()?;
            let (ready, answer) = ask(address)?;
            if ready {
                return Ok(());
            }
            if !said && began.elapsed() > SOON {
                said = true;
                log::warn!(
                    "waiting for an executor at the scheduler {address}, {PATIENCE:?} at most"
                );
            }
            if began.elapsed() > PATIENCE {
                let address = address.clone();
                return Err(Error::NoExecutor { address, waited: PATIENCE, answer }.into());
            }
            std::thread::sleep(ASK);
        }
    }

    fn hint(&self) -> &'static str {
        "look at what scheduler and executors print; each must see the work folder under the path \
         that it has here, and have room in its own"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::agreement::{on_all_plans, rows, runs};
    use crate::cluster::service;
    use crate::shuffle::{Plan, Shuffle};
    use std::net::TcpListener;
    use std::sync::mpsc;

    #[test]
    fn every_plan_makes_the_rows_of_the_embedded_one() {
        let dir = tempfile::tempdir().unwrap();
        let crew = Crew::new(dir.path(), 2, &Cancel::new()).unwrap();
        let ballista = Plans::standalone(&crew, &Cancel::new(), 64 << 20).unwrap();
        on_all_plans(&ballista, 4_000);
    }

    #[test]
    fn addresses() {
        let good = |given| host_and_port(given, "h:1").unwrap();
        assert_eq!(good("node7:50050"), "node7:50050");
        assert_eq!(good("df://node7:50050/"), "node7:50050");
        assert_eq!(good("[::1]:1"), "[::1]:1");
        for wrong in ["node7", ":1", "h:", "h:port", "h:70000", "http://a/b:1"] {
            let error = host_and_port(wrong, "h:1").unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("h:1"), "{error}");
        }
    }

    fn refused(address: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let crew = Crew::new(dir.path(), 1, &Cancel::new()).unwrap();
        let connected = Plans::at(address, &crew, &Cancel::new(), 1 << 20);
        connected.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn nobody_at_the_address() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let message = refused(&port.to_string());
        assert!(message.contains("quipu curate scheduler --bind"), "{message}");
        assert!(refused("nowhere").contains("no port"));
    }

    #[test]
    fn something_else_at_the_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 mail.example ready\r\n").unwrap();
        });
        let (ready, answer) = ask(&address).unwrap_or((false, "refused".into()));
        other.join().unwrap();
        assert!(!ready, "{answer}");
    }

    /// A scheduler of ours without executors: a request to stop ends the wait for them.
    #[test]
    fn no_executor_yet() {
        let (sender, receiver) = mpsc::channel();
        // It runs until the test's process ends.
        std::thread::spawn(move || {
            service::scheduler("127.0.0.1:0", Duration::from_secs(20), |at| {
                sender.send(at).unwrap();
            })
        });
        let address = receiver.recv().unwrap().to_string();
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let crew = Crew::new(&dir.path().join("work"), 1, &Cancel::new()).unwrap();
        let ballista = Plans::at(&address, &crew, &cancel, 1 << 20).unwrap();
        let (ready, answer) = ask(&address).unwrap();
        assert!(!ready && answer.contains("0/1 executors"), "{answer}");
        let input = runs(dir.path(), "in", [[1u64, 2], [1, 3]].into_iter());
        let asked = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(600));
            asked.request();
        });
        let stopped = ballista.run("s", Plan::First, &input).unwrap_err();
        assert!(matches!(stopped, crate::Error::Cancelled(_)), "{stopped}");
        // With one, the same cluster works.
        let work = dir.path().join("executor");
        let options = service::Executor {
            scheduler: address.clone(),
            bind: "127.0.0.1:0".parse().unwrap(),
            work,
            workers: 1,
            memory: 64 << 20,
        };
        std::thread::spawn(move || service::executor(&options, |_| ()));
        let crew = Crew::new(&dir.path().join("more"), 1, &Cancel::new()).unwrap();
        let ballista = Plans::at(&address, &crew, &Cancel::new(), 1 << 20).unwrap();
        assert_eq!(rows(&ballista.run("t", Plan::First, &input).unwrap()), [[3, 2]]);
    }
}
