//! Writes a world: `cargo run -p quipu-world --example write_world -- DIR [SIZE] [SEED]`.

use quipu_store::{cancel::Cancel, progress};
use quipu_world::{Size, write};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("give a folder")?;
    let size: Size = arguments.next().as_deref().unwrap_or("1").parse()?;
    let seed: u64 = arguments.next().as_deref().unwrap_or("1").parse()?;
    let start = std::time::Instant::now();
    let summary = write(Path::new(&dir), &size, seed, &*progress::silent(), &Cancel::new())?;
    println!("{summary:?} in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}
