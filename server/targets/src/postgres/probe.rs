//! The questions that `target check` asks the target. Each answers with findings; none changes anything.

use super::{
    check::{error, warning},
    failure::Failure,
    issue::GRANT_OPTIONS,
    quote::{ident, like},
};
use server_core::ports::Missing;
use sqlx::{PgConnection, Row as _};

/// This server's own role there.
pub(super) struct Manager {
    pub(super) user: String,
    pub(super) version: i32,
    pub(super) superuser: bool,
    pub(super) createrole: bool,
    pub(super) inherit: bool,
    pub(super) signals: bool,
}

impl Manager {
    pub(super) async fn ask(conn: &mut PgConnection) -> Result<Self, Failure> {
        let row = sqlx::query(
            "SELECT current_user::text, current_setting('server_version_num')::int, rolsuper, rolcreaterole, \
             rolinherit, pg_has_role(current_user, 'pg_signal_backend', 'USAGE') \
             FROM pg_roles WHERE rolname = current_user",
        )
        .fetch_one(conn)
        .await?;
        Ok(Self {
            user: row.try_get(0)?,
            version: row.try_get(1)?,
            superuser: row.try_get(2)?,
            createrole: row.try_get(3)?,
            inherit: row.try_get(4)?,
            signals: row.try_get(5)?,
        })
    }
}

/// Whether the manager is a member of `role` or may make itself one.
pub(super) async fn may_join(conn: &mut PgConnection, manager: &Manager, role: &str) -> Result<bool, Failure> {
    // Before 16 CREATEROLE alone grants any role that is not a superuser's.
    if manager.superuser || (manager.version < GRANT_OPTIONS && manager.createrole) {
        return Ok(true);
    }
    let able = sqlx::query_scalar(
        "SELECT pg_has_role(current_user, $1, 'USAGE') OR pg_has_role(current_user, $1, 'MEMBER WITH ADMIN OPTION')",
    )
    .bind(role)
    .fetch_one(conn)
    .await?;
    Ok(able)
}

/// One role of `member_of`: is it there, may it be granted, and could its members leave something behind?
pub(super) async fn group(
    conn: &mut PgConnection,
    manager: &Manager,
    role: &str,
    group: &str,
    found: &mut Vec<Missing>,
) -> Result<(), Failure> {
    let quoted = ident(group);
    let row = sqlx::query("SELECT oid::int8, rolsuper FROM pg_roles WHERE rolname = $1")
        .bind(group)
        .fetch_optional(&mut *conn)
        .await?;
    let Some(row) = row else {
        found.push(error(
            format!("role `{role}`: member_of names {quoted}, which does not exist"),
            format!("CREATE ROLE {quoted} NOLOGIN"),
        ));
        return Ok(());
    };
    let (oid, superuser): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    if superuser {
        found.push(error(
            format!("role `{role}`: {quoted} is a superuser: its members could do anything and undo their own end"),
            format!("ALTER ROLE {quoted} NOSUPERUSER"),
        ));
        return Ok(());
    }
    if !manager.superuser && manager.version >= GRANT_OPTIONS && !administers(conn, group).await? {
        let user = ident(&manager.user);
        found.push(error(
            format!("role `{role}`: {user} may not grant {quoted}"),
            format!("GRANT {quoted} TO {user} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"),
        ));
    }
    powers(conn, role, group, oid, found).await?;
    creates(conn, role, group, oid, found).await
}

async fn administers(conn: &mut PgConnection, group: &str) -> Result<bool, Failure> {
    Ok(sqlx::query_scalar("SELECT pg_has_role(current_user, $1, 'MEMBER WITH ADMIN OPTION')")
        .bind(group)
        .fetch_one(conn)
        .await?)
}

/// Rights that reach beyond the data: to other roles, to the server's files, past row security.
async fn powers(
    conn: &mut PgConnection,
    role: &str,
    group: &str,
    oid: i64,
    found: &mut Vec<Missing>,
) -> Result<(), Failure> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT rolname::text FROM pg_roles WHERE pg_has_role($1::int8::oid, oid, 'MEMBER') \
         AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolname = \
         ANY('{pg_execute_server_program,pg_write_server_files,pg_read_server_files,pg_signal_backend}')) ORDER BY 1",
    )
    .bind(oid)
    .fetch_all(conn)
    .await?;
    let group = ident(group);
    found.extend(names.iter().map(|name| {
        let name = ident(name);
        let (through, fix) = if name == group {
            (
                "its own attributes".to_string(),
                format!("ALTER ROLE {group} NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS"),
            )
        } else {
            (name.clone(), format!("REVOKE {name} FROM {group}"))
        };
        warning(format!("role `{role}`: {group} has rights over the server itself through {through}"), fix)
    }));
    Ok(())
}

/// Where a member could create something that outlives its task, or owns something already.
async fn creates(
    conn: &mut PgConnection,
    role: &str,
    group: &str,
    oid: i64,
    found: &mut Vec<Missing>,
) -> Result<(), Failure> {
    let rows = sqlx::query(
        "SELECT format('schema %I', nspname), format('REVOKE CREATE ON SCHEMA %I FROM ', nspname), \
           EXISTS (SELECT FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner))) \
                   WHERE grantee = 0 AND privilege_type = 'CREATE') \
         FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' \
           AND has_schema_privilege($1::int8::oid, oid, 'CREATE') \
         UNION ALL \
         SELECT format('database %I', datname), format('REVOKE CREATE ON DATABASE %I FROM ', datname), \
           EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) \
                   WHERE grantee = 0 AND privilege_type = 'CREATE') \
         FROM pg_database WHERE has_database_privilege($1::int8::oid, oid, 'CREATE') \
         ORDER BY 1 LIMIT 20",
    )
    .bind(oid)
    .fetch_all(&mut *conn)
    .await?;
    let quoted = ident(group);
    for row in rows {
        let (place, fix, public): (String, String, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let from = if public { "PUBLIC" } else { &quoted };
        found.push(warning(
            format!("role `{role}`: a member of {quoted} could create objects in {place}, which outlive the task"),
            format!("{fix}{from}"),
        ));
    }
    let owned: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid::int8 = $1 AND deptype = 'o'",
    )
    .bind(oid)
    .fetch_one(conn)
    .await?;
    if owned > 0 {
        found.push(warning(
            format!("role `{role}`: {quoted} owns {owned} objects, which its members could change or drop"),
            format!("REASSIGN OWNED BY {quoted} TO another_role -- in each database, then GRANT what is needed"),
        ));
    }
    Ok(())
}

pub(super) async fn count(conn: &mut PgConnection, prefix: &str) -> Result<i64, Failure> {
    Ok(sqlx::query_scalar("SELECT count(*) FROM pg_roles WHERE rolname::text LIKE $1")
        .bind(format!("{}%", like(prefix)))
        .fetch_one(conn)
        .await?)
}

pub(super) async fn encrypted(conn: &mut PgConnection) -> Result<bool, Failure> {
    let ssl: Option<bool> =
        sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetch_optional(conn).await?;
    Ok(ssl.unwrap_or(false))
}
