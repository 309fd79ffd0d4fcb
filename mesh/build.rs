//! With the feature `mpi`: compiles `src/process/mpi.c` against the MPI that is installed and links
//! it. Without: nothing.

fn main() {
    println!("cargo:rerun-if-changed=src/process/mpi.c");
    println!("cargo:rerun-if-env-changed=MPICC");
    #[cfg(feature = "mpi")]
    mpi();
}

#[cfg(feature = "mpi")]
fn mpi() {
    let library = build_probe_mpi::probe().unwrap_or_else(|errors| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!(
            "the feature 'mpi' needs an MPI with its compiler mpicc (Debian: libopenmpi-dev; another \
             is named in MPICC): {}",
            all.join("; ")
        )
    });
    let mut build = cc::Build::new();
    build.file("src/process/mpi.c").includes(&library.include_paths).compile("quipu_mpi");
    library.lib_paths.iter().for_each(|path| {
        println!("cargo:rustc-link-search=native={}", path.display());
    });
    library.libs.iter().for_each(|name| println!("cargo:rustc-link-lib={name}"));
}
