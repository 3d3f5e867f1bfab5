//! A few read-only connections, used on threads that may block.

use super::error::unreadable;
use rusqlite::{Connection, OpenFlags};
use server_core::ports::ReadError;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Connections at most.
const READERS: usize = 4;

pub struct Pool {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Pool {
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS)) }
    }

    /// Runs `read` with a connection of its own.
    pub async fn with<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let gone = |what: &str| ReadError::Unavailable(format!("{what} has stopped"));
        let permit = self.permits.clone().acquire_owned().await.map_err(|_| gone("the store"))?;
        let (idle, path) = (self.idle.clone(), self.path.clone());
        let work = move || {
            let _permit = permit;
            let waiting = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let conn = waiting.map_or_else(|| connect(&path), Ok)?;
            let answer = read(&conn);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
            answer
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| gone("a reader"))?
    }

    /// Closes the connections that nobody uses.
    pub fn clear(&self) {
        self.permits.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn connect(path: &std::path::Path) -> Result<Connection, ReadError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.set_prepared_statement_cache_capacity(32);
        conn.pragma_update(None, "trusted_schema", false)?;
        conn.pragma_update(None, "cache_size", -2_048)?;
        Ok(conn)
    };
    open().map_err(unreadable)
}
