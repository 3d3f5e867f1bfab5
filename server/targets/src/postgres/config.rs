//! A `[[target]]` of kind `postgres`: read, checked and defaulted. Connects to nothing.

use super::address::Address;
use crate::{
    fields::{Problems, Section},
    secret_file::{self, SYSTEM_ROOTS},
};
use proto_types::{TargetDoc, target::is_name};
use serde_json::{Map, Value};
use server_core::ports::{KindContext, TargetProblem};
use sqlx::postgres::PgSslMode;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

const DEFAULT_MAX_TTL: Duration = Duration::from_secs(3600);
const LONGEST_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
const DEFAULT_CONNECTION_LIMIT: i64 = 10;

/// One PostgreSQL target.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) target: String,
    pub(super) address: Address,
    pub(super) tls: Tls,
    /// `None`: the server's own SVID authenticates.
    pub(super) password_file: Option<PathBuf>,
    pub(super) secrets_dir: Option<PathBuf>,
    pub(super) roles: BTreeMap<String, Role>,
}

/// How the server is verified.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) mode: PgSslMode,
    pub(super) name: &'static str,
    /// PEM authorities; for `verify-*` always present.
    pub(super) ca_file: Option<PathBuf>,
    /// The operator named `ca_file`: workloads need a copy.
    pub(super) private_ca: bool,
}

/// What may be assumed: membership, and nothing granted to the credential itself.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// Sorted and unique: concurrent grants take their locks in one order.
    pub(super) member_of: Vec<String>,
    pub(super) max_ttl: Duration,
    pub(super) connection_limit: i64,
    pub(super) search_path: Vec<String>,
    pub(super) statement_timeout: Option<Duration>,
}

impl Config {
    pub(super) fn read(doc: &TargetDoc, context: &KindContext) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let config = read(doc, context, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }

    /// Reads a file this target names, where it is allowed to lie.
    pub(super) fn allowed(&self) -> Option<&Path> {
        self.secrets_dir.as_deref()
    }
}

fn read(doc: &TargetDoc, context: &KindContext, problems: &mut Problems) -> Option<Config> {
    let Value::Object(body) = &doc.body else {
        problems.push(TargetProblem { target: doc.name.clone(), problem: "is not a table".into() });
        return None;
    };
    crate::document::inline_secrets(&doc.name, body, problems);
    let mut section = Section::new(&doc.name, "", body.clone());
    section.required("name", "orders-db", problems);
    section.required("kind", "postgres", problems);
    let address = section
        .required("url", "postgres://errand@db.internal/orders", problems)
        .and_then(|url| Address::parse(&url).map_err(|e| section.problem(problems, e)).ok());
    let secrets_dir = context.secrets_dir.clone().filter(|_| doc.origin == "applied");
    let password_file = section.path("password_file", problems);
    if let Some(path) = &password_file
        && let Err(e) = secret_file::read_line(path, secrets_dir.as_deref())
    {
        section.problem(problems, format!("password_file: {e}"));
    }
    let tls = tls(&mut section, address.as_ref(), password_file.is_some(), secrets_dir.as_deref(), problems);
    let tables = section.tables("role", problems);
    let declared = tables.len();
    let roles = roles(&doc.name, tables, problems);
    if declared == 0 {
        section.problem(problems, "declares no role: add a [[target.role]] with a name and member_of");
    }
    section.finish(problems);
    Some(Config { target: doc.name.clone(), address: address?, tls: tls?, password_file, secrets_dir, roles })
}

fn tls(
    section: &mut Section<'_>,
    address: Option<&Address>,
    has_password: bool,
    allowed: Option<&Path>,
    problems: &mut Problems,
) -> Option<Tls> {
    let declared = section.path("ca_file", problems);
    if let Some(path) = &declared
        && let Err(e) = secret_file::read_line(path, allowed)
    {
        section.problem(problems, format!("ca_file: {e}"));
    }
    let local = address.is_some_and(Address::is_local);
    // Verified unless nothing crosses a network: a verifier is no password, but what SCRAM protects ends at login.
    let default = if declared.is_some() || !local { "verify-full" } else { "prefer" };
    let text = section.text("sslmode", problems).unwrap_or_else(|| default.into());
    let (mode, name) = match text.as_str() {
        "disable" => (PgSslMode::Disable, "disable"),
        "prefer" => (PgSslMode::Prefer, "prefer"),
        "require" => (PgSslMode::Require, "require"),
        "verify-ca" => (PgSslMode::VerifyCa, "verify-ca"),
        "verify-full" => (PgSslMode::VerifyFull, "verify-full"),
        _ => {
            section.problem(problems, "`sslmode` is one of disable, prefer, require, verify-ca, verify-full");
            return None;
        }
    };
    let encrypted = matches!(mode, PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    if !has_password && !encrypted && !address.is_some_and(|a| a.host.starts_with('/')) {
        let hint = "name a password_file, or set sslmode = \"verify-full\" and ca_file to use the server's own SVID";
        section.problem(problems, format!("has no way to authenticate: {hint}"));
    }
    let private_ca = declared.is_some();
    let ca_file = declared.or_else(|| SYSTEM_ROOTS.iter().map(PathBuf::from).find(|p| p.is_file()));
    if ca_file.is_none() && matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
        section
            .problem(problems, format!("sslmode {name} needs a ca_file: this machine has no authorities of its own"));
    }
    Some(Tls { mode, name, ca_file, private_ca })
}

fn roles(target: &str, tables: Vec<Map<String, Value>>, problems: &mut Problems) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for (at, table) in tables.into_iter().enumerate() {
        let place = match table.get("name").and_then(Value::as_str) {
            Some(name) if is_name(name) => format!("role `{name}`: "),
            _ => format!("role #{}: ", at + 1),
        };
        let mut section = Section::new(target, place, table);
        let name = section.required("name", "readonly", problems);
        let name = name.filter(|name| {
            let good = is_name(name);
            if !good {
                section
                    .problem(problems, "`name` is 1 to 63 of a-z, 0-9, `_` and `-`, starting with a letter or digit");
            }
            good
        });
        let role = role(&mut section, problems);
        if let (Some(name), Some(role)) = (name, role)
            && roles.insert(name, role).is_some()
        {
            section.problem(problems, "is declared twice");
        }
        section.finish(problems);
    }
    roles
}

fn role(section: &mut Section<'_>, problems: &mut Problems) -> Option<Role> {
    let mut member_of = section.texts("member_of", problems).unwrap_or_default();
    member_of.sort();
    member_of.dedup();
    if member_of.is_empty() {
        section
            .problem(problems, "`member_of` is missing: name the roles it is a member of, such as [\"orders_reader\"]");
    }
    let search_path =
        section.texts("search_path", problems).unwrap_or_else(|| vec!["$user".to_string(), "public".to_string()]);
    // PostgreSQL would cut a longer name and mean another object.
    for name in member_of.iter().chain(&search_path).filter(|n| n.len() > 63) {
        section.problem(problems, format!("`{}` has more than 63 bytes", proto_types::id::excerpt(name)));
    }
    let second = Duration::from_secs(1);
    Some(Role {
        member_of,
        max_ttl: section.duration("max_ttl", second, LONGEST_TTL, problems).unwrap_or(DEFAULT_MAX_TTL),
        connection_limit: section.integer("connection_limit", 1, 10_000, problems).unwrap_or(DEFAULT_CONNECTION_LIMIT),
        search_path,
        statement_timeout: section.duration("statement_timeout", Duration::from_millis(1), LONGEST_TTL, problems),
    })
}
