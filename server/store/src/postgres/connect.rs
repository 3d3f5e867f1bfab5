//! Connections: to whichever host is not a standby, few, bounded in time.

use super::{config::PostgresConfig, error::unreadable};
use proto_types::{Clock, Fut, id::excerpt};
use server_core::ports::ReadError;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long one host may take to be connected to.
const CONNECT: Duration = Duration::from_secs(5);
/// Reading connections at most, and how long one may be waited for.
const READERS: usize = 6;
const QUEUE: Duration = Duration::from_secs(10);
/// How long one that was not used for a while may take to say that it lives, and how long reading may take in all. The
/// database ends a statement sooner; behind these a connection died without a word.
const LIVES: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_secs(60);

/// Nothing outside the store's own schema and the catalogue is looked up by name; every statement and every wait for a
/// lock ends, so that a server that was paused in a transaction holds up the others no longer than this.
const SESSION: &str = "SET search_path = errand, pg_catalog; SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
     SET idle_in_transaction_session_timeout = '10s'; SET standard_conforming_strings = on; \
     SET default_transaction_isolation = 'read committed'; SET client_min_messages = error";

/// Opens connections.
pub struct Connector {
    pub config: PostgresConfig,
    clock: Arc<dyn Clock>,
    /// The host that answered last: it is asked first.
    last: AtomicUsize,
}

impl Connector {
    pub fn new(config: PostgresConfig, clock: Arc<dyn Clock>) -> Self {
        Self { config, clock, last: AtomicUsize::new(0) }
    }

    /// A connection to the host that takes writes; why there is none otherwise, host by host.
    pub async fn primary(&self) -> Result<PgConnection, String> {
        Ok(self.found().await?.1)
    }

    /// The same, with the way there.
    pub async fn found(&self) -> Result<(PgConnectOptions, PgConnection), String> {
        let hosts = self.config.options()?;
        let first = self.last.load(Ordering::Relaxed);
        let mut problems = Vec::new();
        for n in 0..hosts.len() {
            let n = (first + n) % hosts.len();
            let Some(host) = hosts.get(n) else { continue };
            match self.open(host).await {
                Ok(conn) => {
                    self.last.store(n, Ordering::Relaxed);
                    return Ok((host.clone(), conn));
                }
                Err(why) => problems.push(format!("{}:{} {why}", host.get_host(), host.get_port())),
            }
        }
        Err(problems.join("; "))
    }

    async fn open(&self, host: &PgConnectOptions) -> Result<PgConnection, String> {
        let opening = async {
            let mut conn = PgConnection::connect_with(host).await?;
            sqlx::raw_sql(SESSION).execute(&mut conn).await?;
            let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut conn).await?;
            Ok((conn, standby))
        };
        tokio::select! {
            opened = opening => match opened {
                Ok((conn, false)) => Ok(conn),
                Ok((_, true)) => Err("is a standby".into()),
                Err(e) => Err(told(&e)),
            },
            () = self.clock.sleep(CONNECT) => Err(format!("does not answer within {} s", CONNECT.as_secs())),
        }
    }
}

fn told(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => format!("refuses: {}", excerpt(e.message())),
        other => format!("cannot be reached: {}", excerpt(&other.to_string())),
    }
}

/// Connections for reading.
pub struct Pool {
    connector: Arc<Connector>,
    permits: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in hand. Dropped, it is closed: something may be open on it. [`Held::keep`] gives it back.
pub struct Held<'a> {
    conn: PgConnection,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    pub fn new(connector: Arc<Connector>) -> Self {
        Self { connector, permits: Semaphore::new(READERS), idle: Mutex::default() }
    }

    pub async fn get(&self) -> Result<Held<'_>, ReadError> {
        let permit = tokio::select! {
            permit = self.permits.acquire() => permit.map_err(|e| ReadError::Unavailable(e.to_string()))?,
            () = self.connector.clock.sleep(QUEUE) => {
                return Err(ReadError::Unavailable("all its connections are busy".into()));
            }
        };
        // One that the database closed meanwhile says so now, not in the middle of a question.
        while let Some(mut conn) = self.pop() {
            let lives = tokio::select! {
                pong = conn.ping() => pong.is_ok(),
                () = self.connector.clock.sleep(LIVES) => false,
            };
            if lives {
                return Ok(Held { conn, pool: self, _permit: permit });
            }
        }
        let conn = self.connector.primary().await.map_err(ReadError::Unavailable)?;
        Ok(Held { conn, pool: self, _permit: permit })
    }

    /// Reads with a connection of its own.
    pub fn with<'a, T: Send + 'a>(
        &'a self,
        read: impl for<'c> FnOnce(&'c mut PgConnection) -> Fut<'c, Result<T, ReadError>> + Send + 'a,
    ) -> Fut<'a, Result<T, ReadError>> {
        Box::pin(self.bounded(async move {
            let mut held = self.get().await?;
            let found = read(&mut held).await?;
            held.keep();
            Ok(found)
        }))
    }

    /// The same in one moment: all that is read is of the same commit.
    pub fn at_once<'a, T: Send + 'a>(
        &'a self,
        read: impl for<'c> FnOnce(&'c mut PgConnection) -> Fut<'c, Result<T, ReadError>> + Send + 'a,
    ) -> Fut<'a, Result<T, ReadError>> {
        Box::pin(self.bounded(async move {
            let mut held = self.get().await?;
            let begin = sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
            begin.execute(&mut *held).await.map_err(unreadable)?;
            let found = read(&mut held).await?;
            sqlx::raw_sql("COMMIT").execute(&mut *held).await.map_err(unreadable)?;
            held.keep();
            Ok(found)
        }))
    }

    async fn bounded<T>(&self, reading: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        tokio::select! {
            read = reading => read,
            () = self.connector.clock.sleep(READ) => Err(ReadError::Unavailable("it does not answer".into())),
        }
    }

    fn pop(&self) -> Option<PgConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Held<'_> {
    pub fn keep(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.conn);
    }
}

impl Deref for Held<'_> {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.conn
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.conn
    }
}
