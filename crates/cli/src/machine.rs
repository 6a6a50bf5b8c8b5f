//! What this machine offers, as far as it tells.

use std::{num::NonZero, path::Path};

use fs_err as fs;

/// Memory in bytes; absent where the system does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: Option<u64>,
    /// What can be had without swapping.
    pub available: Option<u64>,
    /// What the process's control group may still take, of the limit that it has.
    pub group: Option<GroupMemory>,
}

/// The memory of a control group, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// The limit.
    pub limit: u64,
    /// What is taken and cannot be dropped at once.
    pub used: u64,
}

impl Memory {
    /// Asks the system.
    pub fn detect() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            total: kilobytes(&meminfo, "MemTotal"),
            available: kilobytes(&meminfo, "MemAvailable"),
            group: group_memory(Path::new("/sys/fs/cgroup"), &groups),
        }
    }

    /// What a run may take: the least of what is available and what the group leaves.
    pub fn usable(&self) -> Option<u64> {
        let left = self.group.map(|group| group.limit.saturating_sub(group.used));
        self.available.into_iter().chain(left).min()
    }
}

fn kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The tightest limit of the group and those above it.
///
/// `groups` is `/proc/self/cgroup`: lines of `id:controllers:path`, in version 2 only `0::path`.
fn group_memory(root: &Path, groups: &str) -> Option<GroupMemory> {
    let found = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or("/"));
        let path = Path::new(path.trim_start_matches('/'));
        let (base, limit, used) = if controllers.is_empty() {
            (root.to_owned(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            return Vec::new();
        };
        let above = path.ancestors().map(|part| base.join(part));
        above.filter_map(|at| read_group(&at, limit, used)).collect()
    });
    found.min_by_key(|group| group.limit.saturating_sub(group.used))
}

fn read_group(at: &Path, limit: &str, used: &str) -> Option<GroupMemory> {
    /// Version 1 says this, rounded to pages, where there is no limit.
    const NO_LIMIT: u64 = 1 << 62;
    let number = |name: &str| fs::read_to_string(at.join(name)).ok()?.trim().parse::<u64>().ok();
    let limit = number(limit).filter(|limit| *limit < NO_LIMIT)?;
    // Pages of files that nobody has open are given back when memory is short.
    let stat = fs::read_to_string(at.join("memory.stat")).unwrap_or_default();
    let inactive = stat.lines().find_map(|line| {
        let line = line.strip_prefix("total_").unwrap_or(line);
        line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok()
    });
    let used = number(used).unwrap_or(0).saturating_sub(inactive.unwrap_or(0));
    Some(GroupMemory { limit, used })
}

/// The processor's name as the system has it, else its architecture.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// Threads that this process may run at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        run::atomic::write(path, text.as_bytes()).unwrap();
    }

    #[test]
    fn the_kernel_tells_kilobytes() {
        let meminfo = "MemTotal:       24576000 kB\nMemFree: 5 kB\nMemAvailable:   100 kB\n";
        assert_eq!(kilobytes(meminfo, "MemTotal"), Some(24_576_000 * 1024));
        assert_eq!(kilobytes(meminfo, "MemAvailable"), Some(102_400));
        assert_eq!(kilobytes(meminfo, "SwapTotal"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path();
        write(&root.join("a/memory.max"), "1000\n");
        write(&root.join("a/memory.current"), "900\n");
        write(&root.join("a/memory.stat"), "anon 5\ninactive_file 300\n");
        write(&root.join("a/b/memory.max"), "max\n");
        write(&root.join("a/b/c/memory.max"), "5000\n");
        let group = group_memory(root, "0::/a/b/c\n");
        assert_eq!(group, Some(GroupMemory { limit: 1000, used: 600 }));
        let memory = Memory { total: None, available: Some(700), group };
        assert_eq!(memory.usable(), Some(400));
        assert_eq!(group_memory(root, "0::/x\n"), None);
    }

    #[test]
    fn the_first_version_of_groups_is_read_too() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().join("memory/docker");
        write(&at.join("memory.limit_in_bytes"), "2000");
        write(&at.join("memory.usage_in_bytes"), "500");
        write(&home.path().join("memory/memory.limit_in_bytes"), "9223372036854771712");
        let groups = "5:cpu,cpuacct:/docker\n4:memory:/docker\n";
        let wanted = Some(GroupMemory { limit: 2000, used: 500 });
        assert_eq!(group_memory(home.path(), groups), wanted);
    }
}
