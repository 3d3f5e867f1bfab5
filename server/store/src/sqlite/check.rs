//! What is looked at before a store is believed: the file system, the pages, the end of the journal.

use super::{
    archive,
    error::OpenError,
    proofs, pruned,
    schema::{PRUNED, TILES},
};
use crate::rows;
use nix::sys::statfs::{self, FsType};
use rusqlite::Connection;
use server_core::journal::{Edge, Tile, leaf_hash};
use std::path::Path;

/// File systems of other machines, by the number `statfs` gives.
const NETWORK: [(i64, &str); 8] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0102_1997, "9P"),
];
/// Drivers behind FUSE (one number for all) that reach over a network.
const NETWORK_FUSE: [&str; 8] = ["sshfs", "glusterfs", "s3fs", "gcsfuse", "rclone", "ceph-fuse", "davfs", "smbnetfs"];
const FUSE: i64 = 0x6573_5546;
/// A file larger than this is not read through at each start, bytes.
const WHOLE_CHECK: i64 = 256 << 20;

/// Refuses a folder on a network file system.
pub fn local(folder: &Path) -> Result<(), OpenError> {
    let kind = statfs::statfs(folder)
        .map_err(|e| OpenError::Unreadable { path: folder.into(), problem: e.to_string() })?
        .filesystem_type();
    match network(kind, &std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), folder) {
        Some(kind) => Err(OpenError::NetworkFileSystem { path: folder.into(), kind }),
        None => Ok(()),
    }
}

fn network(kind: FsType, mounts: &str, folder: &Path) -> Option<String> {
    // 32 bits are the number; sign extension differs between architectures.
    let number = kind.0 & 0xffff_ffff;
    if number == FUSE {
        return fuse_driver(mounts, folder).filter(|d| NETWORK_FUSE.contains(&d.as_str()));
    }
    NETWORK.iter().find(|(known, _)| *known == number).map(|(_, name)| (*name).into())
}

/// The driver of the FUSE mount that `folder` lies on: the longest mount point above it, `fuse.<driver>`.
fn fuse_driver(mounts: &str, folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.into());
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?.to_string();
        let driver = after.split(' ').next()?.strip_prefix("fuse.")?.to_string();
        folder.starts_with(&point).then_some((point.len(), driver))
    };
    mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length).map(|(_, driver)| driver)
}

/// Asks SQLite whether the pages fit together; only in files small enough to be read at every start.
pub fn pages(path: &Path, conn: &Connection) -> Result<(), OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.into(), what };
    let number = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let bytes = number("page_count").and_then(|n| Ok(n * number("page_size")?)).map_err(|e| damaged(e.to_string()))?;
    if bytes > WHOLE_CHECK {
        tracing::info!(bytes, "the store is too large to be checked page by page at start");
        return Ok(());
    }
    let answer: Result<String, _> = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match answer {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => Err(damaged(text)),
        Err(e) => Err(damaged(e.to_string())),
    }
}

/// Where the journal stands.
pub struct Journal {
    pub size: u64,
    /// The position of the oldest record that is kept.
    pub start: u64,
    pub edge: Edge,
    /// Tiles that became full behind the newest root; all of them when the store has none yet.
    pub full: Vec<Tile>,
    /// The size of the newest root written down.
    pub root_at: u64,
}

/// Rehashes everything behind the newest root that was written down. Older records are the verifier's. A store without
/// tiles is rehashed from its beginning, once.
pub fn journal(path: &Path, conn: &Connection, schema: i64) -> Result<Journal, OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.into(), what };
    let size: u64 = conn
        .query_row("SELECT size FROM journal_head", [], |row| row.get(0))
        .map_err(|e| damaged(format!("the head of the journal cannot be read ({e})")))?;
    let root = archive::newest_root(conn).map_err(|e| damaged(e.to_string()))?;
    let root_at = root.map_or(0, |root| root.size);
    if root_at > size {
        return Err(damaged(format!("a root over {root_at} records was written down, the journal has {size}")));
    }
    let fits = |edge: &Edge| match root.filter(|root| root.size == edge.size()) {
        Some(root) if edge.frontier().root() != root.root => {
            Err(damaged(format!("the tree over {root_at} records does not come to the root written down")))
        }
        _ => Ok(()),
    };
    let mut edge =
        if schema < TILES { Edge::new() } else { proofs::edge(conn, root_at).map_err(|e| damaged(e.to_string()))? };
    let mut full = Vec::new();
    fits(&edge)?;
    let mut statement = conn
        .prepare("SELECT position, leaf, body FROM journal WHERE position >= ?1 ORDER BY position")
        .map_err(|e| damaged(e.to_string()))?;
    let mut tail = statement.query([rows::int(edge.size())]).map_err(|e| damaged(e.to_string()))?;
    while let Some(row) = tail.next().map_err(|e| damaged(e.to_string()))? {
        let read = (|| Ok((row.get::<_, u64>(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, Vec<u8>>(2)?)))();
        let (position, leaf, body) = read.map_err(|e: rusqlite::Error| damaged(e.to_string()))?;
        if position != edge.size() {
            return Err(damaged(format!("the journal has no record at position {}", edge.size())));
        }
        if leaf_hash(&body) != leaf {
            return Err(damaged(format!("the record at position {position} is not what was hashed")));
        }
        edge.append(leaf, &mut full);
        fits(&edge)?;
    }
    if edge.size() != size {
        return Err(damaged(format!("the journal has {} records where its head says {size}", edge.size())));
    }
    let start = if schema < PRUNED { 0 } else { start(conn, root_at).map_err(damaged)? };
    Ok(Journal { size, start, edge, full, root_at })
}

/// Where the journal begins. Somebody who only moved its beginning would hide records: one must say that they are gone.
fn start(conn: &Connection, root_at: u64) -> Result<u64, String> {
    let start = pruned::start(conn).map_err(|e| format!("the head of the journal cannot be read ({e})"))?;
    let said = pruned::said(conn).map_err(|e| e.to_string())?.unwrap_or(0);
    if start != said || start > root_at {
        return Err(format!(
            "its head says that records before position {start} are no longer kept, its newest record about that says {said}"
        ));
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_other_machines_are_refused_and_those_of_this_one_are_not() {
        let mounts = "22 1 0:20 / / rw - ext4 /dev/a rw\n\
                      30 22 0:40 / /mnt rw shared:1 - fuse.encfs encfs rw\n\
                      31 30 0:41 / /mnt/far rw - fuse.sshfs host:/ rw\n";
        let kind = |number: i64, folder: &str| network(FsType(number as _), mounts, Path::new(folder));
        assert_eq!(kind(0x6969, "/x").as_deref(), Some("NFS"));
        assert_eq!(kind(0xff53_4d42_u32 as i32 as i64, "/x").as_deref(), Some("CIFS"));
        assert_eq!(kind(FUSE, "/mnt/far/store").as_deref(), Some("sshfs"));
        assert_eq!(kind(FUSE, "/mnt/near"), None);
        assert_eq!(kind(0xef53, "/x"), None);
    }
}
