//! A share of one core for each server, by cgroups of their own: version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`).

use super::House;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The period in which the share is given, microseconds. Short: on two cores server, client and database must be at work in
/// the same moment, and do not wait for each other's next period.
const PERIOD: u32 = 10_000;

/// Cgroups that go with this value; what was in them is free again.
pub struct Share {
    parent: PathBuf,
    groups: Vec<PathBuf>,
    percent: u32,
}

impl Share {
    /// Whether such groups can be made here.
    pub fn of_a_core(percent: u32) -> Result<Self> {
        let whole = Path::new("/sys/fs/cgroup");
        let parent = if whole.join("cgroup.controllers").exists() { whole.into() } else { whole.join("cpu") };
        let mut share = Self { parent, groups: Vec::new(), percent };
        share.group()?;
        Ok(share)
    }

    /// A new group with its quota.
    fn group(&mut self) -> Result<PathBuf> {
        let group = self.parent.join(format!("errand-bench-{}-{}", std::process::id(), self.groups.len()));
        fs::create_dir(&group).with_context(|| format!("{}", group.display()))?;
        self.groups.push(group.clone());
        let quota = PERIOD / 100 * self.percent;
        let write = |name: &str, value: String| {
            let path = group.join(name);
            fs::write(&path, value).with_context(|| format!("{}", path.display()))
        };
        if group.join("cpu.cfs_quota_us").exists() {
            write("cpu.cfs_period_us", PERIOD.to_string())?;
            write("cpu.cfs_quota_us", quota.to_string())?;
        } else {
            write("cpu.max", format!("{quota} {PERIOD}"))?;
        }
        Ok(group)
    }

    /// Holds each of these servers to its share.
    pub fn hold(&mut self, houses: &[&House]) -> Result<()> {
        for house in houses {
            let group = self.group()?;
            fs::write(group.join("cgroup.procs"), house.server.pid().to_string())?;
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        for group in &self.groups {
            let held = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in held.lines() {
                // One that has ended is in no group.
                let _ = fs::write(self.parent.join("cgroup.procs"), pid);
            }
            let _ = fs::remove_dir(group);
        }
    }
}
