//! Connections to one PostgreSQL target: few, bounded in time, never waited for when the target is down.
//!
//! A driver pool would try a refused connection again until its own deadline; here a refusal is an answer.

use super::{config::Config, failure::Failure};
use crate::secret_file::{self, FileError};
use proto_types::id::excerpt;
use server_core::ports::KindContext;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{Semaphore, SemaphorePermit};

const CONNECT: Duration = Duration::from_secs(5);
/// An idle connection that does not answer within this is taken for dead (a firewall forgot it).
const WAKE: Duration = Duration::from_secs(2);
/// Longest wait for one of the target's connections to become free.
const QUEUE: Duration = Duration::from_secs(10);
const MOST: usize = 8;
const MOST_IDLE: usize = 4;

/// Nothing but the catalogue is looked up by name, so that no object of anybody shadows a function; every statement
/// and every wait for a lock ends.
const SESSION: &str = "SET search_path = pg_catalog, pg_temp; SET statement_timeout = '10s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '20s'; SET standard_conforming_strings = on; \
     SET client_min_messages = error";

pub(super) struct Connector {
    pub(super) config: Arc<Config>,
    context: KindContext,
    permits: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in hand. Dropped, it is closed; [`Session::keep`] gives it back.
pub(super) struct Session<'a> {
    pub(super) conn: PgConnection,
    home: &'a Connector,
    _permit: SemaphorePermit<'a>,
}

impl Connector {
    pub(super) fn new(config: Arc<Config>, context: KindContext) -> Self {
        Self { config, context, permits: Semaphore::new(MOST), idle: Mutex::new(Vec::new()) }
    }

    /// A connection to the target's own database on which `first` has been executed: an idle one that turns out dead
    /// is replaced, and nothing was done on it yet.
    pub(super) async fn session(&self, first: &'static str) -> Result<Session<'_>, Failure> {
        let permit = within(QUEUE, async { self.permits.acquire().await.map_err(|e| Failure::Later(e.to_string())) });
        let permit = permit.await?;
        while let Some(mut conn) = self.pop() {
            if within(WAKE, run(&mut conn, first)).await.is_ok() {
                return Ok(Session { conn, home: self, _permit: permit });
            }
        }
        let mut conn = self.open(&self.config.address.database).await?;
        run(&mut conn, first).await?;
        Ok(Session { conn, home: self, _permit: permit })
    }

    /// A new connection to `database`, whose name may come from the target and be anything.
    pub(super) async fn open(&self, database: &str) -> Result<PgConnection, Failure> {
        let options = self.options()?.database(database);
        let opened = within(CONNECT, async {
            let mut conn = PgConnection::connect_with(&options).await.map_err(|e| self.unreachable(e))?;
            run(&mut conn, SESSION).await?;
            Ok(conn)
        });
        opened.await.map_err(|failure| match failure {
            Failure::Timeout(s) => {
                Failure::Unreachable { at: self.config.address.shown(), why: format!("no answer within {s} s") }
            }
            other => other,
        })
    }

    fn options(&self) -> Result<PgConnectOptions, Failure> {
        let config = &self.config;
        let refused = |e: FileError| Failure::Credentials(e.to_string());
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&config.address.host)
            .port(config.address.port)
            .username(&config.address.user)
            // Set in any case: the driver would otherwise take one from the server's own environment.
            .password("")
            .application_name("errand server")
            .ssl_mode(config.tls.mode)
            .disable_statement_logging();
        if let Some(path) = &config.tls.ca_file
            && !matches!(config.tls.mode, PgSslMode::Disable)
        {
            let allowed = config.allowed().filter(|_| config.tls.private_ca);
            options =
                options.ssl_root_cert_from_pem(secret_file::read(path, allowed).map_err(refused)?.expose().clone());
        }
        if let Some(path) = &config.password_file {
            return Ok(options.password(secret_file::read_line(path, config.allowed()).map_err(refused)?.expose()));
        }
        match (self.context.identity)() {
            Some((chain, key)) => {
                Ok(options.ssl_client_cert_from_pem(chain).ssl_client_key_from_pem(key.expose().as_bytes()))
            }
            None if config.address.host.starts_with('/') => Ok(options),
            None => Err(Failure::Later("the server has no SVID of its own yet".into())),
        }
    }

    fn unreachable(&self, error: sqlx::Error) -> Failure {
        match Failure::from(error) {
            Failure::Lost(why) => Failure::Unreachable { at: self.config.address.shown(), why: excerpt(&why) },
            other => other,
        }
    }

    fn pop(&self) -> Option<PgConnection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Session<'_> {
    pub(super) async fn run(&mut self, statement: impl Into<String>) -> Result<(), Failure> {
        run(&mut self.conn, statement).await
    }

    /// Gives the connection back; only when nothing is open on it.
    pub(super) fn keep(self) {
        let mut idle = self.home.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(self.conn);
        }
    }
}

/// Executes statements that return nothing. Every name and text in them went through [`super::quote`] or was quoted by
/// the target itself.
pub(super) async fn run(conn: &mut PgConnection, statement: impl Into<String>) -> Result<(), Failure> {
    sqlx::raw_sql(AssertSqlSafe(statement.into())).execute(conn).await?;
    Ok(())
}

/// `work`, or [`Failure::Timeout`].
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::Timeout(limit.as_secs())))
}
