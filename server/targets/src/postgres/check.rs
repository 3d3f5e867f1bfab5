//! `target check`: connects, looks at what this server may do there and at what its roles could do, and says what to
//! change. Changes nothing: even the trial credential is rolled back.

use super::{
    ORPHANS,
    connect::{Connector, Session, within},
    failure::Failure,
    issue::GRANT_OPTIONS,
    probe::{self, Manager},
    quote::{ident, literal},
    revoke::orphans_state,
};
use proto_types::{CredentialName, id::excerpt};
use server_core::ports::Missing;
use std::{os::unix::fs::PermissionsExt as _, time::Duration};

const LIMIT: Duration = Duration::from_secs(25);
/// SCRAM came with 10, `DROP ROUTINE` with 11.
const OLDEST: i32 = 110_000;
/// More credentials than this at once are a leak, or soon a catalogue too slow to log in through.
const MANY: i64 = 1000;

pub(super) async fn check(connector: &Connector, store_id: &str) -> Vec<Missing> {
    let mut found = Vec::new();
    if let Err(failure) = within(LIMIT, look(connector, store_id, &mut found)).await {
        let config = &connector.config;
        let what = format!("{} cannot be checked: {failure}", config.target);
        found.push(error(what, hint(&failure, &config.address.user)));
    }
    found
}

pub(super) fn error(what: impl Into<String>, fix: impl Into<Option<String>>) -> Missing {
    Missing { severity: "error".into(), what: what.into(), fix: fix.into() }
}

pub(super) fn warning(what: impl Into<String>, fix: impl Into<Option<String>>) -> Missing {
    Missing { severity: "warning".into(), what: what.into(), fix: fix.into() }
}

fn hint(failure: &Failure, user: &str) -> Option<String> {
    match failure.code() {
        Some("28P01") => {
            Some(format!("ALTER ROLE {} PASSWORD '…'; -- and put the same into password_file", ident(user)))
        }
        Some("28000") => Some("add a line for this user and host to pg_hba.conf, then SELECT pg_reload_conf()".into()),
        _ => None,
    }
}

async fn look(connector: &Connector, store_id: &str, found: &mut Vec<Missing>) -> Result<(), Failure> {
    let mut session = connector.session("BEGIN READ ONLY").await?;
    let manager = Manager::ask(&mut session.conn).await?;
    if manager.version < OLDEST {
        found.push(error("PostgreSQL is older than 11: its roles cannot be ended cleanly; upgrade it", None));
        return Ok(());
    }
    rights(&manager, found);
    orphans(&mut session, &manager, found).await?;
    for (role, config) in &connector.config.roles {
        for group in &config.member_of {
            probe::group(&mut session.conn, &manager, role, group, found).await?;
        }
    }
    surroundings(connector, &mut session, store_id, found).await?;
    session.run("ROLLBACK").await?;
    if found.iter().all(|m| m.severity != "error") {
        trial(connector, &mut session, &manager, store_id, found).await?;
    }
    session.keep();
    Ok(())
}

/// What this server's own role lacks, or has too much of.
fn rights(manager: &Manager, found: &mut Vec<Missing>) {
    let user = ident(&manager.user);
    if manager.superuser {
        found.push(warning(
            format!("{user} is a superuser; CREATEROLE and pg_signal_backend are enough"),
            format!("ALTER ROLE {user} NOSUPERUSER CREATEROLE"),
        ));
        return;
    }
    if !manager.createrole {
        found.push(error(format!("{user} may not create roles"), format!("ALTER ROLE {user} CREATEROLE")));
    }
    if !manager.inherit && manager.version < GRANT_OPTIONS {
        found.push(error(
            format!("{user} does not inherit the rights of a role it ends, so it cannot take its objects"),
            format!("ALTER ROLE {user} INHERIT"),
        ));
    }
    if !manager.signals {
        found.push(error(
            format!("{user} may not end the sessions of the roles it made"),
            format!("GRANT pg_signal_backend TO {user}"),
        ));
    }
}

async fn orphans(session: &mut Session<'_>, manager: &Manager, found: &mut Vec<Missing>) -> Result<(), Failure> {
    let user = ident(&manager.user);
    match orphans_state(&mut session.conn).await? {
        // Made when it is first needed.
        None => Ok(()),
        Some(false) => {
            found.push(error(
                format!("{ORPHANS} may log in, has rights or is a member of a role: whatever a task planted gains them"),
                format!("ALTER ROLE {ORPHANS} NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS; -- and REVOKE every role from {ORPHANS}"),
            ));
            Ok(())
        }
        Some(true) => {
            let able = probe::may_join(&mut session.conn, manager, ORPHANS).await?;
            if !able {
                found.push(error(
                    format!("{user} is not a member of {ORPHANS}, so it cannot give it what a task leaves behind"),
                    format!("GRANT {ORPHANS} TO {user}"),
                ));
            }
            Ok(())
        }
    }
}

async fn surroundings(
    connector: &Connector,
    session: &mut Session<'_>,
    store_id: &str,
    found: &mut Vec<Missing>,
) -> Result<(), Failure> {
    let config = &connector.config;
    let alive = probe::count(&mut session.conn, &CredentialName::prefix(store_id)).await?;
    if alive > MANY {
        found.push(warning(format!("{alive} credentials of this store are alive: revocation does not keep up"), None));
    }
    if !config.address.is_local() && !probe::encrypted(&mut session.conn).await? {
        found.push(warning(
            "the connection is not encrypted",
            "set ssl = on in postgresql.conf, and sslmode = \"verify-full\" in the target".to_string(),
        ));
    }
    if let Some(path) = &config.password_file
        && std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o007 != 0)
    {
        let path = path.display();
        found.push(warning(format!("everybody on this machine may read {path}"), format!("chmod 600 {path}")));
    }
    Ok(())
}

/// One credential for each role, made and rolled back: what no list of rights foresees shows here.
async fn trial(
    connector: &Connector,
    session: &mut Session<'_>,
    manager: &Manager,
    store_id: &str,
    found: &mut Vec<Missing>,
) -> Result<(), Failure> {
    let name = ident(&format!("{}check", CredentialName::prefix(store_id)));
    let options = if manager.version >= GRANT_OPTIONS { " WITH INHERIT TRUE, SET FALSE" } else { "" };
    for (role, config) in &connector.config.roles {
        let mut sql = format!("BEGIN; CREATE ROLE {name} LOGIN CONNECTION LIMIT 1");
        for group in &config.member_of {
            sql.push_str(&format!("; GRANT {} TO {name}{options}", ident(group)));
        }
        sql.push_str(&format!("; COMMENT ON ROLE {name} IS {}", literal("errand check")));
        match session.run(sql).await {
            Ok(()) => {}
            Err(Failure::Answered { code, message }) => {
                let why = format!("SQLSTATE {code}: {}", excerpt(&message));
                found.push(error(format!("role `{role}`: a trial credential was refused: {why}"), None));
            }
            Err(other) => return Err(other),
        }
        session.run("ROLLBACK").await?;
    }
    Ok(())
}
