//! Opening a database as a store: what is refused, what is made, what is brought up to date.
//!
//! Decides everything that happens before the first commit. Any number of servers open one store.

use super::{
    archive,
    connect::Connector,
    error::PostgresError,
    proofs, pruned, schema,
    seen::{Memory, Seen},
    tree, writer,
};
use crate::{
    options::{OpenOptions, store_id},
    rows::int,
};
use proto_types::Timestamp;
use server_core::{
    journal::{Edge, Hash, Tile, leaf_hash},
    ports::StoreMeta,
};
use sqlx::{Connection as _, Error, PgConnection};

/// `server_version_num` of the oldest that is known to do.
const NEEDED: i32 = 140_000;
/// Records rehashed at a time.
const STEP: i64 = 4096;

/// An open store, before its writer runs.
pub struct Opened {
    pub meta: StoreMeta,
    pub size: u64,
    /// The position of the oldest record that is kept.
    pub start: u64,
    pub edge: Edge,
    /// The size of the newest root written down.
    pub root_at: u64,
    /// The leaf of the newest record.
    pub last: Option<Hash>,
    /// Where it is remembered what was seen last.
    pub memory: Option<Memory>,
}

/// Opens the store, or makes one in a database that holds none.
pub async fn open(connector: &Connector, options: &OpenOptions) -> Result<Opened, PostgresError> {
    let at = connector.config.shown();
    let mut conn = connector.primary().await.map_err(|why| PostgresError::Unreachable { at: at.clone(), why })?;
    let refused =
        |e: Error| PostgresError::Refused { at: at.clone(), problem: proto_types::id::excerpt(&e.to_string()) };
    let (found, commits): (i32, String) =
        sqlx::query_as("SELECT current_setting('server_version_num')::integer, current_setting('synchronous_commit')")
            .fetch_one(&mut conn)
            .await
            .map_err(refused)?;
    if found < NEEDED {
        return Err(PostgresError::TooOld { at, found: found / 10_000, needed: NEEDED / 10_000 });
    }
    if commits == "off" {
        return Err(PostgresError::Asynchronous { at });
    }
    let (found, known) = (schema::version(&mut conn).await.map_err(refused)?, schema::known());
    if found > known {
        return Err(PostgresError::NewerSchema { at, found, known });
    }
    if options.as_it_is && found == 0 {
        return Err(PostgresError::NoStore { at });
    }
    if options.as_it_is && found < known {
        return Err(PostgresError::OlderSchema { at, found, known });
    }
    if found > 0 {
        accept(&at, meta(&mut conn).await.map_err(refused)?.as_ref(), options)?;
    }
    schema::migrate(&mut conn).await.map_err(refused)?;
    create(&mut conn, options).await.map_err(refused)?;
    let meta = meta(&mut conn).await.map_err(refused)?;
    accept(&at, meta.as_ref(), options)?;
    let copying: Option<i64> =
        sqlx::query_scalar("SELECT size FROM copying").fetch_optional(&mut conn).await.map_err(refused)?;
    if copying.is_some() {
        return Err(PostgresError::Copying { at });
    }
    let Some(mut meta) = meta else {
        return Err(PostgresError::Damaged { at, what: "its head is missing".into() });
    };
    if options.accept_clock {
        meta.clock_high_water = options.clock.now();
        let sql = "UPDATE journal_head SET clock_high_water = $1";
        sqlx::query(sql).bind(meta.clock_high_water.as_millis()).execute(&mut conn).await.map_err(refused)?;
    }
    let memory = options.memory.clone().map(Memory::at);
    let seen = match &memory {
        Some(memory) => memory.load().map_err(|what| PostgresError::Refused { at: at.clone(), problem: what })?,
        None => None,
    };
    if let Some(why) = doubt(&mut conn, &meta, seen.as_ref()).await.map_err(refused)? {
        if !options.accept_rollback {
            return Err(PostgresError::WentBack { at, why });
        }
        // Whoever saw more than there is knows by the epoch that it is meant.
        meta.epoch = raise_epoch(&mut conn, seen.as_ref()).await.map_err(refused)?;
        tracing::warn!(%why, epoch = meta.epoch, "the store went back, and an operator accepted it");
    }
    let mut moment = conn
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .map_err(|e| PostgresError::Refused { at: at.clone(), problem: e.to_string() })?;
    let state = journal(&mut moment).await.map_err(|what| PostgresError::Damaged { at: at.clone(), what })?;
    moment.commit().await.map_err(refused)?;
    tree::put(&mut conn, &[state.full, state.edge.partial()].concat()).await.map_err(refused)?;
    let last = match state.size.checked_sub(1) {
        Some(last) => writer::leaf(&mut conn, last).await.map_err(refused)?,
        None => None,
    };
    let Journal { size, start, edge, root_at, .. } = state;
    Ok(Opened { meta, size, start, edge, root_at, last, memory })
}

/// Whether this store is the one that was asked for.
fn accept(at: &str, meta: Option<&StoreMeta>, options: &OpenOptions) -> Result<(), PostgresError> {
    let Some(meta) = meta else { return Ok(()) };
    if meta.trust_domain != options.trust_domain {
        let (store, asked) = (meta.trust_domain.clone(), options.trust_domain.clone());
        return Err(PostgresError::WrongTrustDomain { at: at.into(), store, asked });
    }
    match meta.dev == options.dev {
        true => Ok(()),
        false => Err(PostgresError::DevStamp { at: at.into(), store_is_dev: meta.dev }),
    }
}

/// Why this is not the store that was used last, as it was then. A store that nobody opened yet belongs to the system it
/// lies in.
async fn doubt(conn: &mut PgConnection, meta: &StoreMeta, seen: Option<&Seen>) -> Result<Option<String>, Error> {
    let sql = "UPDATE meta SET cluster = coalesce(cluster, system_identifier)
               FROM pg_control_system() RETURNING cluster, system_identifier";
    let (made_in, lies_in): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *conn).await?;
    if made_in != lies_in {
        return Ok(Some(format!("it was used in the database system {made_in}, and lies in {lies_in}")));
    }
    let Some(seen) = seen else { return Ok(None) };
    let (size, start): (i64, i64) =
        sqlx::query_as("SELECT size, start FROM journal_head").fetch_one(&mut *conn).await?;
    let leaf = writer::leaf(conn, seen.last()).await?;
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    Ok(seen.differs(meta, (number(start), number(size)), leaf))
}

/// Which store it is, its epoch, and how many records it has.
pub async fn standing(conn: &mut PgConnection) -> Result<(String, u64, u64), Error> {
    let sql = "SELECT store_id, epoch, size FROM meta, journal_head";
    let (id, epoch, size): (String, i64, i64) = sqlx::query_as(sql).fetch_one(conn).await?;
    Ok((id, u64::try_from(epoch).unwrap_or(0), u64::try_from(size).unwrap_or(0)))
}

/// The next epoch, higher than any that was seen, of the store where it lies now.
async fn raise_epoch(conn: &mut PgConnection, seen: Option<&Seen>) -> Result<u64, Error> {
    let seen = seen.map_or(0, |seen| int(seen.epoch));
    let sql = "UPDATE meta SET epoch = greatest(epoch, $1) + 1, cluster = system_identifier
               FROM pg_control_system() RETURNING epoch";
    let mut step = conn.begin().await?;
    let epoch: i64 = sqlx::query_scalar(sql).bind(seen).fetch_one(&mut *step).await?;
    // Which of them were used is not known any more: each is good once, so none is.
    sqlx::query("DELETE FROM join_token").execute(&mut *step).await?;
    step.commit().await?;
    Ok(u64::try_from(epoch).unwrap_or(0))
}

/// The one row that names the store; whoever comes first makes it.
async fn create(conn: &mut PgConnection, options: &OpenOptions) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO meta(one, trust_domain, dev, store_id, epoch, created_at)
                 VALUES(1, $1, $2, $3, 1, $4) ON CONFLICT DO NOTHING",
    )
    .bind(&options.trust_domain)
    .bind(options.dev)
    .bind(store_id(&*options.entropy))
    .bind(options.clock.now().as_millis())
    .execute(conn)
    .await
    .map(drop)
}

async fn meta(conn: &mut PgConnection) -> Result<Option<StoreMeta>, Error> {
    let sql = "SELECT store_id, trust_domain, dev, epoch, clock_high_water FROM meta, journal_head";
    let row: Option<(String, String, bool, i64, i64)> = sqlx::query_as(sql).fetch_optional(conn).await?;
    Ok(row.map(|(store_id, trust_domain, dev, epoch, newest)| StoreMeta {
        store_id,
        trust_domain,
        dev,
        epoch: u64::try_from(epoch).unwrap_or(0),
        clock_high_water: Timestamp::from_millis(newest),
    }))
}

/// Where the journal stands.
struct Journal {
    size: u64,
    start: u64,
    edge: Edge,
    /// Tiles that became full behind the newest root.
    full: Vec<Tile>,
    root_at: u64,
}

/// Rehashes everything behind the newest root that was written down. Older records are the verifier's.
async fn journal(conn: &mut PgConnection) -> Result<Journal, String> {
    let text = |e: Error| format!("the journal cannot be read ({e})");
    let size: i64 = sqlx::query_scalar("SELECT size FROM journal_head").fetch_one(&mut *conn).await.map_err(text)?;
    let size = u64::try_from(size).map_err(|_| "the journal's size is negative".to_string())?;
    let root = archive::newest_root(conn).await.map_err(|e| e.to_string())?;
    let root_at = root.map_or(0, |root| root.size);
    if root_at > size {
        return Err(format!("a root over {root_at} records was written down, the journal has {size}"));
    }
    let (mut edge, mut full) = (proofs::edge(conn, root_at).await.map_err(|e| e.to_string())?, Vec::new());
    if root.is_some_and(|root| edge.frontier().root() != root.root) {
        return Err(format!("the tree over {root_at} records does not come to the root written down"));
    }
    let sql = "SELECT position, leaf, body FROM journal WHERE position >= $1 ORDER BY position LIMIT $2";
    while edge.size() < size {
        let at = edge.size();
        let rows: Vec<(i64, Vec<u8>, Vec<u8>)> =
            sqlx::query_as(sql).bind(int(at)).bind(STEP).fetch_all(&mut *conn).await.map_err(text)?;
        for (position, leaf, body) in rows {
            if position != int(edge.size()) {
                break;
            }
            match <Hash>::try_from(leaf) {
                Ok(leaf) if leaf == leaf_hash(&body) => edge.append(leaf, &mut full),
                _ => return Err(format!("the record at position {position} is not what was hashed")),
            }
        }
        if edge.size() == at {
            return Err(format!("the journal has no record at position {at}"));
        }
    }
    if edge.size() != size {
        return Err(format!("the journal has {} records where its head says {size}", edge.size()));
    }
    let start = pruned::start(conn).await.map_err(text)?;
    let said = pruned::said(conn).await.map_err(|e| e.to_string())?.unwrap_or(0);
    if start != said || start > root_at {
        return Err(format!(
            "its head says that records before position {start} are no longer kept, its newest record about that says {said}"
        ));
    }
    Ok(Journal { size, start, edge, full, root_at })
}
