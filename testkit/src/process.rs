//! What a test asks of the kernel about a process that it started: its limits, its descriptors, its memory, its work.

use std::{fs, process::Command};

/// Sets a soft limit of a running process: `nofile`, `data`.
pub fn limit(pid: i32, what: &str, most: u64) {
    let (pid, limit) = (pid.to_string(), format!("--{what}={most}:"));
    let set = Command::new("prlimit").args(["--pid", &pid, &limit]).status().expect("prlimit of util-linux runs");
    assert!(set.success(), "{limit}");
}

/// Descriptors that are open in it.
pub fn descriptors(pid: i32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count() as u64
}

/// Bytes of what the limit `data` counts.
pub fn data(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|l| l.strip_prefix("VmData:")).expect("a process has data");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    1024 * kib
}

/// Milliseconds that it has computed so far.
pub fn computed(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).expect("a name in brackets");
    let ticks: u64 = fields.skip(11).take(2).map(|n| n.parse::<u64>().expect("a number")).sum();
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().expect("ticks have a length");
    1000 * ticks / a_second.unsigned_abs()
}
