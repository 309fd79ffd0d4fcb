//! `quipu doctor`: what this machine has, as far as a run cares. Changes nothing.

use crate::error::Error;
use crate::memory;
use crate::stage::device;
use crate::terminal::Terminal;
use quipu_train::recipe::Dtype;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// Prints what the machine has.
pub fn run(terminal: &Terminal) -> Result<(), Error> {
    let mut facts = facts();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let ceiling = device::ceiling(device::cores(), dtype) / 1e9;
        facts[format!("{dtype} ceiling")] = json!(format!("{ceiling:.0} GFLOP/s"));
    }
    for (name, value) in facts.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        terminal.say(&format!("{name:14} {text}"));
    }
    terminal.result(&facts);
    Ok(())
}

/// What the machine has, as JSON.
pub fn facts() -> Value {
    json!({
        "program": env!("CARGO_PKG_VERSION"),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "processor": processor(),
        "cores": device::cores(),
        "instructions": instructions().join(" "),
        "memory": memory(),
        "room here": room(Path::new(".")).map_or("unknown".into(), gib),
        "rust-docs": rust_docs().map_or_else(
            |why| why,
            |path| format!("{} (speedrun --input rust-docs)", path.display())
        ),
    })
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|l| l.starts_with("model name"));
    line.and_then(|l| l.split_once(": ")).map_or("unknown".into(), |(_, name)| name.to_owned())
}

/// What the kernels choose by.
#[cfg(target_arch = "x86_64")]
fn instructions() -> Vec<&'static str> {
    let mut found = Vec::new();
    for (name, has) in [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::is_x86_feature_detected!("avx512bf16")),
    ] {
        if has {
            found.push(name);
        }
    }
    found
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> Vec<&'static str> {
    vec!["portable"]
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

fn memory() -> String {
    let of = |name: &str| gib(memory::of_machine(name).unwrap_or(0));
    format!("{}, {} free", of("MemTotal:"), of("MemAvailable:"))
}

/// Bytes that may still be written in the file system of `dir`.
#[cfg(unix)]
#[allow(unsafe_code)]
pub fn room(dir: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte and lives through the call; the structure is read
    // only when the call says that it has filled it.
    let stat = unsafe {
        if libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some(stat.f_bavail * stat.f_frsize)
}

/// The documentation that rustup installs, or why it is not there.
pub fn rust_docs() -> Result<std::path::PathBuf, String> {
    let out = Command::new("rustc").args(["--print", "sysroot"]).output();
    let out = out.map_err(|_| "not found: there is no rustc on this machine".to_owned())?;
    let sysroot = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let path = Path::new(&sysroot).join("share/doc/rust/html");
    if path.is_dir() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!("not installed: {path} is missing; `rustup component add rust-docs` brings it"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn says_something_of_everything() {
        let facts = super::facts();
        for (name, value) in facts.as_object().unwrap() {
            assert!(!value.to_string().is_empty() && !value.is_null(), "{name}");
        }
    }
}
