//! Opening a store: what is refused, what is made, what is brought up to date.
//!
//! Decides everything that happens before the first commit. An existing file is never initialised again: a new store
//! is built under another name and renamed when it is whole.

use super::{
    check,
    error::OpenError,
    schema::{self, APPLICATION_ID},
    tree,
};
use crate::options::{OpenOptions, store_id};
use rusqlite::{Connection, OpenFlags, config::DbConfig, params};
use server_core::{journal::Edge, ports::StoreMeta};
use std::{
    fs::{self, DirBuilder, File},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// The first SQLite without a known fault that could lose what a write-ahead log holds.
const SQLITE_NEEDED: i32 = 3_051_003;

/// An open store, before its writer runs.
pub struct Opened {
    pub conn: Connection,
    pub lock: File,
    pub meta: StoreMeta,
    pub size: u64,
    /// The position of the oldest record that is kept.
    pub start: u64,
    pub edge: Edge,
    /// The size of the newest root written down.
    pub root_at: u64,
}

/// `path` with something behind its name: `errand.db` → `errand.db-wal`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> OpenError {
    move |e| OpenError::Unreadable { path: path.into(), problem: e.to_string() }
}

fn sql(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    move |e| match super::error::fault(&e) {
        super::error::Fault::Fatal(what) => OpenError::Damaged { path: path.into(), what },
        _ => OpenError::Unreadable { path: path.into(), problem: e.to_string() },
    }
}

/// Opens the store at `path`, or makes one where there is none.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Opened, OpenError> {
    let found = rusqlite::version_number();
    if found < SQLITE_NEEDED {
        return Err(OpenError::SqliteTooOld { found, needed: SQLITE_NEEDED });
    }
    if options.as_it_is && !path.try_exists().map_err(io(path))? {
        return Err(OpenError::NoStore { path: path.into() });
    }
    folder(path)?;
    let lock = lock(path)?;
    if !path.try_exists().map_err(io(path))? {
        create(path, options)?;
    }
    header(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(io(path))?;
    // SQLite makes an empty log when it connects: look before. While a store is in use its log is never empty.
    let log = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let conn = connect(path)?;
    let schema = version(path, &conn)?;
    if options.as_it_is && schema < schema::known() {
        return Err(OpenError::OlderSchema { path: path.into(), found: schema, known: schema::known() });
    }
    settings(&conn).map_err(sql(path))?;
    logs_ahead(path)?;
    let mut meta = meta(path, &conn, options)?;
    check::pages(path, &conn)?;
    let went_back = lost_log(path, &conn, log, options)?;
    meta.epoch += u64::from(went_back);
    let state = check::journal(path, &conn, schema)?;
    // Here it is accepted; nothing was changed before.
    schema::migrate(&conn, schema).map_err(sql(path))?;
    tiles(&conn, &state).map_err(sql(path))?;
    if went_back {
        // Which of them were used is not known any more: each is good once, so none is.
        conn.execute("DELETE FROM join_token", []).map_err(sql(path))?;
    }
    conn.execute("UPDATE meta SET in_use = 1, epoch = ?1", [meta.epoch]).map_err(sql(path))?;
    if options.accept_clock {
        meta.clock_high_water = options.clock.now();
        let newest = meta.clock_high_water.as_millis();
        conn.execute("UPDATE journal_head SET clock_high_water = ?1", [newest]).map_err(sql(path))?;
    }
    // The mark must stand in the file itself, not only in the log whose loss it tells.
    conn.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())).map_err(sql(path))?;
    keep_log(&conn, false).map_err(sql(path))?;
    let check::Journal { size, start, edge, root_at, .. } = state;
    Ok(Opened { conn, lock, meta, size, start, edge, root_at })
}

/// Tiles may hold more than the newest root says: what stands in them never changes.
fn tiles(conn: &Connection, state: &check::Journal) -> rusqlite::Result<()> {
    let step = conn.unchecked_transaction()?;
    tree::put(&step, &state.full)?;
    tree::put(&step, &state.edge.partial())?;
    step.commit()
}

fn folder(path: &Path) -> Result<(), OpenError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io(folder))?;
    let mode = fs::metadata(folder).map_err(io(folder))?.permissions().mode();
    let (everyone, sticky) = (mode & 0o002 != 0, mode & 0o1000 != 0);
    if everyone && !sticky {
        return Err(OpenError::OpenFolder { path: folder.into() });
    }
    check::local(folder)
}

/// One server per store: an exclusive lock on a file beside it, which names the holder.
fn lock(path: &Path) -> Result<File, OpenError> {
    let name = beside(path, ".lock");
    let options = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).to_owned();
    let mut file = options.open(&name).map_err(io(&name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&file).take(16).read_to_string(&mut holder);
            return Err(OpenError::InUse { path: path.into(), pid: holder.trim().parse().ok() });
        }
        Err(fs::TryLockError::Error(e)) => return Err(io(&name)(e)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io(&name))?;
    Ok(file)
}

/// Builds a whole store under another name, then gives it its own.
fn create(path: &Path, options: &OpenOptions) -> Result<(), OpenError> {
    if beside(path, "-wal").exists() {
        return Err(OpenError::NotAStore { path: path.into(), why: "it is gone, its write-ahead log is still there" });
    }
    // A server that was not told of the database would begin anew, with keys that nobody trusts.
    if beside(path, ".copied").exists() {
        let why = "it was copied into a database: name that in `[store] url`, or move the `.copied` file away";
        return Err(OpenError::NotAStore { path: path.into(), why });
    }
    let new = beside(path, ".new");
    for left in [new.clone(), beside(&new, "-wal"), beside(&new, "-shm"), beside(&new, "-journal")] {
        match fs::remove_file(&left) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&left)(e)),
            _ => {}
        }
    }
    File::options().write(true).create_new(true).mode(0o600).open(&new).map_err(io(&new))?;
    let conn = Connection::open_with_flags(&new, flags()).map_err(sql(&new))?;
    fill(&conn, options).map_err(sql(&new))?;
    conn.close().map_err(|(_, e)| sql(&new)(e))?;
    File::open(&new).and_then(|f| f.sync_all()).map_err(io(&new))?;
    fs::rename(&new, path).map_err(io(path))?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|f| f.sync_all()).map_err(io(folder))
}

fn fill(conn: &Connection, options: &OpenOptions) -> rusqlite::Result<()> {
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    schema::migrate(conn, 0)?;
    conn.execute(
        "INSERT INTO meta VALUES(1, ?1, ?2, ?3, 1, ?4, 0)",
        params![options.trust_domain, options.dev, store_id(&*options.entropy), options.clock.now().as_millis()],
    )?;
    Ok(())
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// The first bytes tell a store from anything else before SQLite touches the file.
fn header(path: &Path) -> Result<(), OpenError> {
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(16).read_to_end(&mut head)).map_err(io(path))?;
    let why = match head.as_slice() {
        b"SQLite format 3\0" => return Ok(()),
        b"" => "it is empty",
        _ => "it does not begin like an SQLite file",
    };
    Err(OpenError::NotAStore { path: path.into(), why })
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let conn = Connection::open_with_flags(path, flags()).map_err(sql(path))?;
    if conn.is_readonly("main").map_err(sql(path))? {
        return Err(OpenError::ReadOnly { path: path.into() });
    }
    keep_log(&conn, true).map_err(sql(path))?;
    Ok(conn)
}

fn settings(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    // What is redacted is overwritten, not only unlinked.
    conn.pragma_update(None, "secure_delete", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // FULL: a commit is answered only after its log was synced.
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.query_row("PRAGMA journal_size_limit = 67108864", [], |_| Ok(()))?;
    // 4 MiB: folding the log in happens between two commits, and who waits for the second waits for it, too.
    conn.query_row("PRAGMA wal_autocheckpoint = 1024", [], |_| Ok(()))?;
    // KiB. What is written most is at the ends of its tables; the rest the kernel keeps, and is not counted as ours.
    conn.pragma_update(None, "cache_size", -8_192)
}

/// That the file says it has a write-ahead log: SQLite says so even when a sync failed and it could not be switched on.
fn logs_ahead(path: &Path) -> Result<(), OpenError> {
    let mut header = [0; 20];
    File::open(path).and_then(|mut file| file.read_exact(&mut header)).map_err(io(path))?;
    if header[18..] == [2, 2] {
        return Ok(());
    }
    let problem = "its write-ahead log cannot be switched on: look at the disk".into();
    Err(OpenError::Unreadable { path: path.into(), problem })
}

/// The schema's version. The tables read before a store is accepted (`meta`, `journal*`) keep their columns for ever.
fn version(path: &Path, conn: &Connection) -> Result<i64, OpenError> {
    let pragma = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(sql(path));
    let known = schema::known();
    let not_a_store = |why| Err(OpenError::NotAStore { path: path.into(), why });
    match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION_ID, found) if found > known => Err(OpenError::NewerSchema { path: path.into(), found, known }),
        (APPLICATION_ID, found @ 1..) => Ok(found),
        (APPLICATION_ID, _) => not_a_store("its schema has no version"),
        _ => not_a_store("another program made it"),
    }
}

fn meta(path: &Path, conn: &Connection, options: &OpenOptions) -> Result<StoreMeta, OpenError> {
    let query = "SELECT store_id, trust_domain, dev, epoch, clock_high_water FROM meta, journal_head";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(StoreMeta {
            store_id: row.get(0)?,
            trust_domain: row.get(1)?,
            dev: row.get(2)?,
            epoch: row.get(3)?,
            clock_high_water: proto_types::Timestamp::from_millis(row.get(4)?),
        })
    };
    let meta = conn
        .query_row(query, [], read)
        .map_err(|e| OpenError::Damaged { path: path.into(), what: format!("its head cannot be read ({e})") })?;
    if meta.trust_domain != options.trust_domain {
        let (store, asked) = (meta.trust_domain, options.trust_domain.clone());
        return Err(OpenError::WrongTrustDomain { path: path.into(), store, asked });
    }
    if meta.dev != options.dev {
        return Err(OpenError::DevStamp { path: path.into(), store_is_dev: meta.dev });
    }
    Ok(meta)
}

/// A store that was not closed and has no log lacks its newest commits, or is a copy of a running one. `true` when
/// that was found and is accepted.
fn lost_log(path: &Path, conn: &Connection, log: bool, options: &OpenOptions) -> Result<bool, OpenError> {
    let in_use: bool = conn.query_row("SELECT in_use FROM meta", [], |row| row.get(0)).map_err(sql(path))?;
    match in_use && !log {
        true if !options.accept_rollback => Err(OpenError::LogMissing { path: path.into() }),
        lost => Ok(lost),
    }
}

/// Whether closing leaves the log as it is. Until a store is accepted, refusing it must change nothing.
pub fn keep_log(conn: &Connection, yes: bool) -> rusqlite::Result<bool> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, yes)
}
