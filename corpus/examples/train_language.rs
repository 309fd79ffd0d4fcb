//! Trains the language identifier and writes its weights: `train_language DATA_FOLDER [OUT]`.
//!
//! Not a command of the program: the weights are shipped. Prints what was measured on paragraphs
//! that training did not see.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let data = arguments.next().ok_or("usage: train_language DATA_FOLDER [OUT]")?;
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/language.bin");
    let out = arguments.next().unwrap_or_else(|| shipped.into());
    let (bytes, measured) = quipu_corpus::language::train::train(&data)?;
    quipu_store::atomic::write_bytes(&out, &bytes)?;
    println!("{}: {} bytes", out.display(), bytes.len());
    println!(
        "macro F1 {:.4} over {} paragraphs kept back; called other: {:.4}",
        measured.macro_f1, measured.paragraphs, measured.unknown
    );
    for (language, found, count) in measured.confused.iter().take(25) {
        println!("  {language} taken for {found}: {count}");
    }
    Ok(())
}
