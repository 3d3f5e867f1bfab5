//! A cgroup of CMD's own, below the one this process is in, where one can be made. It makes the task's members visible
//! as a group and lets the watchdog end all of them at once. Best effort: without rights, or without cgroup v2, there
//! is none, and nothing depends on it.

use proto_types::TaskId;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Makes one and moves `pid` into it.
pub fn make(task: TaskId, pid: i32) -> Option<PathBuf> {
    let path = own()?.join(format!("errand-{task}"));
    fs::create_dir(&path).ok()?;
    if fs::write(path.join("cgroup.procs"), pid.to_string()).is_err() {
        remove(&path);
        return None;
    }
    Some(path)
}

/// Removes it, if its members are gone.
pub fn remove(path: &Path) {
    let _ = fs::remove_dir(path);
}

/// Its members, as numbers of the moment.
pub fn members(path: &Path) -> Vec<i32> {
    let list = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills every member at once.
pub fn kill(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
}

/// The folder of the cgroup v2 this process is in.
fn own() -> Option<PathBuf> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let inside = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let (mount_point, root) = mounts.lines().find_map(cgroup2_mount)?;
    let below = Path::new(inside).strip_prefix(root).ok()?;
    let path = mount_point.join(below);
    // In a namespace the two files may tell of different trees: only the folder that lists us is ours.
    let me = i32::try_from(std::process::id()).ok()?;
    members(&path).contains(&me).then_some(path)
}

/// Mount point and root of a line of mountinfo (proc(5)) that mounts cgroup v2.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    filesystem.starts_with("cgroup2 ").then(|| (point.into(), root.into()))
}
