//! Ending a role, in the order that leaves no way back in: no new login, no session, no object, no role, and a last
//! look for sessions. Each step may be repeated; a role that is gone already is a success.

use super::{
    ORPHANS,
    connect::{Connector, Session, run, within},
    failure::Failure,
    issue::{GRANT_OPTIONS, MARK},
    quote::{ident, literal},
    sweep,
};
use proto_types::{CredentialName, Lease};
use server_core::ports::{RevokeError, Revoked};
use sqlx::Row as _;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(27);
/// How often its sessions are looked for: with the pauses below, about five seconds.
const LOOKS: u32 = 40;

pub(super) async fn revoke(connector: &Connector, store_id: &str, lease: &Lease) -> Result<Revoked, RevokeError> {
    let name = lease.name.as_str();
    if CredentialName::recognise(store_id, name).is_none() {
        // After a restore, or a row somebody wrote: another installation's role is never dropped.
        return Err(RevokeError::NeedsHuman { why: "the credential's name is not one of this store".into() });
    }
    let saved = lease.handle.value().get("oid").and_then(serde_json::Value::as_i64);
    let groups = connector.config.roles.get(lease.role.role()).map_or(&[][..], |role| &role.member_of);
    within(LIMIT, end(connector, name, saved, groups)).await?;
    Ok(Revoked::Gone)
}

/// A role of ours as the target knows it.
pub(super) struct Doomed<'a> {
    pub(super) name: &'a str,
    pub(super) oid: i64,
    pub(super) version: i32,
    /// What the target's document makes its kind members of.
    pub(super) groups: &'a [String],
}

async fn end(connector: &Connector, name: &str, saved: Option<i64>, groups: &[String]) -> Result<(), Failure> {
    let mut session = connector.session("SELECT 1").await?;
    let found = find(&mut session, name, saved, groups).await?;
    let mut oids: Vec<i64> = saved.into_iter().chain(found.as_ref().map(|d| d.oid)).collect();
    oids.dedup();
    if let Some(doomed) = &found {
        lock_out(&mut session, doomed).await?;
    }
    let oids = ours_only(&mut session, &oids, name).await?;
    close_sessions(&mut session, &oids).await?;
    if let Some(doomed) = &found {
        strip(connector, &mut session, doomed).await?;
        session.run(format!("DROP ROLE IF EXISTS {}", ident(name))).await?;
    }
    // A login that was checked just before NOLOGIN may have become a session since.
    close_sessions(&mut session, &oids).await?;
    session.keep();
    Ok(())
}

/// The role, when it is there and ours: by its comment, or by the oid that was saved when it was made.
async fn find<'a>(
    session: &mut Session<'_>,
    name: &'a str,
    saved: Option<i64>,
    groups: &'a [String],
) -> Result<Option<Doomed<'a>>, Failure> {
    let row = sqlx::query(
        "SELECT oid::int8, coalesce(shobj_description(oid, 'pg_authid'), ''), \
         current_setting('server_version_num')::int FROM pg_roles WHERE rolname = $1",
    )
    .bind(name)
    .fetch_optional(&mut session.conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (oid, comment): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    if saved != Some(oid) && !comment.starts_with(MARK) {
        let fix = "drop or rename it by hand";
        return Err(Failure::Person(format!("a role named {name} exists that was not made here: {fix}")));
    }
    Ok(Some(Doomed { name, oid, version: row.try_get(2)?, groups }))
}

/// Committed by itself, before anything else: from here on nobody logs in with it. What it planted has lost its rights
/// too, however long the rest takes.
async fn lock_out(session: &mut Session<'_>, doomed: &Doomed<'_>) -> Result<(), Failure> {
    let name = ident(doomed.name);
    session.run(format!("ALTER ROLE {name} NOLOGIN PASSWORD NULL VALID UNTIL '-infinity' CONNECTION LIMIT 0")).await?;
    let groups: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT roleid::regrole::text FROM pg_auth_members WHERE member::int8 = $1 ORDER BY 1",
    )
    .bind(doomed.oid)
    .fetch_all(&mut session.conn)
    .await?;
    for group in groups {
        match session.run(format!("REVOKE {group} FROM {name}")).await {
            // Granted by somebody else: it goes when the role is dropped.
            Err(e) if e.code() == Some("42501") => {}
            other => other?,
        }
    }
    Ok(())
}

/// Oids come round again after four thousand million roles: one that is another role's now is left alone.
async fn ours_only(session: &mut Session<'_>, oids: &[i64], name: &str) -> Result<Vec<i64>, Failure> {
    let kept = sqlx::query_scalar(
        "SELECT o FROM unnest($1::int8[]) o \
         WHERE NOT EXISTS (SELECT FROM pg_roles WHERE pg_roles.oid::int8 = o AND rolname <> $2)",
    )
    .bind(oids)
    .bind(name)
    .fetch_all(&mut session.conn)
    .await?;
    Ok(kept)
}

/// Matched by oid: a session outlives its role's name.
async fn close_sessions(session: &mut Session<'_>, oids: &[i64]) -> Result<(), Failure> {
    for look in 0..LOOKS {
        let alive: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE usesysid::int8 = ANY($1) AND pid <> pg_backend_pid()",
        )
        .bind(oids)
        .fetch_one(&mut session.conn)
        .await?;
        if alive == 0 {
            return Ok(());
        }
        // The target waits: its sessions end when it has looked after them.
        sqlx::query("SELECT pg_sleep($1)")
            .bind(f64::from(look.min(14)).mul_add(0.01, 0.01))
            .execute(&mut session.conn)
            .await?;
    }
    Err(Failure::Later("its sessions have been told to end and have not ended yet".into()))
}

/// Takes from it everything it owns or was granted, in every database.
async fn strip(connector: &Connector, session: &mut Session<'_>, doomed: &Doomed<'_>) -> Result<(), Failure> {
    let prepared = prepared(session, doomed).await?;
    let places = places(session, doomed).await?;
    if prepared.is_empty() && places.is_empty() {
        return Ok(());
    }
    assume(session, doomed).await?;
    for (gid, database) in prepared {
        roll_back(connector, doomed, &gid, &database).await?;
    }
    for place in places_again(session, doomed, places).await? {
        let mut conn = connector.open(&place).await?;
        sweep::sweep(&mut conn, doomed).await?;
    }
    left(session, doomed).await
}

/// Nothing, or whose move it is: what was granted to it directly only the grantor or a superuser takes back.
async fn left(session: &mut Session<'_>, doomed: &Doomed<'_>) -> Result<(), Failure> {
    let owns: Option<bool> = sqlx::query_scalar(
        "SELECT bool_or(deptype = 'o') FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid::int8 = $1",
    )
    .bind(doomed.oid)
    .fetch_one(&mut session.conn)
    .await?;
    let name = ident(doomed.name);
    match owns {
        None => Ok(()),
        Some(true) => Err(Failure::Later(format!("{name} still owns something"))),
        Some(false) => Err(Failure::Person(format!(
            "somebody granted rights to {name} itself: run DROP OWNED BY {name} as a superuser in each database"
        ))),
    }
}

/// What a prepared transaction made shows only once it is over.
async fn places_again(
    session: &mut Session<'_>,
    doomed: &Doomed<'_>,
    before: Vec<String>,
) -> Result<Vec<String>, Failure> {
    let mut now = places(session, doomed).await?;
    now.retain(|p| !before.contains(p));
    Ok(before.into_iter().chain(now).collect())
}

/// Transactions it prepared and left: they hold locks, and would come back to life.
async fn prepared(session: &mut Session<'_>, doomed: &Doomed<'_>) -> Result<Vec<(String, String)>, Failure> {
    let rows = sqlx::query("SELECT gid, database::text FROM pg_prepared_xacts WHERE owner = $1 LIMIT 100")
        .bind(doomed.name)
        .fetch_all(&mut session.conn)
        .await?;
    rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
}

/// Only its owner may roll one back, so the owner's name is put on for one statement of a connection of its own.
async fn roll_back(connector: &Connector, doomed: &Doomed<'_>, gid: &str, database: &str) -> Result<(), Failure> {
    let mut conn = connector.open(database).await?;
    run(&mut conn, format!("SET ROLE {}", ident(doomed.name))).await?;
    match run(&mut conn, format!("ROLLBACK PREPARED {}", literal(gid))).await {
        // Already over.
        Err(e) if e.code() == Some("42704") => Ok(()),
        other => other,
    }
}

/// The databases in which it owns or was granted something; the target's own one for what belongs to no database.
async fn places(session: &mut Session<'_>, doomed: &Doomed<'_>) -> Result<Vec<String>, Failure> {
    let rows = sqlx::query(
        "SELECT DISTINCT coalesce(b.datname, current_database())::text, coalesce(b.datallowconn, true) \
         FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid \
         WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid::int8 = $1 ORDER BY 1",
    )
    .bind(doomed.oid)
    .fetch_all(&mut session.conn)
    .await?;
    let mut names = Vec::with_capacity(rows.len());
    for row in rows {
        let (name, open): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        if !open {
            let shown = proto_types::id::excerpt(&name);
            let fix = "allow connections to it, or drop what the role owns there by hand";
            return Err(Failure::Person(format!("{} owns something in database `{shown}`: {fix}", doomed.name)));
        }
        names.push(name);
    }
    Ok(names)
}

/// Makes this server a member of the role and of [`ORPHANS`], which `REASSIGN OWNED` asks for.
async fn assume(session: &mut Session<'_>, doomed: &Doomed<'_>) -> Result<(), Failure> {
    let options = if doomed.version >= GRANT_OPTIONS { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    let superuser: bool = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        .fetch_one(&mut session.conn)
        .await?;
    if !superuser {
        session.run(format!("GRANT {} TO CURRENT_USER{options}", ident(doomed.name))).await?;
    }
    ensure_orphans(session).await?;
    let member: bool = sqlx::query_scalar("SELECT pg_has_role(current_user, $1, 'USAGE')")
        .bind(ORPHANS)
        .fetch_one(&mut session.conn)
        .await?;
    if !member {
        session.run(format!("GRANT {ORPHANS} TO CURRENT_USER{options}")).await?;
    }
    Ok(())
}

async fn ensure_orphans(session: &mut Session<'_>) -> Result<(), Failure> {
    match orphans_state(&mut session.conn).await? {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Person(format!(
            "{ORPHANS} may log in, has rights or is a member of a role: take that away, or what is planted gains it"
        ))),
        None => match session.run(format!("CREATE ROLE {ORPHANS} NOLOGIN NOINHERIT")).await {
            // Another revocation was faster.
            Err(e) if matches!(e.code(), Some("42710" | "23505")) => Ok(()),
            other => other,
        },
    }
}

/// Whether the orphans' role is powerless; `None` when it does not exist.
pub(super) async fn orphans_state(conn: &mut sqlx::PgConnection) -> Result<Option<bool>, Failure> {
    let state = sqlx::query_scalar(
        "SELECT NOT (rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls \
         OR EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid)) FROM pg_roles r WHERE rolname = $1",
    )
    .bind(ORPHANS)
    .fetch_optional(conn)
    .await?;
    Ok(state)
}
