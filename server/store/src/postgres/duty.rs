//! Duties among servers: session locks of the database, each held by one connection, and gone with it. Work that is
//! divided is spread evenly over as many servers as hold a lock that all of them share.
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

/// The first half of each duty's lock: "ERRD".
const DUTIES: i32 = 0x4552_5244;
/// The first half of the lock that every server shares while it is up: "ERRE".
const SERVERS: i32 = 0x4552_5245;

/// What is wanted here and what is held.
#[derive(Default)]
pub struct Table {
    held: Mutex<Held>,
    /// When the database last said that the session lives. Of the machine's own time: it goes on while the process is paused,
    /// whatever is done to the wall clock.
    seen: Mutex<Option<Instant>>,
    asked: Notify,
}

#[derive(Default)]
struct Held {
    whole: HashMap<String, bool>,
    /// Work that is divided, with each of its parts.
    parts: HashMap<String, Vec<bool>>,
}

impl Table {
    /// Whether a duty is held. One that is asked for the first time is wanted from then on.
    pub fn holds(&self, duty: &str) -> bool {
        let mut held = self.held();
        if let Some(held) = held.whole.get(duty) {
            return *held && self.is_fresh();
        }
        held.whole.insert(duty.into(), false);
        self.asked.notify_one();
        false
    }

    /// Whether a part of divided work is held. Work that is asked about for the first time is wanted from then on.
    pub fn holds_part(&self, work: &str, part: u32, of: u32) -> bool {
        let mut held = self.held();
        if let Some(parts) = held.parts.get(work) {
            return parts.get(part as usize).is_some_and(|held| *held) && self.is_fresh();
        }
        held.parts.insert(work.into(), vec![false; of as usize]);
        self.asked.notify_one();
        false
    }

    fn is_fresh(&self) -> bool {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.is_some_and(|at| now().duration_since(at) < BELIEVED)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn divides(&self) -> bool {
        !self.held().parts.is_empty()
    }

    fn wanted(&self) -> Vec<String> {
        self.held().whole.iter().filter(|(_, held)| !**held).map(|(duty, _)| duty.clone()).collect()
    }

    fn got(&self, duty: String) {
        self.held().whole.insert(duty, true);
    }

    /// Gives up what is more than a fair share of each work, and says what is less. From here on it is not done here, though
    /// its locks are still to be let go.
    fn share(&self, servers: usize) -> Vec<Share> {
        let mut held = self.held();
        let share = |(work, parts): (&String, &mut Vec<bool>)| {
            let fair = parts.len().div_ceil(servers.max(1));
            let (mine, others): (Vec<usize>, Vec<usize>) = (0..parts.len()).partition(|part| parts[*part]);
            let surplus = mine.get(fair..).unwrap_or_default().to_vec();
            surplus.iter().for_each(|part| parts[*part] = false);
            Share { work: work.clone(), missing: fair.saturating_sub(mine.len()), others, surplus }
        };
        held.parts.iter_mut().map(share).collect()
    }

    fn got_part(&self, work: &str, part: usize) {
        if let Some(held) = self.held().parts.get_mut(work).and_then(|parts| parts.get_mut(part)) {
            *held = true;
        }
    }

    fn lost(&self) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut held = self.held();
        held.whole.values_mut().for_each(|held| *held = false);
        held.parts.values_mut().for_each(|parts| parts.fill(false));
    }

    fn lives(&self, since: Instant) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
    }
}

/// How this server stands in one divided work.
struct Share {
    work: String,
    /// How many more would be fair.
    missing: usize,
    /// Parts that are not held here.
    others: Vec<usize>,
    /// Parts to be let go.
    surplus: Vec<usize>,
}

impl Share {
    fn name(&self, part: usize) -> String {
        format!("{} {part}", self.work)
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
    let mut counted = false;
    loop {
        if !counted && table.divides() {
            // Only who does its share is counted: a command that looks into the store does none.
            sqlx::query("SELECT pg_advisory_lock_shared($1, 0)").bind(SERVERS).execute(&mut conn).await?;
            counted = true;
        }
        let asked = now();
        let servers = servers(&mut conn).await?;
        table.lives(asked);
        let wanted = table.wanted();
        for duty in take(&mut conn, &wanted, wanted.len()).await? {
            tracing::info!(duty, "this server does it from now on");
            table.got(duty);
        }
        for share in table.share(servers) {
            let names = |parts: &[usize]| parts.iter().map(|part| share.name(*part)).collect::<Vec<_>>();
            let (surplus, others) = (names(&share.surplus), names(&share.others));
            release(&mut conn, &surplus).await?;
            let taken = take(&mut conn, &others, share.missing).await?;
            for (part, _) in share.others.iter().zip(&others).filter(|(_, name)| taken.contains(name)) {
                table.got_part(&share.work, *part);
            }
            if !(taken.is_empty() && surplus.is_empty()) {
                let (work, gained, given) = (&share.work, taken.len(), surplus.len());
                tracing::info!(work, servers, gained, given, "the work was divided anew");
            }
        }
        tokio::select! {
            () = clock.sleep(LOOK) => {}
            () = table.asked.notified() => {}
        }
    }
}

/// How many servers are up.
pub async fn servers(conn: &mut PgConnection) -> Result<usize, Error> {
    let sql =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::int::oid AND objid = 0 AND granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let count: i64 = sqlx::query_scalar(sql).bind(SERVERS).fetch_one(conn).await?;
    Ok(usize::try_from(count).unwrap_or(1))
}

/// Takes those of them that nobody has, at most `max`: it is asked for one after the other, and no more than that.
async fn take(conn: &mut PgConnection, duties: &[String], max: usize) -> Result<Vec<String>, Error> {
    if duties.is_empty() || max == 0 {
        return Ok(Vec::new());
    }
    let sql = "SELECT duty FROM unnest($1::text[]) AS duty WHERE pg_try_advisory_lock($2, hashtext(duty)) LIMIT $3";
    sqlx::query_scalar(sql).bind(duties).bind(DUTIES).bind(max as i64).fetch_all(conn).await
}

async fn release(conn: &mut PgConnection, duties: &[String]) -> Result<(), Error> {
    if duties.is_empty() {
        return Ok(());
    }
    let sql = "SELECT pg_advisory_unlock($2, hashtext(duty)) FROM unnest($1::text[]) AS duty";
    sqlx::query(sql).bind(duties).bind(DUTIES).execute(conn).await.map(drop)
}
