//! A `[[target]]` of kind `ssh`: read, checked and defaulted. Connects to nothing.

use crate::fields::{Problems, Section};
use proto_types::{TargetDoc, id::excerpt, target::is_name};
use serde_json::{Map, Value};
use server_core::ports::TargetProblem;
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Who verifies offline sees an end at expiry: at most five minutes (architecture, invariant 4).
const LONGEST_TTL: Duration = Duration::from_secs(300);
const MAX_PRINCIPALS: usize = 64;
/// What OpenSSH lets a certificate permit; a certificate of ours permits none unless its role says so.
const EXTENSIONS: [&str; 5] =
    ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

/// One host, or one name for many that list our authority.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) target: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) roles: BTreeMap<String, Role>,
}

/// What a certificate of one role says.
#[derive(Clone, Debug)]
pub(super) struct Role {
    /// Never empty: a certificate without principals is good for every user.
    pub(super) principals: Vec<String>,
    pub(super) max_ttl: Duration,
    /// Networks in CIDR notation that may log in with it; empty: any.
    pub(super) source_address: Vec<String>,
    pub(super) force_command: Option<String>,
    /// Sorted, as the format wants them.
    pub(super) extensions: Vec<String>,
}

impl Config {
    pub(super) fn read(doc: &TargetDoc) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        match read(doc, &mut problems) {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(problems),
        }
    }
}

fn read(doc: &TargetDoc, problems: &mut Problems) -> Option<Config> {
    let Value::Object(body) = &doc.body else {
        problems.push(TargetProblem { target: doc.name.clone(), problem: "is not a table".into() });
        return None;
    };
    crate::document::inline_secrets(&doc.name, body, problems);
    let mut section = Section::new(&doc.name, "", body.clone());
    section.required("name", "bastion", problems);
    section.required("kind", "ssh", problems);
    let host = section.required("host", "bastion.internal", problems);
    if host.as_deref().is_some_and(|h| !is_host(h)) {
        section.problem(problems, "`host` is a DNS name or an IP address, without user and port");
    }
    let port = section.integer("port", 1, 65_535, problems).unwrap_or(22);
    let tables = section.tables("role", problems);
    if tables.is_empty() {
        section.problem(problems, "declares no role: add a [[target.role]] with a name and principals");
    }
    let mut roles = BTreeMap::new();
    for (at, table) in tables.into_iter().enumerate() {
        role_of(&doc.name, at, table, &mut roles, problems);
    }
    section.finish(problems);
    Some(Config { target: doc.name.clone(), host: host?, port: u16::try_from(port).ok()?, roles })
}

fn role_of(
    target: &str,
    at: usize,
    mut table: Map<String, Value>,
    roles: &mut BTreeMap<String, Role>,
    problems: &mut Problems,
) {
    let place = match table.get("name").and_then(Value::as_str) {
        Some(name) if is_name(name) => format!("role `{name}`: "),
        _ => format!("role #{}: ", at + 1),
    };
    let root = table.remove("danger_allow_root");
    let mut section = Section::new(target, place, table);
    if root.as_ref().is_some_and(|r| !r.is_boolean()) {
        section.problem(problems, "`danger_allow_root` is not true or false");
    }
    let root = root == Some(Value::Bool(true));
    let name = section.required("name", "ops", problems);
    let good = name.as_deref().is_some_and(is_name);
    if name.is_some() && !good {
        section.problem(problems, "`name` is 1 to 63 of a-z, 0-9, `_` and `-`, starting with a letter or digit");
    }
    let role = Role {
        principals: principals(&mut section, root, problems),
        max_ttl: section.duration("max_ttl", Duration::from_secs(1), LONGEST_TTL, problems).unwrap_or(LONGEST_TTL),
        source_address: networks(&mut section, problems),
        force_command: section.text("force_command", problems),
        extensions: extensions(&mut section, problems),
    };
    if let (Some(name), true) = (name, good)
        && roles.insert(name, role).is_some()
    {
        section.problem(problems, "is declared twice");
    }
    section.finish(problems);
}

fn principals(section: &mut Section<'_>, root: bool, problems: &mut Problems) -> Vec<String> {
    let before = problems.len();
    let mut principals = section.texts("principals", problems).unwrap_or_default();
    principals.sort();
    principals.dedup();
    if principals.is_empty() && problems.len() == before {
        section.problem(problems, "`principals` is missing: name the users it may log in as, such as [\"ubuntu\"]");
    }
    if principals.len() > MAX_PRINCIPALS {
        section.problem(problems, format!("`principals` has more than {MAX_PRINCIPALS} names"));
    }
    for bad in principals.iter().filter(|p| !is_principal(p)) {
        let shown = excerpt(bad);
        section
            .problem(problems, format!("principal `{shown}` is not 1 to 64 of a-z, A-Z, 0-9, `.`, `_`, `@` and `-`"));
    }
    if principals.iter().any(|p| p == "root") && !root {
        section.problem(problems, "principal `root` wants danger_allow_root = true beside it");
    }
    principals
}

/// No comma, no pattern, no space: hosts match lists and patterns in some places (CVE-2026-35414).
fn is_principal(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'-'))
}

fn networks(section: &mut Section<'_>, problems: &mut Problems) -> Vec<String> {
    let networks = section.texts("source_address", problems).unwrap_or_default();
    for network in &networks {
        if let Err(why) = check_network(network) {
            section.problem(problems, format!("source_address `{}` {why}", excerpt(network)));
        }
    }
    networks
}

/// OpenSSH refuses a login when the network it compares with has bits behind its mask, so it is refused here.
fn check_network(text: &str) -> Result<(), &'static str> {
    const FORM: &str = "is not a network such as 10.0.0.0/8";
    let (address, length) = text.split_once('/').ok_or(FORM)?;
    let plain = (1..=3).contains(&length.len()) && length.bytes().all(|b| b.is_ascii_digit());
    let length: u32 = length.parse().ok().filter(|_| plain).ok_or(FORM)?;
    let (bits, width) = match address.parse::<IpAddr>().map_err(|_| FORM)? {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    };
    match length {
        0 => Err("allows every address: leave it out"),
        n if n > width => Err(FORM),
        n if n < 128 && bits << n != 0 => Err("has bits set behind its mask"),
        _ => Ok(()),
    }
}

fn extensions(section: &mut Section<'_>, problems: &mut Problems) -> Vec<String> {
    let mut extensions = section.texts("extensions", problems).unwrap_or_default();
    extensions.sort();
    extensions.dedup();
    for bad in extensions.iter().filter(|e| !EXTENSIONS.contains(&e.as_str())) {
        let known = EXTENSIONS.join(", ");
        section.problem(problems, format!("extension `{}` is not known; the extensions are: {known}", excerpt(bad)));
    }
    extensions
}

/// A name that a client may be handed as it is: nothing in it reads as an option or as another part of an address.
fn is_host(text: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label))
}
