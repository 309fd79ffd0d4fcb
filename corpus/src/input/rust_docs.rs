//! `rust-docs`: the documentation that rustup installs by default, a real crawl on nearly every
//! machine with Rust.
//!
//! Found through `rustc --print sysroot`; nothing is downloaded. Not here: what is on its pages.

use crate::Error;
use std::path::PathBuf;
use std::process::Command;

/// The folder of HTML pages, or a sentence about what is not installed.
pub fn folder() -> Result<PathBuf, Error> {
    let command = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    in_sysroot(&command.to_string_lossy())
}

fn in_sysroot(command: &str) -> Result<PathBuf, Error> {
    let refuse = |reason: String| Error::RustDocs { reason };
    let output = Command::new(command)
        .args(["--print", "sysroot"])
        .output()
        .map_err(|e| refuse(format!("`{command} --print sysroot` did not run ({e})")))?;
    if !output.status.success() {
        return Err(refuse(format!("`{command} --print sysroot` failed ({})", output.status)));
    }
    let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let folder = root.join("share/doc/rust/html");
    if folder.join("std").is_dir() {
        return Ok(folder);
    }
    Err(refuse(format!("no documentation at {}", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let message = in_sysroot("no-such-compiler").unwrap_err().to_string();
        assert!(message.contains("no-such-compiler") && message.contains("rustup"), "{message}");
        let message = in_sysroot("echo").unwrap_err().to_string();
        assert!(message.contains("no documentation at"), "{message}");
    }
}
