//! The four accounts of the same story: what clients saw, the journal, the store's rows, and the target itself.
//!
//! Each is read from its own source, past the code under test where that is possible: rows by SQL, roles by SQL.

use crate::seen::{self, Seen};
use proto_types::{CredentialName, Lease, Record};
use rusqlite::{Connection, OpenFlags};
use server_core::journal::{ExportVerifier, Trust, Verdict, decode, parse_line};
use sqlx::{Connection as _, PgConnection};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// An account that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

fn unreadable(what: impl std::fmt::Display) -> impl Fn(String) -> Unreadable {
    let what = what.to_string();
    move |e| Unreadable(format!("{what}: {e}"))
}

/// Where the accounts are.
#[derive(Clone, Debug, clap::Args)]
pub struct Sources {
    /// What clients saw: JSON lines
    #[arg(long, value_name = "FILE")]
    pub seen: PathBuf,
    /// The journal, as `errand journal export` writes it
    #[arg(long, value_name = "FILE")]
    pub journal: PathBuf,
    /// The server's store: its file, or the URL of its database with a role that may read it
    #[arg(long, value_name = "FILE|URL")]
    pub store: String,
    /// A role of the target that sees all roles and sessions
    #[arg(long, value_name = "URL")]
    pub target_url: String,
}

/// All of it, read.
#[derive(Debug)]
pub struct Evidence {
    pub seen: Vec<Seen>,
    pub records: Vec<(u64, Record)>,
    /// `None` when the journal verifies; else what is wrong with it.
    pub tampered: Option<String>,
    pub leases: Vec<Lease>,
    /// Roles of this store in the target.
    pub roles: BTreeSet<String>,
    /// Roles of this store with open sessions.
    pub sessions: BTreeSet<String>,
}

impl Evidence {
    /// The target first: what is made after the look at it has its lease row by then.
    pub async fn read(sources: &Sources) -> Result<Self, Unreadable> {
        let id = match sources.is_database() {
            true => Database::open(&sources.store).await?.id().await?,
            false => Store::open(Path::new(&sources.store))?.id()?,
        };
        let (roles, sessions) = inventory(&sources.target_url, &CredentialName::prefix(&id)).await?;
        let (records, tampered) = journal(&sources.journal)?;
        let seen = seen::read(&sources.seen).map_err(|e| unreadable(sources.seen.display())(e.to_string()))?;
        Ok(Self { seen, records, tampered, leases: sources.leases().await?, roles, sessions })
    }
}

impl Sources {
    fn is_database(&self) -> bool {
        self.store.starts_with("postgres://")
    }
    /// The leases as they lie in the store.
    pub async fn leases(&self) -> Result<Vec<Lease>, Unreadable> {
        match self.is_database() {
            true => Database::open(&self.store).await?.leases().await,
            false => Store::open(Path::new(&self.store))?.leases(),
        }
    }
}

/// The store's database, read by a connection of one's own.
pub struct Database(PgConnection);

impl Database {
    /// The URL may hold a password: it is in no message.
    pub async fn open(url: &str) -> Result<Self, Unreadable> {
        let conn = PgConnection::connect(url).await;
        conn.map(Self).map_err(|e| unreadable("the store's database")(e.to_string()))
    }
    pub async fn id(&mut self) -> Result<String, Unreadable> {
        let id = sqlx::query_scalar("SELECT store_id FROM errand.meta").fetch_one(&mut self.0).await;
        id.map_err(|e| unreadable("the store's id")(e.to_string()))
    }
    pub async fn leases(&mut self) -> Result<Vec<Lease>, Unreadable> {
        let rows = sqlx::query_scalar::<_, String>("SELECT body FROM errand.lease ORDER BY id").fetch_all(&mut self.0);
        let rows = rows.await.map_err(|e| unreadable("the store's leases")(e.to_string()))?;
        rows.iter().map(|body| serde_json::from_str(body).map_err(|e| unreadable("a lease")(e.to_string()))).collect()
    }
}

/// The store's file, read by a connection of one's own.
pub struct Store(Connection);

impl Store {
    pub fn open(path: &Path) -> Result<Self, Unreadable> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags);
        conn.map(Self).map_err(|e| unreadable(path.display())(e.to_string()))
    }
    pub fn id(&self) -> Result<String, Unreadable> {
        let id = self.0.query_row("SELECT store_id FROM meta", [], |row| row.get(0));
        id.map_err(|e| unreadable("the store's id")(e.to_string()))
    }
    pub fn leases(&self) -> Result<Vec<Lease>, Unreadable> {
        let fail = |e: rusqlite::Error| unreadable("the store's leases")(e.to_string());
        let mut statement = self.0.prepare("SELECT body FROM lease ORDER BY id").map_err(fail)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(fail)?;
        rows.map(|row| {
            let body = row.map_err(fail)?;
            serde_json::from_str(&body).map_err(|e| unreadable("a lease")(e.to_string()))
        })
        .collect()
    }
}

/// Every record with its position, and what is wrong with the whole.
type Journal = (Vec<(u64, Record)>, Option<String>);

fn journal(path: &Path) -> Result<Journal, Unreadable> {
    let fail = unreadable(path.display());
    let text = fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
    let mut lines = text.lines();
    let mut verifier =
        ExportVerifier::new(lines.next().unwrap_or_default(), &Trust::default()).map_err(|e| fail(e.to_string()))?;
    let mut records = Vec::new();
    for line in lines {
        verifier.lines(&[line]);
        let (stored, _) = parse_line(line).map_err(&fail)?;
        let private: Vec<_> = stored.private.clone();
        let record = decode(&stored.body, &private).map_err(|e| fail(e.to_string()))?;
        records.push((stored.position.0, record));
    }
    let tampered = match verifier.finish() {
        Verdict::Ok { .. } => None,
        other => Some(format!("{other:?}")),
    };
    Ok((records, tampered))
}

async fn inventory(url: &str, prefix: &str) -> Result<(BTreeSet<String>, BTreeSet<String>), Unreadable> {
    // The URL may hold a password: it is in no message.
    let fail = |e: sqlx::Error| unreadable("the target")(e.to_string());
    let mut conn = PgConnection::connect(url).await.map_err(fail)?;
    let names = |question: &'static str| sqlx::query_scalar::<_, String>(question).bind(prefix.to_string());
    let roles = names("SELECT rolname::text FROM pg_roles WHERE starts_with(rolname::text, $1)");
    let roles = roles.fetch_all(&mut conn).await.map_err(fail)?;
    let sessions = names("SELECT DISTINCT usename::text FROM pg_stat_activity WHERE starts_with(usename::text, $1)");
    let sessions = sessions.fetch_all(&mut conn).await.map_err(fail)?;
    Ok((roles.into_iter().collect(), sessions.into_iter().collect()))
}
