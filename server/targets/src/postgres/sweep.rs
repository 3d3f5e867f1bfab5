//! One database without a role's objects: its routines dropped, the rest given to the orphans' role.
//!
//! Every name here was written by whoever held the credential. None is taken apart: the target itself quotes them
//! (`regprocedure`, `pg_identify_object`), with nothing but the catalogue in the search path.

use super::{ORPHANS, connect::run, failure::Failure, issue::GRANT_OPTIONS, quote::ident, revoke::Doomed};
use sqlx::{PgConnection, Row as _};

/// Most objects looked at in one pass; what is left comes with the next try.
const MOST: i64 = 5000;

/// Kinds of object that REASSIGN gives away only when their new owner may create in their schema. They hold no data.
const UNGIVEN: [&str; 8] = [
    "operator",
    "operator class",
    "operator family",
    "collation",
    "conversion",
    "text search configuration",
    "text search dictionary",
    "statistics object",
];

/// In one transaction: whole, or to be tried again.
pub(super) async fn sweep(conn: &mut PgConnection, doomed: &Doomed<'_>) -> Result<(), Failure> {
    run(conn, "BEGIN").await?;
    drop_routines(conn, doomed.oid).await?;
    reassign(conn, doomed).await?;
    run(conn, format!("DROP OWNED BY {}", ident(doomed.name))).await?;
    return_rights(conn, doomed).await?;
    run(conn, "COMMIT").await
}

/// A routine runs with its owner's rights or its caller's; either way nobody should call this one again.
async fn drop_routines(conn: &mut PgConnection, owner: i64) -> Result<(), Failure> {
    let routines = sqlx::query(
        "SELECT oid::int8, oid::regprocedure::text FROM pg_proc WHERE proowner::int8 = $1 ORDER BY pg_proc.oid DESC LIMIT $2",
    )
    .bind(owner)
    .bind(MOST)
    .fetch_all(&mut *conn)
    .await?;
    for row in routines {
        let (oid, routine): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
        drop_triggers(conn, owner, oid).await?;
        let drop = format!("DROP ROUTINE IF EXISTS {routine}");
        if !attempt(conn, &drop, "2BP01").await? && !cascade(conn, &drop, owner).await? {
            // It stays, its new owner powerless, callable by nobody.
            run(conn, format!("REVOKE ALL ON ROUTINE {routine} FROM PUBLIC")).await?;
        }
    }
    Ok(())
}

/// Drops a routine with what needs it, unless something of anybody else would go too.
async fn cascade(conn: &mut PgConnection, drop: &str, owner: i64) -> Result<bool, Failure> {
    let before = of_others(conn, owner).await?;
    run(conn, "SAVEPOINT cascade").await?;
    run(conn, format!("{drop} CASCADE")).await?;
    let harmless = of_others(conn, owner).await? == before;
    run(conn, if harmless { "RELEASE SAVEPOINT cascade" } else { "ROLLBACK TO SAVEPOINT cascade" }).await?;
    Ok(harmless)
}

/// How many things in this database are not the role's, parts of tables among them. A drop only makes it less.
async fn of_others(conn: &mut PgConnection, owner: i64) -> Result<i64, Failure> {
    let count = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM pg_class WHERE relowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_proc WHERE proowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_type WHERE typowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_operator WHERE oprowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_opclass WHERE opcowner::int8 <> $1) + (SELECT count(*) FROM pg_cast) \
         + (SELECT count(*) FROM pg_event_trigger) + (SELECT count(*) FROM pg_language) \
         + (SELECT count(*) FROM pg_foreign_data_wrapper) \
         + (SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid \
            WHERE NOT attisdropped AND relowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_attrdef JOIN pg_class c ON c.oid = adrelid WHERE relowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_constraint JOIN pg_class c ON c.oid = conrelid WHERE relowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_constraint JOIN pg_type t ON t.oid = contypid WHERE typowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE relowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_policy JOIN pg_class c ON c.oid = polrelid WHERE relowner::int8 <> $1) \
         + (SELECT count(*) FROM pg_rewrite JOIN pg_class c ON c.oid = ev_class WHERE relowner::int8 <> $1)",
    )
    .bind(owner)
    .fetch_one(conn)
    .await?;
    Ok(count)
}

/// Triggers on its own tables, which would run the routine as whoever writes there next.
async fn drop_triggers(conn: &mut PgConnection, owner: i64, routine: i64) -> Result<(), Failure> {
    let triggers: Vec<String> = sqlx::query_scalar(
        "SELECT format('DROP TRIGGER IF EXISTS %I ON %s', t.tgname, t.tgrelid::regclass) FROM pg_trigger t \
         JOIN pg_class c ON c.oid = t.tgrelid \
         WHERE t.tgfoid::int8 = $1 AND NOT t.tgisinternal AND t.tgparentid = 0 AND c.relowner::int8 = $2",
    )
    .bind(routine)
    .bind(owner)
    .fetch_all(&mut *conn)
    .await?;
    for statement in triggers {
        run(conn, statement).await?;
    }
    Ok(())
}

async fn reassign(conn: &mut PgConnection, doomed: &Doomed<'_>) -> Result<(), Failure> {
    let statement = format!("REASSIGN OWNED BY {} TO {ORPHANS}", ident(doomed.name));
    if attempt(conn, &statement, "42501").await? {
        return Ok(());
    }
    drop_ungiven(conn, doomed.oid).await?;
    borrow_rights(conn, doomed).await?;
    match run(conn, statement).await {
        Err(failure) if failure.code() == Some("42501") => Err(Failure::Person(format!(
            "what {} owns cannot be given to {ORPHANS}: {failure}; drop by hand what others made of it",
            doomed.name
        ))),
        other => other,
    }
}

/// A schema is given away only by who may create one. The role could; so can its heir for the rest of this transaction,
/// which nobody else sees. DROP ROLE ends the membership if nothing did before.
async fn borrow_rights(conn: &mut PgConnection, doomed: &Doomed<'_>) -> Result<(), Failure> {
    let name = ident(doomed.name);
    let options = if doomed.version >= GRANT_OPTIONS { " WITH INHERIT TRUE, SET FALSE" } else { "" };
    for group in doomed.groups {
        attempt(conn, &format!("GRANT {} TO {name}{options}", ident(group)), "42501").await?;
    }
    Ok(())
}

async fn return_rights(conn: &mut PgConnection, doomed: &Doomed<'_>) -> Result<(), Failure> {
    for group in doomed.groups {
        attempt(conn, &format!("REVOKE {} FROM {}", ident(group), ident(doomed.name)), "42501").await?;
    }
    Ok(())
}

async fn drop_ungiven(conn: &mut PgConnection, owner: i64) -> Result<(), Failure> {
    let objects = sqlx::query(
        "SELECT o.type, o.identity FROM pg_shdepend d, pg_identify_object(d.classid, d.objid, d.objsubid) o \
         WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid::int8 = $1 AND d.deptype = 'o' \
         AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY d.objid DESC LIMIT $2",
    )
    .bind(owner)
    .bind(MOST)
    .fetch_all(&mut *conn)
    .await?;
    for row in objects {
        let (kind, identity): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let Some(kind) = UNGIVEN.iter().find(|k| **k == kind) else { continue };
        let verb = if *kind == "statistics object" { "STATISTICS" } else { kind };
        // An operator's class may have gone with its family; what something else needs is said by REASSIGN.
        attempt(conn, &format!("DROP {verb} IF EXISTS {identity}"), "2BP01").await?;
    }
    Ok(())
}

/// Runs one statement of an open transaction; `false` when it failed with exactly `code` and was undone.
async fn attempt(conn: &mut PgConnection, statement: &str, code: &str) -> Result<bool, Failure> {
    run(conn, "SAVEPOINT attempt").await?;
    match run(conn, statement).await {
        Ok(()) => run(conn, "RELEASE SAVEPOINT attempt").await.map(|()| true),
        Err(failure) if failure.code() == Some(code) => {
            run(conn, "ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt").await.map(|()| false)
        }
        Err(failure) => Err(failure),
    }
}
