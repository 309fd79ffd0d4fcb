//! How much memory this process may hold: what the machine has, or what its control group allows
//! where that is less (a container, a batch job). Not how much it holds, which `terminal` asks, and
//! not what is free just now: pages of files give way.

use std::path::{Path, PathBuf};

/// Bytes that this process may hold at most; none where the system does not say.
pub fn limit() -> Option<u64> {
    limit_of(Path::new("/"))
}

/// A line of `/proc/meminfo`, such as `MemTotal:`, in bytes.
pub fn of_machine(name: &str) -> Option<u64> {
    of_machine_at(Path::new("/"), name)
}

/// `1.5 GiB`: bytes as a person would say them.
pub fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| bytes >> bits > 0) {
        Some((unit, bits)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << bits) as f64),
        None => format!("{bytes} B"),
    }
}

fn of_machine_at(root: &Path, name: &str) -> Option<u64> {
    let info = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn limit_of(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| group(root, line)).flatten();
    limits.chain(of_machine_at(root, "MemTotal:")).min()
}

/// The limits of a group and of those around it, from a line `NUMBER:CONTROLLERS:PATH`. A limit
/// that is none is `max` in version 2, and more than any machine has in version 1.
fn group(root: &Path, line: &str) -> Option<Vec<u64>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let (mount, file) = match controllers.split(',').any(|name| name == "memory") {
        true => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        false if controllers.is_empty() => ("sys/fs/cgroup", "memory.max"),
        false => return None,
    };
    let mount = root.join(mount);
    let inside: PathBuf = mount.join(path.trim_start_matches('/'));
    let around = inside.ancestors().take_while(|dir| dir.starts_with(&mount));
    let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok();
    Some(around.filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], expected: Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(limit_of(root.path()), expected, "{files:?}");
    }

    #[test]
    fn the_least_limit_counts() {
        let machine = ("proc/meminfo", "MemTotal:       1024 kB\nMemFree:  12 kB\n");
        check(&[], None);
        check(&[machine], Some(1 << 20));
        let two = ("proc/self/cgroup", "0::/a/b\n");
        let outer = ("sys/fs/cgroup/a/memory.max", "5000\n");
        check(&[machine, two, ("sys/fs/cgroup/a/b/memory.max", "max\n")], Some(1 << 20));
        check(&[machine, two, ("sys/fs/cgroup/a/b/memory.max", "7000\n"), outer], Some(5_000));
        check(&[two, outer], Some(5_000));
        let one = ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job\n3:cpuset:/job\n");
        let unlimited = ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712");
        check(&[machine, one, unlimited], Some(1 << 20));
        let limited = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "4096\n");
        check(&[machine, one, unlimited, limited], Some(4_096));
        check(&[machine, ("proc/self/cgroup", "nonsense\n:\n0::../..\n")], Some(1 << 20));
    }

    #[test]
    fn sizes_are_said_in_a_unit() {
        let said = [0, 1023, 1 << 10, 3 << 19, 5 << 30, 3 << 40].map(size);
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB", "3.0 TiB"]);
    }
}
