//! Duties among servers: session locks of the database, each held by one connection, and gone with it.
//!
//! A server that is paused cannot say that it lives: the database ends its session, and others get what it held. Back
//! again, it knows by its own clock that it was silent too long, and does nothing before it asked.

use super::connect::Connector;
use proto_types::Clock;
use sqlx::{Error, PgConnection};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Between two looks: at what is held, and at what became free.
const LOOK: Duration = Duration::from_secs(2);
/// What was held is believed so long after the last look. The database waits longer before it ends the session.
const BELIEVED: Duration = Duration::from_secs(5);

/// The first half of each lock's number: "ERRD".
const SPACE: i32 = 0x4552_5244;

/// What is wanted here and what is held.
#[derive(Default)]
pub struct Table {
    duties: Mutex<HashMap<String, bool>>,
    /// When the database last said that the session lives. Of the machine's own time: it goes on while the process is paused,
    /// whatever is done to the wall clock.
    seen: Mutex<Option<Instant>>,
    asked: Notify,
}

impl Table {
    /// Whether a duty is held. One that is asked for the first time is wanted from then on.
    pub fn holds(&self, duty: &str) -> bool {
        let fresh = self
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| now().duration_since(at) < BELIEVED);
        let mut duties = self.duties();
        match duties.get(duty) {
            Some(held) => *held && fresh,
            None => {
                duties.insert(duty.into(), false);
                self.asked.notify_one();
                false
            }
        }
    }

    fn duties(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.duties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> Vec<String> {
        self.duties().iter().filter(|(_, held)| !**held).map(|(duty, _)| duty.clone()).collect()
    }

    fn got(&self, duty: String) {
        self.duties().insert(duty, true);
    }

    fn lost(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.duties().values_mut().for_each(|held| *held = false);
    }

    fn lives(&self, since: Instant) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
    }
}

#[expect(clippy::disallowed_methods, reason = "how long this process was silent, which no clock of a test may decide")]
fn now() -> Instant {
    Instant::now()
}

/// Takes what is wanted and free, and holds on to it.
pub async fn hold(connector: Arc<Connector>, clock: Arc<dyn Clock>, table: Arc<Table>) {
    loop {
        if let Err(error) = session(&connector, clock.as_ref(), &table).await {
            tracing::debug!(%error, "duties are not held here now");
        }
        table.lost();
        clock.sleep(LOOK).await;
    }
}

async fn session(connector: &Connector, clock: &dyn Clock, table: &Table) -> Result<(), Error> {
    let mut conn = connector.primary().await.map_err(Error::Protocol)?;
    sqlx::raw_sql("SET idle_session_timeout = '10s'").execute(&mut conn).await?;
    loop {
        let asked = now();
        sqlx::query("SELECT 1").execute(&mut conn).await?;
        table.lives(asked);
        for duty in table.wanted() {
            if take(&mut conn, &duty).await? {
                tracing::info!(duty, "this server does it from now on");
                table.got(duty);
            }
        }
        tokio::select! {
            () = clock.sleep(LOOK) => {}
            () = table.asked.notified() => {}
        }
    }
}

async fn take(conn: &mut PgConnection, duty: &str) -> Result<bool, Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock($1, hashtext($2))").bind(SPACE).bind(duty).fetch_one(conn).await
}
