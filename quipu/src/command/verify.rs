//! `quipu verify`: the program against reference tensors. Not the comparison (that is `verify`'s).

use super::Setting;
use crate::cli::Referee;
use crate::error::{Error, Kind};
use crate::stage::device;
use quipu_math::{Device, Opaque, Reference};
use quipu_model::Config;
use quipu_train::recipe::Dtype;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// Prints the largest error of each group; fails where one is out of tolerance.
pub fn run(
    model: &Path,
    case: &Path,
    (referee, dtype, mesh): (Referee, Dtype, &str),
    setting: &Setting,
) -> Result<(), Error> {
    if !model.is_dir() {
        let wanted = "expected the folder of a Hugging Face checkpoint";
        return Err(Error::data(format!("{} is no folder; {wanted}", model.display())));
    }
    let parallel = device::parallel_of(mesh, &setting.world, &Config::load(model)?)?;
    let threads = device::threads(&parallel);
    let device = || -> Arc<dyn Device> {
        match referee {
            Referee::Cpu => device::of_threads(threads),
            Referee::Reference => Arc::new(Reference::new()),
            Referee::Opaque => Arc::new(Opaque::new(device::of_threads(threads))),
        }
    };
    let rows = quipu_verify::verify(model, case, &parallel, &device, dtype);
    let rows = rows.map_err(|e| Error::of(&e))?;
    if !setting.world.leads() {
        return Ok(()); // the first rank has it all
    }
    let terminal = &setting.terminal;
    for row in &rows {
        let verdict = if row.ok { "ok" } else { "OUT OF TOLERANCE" };
        terminal.say(&format!(
            "{:24} largest error {:9.2e}  tolerance {:7.0e}  {verdict}  {}",
            row.group, row.error, row.tolerance, row.worst
        ));
    }
    let out: Vec<_> = rows.iter().filter(|row| !row.ok).map(|row| row.group.as_str()).collect();
    let groups: Vec<_> = rows
        .iter()
        .map(|r| json!({"group": r.group, "error": r.error, "tolerance": r.tolerance, "ok": r.ok}))
        .collect();
    terminal.result(&json!({"ok": out.is_empty(), "groups": groups}));
    if out.is_empty() {
        return Ok(());
    }
    let message = format!("{}: out of tolerance: {}", case.display(), out.join(", "));
    Err(Error::new(Kind::Check, message))
}
