//! What holds for any bytes read as `/proc/PID/status` or `cgroup`. Shared by the fuzz target and the tests.

use agent_workload::proc::{Status, cgroup};

/// Nothing panics, ids are not negative, and a second `Uid` line is never believed.
pub fn holds(data: &[u8]) {
    if let Ok(groups) = cgroup::parse(data) {
        assert!(groups.len() <= cgroup::MAX_LINES && groups.iter().all(|g| g.path.starts_with('/')));
    }
    let Ok(status) = Status::parse(data) else { return };
    assert!(status.pid >= 0 && status.tgid >= 0 && status.ppid >= 0);
    assert!(Status::parse(&[data, b"\nUid:\t0\t0\t0\t0\n"].concat()).is_err());
    assert!(Status::parse(&[b"Uid:\t0\t0\t0\t0\n", data].concat()).is_err());
}
