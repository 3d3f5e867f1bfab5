//! `/proc/PID/cgroup` (cgroups(7)): the control groups of a process.

use super::{ReadError, number};

pub const LIMIT: usize = 256 * 1024;
/// Hierarchies a process can be in; the kernel has fewer.
pub const MAX_LINES: usize = 64;

/// One hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// 0 for version 2.
    pub hierarchy: u32,
    /// Empty for version 2; `name=systemd` for a named one.
    pub controllers: Vec<String>,
    /// Relative to the root the reader sees. A removed group ends in ` (deleted)`.
    pub path: String,
}

/// Every line, in order.
pub fn parse(bytes: &[u8]) -> Result<Vec<Cgroup>, ReadError> {
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').take(MAX_LINES + 1).collect();
    if lines.len() > MAX_LINES {
        return Err(bad("at most 64 hierarchies"));
    }
    lines.into_iter().map(line).collect()
}

/// The group of the unified hierarchy (version 2).
pub fn unified(groups: &[Cgroup]) -> Option<&str> {
    groups.iter().find(|g| g.hierarchy == 0 && g.controllers.is_empty()).map(|g| g.path.as_str())
}

fn line(line: &[u8]) -> Result<Cgroup, ReadError> {
    let mut parts = line.splitn(3, |b| *b == b':');
    let hierarchy = parts.next().and_then(number).ok_or(bad("a hierarchy"))?;
    let controllers = parts.next().and_then(|c| std::str::from_utf8(c).ok()).ok_or(bad("controllers"))?;
    let path = parts.next().and_then(|p| std::str::from_utf8(p).ok()).filter(|p| p.starts_with('/'));
    let controllers = controllers.split(',').filter(|c| !c.is_empty()).map(Into::into).collect();
    Ok(Cgroup { hierarchy, controllers, path: path.ok_or(bad("a path"))?.into() })
}

fn bad(what: &'static str) -> ReadError {
    ReadError::Malformed { file: "cgroup", what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let groups = parse(b"12:cpu,cpuacct:/a:b\n1:name=systemd:/user.slice\n0::/user.slice/x.service\n").unwrap();
        assert_eq!(
            groups[0],
            Cgroup { hierarchy: 12, controllers: vec!["cpu".into(), "cpuacct".into()], path: "/a:b".into() }
        );
        assert_eq!(unified(&groups), Some("/user.slice/x.service"));
        assert_eq!(unified(&groups[..2]), None);
        assert!(parse(b"").unwrap().is_empty());
    }

    #[test]
    fn what_the_kernel_would_not_write_is_refused() {
        for bad in ["\n\n", "0:/x", "0::x", "x::/x", "-1::/x", "0::/x\n\n0::/y"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse("0::/x\n".repeat(64).as_bytes()).is_ok());
        assert!(parse("0::/x\n".repeat(65).as_bytes()).is_err());
    }
}
