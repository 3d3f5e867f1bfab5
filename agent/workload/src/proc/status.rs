//! `/proc/PID/status` (proc_pid_status(5)): the four uids and gids, groups, thread group and parent.

use super::{ReadError, number};

/// A process has at most 65,536 supplementary groups, which the file spells out.
pub const LIMIT: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub pid: i32,
    /// The process of this thread; equal to `pid` for a process.
    pub tgid: i32,
    pub ppid: i32,
    /// Real, effective, saved, filesystem; in the reader's user namespace.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The pid in each nested PID namespace, the reader's first; empty on kernels that do not say.
    pub ns_pids: Vec<i32>,
}

impl Status {
    /// Every field is wanted exactly once. The kernel escapes newlines in `Name`, so that a second `Uid:` can only be a
    /// file that is not what it claims.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut fields = Fields::default();
        for line in bytes.split(|b| *b == b'\n') {
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            let (key, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            let Some(place) = fields.place(key) else { continue };
            if place.replace(value).is_some() {
                return Err(bad("each field once"));
            }
        }
        let pid: i32 = one(fields.pid, "a Pid")?;
        Ok(Self {
            pid,
            tgid: one(fields.tgid, "a Tgid")?,
            ppid: one(fields.ppid, "a PPid")?,
            uids: four(fields.uid, "four uids")?,
            gids: four(fields.gid, "four gids")?,
            groups: list(fields.groups.unwrap_or_default()).ok_or(bad("groups"))?,
            ns_pids: list(fields.ns_pid.unwrap_or_default()).ok_or(bad("an NSpid"))?,
        })
    }
}

#[derive(Default)]
struct Fields<'a> {
    pid: Option<&'a [u8]>,
    tgid: Option<&'a [u8]>,
    ppid: Option<&'a [u8]>,
    uid: Option<&'a [u8]>,
    gid: Option<&'a [u8]>,
    groups: Option<&'a [u8]>,
    ns_pid: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn place(&mut self, key: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match key {
            b"Pid" => &mut self.pid,
            b"Tgid" => &mut self.tgid,
            b"PPid" => &mut self.ppid,
            b"Uid" => &mut self.uid,
            b"Gid" => &mut self.gid,
            b"Groups" => &mut self.groups,
            b"NSpid" => &mut self.ns_pid,
            _ => return None,
        })
    }
}

fn bad(what: &'static str) -> ReadError {
    ReadError::Malformed { file: "status", what }
}

fn one(field: Option<&[u8]>, what: &'static str) -> Result<i32, ReadError> {
    field.and_then(number).filter(|n| *n >= 0).ok_or(bad(what))
}

fn four(field: Option<&[u8]>, what: &'static str) -> Result<[u32; 4], ReadError> {
    let all: Vec<u32> = field.and_then(list).ok_or(bad(what))?;
    all.try_into().map_err(|_| bad(what))
}

fn list<T: std::str::FromStr>(field: &[u8]) -> Option<Vec<T>> {
    field.split(u8::is_ascii_whitespace).filter(|f| !f.is_empty()).map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t77\nNgid:\t0\nPid:\t77\nPPid:\t12\n\
        TracerPid:\t0\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\nFDSize:\t64\nGroups:\t4 27 1000 \n\
        NStgid:\t77\t1\nNSpid:\t77\t1\nVmPeak:\t 2308 kB\n";

    #[test]
    fn the_fields_are_read() {
        let status = Status::parse(GOOD.as_bytes()).unwrap();
        assert_eq!((status.pid, status.tgid, status.ppid), (77, 77, 12));
        assert_eq!((status.uids, status.gids), ([1000; 4], [100; 4]));
        assert_eq!((status.groups, status.ns_pids), (vec![4, 27, 1000], vec![77, 1]));
        let no_groups = Status::parse(GOOD.replace("Groups:\t4 27 1000 ", "Groups:\t").as_bytes()).unwrap();
        assert!(no_groups.groups.is_empty());
    }

    #[test]
    fn what_the_kernel_would_not_write_is_refused() {
        let changes = [
            ("Uid:\t1000\t1000\t1000\t1000", "Uid:\t1000\t1000\t1000"),
            ("Uid:\t1000\t1000\t1000\t1000", "Uid:\t1000\t1000\t1000\t1000\t1000"),
            ("Uid:\t1000", "Uid:\t-1"),
            ("Uid:\t1000", "Uid:\t4294967296"),
            ("Uid:", "Uld:"),
            ("Gid:\t100", "Gid:\tx"),
            ("PPid:\t12", "PPid:\t"),
            ("Tgid:\t77", "Tgid:\t77 78"),
            ("Groups:\t4", "Groups:\t4,"),
            ("Name:\tsh\n", "Name:\tsh\nUid:\t0\t0\t0\t0\n"),
        ];
        for (from, to) in changes {
            assert!(Status::parse(GOOD.replace(from, to).as_bytes()).is_err(), "{to}");
        }
        assert!(Status::parse(GOOD.replace("Name:\tsh", "Name:\tUid:\\n").as_bytes()).is_ok(), "a name is only a name");
    }
}
