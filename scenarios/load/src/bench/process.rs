//! CPU seconds and memory of process trees, read from `/proc`. Where there is no `/proc`, or a process
//! is gone, the values are absent and reports show a dash.

use std::{collections::HashMap, fs};

/// Kernel clock ticks per second in `/proc/PID/stat`; a constant of Linux's user interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// The resources that one process and its descendants used so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// The root of the tree.
    pub(super) pid: u32,
    /// Its command name; empty when it is gone.
    pub(super) name: String,
    /// User and system CPU seconds, with children that ended and were waited for.
    pub(super) cpu_seconds: Option<f64>,
    /// Resident memory in bytes; shared pages are divided among their users where the kernel says.
    pub(super) memory_bytes: Option<u64>,
}

struct Stat {
    parent: u32,
    name: String,
    ticks: u64,
    ticks_children: u64,
}

/// The usage of `pid` and everything below it.
pub(super) fn usage(pid: u32) -> Usage {
    let all = processes();
    let Some(root) = all.get(&pid) else {
        return Usage {
            pid,
            ..Default::default()
        };
    };
    let mut tree = vec![pid];
    let mut at = 0;
    while at < tree.len() {
        let parent = tree[at];
        tree.extend(
            all.iter()
                .filter(|(_, s)| s.parent == parent)
                .map(|(p, _)| *p),
        );
        at += 1;
    }
    let ticks: u64 = tree
        .iter()
        .filter_map(|p| all.get(p))
        .map(|s| s.ticks + s.ticks_children)
        .sum();
    Usage {
        pid,
        name: root.name.clone(),
        cpu_seconds: Some(ticks as f64 / TICKS_PER_SECOND),
        memory_bytes: Some(tree.iter().filter_map(|p| memory(*p)).sum()),
    }
}

/// CPU seconds of this process.
pub(super) fn own_cpu_seconds() -> f64 {
    stat("/proc/self/stat").map_or(0.0, |s| s.ticks as f64 / TICKS_PER_SECOND)
}

fn processes() -> HashMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return HashMap::new();
    };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(&format!("/proc/{pid}/stat"))?)))
        .collect()
}

fn stat(path: &str) -> Option<Stat> {
    let text = fs::read_to_string(path).ok()?;
    // The name stands in parentheses and may hold anything, also parentheses and spaces.
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok());
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        name,
        ticks: number(11)? + number(12)?,
        ticks_children: number(13)? + number(14)?,
    })
}

fn memory(pid: u32) -> Option<u64> {
    let kilobytes = |file: &str, key: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
        let line = text.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    kilobytes("smaps_rollup", "Pss:")
        .or_else(|| kilobytes("status", "VmRSS:"))
        .map(|kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let usage = usage(std::process::id());
        assert!(usage.cpu_seconds.is_some());
        assert!(usage.memory_bytes.is_some_and(|b| b > 0));
        assert!(super::usage(u32::MAX).cpu_seconds.is_none());
    }
}
