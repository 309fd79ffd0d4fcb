//! Processes without MPI: each rank a thread with a link of its own, over the real socket.

use super::rendezvous::{Address, Heard, Lines, Rendezvous, Said};
use super::{Link, Message, Patience, understood};
use crate::transport::Payload;
use crate::{Axes, Error, Use, World};
use quipu_math::{DType, Device, Reference};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Queues of messages, one for each rank, and what rank 0 told.
#[derive(Default)]
struct Queues {
    come: Vec<Mutex<VecDeque<Message>>>,
    told: Mutex<Option<Vec<u8>>>,
}

struct Queued {
    rank: usize,
    queues: Arc<Queues>,
}

impl Link for Queued {
    fn place(&self) -> (usize, usize) {
        (self.rank, self.queues.come.len())
    }

    fn send(&self, to: usize, header: Vec<u8>, payload: Payload) -> Result<(), String> {
        let message = (self.rank, header, payload.bytes().to_vec());
        self.queues.come[to].lock().unwrap().push_back(message);
        Ok(())
    }

    fn poll(&self) -> Result<Option<Message>, String> {
        Ok(self.queues.come[self.rank].lock().unwrap().pop_front())
    }

    fn first_tells(&self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        if self.rank == 0 {
            *self.queues.told.lock().unwrap() = Some(bytes);
        }
        loop {
            if let Some(told) = &*self.queues.told.lock().unwrap() {
                return Ok(told.clone());
            }
            std::thread::yield_now();
        }
    }

    fn is_idle(&self) -> Result<bool, String> {
        Ok(true)
    }

    fn finish(&self) {}
}

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Patience =
    Patience { late: Duration::from_secs(60), silent: Duration::from_secs(20) };

/// What `work` returns on each of `ranks` processes.
fn on<T: Send>(
    ranks: usize,
    patience: Patience,
    work: impl Fn(World) -> Result<T, Error> + Sync,
) -> Vec<Result<T, Error>> {
    let come = (0..ranks).map(|_| Mutex::default()).collect();
    let queues = Arc::new(Queues { come, told: Mutex::default() });
    let one = |rank: usize| {
        let link = Box::new(Queued { rank, queues: queues.clone() });
        let world = World::of(link, vec![HERE], patience)?;
        let done = work(world.clone());
        world.leave(done.as_ref().err().map(ToString::to_string).as_deref());
        done
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || one(rank))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    })
}

/// Sums and letters over a mesh, as bits.
fn exercise(world: &World, axes: Axes) -> Vec<Vec<u64>> {
    let work = |mesh: crate::Mesh| -> Result<Vec<u64>, Box<dyn std::error::Error + Send + Sync>> {
        let device: &dyn Device = &Reference::new();
        let size = [1.0, 1e3, 1e6];
        let number = |i: usize| (0.1 + (mesh.rank() * 31 + i) as f64).sqrt() * size[i % 3];
        let view = device.matrix(DType::F32, 1, 24)?;
        device.write_floats(&view, &(0..24).map(number).collect::<Vec<_>>())?;
        for usage in [Use::Gradients, Use::Activations, Use::World] {
            mesh.group(usage).all_reduce(device, &view)?;
        }
        let stages = mesh.group(Use::Stages);
        let (next, last) =
            ((stages.index() + 1) % stages.size(), stages.index() + stages.size() - 1);
        if !stages.is_one() {
            stages.send(device, &view, next, 7)?;
            stages.receive(device, &view, last % stages.size(), 7)?;
        }
        Ok(device.read_f64(&view)?.into_iter().map(f64::to_bits).collect())
    };
    world.launch(axes, work).unwrap()
}

#[test]
fn processes_have_the_bits_of_threads() {
    for axes in ["tp=2,dp=2", "pp=2,cp=2", "tp=2,cp=2,pp=2,dp=1"] {
        let axes = Axes::parse(axes).unwrap();
        let expected = exercise(&World::Threads, axes);
        // two meshes in one run do not mix their calls
        let found = on(axes.world(), PATIENCE, |world| {
            exercise(&world, axes);
            Ok(exercise(&world, axes).swap_remove(0))
        });
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        assert_eq!(found, expected, "{axes}");
    }
}

#[test]
fn the_first_goes_before_the_others() {
    let order = Mutex::new(Vec::new());
    let found = on(3, PATIENCE, |world| {
        world.first(|| {
            order.lock().unwrap().push(world.leads());
            Ok::<_, Error>(())
        })?;
        let alone = world.alone(|| Ok::<_, Error>(5))?;
        assert_eq!(alone.is_some(), world.leads());
        assert!(world.told(world.leads())? && !world.told(!world.leads())?);
        Ok(world.beside(Axes::data(3)?))
    });
    assert!(found.iter().all(|beside| matches!(beside, Ok(3))), "{found:?}");
    assert_eq!(*order.lock().unwrap(), [true, false, false]);
}

/// What each of three ranks ends with, where `what` goes wrong.
fn check(what: impl Fn(&World, usize) -> Result<(), Error> + Sync, says: [&[&str]; 3]) {
    let patience = Patience { late: Duration::from_millis(300), ..PATIENCE };
    let axes = Axes::data(3).unwrap();
    let found = on(3, patience, |world| {
        let done = world.launch(axes, |mesh| {
            what(&world, mesh.rank())?;
            mesh.group(Use::World).barrier()
        });
        done.map(drop).map_err(|error| match error {
            crate::LaunchError::Rank { error, .. } | crate::LaunchError::Start(error) => error,
            other => panic!("{other}"),
        })
    });
    for (found, says) in found.iter().zip(says) {
        let error = found.as_ref().unwrap_err().to_string();
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn a_rank_that_fails_is_named_on_all() {
    let wrong = |rank| Error::NoSuchRank { rank, axes: "dp=3".into(), last: 2 };
    let one = |_: &World, rank: usize| if rank == 1 { Err(wrong(77)) } else { Ok(()) };
    let others: &[&str] = &["group world", "barrier", "rank 1 failed", "rank 77"];
    check(one, [others, &["rank 77"], others]);
}

#[test]
fn a_rank_that_is_late_is_named_on_all() {
    let one = |_: &World, rank: usize| {
        if rank == 2 {
            std::thread::sleep(Duration::from_millis(900));
        }
        Ok(())
    };
    let others: &[&str] = &["group world", "call 0", "ranks [2] have not made this call"];
    check(one, [others, others, &["failed", "ranks [2]"]]);
}

#[test]
fn ranks_that_work_on_other_things_are_told_the_first_line_that_differs() {
    let one = |world: &World, rank: usize| {
        let recipe = if rank == 2 { "steps = 10\nseed = 2" } else { "steps = 10\nseed = 1" };
        world.same("recipe", recipe)
    };
    let first: &[&str] = &["the recipe of rank 2 is another: seed = 2 there, seed = 1 here"];
    check(one, [first, &["recipe"], &["recipe"]]);
}

#[test]
fn a_mesh_of_other_ranks_than_processes_is_refused() {
    let found = on(2, PATIENCE, |world| {
        let done = world.launch(Axes::data(4)?, |_| Ok::<_, Error>(()));
        Ok(done.unwrap_err().to_string())
    });
    for found in found {
        let said = found.unwrap();
        assert!(said.contains("dp=4 has 4 ranks, but 2 processes"), "{said}");
    }
}

/// A rank that only says it is there, as a stream that the test may close or leave open.
fn silent(rank: usize, address: &Address) -> TcpStream {
    let mut stream = TcpStream::connect((HERE, address.port)).unwrap();
    let said = serde_json::to_string(&Said::Here { rank, token: address.token }).unwrap();
    writeln!(stream, "{said}").unwrap();
    stream
}

fn joined(patience: Patience) -> (Rendezvous, TcpStream) {
    let address = Rendezvous::listen(2, vec![HERE], patience).unwrap();
    // who does not belong here changes nothing
    let mut stranger = TcpStream::connect((HERE, address.port)).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let other = silent(1, &address);
    (Rendezvous::join(0, &address, patience).unwrap(), other)
}

fn failure(rendezvous: &Rendezvous) -> (usize, String) {
    for _ in 0..1000 {
        if let Some(failed) = rendezvous.failed() {
            return failed;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("nobody was told");
}

#[test]
fn a_process_that_ends_or_is_silent_is_noticed() {
    let (rendezvous, other) = joined(PATIENCE);
    assert_eq!(rendezvous.failed(), None);
    drop(other);
    let (rank, why) = failure(&rendezvous);
    assert!(rank == 1 && why.contains("its process ended"), "{rank}: {why}");
    let patience = Patience { silent: Duration::from_millis(300), ..PATIENCE };
    let (rendezvous, _other) = joined(patience);
    let (rank, why) = failure(&rendezvous);
    assert!(rank == 1 && why.contains("nothing was heard of it"), "{rank}: {why}");
}

#[test]
fn who_does_not_come_is_named() {
    let patience = Patience { late: Duration::from_millis(200), ..PATIENCE };
    let address = Rendezvous::listen(3, vec![HERE], patience).unwrap();
    let _other = silent(1, &address);
    let error = Rendezvous::join(0, &address, patience).err().unwrap().to_string();
    assert!(error.contains("absent: [2]"), "{error}");
}

#[test]
fn seeds_and_attacks_do_no_harm() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let files = |folder: &str| {
        let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
        entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
    };
    let seeds = files("corpus/rendezvous");
    assert!(seeds.len() >= 2 && seeds.iter().all(|bytes| understood(bytes) == 3));
    assert!(files("attacks").iter().all(|bytes| understood(bytes) == 0));
}

#[test]
fn lines_of_others_close_a_connection() {
    let check = |bytes: &[u8], expected: Heard| {
        let mut lines = Lines::default();
        lines.add(bytes);
        assert_eq!(lines.next(), expected);
    };
    check(b"\"Bye\"\n", Heard::Said(Said::Bye));
    check(b"\"Bye\"", Heard::Nothing);
    check(b"\n", Heard::Closed);
    check(b"{\"Here\":{\"rank\":-1,\"token\":0}}\n", Heard::Closed);
    check(b"\xff\xfe\n", Heard::Closed);
    check(&[b'x'; 70_000], Heard::Closed);
}
