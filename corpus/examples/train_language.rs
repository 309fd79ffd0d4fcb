//! Trains the language identifier and writes its weights: `train_language DATA_FOLDER [OUT]`; or
//! measures it by cross-validation over articles: `train_language DATA_FOLDER --folds 5`.
//!
//! Not a command of the program: the weights are shipped.

use quipu_corpus::language::{evaluate, train};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let data = Path::new(arguments.first().ok_or("usage: train_language DATA_FOLDER [OUT]")?);
    if arguments.get(1).is_some_and(|a| a == "--folds") {
        let folds = arguments.get(2).map_or(Ok(5), |n| n.parse())?;
        print(&evaluate::cross_validate(data, folds)?);
        return Ok(());
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/language.bin");
    let out = Path::new(arguments.get(1).map_or(shipped, |a| a.as_str()));
    let bytes = train::train(data)?;
    quipu_store::atomic::write_bytes(out, &bytes)?;
    println!("{}: {} bytes", out.display(), bytes.len());
    Ok(())
}

fn print(measured: &evaluate::Measured) {
    let parts = [
        ("articles, as their folders say", &measured.folders),
        ("articles, by the language of most of their text", &measured.articles),
        ("paragraphs, as their folders say", &measured.all_paragraphs),
        ("paragraphs that are not English in another folder", &measured.paragraphs),
        ("articles in two languages", &measured.mixed),
        ("declarations in languages that it does not know", &measured.unknown),
    ];
    for (name, score) in parts {
        println!(
            "{name}: {} texts, macro F1 {:.4}, other {:.4}, mixed {:.4}",
            score.count(),
            score.macro_f1(),
            score.share("other"),
            score.share("mixed")
        );
        let errors = score.errors();
        for (expected, found, count) in errors.iter().take(12) {
            print!("  {expected} as {found}: {count}");
        }
        println!();
    }
    for (language, f1) in measured.paragraphs.f1() {
        print!("{language} {f1:.3}  ");
    }
    println!();
}
