//! Ranks as processes that `mpirun` starts: on each mesh they have the bits of threads.

use crate::world::{Case, Rank};
use crate::{SHARED, SOME, TEN, all};
use quipu_mesh::process::Patience;
use quipu_mesh::{World, launch};
use quipu_store::checksum;
use quipu_train::Parallel;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What the processes are told: meshes, and where to leave what they find.
const MESHES: &str = "QUIPU_TEST_MESHES";
const OUT: &str = "QUIPU_TEST_OUT";
/// More ranks than this are more than two cores are for.
const MOST: usize = 8;

fn case(mesh: &str) -> Case {
    let batch = if mesh.contains("v=") { TEN } else { crate::RAGGED };
    Case { tied: true, steps: 3, batch, ..Case::default() }
}

/// Everything that a rank has at the end, as one number.
fn digest(rank: &Rank) -> String {
    checksum::xxh3_bytes(format!("{rank:?}").as_bytes())
}

fn ranks(mesh: &str) -> usize {
    mesh.parse::<Parallel>().unwrap().axes.world()
}

/// One of the processes: all meshes, one after the other.
fn one_of_several(meshes: &str) {
    let world = World::enter(Patience::default()).unwrap();
    let out = std::env::var(OUT).unwrap();
    for (i, mesh) in meshes.split(' ').enumerate() {
        let parallel: Parallel = mesh.parse().unwrap();
        let work = |ranks| case(mesh).rank(ranks, &parallel);
        let done = world.launch(parallel.axes, work);
        if let Err(error) = &done {
            world.leave(Some(&error.to_string()));
        }
        let rank = done.unwrap().swap_remove(0);
        let place = Path::new(&out).join(format!("{i}-{}", rank.number));
        std::fs::write(place, digest(&rank)).unwrap();
    }
    world.leave(None);
}

fn check(test: &str, meshes: &[&str]) {
    if let Ok(meshes) = std::env::var(MESHES) {
        return one_of_several(&meshes);
    }
    if !cfg!(feature = "mpi") {
        println!("SKIPPED: processes over MPI: built without the feature mpi");
        return;
    }
    let mut by_size = BTreeMap::<usize, Vec<&str>>::new();
    for mesh in meshes.iter().filter(|mesh| ranks(mesh) <= MOST) {
        by_size.entry(ranks(mesh)).or_default().push(mesh);
    }
    for (size, meshes) in by_size {
        let out = tempfile::tempdir().unwrap();
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", &size.to_string()]);
        command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--include-ignored"]);
        command.env(MESHES, meshes.join(" ")).env(OUT, out.path());
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{meshes:?}: {}", String::from_utf8_lossy(&ended.stderr));
        for (i, mesh) in meshes.iter().enumerate() {
            let parallel: Parallel = mesh.parse().unwrap();
            let threads = launch(parallel.axes, |ranks| case(mesh).rank(ranks, &parallel)).unwrap();
            for (rank, expected) in threads.iter().enumerate() {
                let found = std::fs::read_to_string(out.path().join(format!("{i}-{rank}")));
                assert_eq!(found.unwrap(), digest(expected), "{mesh}, rank {rank}");
            }
            println!("mpi {mesh}: the bits of threads on {size} ranks");
        }
    }
}

#[test]
fn some_meshes_over_mpi_have_the_bits_of_threads() {
    let some = [&SOME[..], &SHARED[..4]].concat();
    check("processes::some_meshes_over_mpi_have_the_bits_of_threads", &some);
}

#[test]
#[ignore = "minutes: `cargo xtask test --full`"]
fn every_mesh_over_mpi_has_the_bits_of_threads() {
    let all = all();
    let all: Vec<&str> = all.iter().map(String::as_str).chain(SHARED).collect();
    check("processes::every_mesh_over_mpi_has_the_bits_of_threads", &all);
}
