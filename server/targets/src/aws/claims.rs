//! What the token says to an STS: as little as decides and attributes. Who (`sub`), for whom (`aud`), and two claims of
//! AWS's own, by which every line of CloudTrail names the task: session tags and the source identity.
//!
//! All of it comes from the target's document and the task's record; nothing from the request.

use super::{
    config::{Config, Role},
    subject::Values,
};
use proto_types::{KeyUse, Timestamp};
use serde_json::{Map, Value, json};
use server_core::{
    issue::BACKDATE,
    ports::{IssueRequest, JwtTemplate},
};
use std::{collections::BTreeMap, time::Duration};

/// The token buys one session and is spent at once.
const LIFE: Duration = Duration::from_secs(120);
const TAGS: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
/// Tags of our own, in every session. Keys of session tags do not differ by case.
const OURS: [&str; 4] = ["task", "workload", "role", "user"];
const MAX_TAGS: usize = 50;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 256;
/// Longest source identity.
const MAX_SOURCE: usize = 64;

/// The template of the token for one session.
pub(super) fn template(
    config: &Config,
    role: &Role,
    request: &IssueRequest,
    issuer: &str,
    jti: String,
    now: Timestamp,
) -> Result<JwtTemplate, String> {
    let workload = request.workload.to_string();
    let values = Values {
        workload: &workload,
        trust_domain: request.workload.trust_domain().as_str(),
        target: &config.target,
        role: &request.role,
        user: request.user.as_deref(),
    };
    let mut template = bare(config, config.subject.fill(values).map_err(|e| e.to_string())?, issuer, jti, now);
    template.claims.insert(TAGS.into(), tags(config, role, request, &workload)?);
    template.claims.insert(SOURCE_IDENTITY.into(), source_identity(request).into());
    Ok(template)
}

/// A token without a task, for `target check`: no role should admit it.
pub(super) fn bare(config: &Config, sub: String, issuer: &str, jti: String, now: Timestamp) -> JwtTemplate {
    let mut claims = Map::new();
    claims.insert("iss".into(), issuer.into());
    claims.insert("sub".into(), sub.into());
    claims.insert("aud".into(), config.audience.clone().into());
    JwtTemplate {
        key_use: KeyUse::Oauth,
        typ: "JWT",
        claims,
        issued_at: now,
        not_before: Some(now.minus(BACKDATE)),
        expires_at: now.plus(LIFE),
        jti,
    }
}

fn tags(config: &Config, role: &Role, request: &IssueRequest, workload: &str) -> Result<Value, String> {
    let mut tags: BTreeMap<&str, String> = role.tags.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    tags.insert("task", request.task.to_string());
    tags.insert("workload", workload.into());
    tags.insert("role", format!("{}/{}", config.target, request.role));
    tags.extend(request.user.as_ref().map(|user| ("user", user.clone())));
    if let Some((key, _)) = tags.iter().find(|(_, value)| !is_value(value)) {
        return Err(format!("the session tag `{key}` would have a value that no session tag may have"));
    }
    // Those of ours stay with whoever assumes another role from here.
    let transitive: Vec<&str> = OURS.into_iter().filter(|key| tags.contains_key(key)).collect();
    let lists: BTreeMap<&str, [String; 1]> = tags.into_iter().map(|(key, value)| (key, [value])).collect();
    Ok(json!({ "principal_tags": lists, "transitive_tag_keys": transitive }))
}

/// `WORKLOAD.TASK`: the last segment of the workload's ID, for people, and the task's id. It stays when another role is
/// assumed from the session.
fn source_identity(request: &IssueRequest) -> String {
    let task = request.task.to_string();
    let path = request.workload.path();
    let last: String = path.rsplit('/').next().unwrap_or_default().chars().take(MAX_SOURCE - 1 - task.len()).collect();
    format!("{last}.{task}")
}

/// `tags` of a role: a table of texts.
pub(super) fn own_tags(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let table = value.as_object().ok_or("`tags` is not a table of strings, such as { team = \"data\" }")?;
    if table.len() > MAX_TAGS - OURS.len() {
        return Err(format!("`tags` has more than {}: a session has {MAX_TAGS}", MAX_TAGS - OURS.len()));
    }
    let mut tags = BTreeMap::new();
    let mut seen: Vec<String> = OURS.map(String::from).to_vec();
    for (key, value) in table {
        let shown = proto_types::id::excerpt(key);
        let folded = key.to_ascii_lowercase();
        if folded.starts_with("aws:") {
            return Err(format!("`tags` has the key `{shown}`: aws: is reserved"));
        }
        if seen.contains(&folded) {
            return Err(format!("`tags` has the key `{shown}`, which is there already or is Errand's own"));
        }
        if !(1..=MAX_KEY).contains(&key.len()) || !key.chars().all(is_tag_character) {
            return Err(format!("`tags` has the key `{shown}`: 1 to {MAX_KEY} letters, digits and _.:/=+-@"));
        }
        let text = value.as_str().filter(|v| is_value(v));
        let text =
            text.ok_or(format!("`tags.{shown}` is not a string of at most {MAX_VALUE} letters, digits and _.:/=+-@"))?;
        seen.push(folded);
        tags.insert(key.clone(), text.to_string());
    }
    Ok(tags)
}

fn is_value(text: &str) -> bool {
    (1..=MAX_VALUE).contains(&text.len()) && text.chars().all(is_tag_character)
}

fn is_tag_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || " _.:/=+-@".contains(c)
}
