//! The socket over which the processes of a run know of each other: who is there, who is alive, who
//! failed and with what. Rank 0 keeps it; every rank, rank 0 too, has one connection to it.
//!
//! A process that ends is noticed by its connection, one that hangs by its silence; the others then
//! learn which rank it was and why, wherever they are. At the end all wait until each has said what
//! it had to say, so that a launcher that kills what is left cuts nobody short.
//! What it is not: a way for tensors (a [`Link`](super::Link)), nor patience with a rank that lives
//! and does not come (`process/mod.rs`).

use crate::Error;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest line that is read: what a rank failed with may be long, an attack may be longer.
const LONGEST: usize = 64 << 10;
/// How often rank 0 looks at its connections.
const TURN: Duration = Duration::from_millis(10);
/// How long a rank that ends waits for the others to have said their last.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long ranks wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For all ranks to be there, and for one that lives to make a call.
    pub late: Duration,
    /// For a sign of life.
    pub silent: Duration,
}

impl Default for Patience {
    /// Ten minutes for a rank that lives, half a minute for one that may not.
    fn default() -> Self {
        Patience::new(Duration::from_secs(600))
    }
}

impl Patience {
    /// So long for a rank that lives; a twentieth of it, but a second at least, for a sign of life.
    pub fn new(late: Duration) -> Self {
        Patience { late, silent: (late / 20).max(Duration::from_secs(1)) }
    }
}

/// Where rank 0 listens, as it tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Its host's addresses, the likeliest first.
    pub hosts: Vec<IpAddr>,
    /// The port.
    pub port: u16,
    /// What those say who belong to this run.
    pub token: u64,
}

/// A line on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// From a rank: it is there.
    Here { rank: usize, token: u64 },
    /// From rank 0: so are all.
    Begin,
    /// A sign of life, and whether the rank waits for others.
    Alive { waits: bool },
    /// A rank failed; `late`: because another lives and does not come.
    Failed { rank: usize, why: String, late: bool },
    /// From a rank: it ends, and has said why.
    Bye,
    /// From rank 0: all have ended.
    Gone,
}

/// The lines that come over a connection.
#[derive(Default)]
pub(crate) struct Lines {
    read: Vec<u8>,
}

/// What became of reading a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Said(Said),
    /// Nothing for now.
    Nothing,
    /// No more: closed, broken, or what was sent is no line of ours.
    Closed,
}

impl Lines {
    /// The next line of what has been read, if there is a whole one.
    pub(crate) fn next(&mut self) -> Heard {
        let Some(end) = self.read.iter().position(|byte| *byte == b'\n') else {
            return if self.read.len() > LONGEST { Heard::Closed } else { Heard::Nothing };
        };
        let line: Vec<u8> = self.read.drain(..=end).collect();
        serde_json::from_slice(&line).map_or(Heard::Closed, Heard::Said)
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.read.extend_from_slice(bytes);
    }

    /// The next line of `stream`; waits as long as the stream is set to.
    fn hear(&mut self, mut stream: &TcpStream) -> Heard {
        let mut bytes = [0; 4096];
        loop {
            match self.next() {
                Heard::Nothing => {}
                heard => return heard,
            }
            match stream.read(&mut bytes) {
                Ok(0) => return Heard::Closed,
                Ok(n) => self.add(&bytes[..n]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Heard::Nothing;
                }
                Err(_) => return Heard::Closed,
            }
        }
    }
}

/// How many lines of what came over a connection are understood before it would be closed: for
/// attacks.
pub fn understood(bytes: &[u8]) -> usize {
    let mut lines = Lines::default();
    lines.add(bytes);
    std::iter::from_fn(|| matches!(lines.next(), Heard::Said(_)).then_some(())).count()
}

/// A line that cannot be sent is no news: the other end's silence is.
fn say(mut stream: &TcpStream, said: &Said) {
    let mut line = serde_json::to_vec(said).unwrap_or_default();
    line.push(b'\n');
    let _ = stream.write_all(&line);
}

/// What a rank knows of all.
#[derive(Default)]
struct Known {
    begun: bool,
    failed: Option<(usize, String)>,
    gone: bool,
}

/// A rank's end of the socket.
pub struct Rendezvous {
    rank: usize,
    patience: Patience,
    stream: TcpStream,
    known: Arc<(Mutex<Known>, Condvar)>,
    waits: Arc<AtomicBool>,
}

impl Rendezvous {
    /// Rank 0 listens for `ranks` connections; where, for the others.
    ///
    /// # Errors
    /// [`Error::Rendezvous`] with what the system says.
    pub fn listen(ranks: usize, hosts: Vec<IpAddr>, patience: Patience) -> Result<Address, Error> {
        let fail = |what: &str, e: std::io::Error| Error::Rendezvous {
            rank: 0,
            what: format!("{what}: {e}"),
        };
        let listener = TcpListener::bind(("0.0.0.0", 0)).map_err(|e| fail("listening", e))?;
        let port = listener.local_addr().map_err(|e| fail("its own port", e))?.port();
        listener.set_nonblocking(true).map_err(|e| fail("listening", e))?;
        let token = random();
        let keeper = Keeper::new(ranks, token, patience);
        let named = thread::Builder::new().name("rendezvous".into());
        named.spawn(move || keeper.keep(&listener)).map_err(|e| fail("a thread", e))?;
        Ok(Address { hosts, port, token })
    }

    /// Rank `rank` connects to where rank 0 listens, and waits until all have.
    ///
    /// # Errors
    /// [`Error::Rendezvous`]: nobody there, or not all came.
    pub fn join(rank: usize, address: &Address, patience: Patience) -> Result<Self, Error> {
        let fail = |what: String| Error::Rendezvous { rank, what };
        let stream = connect(address, patience.silent).map_err(fail)?;
        let beat = (patience.silent / 8).max(TURN);
        let set = stream.set_read_timeout(Some(beat)).and_then(|()| stream.set_nodelay(true));
        let copy = set.and_then(|()| stream.try_clone()).map_err(|e| fail(e.to_string()))?;
        say(&stream, &Said::Here { rank, token: address.token });
        let known = Arc::<(Mutex<Known>, Condvar)>::default();
        let waits = Arc::new(AtomicBool::new(false));
        let listen = Listens {
            stream: copy,
            known: known.clone(),
            waits: waits.clone(),
            silent: patience.silent,
        };
        let named = thread::Builder::new().name("heartbeat".into());
        named.spawn(move || listen.run()).map_err(|e| fail(format!("a thread: {e}")))?;
        let rendezvous = Rendezvous { rank, patience, stream, known, waits };
        rendezvous.until_begun()?;
        Ok(rendezvous)
    }

    fn until_begun(&self) -> Result<(), Error> {
        let limit = self.patience.late + self.patience.silent;
        let known = self.wait(limit, |known| known.begun || known.failed.is_some());
        match (&known.failed, known.begun) {
            (Some((failed, why)), _) => Err(Error::Rendezvous {
                rank: self.rank,
                what: format!("rank {failed} failed: {why}"),
            }),
            (None, true) => Ok(()),
            (None, false) => {
                let what = format!("rank 0 did not begin within {} s", limit.as_secs());
                Err(Error::Rendezvous { rank: self.rank, what })
            }
        }
    }

    fn wait(&self, limit: Duration, until: impl Fn(&Known) -> bool) -> MutexGuard<'_, Known> {
        let (known, changed) = &*self.known;
        let guard = known.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(guard, limit, |known| !until(known));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The rank that failed first and why, if one did.
    pub fn failed(&self) -> Option<(usize, String)> {
        self.known.0.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Says of this rank that it waits for others, or no longer does.
    pub fn set_waiting(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Tells all that this rank failed; `late`: because another lives and does not come.
    pub fn fail(&self, why: &str, late: bool) {
        let mut known = self.known.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.failed.is_none() {
            known.failed = Some((self.rank, why.into()));
            say(&self.stream, &Said::Failed { rank: self.rank, why: why.into(), late });
        }
    }

    /// Says that this rank ends, and waits a moment for the others to be as far.
    pub fn leave(&self) {
        say(&self.stream, &Said::Bye);
        drop(self.wait(FAREWELL, |known| known.gone));
    }
}

/// A number that nobody guesses.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// A connection to rank 0, wherever it is reached first.
fn connect(address: &Address, limit: Duration) -> Result<TcpStream, String> {
    let mut tried = Vec::new();
    for host in &address.hosts {
        let socket = SocketAddr::new(*host, address.port);
        match TcpStream::connect_timeout(&socket, limit.min(Duration::from_secs(5))) {
            Ok(stream) => return Ok(stream),
            Err(e) => tried.push(format!("{socket} ({e})")),
        }
    }
    Err(format!(
        "rank 0 is not reached at {}; name an address of its host in {}",
        tried.join(", "),
        super::ADDRESS
    ))
}

/// What a rank does with its connection: listens, and gives a sign of life now and then.
struct Listens {
    stream: TcpStream,
    known: Arc<(Mutex<Known>, Condvar)>,
    waits: Arc<AtomicBool>,
    silent: Duration,
}

impl Listens {
    fn run(self) {
        let (mut lines, mut heard_at) = (Lines::default(), Instant::now());
        let mut said_at = None::<Instant>;
        loop {
            if said_at.is_none_or(|at| at.elapsed() >= self.silent / 8) {
                said_at = Some(Instant::now());
                say(&self.stream, &Said::Alive { waits: self.waits.load(Ordering::Relaxed) });
            }
            let heard = lines.hear(&self.stream);
            if heard != Heard::Nothing {
                heard_at = Instant::now();
            }
            match heard {
                Heard::Said(Said::Begin) => self.learn(|known| known.begun = true),
                Heard::Said(Said::Failed { rank, why, .. }) => self.failed(rank, why),
                Heard::Said(Said::Gone) => return self.learn(|known| known.gone = true),
                Heard::Closed => {
                    self.failed(0, "its process ended".into());
                    return self.learn(|known| known.gone = true);
                }
                _ if heard_at.elapsed() > self.silent => {
                    let seconds = self.silent.as_secs();
                    self.failed(0, format!("nothing was heard of it for {seconds} s"));
                }
                _ => {}
            }
        }
    }

    fn failed(&self, rank: usize, why: String) {
        self.learn(|known| {
            known.failed.get_or_insert((rank, why));
        });
    }

    fn learn(&self, what: impl FnOnce(&mut Known)) {
        let (known, changed) = &*self.known;
        what(&mut known.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }
}

/// A connection as rank 0 keeps it.
struct Line {
    stream: TcpStream,
    lines: Lines,
    /// None before it has said who it is.
    rank: Option<usize>,
    heard_at: Instant,
    waits: bool,
    /// It ended in order.
    left: bool,
    open: bool,
}

/// Rank 0's side of all connections.
struct Keeper {
    ranks: usize,
    token: u64,
    patience: Patience,
    began_at: Instant,
    begun: bool,
    failed: bool,
    lines: Vec<Line>,
}

impl Keeper {
    fn new(ranks: usize, token: u64, patience: Patience) -> Self {
        let (began_at, lines) = (Instant::now(), Vec::new());
        Keeper { ranks, token, patience, began_at, begun: false, failed: false, lines }
    }

    /// Until all have ended.
    fn keep(mut self, listener: &TcpListener) {
        let mut told_at = Instant::now();
        while !self.is_over() {
            self.accept(listener);
            for i in 0..self.lines.len() {
                self.hear(i);
            }
            self.lines.retain(|line| line.open || line.rank.is_some());
            self.judge();
            if told_at.elapsed() >= self.patience.silent / 8 {
                told_at = Instant::now();
                self.tell(&Said::Alive { waits: false });
            }
            thread::sleep(TURN);
        }
        self.tell(&Said::Gone);
    }

    /// Every rank has left or is lost, and there was one.
    fn is_over(&self) -> bool {
        let known = self.lines.iter().filter(|line| line.rank.is_some());
        (self.begun || self.failed) && known.clone().all(|line| line.left || !line.open)
    }

    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            self.lines.push(Line {
                stream,
                lines: Lines::default(),
                rank: None,
                heard_at: Instant::now(),
                waits: false,
                left: false,
                open: true,
            });
        }
    }

    /// Takes in all that one connection says.
    fn hear(&mut self, i: usize) {
        while self.lines[i].open {
            let line = &mut self.lines[i];
            let heard = line.lines.hear(&line.stream);
            match heard {
                Heard::Nothing => return,
                Heard::Closed => self.closed(i),
                Heard::Said(said) => {
                    line.heard_at = Instant::now();
                    self.said(i, said);
                }
            }
        }
    }

    fn closed(&mut self, i: usize) {
        let line = &mut self.lines[i];
        line.open = false;
        if let (Some(rank), false) = (line.rank, line.left) {
            self.fail(rank, "its process ended (was it killed, or its host lost?)".into());
        }
    }

    fn said(&mut self, i: usize, said: Said) {
        let line = &mut self.lines[i];
        match (said, line.rank) {
            (Said::Here { rank, token }, None) if token == self.token && rank < self.ranks => {
                line.rank = Some(rank);
            }
            // somebody who does not belong here
            (_, None) => line.open = false,
            (Said::Alive { waits }, Some(_)) => line.waits = waits,
            (Said::Failed { rank, why, late: true }, Some(_)) => self.late(rank, why),
            (Said::Failed { rank, why, late: false }, Some(_)) => self.fail(rank, why),
            (Said::Bye, Some(_)) => line.left = true,
            (Said::Here { .. } | Said::Begin | Said::Gone, Some(_)) => {}
        }
    }

    /// Who is not there, who is silent.
    fn judge(&mut self) {
        if !self.begun {
            let here: Vec<usize> = self.lines.iter().filter_map(|line| line.rank).collect();
            if here.len() == self.ranks {
                self.begun = true;
                self.tell(&Said::Begin);
            } else if self.began_at.elapsed() > self.patience.late && !self.failed {
                let absent: Vec<usize> = (0..self.ranks).filter(|r| !here.contains(r)).collect();
                let seconds = self.patience.late.as_secs();
                let why = format!("it did not come within {seconds} s (absent: {absent:?})");
                self.fail(absent[0], why);
            }
        }
        let silent = self.patience.silent;
        let lost = self.lines.iter().find(|line| {
            line.open && !line.left && line.rank.is_some() && line.heard_at.elapsed() > silent
        });
        if let Some(rank) = lost.and_then(|line| line.rank) {
            let seconds = silent.as_secs();
            self.fail(
                rank,
                format!("nothing was heard of it for {seconds} s (its process hangs, or its host)"),
            );
            self.lines.iter_mut().filter(|line| line.rank == Some(rank)).for_each(|line| {
                line.open = false;
            });
        }
    }

    /// A rank waited in vain: perhaps for one that waits itself, so that it is told who does not.
    fn late(&mut self, rank: usize, mut why: String) {
        let busy = self.lines.iter().filter(|line| line.open && !line.waits && !line.left);
        let mut busy: Vec<usize> =
            busy.filter_map(|line| line.rank).filter(|r| *r != rank).collect();
        busy.sort_unstable();
        if !busy.is_empty() {
            why += &format!(" (ranks {busy:?} are in no call)");
        }
        self.fail(rank, why);
    }

    /// Tells all of the first failure.
    fn fail(&mut self, rank: usize, why: String) {
        if !std::mem::replace(&mut self.failed, true) {
            self.tell(&Said::Failed { rank, why, late: false });
        }
    }

    fn tell(&self, said: &Said) {
        let open = self.lines.iter().filter(|line| line.open && line.rank.is_some());
        open.for_each(|line| say(&line.stream, said));
    }
}
