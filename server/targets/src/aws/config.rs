//! A `[[target]]` of kind `aws`: read, checked and defaulted. Connects to nothing.

use super::{
    arn::{self, RoleArn},
    claims,
    endpoint::{self, Endpoint},
    subject::Subject,
};
use crate::{
    fields::{Problems, Section},
    secret_file,
};
use proto_types::{TargetDoc, id::excerpt, target::is_name};
use serde_json::{Map, Value};
use server_core::ports::{KindContext, TargetProblem};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The shortest and the longest session that STS gives.
pub(super) const SHORTEST: Duration = Duration::from_secs(900);
const LONGEST: Duration = Duration::from_secs(43_200);
const DEFAULT_SESSION: Duration = Duration::from_secs(3600);
pub(super) const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";
pub(super) const DEFAULT_SUBJECT: &str = "{workload}";
/// Longest inline session policy, characters, and most managed ones.
const MAX_POLICY: usize = 2048;
const MAX_POLICY_ARNS: usize = 10;

/// One AWS target: one STS, and roles of the accounts that trust this server.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) target: String,
    pub(super) endpoint: Endpoint,
    pub(super) region: String,
    pub(super) audience: String,
    pub(super) subject: Subject,
    /// Where the services themselves are, when they are not AWS's own.
    pub(super) endpoint_url: Option<String>,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) secrets_dir: Option<PathBuf>,
    pub(super) roles: BTreeMap<String, Role>,
}

/// What may be assumed, and what narrows it.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) arn: RoleArn,
    pub(super) session_duration: Duration,
    /// Compact JSON.
    pub(super) policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    /// Session tags beside those that name the task.
    pub(super) tags: BTreeMap<String, String>,
}

impl Config {
    pub(super) fn read(doc: &TargetDoc, context: &KindContext) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        match read(doc, context, &mut problems) {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }
}

fn read(doc: &TargetDoc, context: &KindContext, problems: &mut Problems) -> Option<Config> {
    let Value::Object(body) = &doc.body else {
        problems.push(TargetProblem { target: doc.name.clone(), problem: "is not a table".into() });
        return None;
    };
    crate::document::inline_secrets(&doc.name, body, problems);
    let mut section = Section::new(&doc.name, "", body.clone());
    section.required("name", "lake", problems);
    section.required("kind", "aws", problems);
    let region = section.required("region", "eu-west-1", problems);
    let region = region.and_then(|r| endpoint::region(r).map_err(|e| section.problem(problems, e)).ok());
    let allow_http = section.flag("danger_allow_http", problems);
    let endpoint = sts(&mut section, region.as_deref(), allow_http, problems);
    let endpoint_url = section.text("endpoint_url", problems);
    if let Some(url) = &endpoint_url
        && let Err(e) = Endpoint::parse("endpoint_url", url, allow_http)
    {
        section.problem(problems, e);
    }
    let audience = audience(&mut section, &context.issuer, problems);
    let subject = section.text("subject", problems).unwrap_or_else(|| DEFAULT_SUBJECT.into());
    let subject = Subject::parse(&subject).map_err(|e| section.problem(problems, e)).ok();
    let secrets_dir = context.secrets_dir.clone().filter(|_| doc.origin == "applied");
    let ca_file = section.path("ca_file", problems);
    if let Some(path) = &ca_file
        && let Err(e) = secret_file::read_line(path, secrets_dir.as_deref())
    {
        section.problem(problems, format!("ca_file: {e}"));
    }
    let tables = section.tables("role", problems);
    if tables.is_empty() {
        section.problem(problems, "declares no role: add a [[target.role]] with a name and role_arn");
    }
    let roles = roles(&doc.name, tables, region.as_deref(), problems);
    section.finish(problems);
    Some(Config {
        target: doc.name.clone(),
        endpoint: endpoint?,
        region: region?,
        audience: audience?,
        subject: subject?,
        endpoint_url,
        ca_file,
        secrets_dir,
        roles,
    })
}

fn sts(section: &mut Section<'_>, region: Option<&str>, allow_http: bool, problems: &mut Problems) -> Option<Endpoint> {
    let Some(text) = section.text("sts_endpoint", problems) else { return region.map(Endpoint::regional) };
    let parsed = Endpoint::parse("sts_endpoint", &text, allow_http);
    let checked = parsed.and_then(|at| region.map_or(Ok(()), |region| at.suits(region)).map(|()| at));
    checked.map_err(|e| section.problem(problems, e)).ok()
}

/// Our own issuer is no STS: a token for it would be good here.
fn audience(section: &mut Section<'_>, issuer: &str, problems: &mut Problems) -> Option<String> {
    let audience = section.text("audience", problems).unwrap_or_else(|| DEFAULT_AUDIENCE.into());
    if audience.trim_end_matches('/') == issuer.trim_end_matches('/') {
        section.problem(problems, "`audience` is this server's own issuer: name the one that the STS expects");
        return None;
    }
    if audience.len() > 255 || !audience.bytes().all(|b| b.is_ascii_graphic()) {
        section.problem(problems, "`audience` is not 1 to 255 characters without spaces");
        return None;
    }
    Some(audience)
}

fn roles(
    target: &str,
    tables: Vec<Map<String, Value>>,
    region: Option<&str>,
    problems: &mut Problems,
) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for (at, table) in tables.into_iter().enumerate() {
        let place = match table.get("name").and_then(Value::as_str) {
            Some(name) if is_name(name) => format!("role `{name}`: "),
            _ => format!("role #{}: ", at + 1),
        };
        let mut section = Section::new(target, place, table);
        let name = section.required("name", "deploy", problems);
        let is_good = name.as_deref().is_none_or(is_name);
        if !is_good {
            section.problem(problems, "`name` is 1 to 63 of a-z, 0-9, `_` and `-`, starting with a letter or digit");
        }
        let role = role(&mut section, region, problems);
        if let (Some(name), Some(role)) = (name.filter(|_| is_good), role)
            && roles.insert(name, role).is_some()
        {
            section.problem(problems, "is declared twice");
        }
        section.finish(problems);
    }
    roles
}

fn role(section: &mut Section<'_>, region: Option<&str>, problems: &mut Problems) -> Option<Role> {
    let partition = region.map(endpoint::partition);
    let foreign = |found: &str| partition.filter(|own| *own != found);
    let arn = section.required("role_arn", "arn:aws:iam::111122223333:role/Deploy", problems);
    let arn = arn.and_then(|text| RoleArn::parse(&text).map_err(|e| section.problem(problems, e)).ok());
    if let Some(own) = arn.as_ref().and_then(|arn| foreign(arn.partition())) {
        section.problem(problems, format!("`role_arn` is of another partition than the region's, which is {own}"));
    }
    let policy_arns = section.texts("policy_arns", problems).unwrap_or_default();
    if policy_arns.len() > MAX_POLICY_ARNS {
        section.problem(problems, format!("`policy_arns` has more than {MAX_POLICY_ARNS}"));
    }
    for text in &policy_arns {
        match arn::policy(text) {
            Ok(found) if foreign(found).is_none() => {}
            Ok(_) => section.problem(problems, format!("`{}` is of another partition", excerpt(text))),
            Err(e) => section.problem(problems, e),
        }
    }
    let policy = section.value("policy").and_then(|v| policy(&v).map_err(|e| section.problem(problems, e)).ok());
    let tags = section.value("tags").map_or(Ok(BTreeMap::new()), |v| claims::own_tags(&v));
    let tags = tags.map_err(|e| section.problem(problems, e)).ok();
    Some(Role {
        arn: arn?,
        session_duration: section.duration("session_duration", SHORTEST, LONGEST, problems).unwrap_or(DEFAULT_SESSION),
        policy,
        policy_arns,
        tags: tags?,
    })
}

/// An inline session policy: JSON with statements, written as shortly as it can be.
fn policy(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or("`policy` is not a string of JSON")?;
    if text.len() > 4 * MAX_POLICY {
        return Err(format!("`policy` has more than {MAX_POLICY} characters"));
    }
    let document: Value = serde_json::from_str(text)
        .map_err(|e| format!("`policy` is no JSON: line {}, column {}", e.line(), e.column()))?;
    if !document.get("Statement").is_some_and(|s| s.is_array() || s.is_object()) {
        return Err("`policy` is not a JSON object with a Statement".into());
    }
    let compact = document.to_string();
    // What STS takes: tab, line breaks, and U+0020 to U+00FF.
    if compact.chars().any(|c| c > '\u{ff}') {
        return Err("`policy` holds characters beyond U+00FF, which STS does not take".into());
    }
    match compact.chars().count() {
        ..=MAX_POLICY => Ok(compact),
        n => Err(format!("`policy` has {n} characters without its white space; STS takes {MAX_POLICY}")),
    }
}
