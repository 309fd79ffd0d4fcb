//! `cargo xtask docs`: runs the speedrun as the README says and pastes what it printed between
//! two marks in README.md, so that the transcript there is of a real run and says which.

use crate::run::{self, Error};
use std::process::Command;
use std::time::Instant;

const BEGIN: &str = "<!-- transcript: begin (cargo xtask docs writes this) -->";
const END: &str = "<!-- transcript: end -->";

/// Runs the command.
pub fn run(flags: &[&str]) -> Result<bool, Error> {
    run::known(flags, &[], &["--seed"])?;
    let root = run::root();
    let quipu = run::build_quipu(&root)?;
    let dir = std::env::temp_dir().join(format!("quipu-docs-{}", std::process::id()));
    let mut command = Command::new(&quipu);
    command.arg("speedrun").arg("--run-dir").arg(&dir);
    if let Some(seed) = run::value(flags, "--seed")? {
        command.args(["--seed", seed]);
    }
    let start = Instant::now();
    let printed = run::output(command.current_dir(&root))?;
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    let (date, machine, commit) = (run::today(), run::machine(), run::commit(&root));
    let shown = printed.replace(&*dir.to_string_lossy(), "runs/speedrun");
    let transcript = format!(
        "```text\n$ cargo run --release -- speedrun\n{}\n```\n\n\
         {date}, commit {commit}, {machine}, {minutes:.1} minutes after the build.",
        shown.trim_end()
    );
    let path = root.join("README.md");
    let readme = paste(&std::fs::read_to_string(&path)?, &transcript)?;
    std::fs::write(&path, readme)?;
    std::fs::remove_dir_all(&dir)?;
    println!("README.md has the transcript of a run of {minutes:.1} minutes");
    Ok(true)
}

/// `readme` with `transcript` between the marks.
fn paste(readme: &str, transcript: &str) -> Result<String, Error> {
    let (before, rest) =
        readme.split_once(BEGIN).ok_or_else(|| format!("README.md lacks {BEGIN}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("README.md lacks {END}"))?;
    Ok(format!("{before}{BEGIN}\n{transcript}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transcript_replaces_the_old_one() {
        let readme = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(paste(&readme, "new").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert!(paste("nothing", "new").is_err());
    }
}
