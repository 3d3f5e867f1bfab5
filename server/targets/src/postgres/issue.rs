//! Creating a role: one transaction, membership only, a verifier instead of a password.
//!
//! Until COMMIT is sent every failure leaves nothing behind; from then on a lost connection means that nobody knows.

use super::{
    config::{Config, Role},
    connect::{Connector, Session, within},
    failure::Failure,
    placement,
    quote::{ident, literal, one_line},
    scram,
};
use crate::secret_file;
use proto_types::{CredentialName, Entropy, Timestamp};
use server_core::ports::{IssueError, IssueRequest, Issued};
use sqlx::Row as _;
use std::time::Duration;

/// What the token endpoint calls a database user.
pub(super) const TOKEN_TYPE: &str = "urn:errand:token-type:database-credential";

/// What the comment of every role of ours begins with.
pub(super) const MARK: &str = "errand lease ";
const PREPARE: Duration = Duration::from_secs(15);
const COMMIT: Duration = Duration::from_secs(8);
/// From this version on a grant says what may be done with it.
pub(super) const GRANT_OPTIONS: i32 = 160_000;

pub(super) async fn issue(
    connector: &Connector,
    entropy: &dyn Entropy,
    store_id: &str,
    request: &IssueRequest,
) -> Result<Issued, IssueError> {
    let config = &connector.config;
    let refuse = |why: String| IssueError::Refused { why };
    let role =
        config.roles.get(&request.role).ok_or_else(|| refuse(format!("`{}` has no such role", config.target)))?;
    let not_after = request.not_after.min(request.now.plus(role.max_ttl));
    check_request(store_id, request, not_after).map_err(refuse)?;

    let password = scram::password(entropy);
    let verifier = scram::verifier(&password, entropy);
    let create = Create { request, role, verifier: verifier.expose(), not_after };
    let (session, oid) = within(PREPARE, create.prepare(connector)).await.map_err(|failure| match failure {
        Failure::Ending(_) => IssueError::Unknown { why: failure.to_string() },
        _ => refuse(failure.to_string()),
    })?;
    commit(session).await?;

    let user = request.name.as_str();
    Ok(Issued {
        fields: placement::fields(config, user, &password),
        placement: placement::placement(config, &request.role, user, &password, private_ca(config)),
        access_token: password,
        token_type: TOKEN_TYPE,
        handle: serde_json::json!({ "oid": oid }),
        not_after,
    })
}

/// Nothing in a request but its role decides where it leads: host, database and limits are the target's.
fn check_request(store_id: &str, request: &IssueRequest, not_after: Timestamp) -> Result<(), String> {
    if CredentialName::recognise(store_id, request.name.as_str()).is_none() {
        return Err("the credential's name is not one of this store".into());
    }
    if not_after <= request.now {
        return Err("the credential would have expired before it was made".into());
    }
    let parameters = request.params.as_object();
    match parameters.and_then(|map| map.keys().find(|key| *key != "type")) {
        Some(key) => {
            Err(format!("a postgres role takes no parameter, and `{}` was given", proto_types::id::excerpt(key)))
        }
        None => Ok(()),
    }
}

/// The authority a workload must trust, when it is the operator's own. One that became unreadable since is left out:
/// the credential is good without it.
fn private_ca(config: &Config) -> Option<String> {
    let path = config.tls.ca_file.as_deref().filter(|_| config.tls.private_ca)?;
    secret_file::read_line(path, config.allowed()).ok().map(|text| format!("{}\n", text.expose()))
}

async fn commit(mut session: Session<'_>) -> Result<(), IssueError> {
    match within(COMMIT, session.run("COMMIT")).await {
        Ok(()) => {
            session.keep();
            Ok(())
        }
        Err(failure @ Failure::Answered { .. }) => Err(IssueError::Refused { why: failure.to_string() }),
        Err(failure) => Err(IssueError::Unknown { why: failure.to_string() }),
    }
}

struct Create<'a> {
    request: &'a IssueRequest,
    role: &'a Role,
    verifier: &'a str,
    not_after: Timestamp,
}

impl Create<'_> {
    /// Everything but COMMIT. Answers the role's oid, by which its sessions are found even when its name is gone.
    async fn prepare<'c>(&self, connector: &'c Connector) -> Result<(Session<'c>, i64), Failure> {
        let mut session = connector.session("BEGIN").await?;
        let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
            .fetch_one(&mut session.conn)
            .await?;
        let verb = self.verb(&mut session).await?;
        session.run(self.statements(verb, version)).await?;
        let oid = sqlx::query_scalar("SELECT oid::int8 FROM pg_roles WHERE rolname = $1")
            .bind(self.request.name.as_str())
            .fetch_one(&mut session.conn)
            .await?;
        Ok((session, oid))
    }

    /// `CREATE`, or `ALTER` when a renewal finds its own role; a role that is somebody else's is not touched.
    async fn verb(&self, session: &mut Session<'_>) -> Result<&'static str, Failure> {
        let found = sqlx::query(
            "SELECT rolcanlogin, coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = $1",
        )
        .bind(self.request.name.as_str())
        .fetch_optional(&mut session.conn)
        .await?;
        let Some(row) = found else { return Ok("CREATE") };
        let (alive, comment): (bool, String) = (row.try_get(0)?, row.try_get(1)?);
        let task = format!("{MARK}task={} ", self.request.task);
        if !comment.starts_with(&task) {
            Err(Failure::Person(format!("a role named {} exists and is not this task's", self.request.name.as_str())))
        } else if !alive {
            Err(Failure::Ending(self.request.name.as_str().into()))
        } else {
            Ok("ALTER")
        }
    }

    fn statements(&self, verb: &str, version: i32) -> String {
        let name = ident(self.request.name.as_str());
        let mut sql = format!(
            "{verb} ROLE {name} LOGIN PASSWORD {} VALID UNTIL {} CONNECTION LIMIT {}",
            literal(self.verifier),
            literal(&self.not_after.to_string()),
            self.role.connection_limit,
        );
        // On ALTER these would ask for rights that only a superuser has.
        if verb == "CREATE" {
            sql.push_str(" INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS");
        }
        let options = if version >= GRANT_OPTIONS { " WITH INHERIT TRUE, SET FALSE" } else { "" };
        for group in &self.role.member_of {
            sql.push_str(&format!("; GRANT {} TO {name}{options}", ident(group)));
        }
        let path: Vec<_> = self.role.search_path.iter().map(|s| ident(s)).collect();
        let path = if path.is_empty() { "''".to_string() } else { path.join(", ") };
        let application = format!("errand task={}", self.request.task);
        sql.push_str(&format!("; ALTER ROLE {name} SET search_path = {path}"));
        sql.push_str(&format!("; ALTER ROLE {name} SET application_name = {}", literal(&application)));
        if let Some(limit) = self.role.statement_timeout {
            sql.push_str(&format!("; ALTER ROLE {name} SET statement_timeout = {}", limit.as_millis()));
        }
        sql.push_str(&format!("; COMMENT ON ROLE {name} IS {}", literal(&self.comment())));
        sql
    }

    /// For whoever reads `\du+` in the middle of the night. The user's own text is cut and cannot break the line.
    fn comment(&self) -> String {
        let user = self.request.user.as_deref().map(|u| format!(" user={}", one_line(u, 256))).unwrap_or_default();
        let workload = one_line(&self.request.workload.to_string(), 2048);
        format!("{MARK}task={} workload={workload}{user}", self.request.task)
    }
}
