//! One placement of one credential as variables and files. Pure; knows the five primitives and no kind.
//!
//! What is served is named here and served in `run::endpoints`: an agent's socket by its place in the private directory,
//! an endpoint on loopback by the address it has already.

use super::{Address, Held, Rules};
use crate::{
    run::{
        args::Place,
        texts::{DIR, Names, UnknownField},
    },
    ssh::{CertificateError, SshKey},
};
use proto_types::{CredentialInfo, Placement, RoleName, Secret};
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

/// The agent's socket, in the private directory.
pub const SSH_AGENT: &str = "ssh-agent.sock";

/// A placement that cannot be carried out. Says which grant, never a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("the server's placement for {role} names a file outside the private directory")]
    Outside { role: RoleName },
    #[error("the server's placement for {role} names a variable that cannot be set")]
    Variable { role: RoleName },
    #[error("{role} and another grant both want the file `{path}` for themselves")]
    Contested { role: RoleName, path: String },
    #[error("the server's placement for {role} serves a key, and the credential was issued for none")]
    NoKey { role: RoleName },
    #[error("no use can be made of the credential for {role}: {source}")]
    Certificate { role: RoleName, source: CertificateError },
    #[error("the server's placement for {role} serves the field `{field}`, which the credential has not")]
    Field { role: RoleName, field: String },
    #[error("the server's placement for {role} serves what it did not serve when the task began")]
    Unserved { role: RoleName },
}

/// `${DIR}` in a variable's value is not yet replaced.
#[derive(Default)]
pub struct Put {
    pub env: Vec<(String, String)>,
    pub files: Vec<File>,
}

/// A file of the private directory.
pub struct File {
    pub path: PathBuf,
    pub content: Secret<String>,
    /// Several grants add to it.
    pub append: bool,
}

impl File {
    fn whole(path: impl Into<PathBuf>, content: impl Into<Secret<String>>) -> Self {
        Self { path: path.into(), content: content.into(), append: false }
    }
}

pub fn put(held: &Held, placement: &Placement, rules: Rules<'_>) -> Result<Put, PlacementError> {
    let role = &held.role;
    let inside = |path: &str| relative(path).ok_or_else(|| PlacementError::Outside { role: role.clone() });
    let settable = |name: &String| match is_settable(name) {
        true => Ok(name.clone()),
        false => Err(PlacementError::Variable { role: role.clone() }),
    };
    Ok(match placement {
        Placement::Env { name, value } => Put { env: vec![(settable(name)?, value.clone())], files: Vec::new() },
        Placement::File { path, content, append } => {
            let content = rules.names.fill(content).into();
            Put { env: Vec::new(), files: vec![File { path: inside(path)?, content, append: *append }] }
        }
        // A plugin calls `errand exchange`, which needs the agent's socket.
        Placement::ExecPlugin { .. } | Placement::LoopbackHttp { .. } if rules.place == Place::Static => plain(held),
        Placement::SshAgent { .. } if rules.place == Place::Static => plain_key(held)?,
        Placement::ExecPlugin { path, content } => {
            Put { env: Vec::new(), files: vec![File::whole(inside(path)?, rules.names.fill(content))] }
        }
        Placement::SshAgent { variable } => {
            Put { env: vec![(settable(variable)?, format!("{DIR}/{SSH_AGENT}"))], files: Vec::new() }
        }
        Placement::LoopbackHttp { variable, token_file_variable, .. } => {
            let served = |address: &&Address| address.variable == *variable;
            let address = held.addresses.iter().find(served);
            let address = address.ok_or_else(|| PlacementError::Unserved { role: role.clone() })?;
            let file = named(role, "bearer");
            let env = vec![
                (settable(variable)?, address.url.clone()),
                (settable(token_file_variable)?, format!("{DIR}/{file}")),
            ];
            Put { env, files: vec![File::whole(file, address.bearer.clone())] }
        }
    })
}

/// The credential's own fields as a JSON file, for a sandbox in which no socket can be reached.
fn plain(held: &Held) -> Put {
    let mut fields = CredentialInfo { placement: Vec::new(), ..held.credential.clone() };
    fields.fields.remove("placement");
    let content = serde_json::to_string(&fields).expect("a credential that was read from JSON is JSON");
    let file = named(&held.role, "json");
    Put { env: vec![credential_file(&held.role, &file)], files: vec![File::whole(file, content)] }
}

/// A key and its certificate as `ssh -i` takes them: it finds the second by the name of the first.
fn plain_key(held: &Held) -> Result<Put, PlacementError> {
    let (key, _) = certificate(held)?;
    let line = held.credential.fields.get("certificate").and_then(Value::as_str).unwrap_or_default();
    let file = named(&held.role, "key");
    let files = vec![
        File::whole(format!("{file}-cert.pub"), format!("{}\n", line.trim_end())),
        File::whole(&file, key.private_file(&held.role.to_string())),
    ];
    Ok(Put { env: vec![credential_file(&held.role, &file)], files })
}

/// The key of a credential and the certificate that was issued for it.
pub fn certificate(held: &Held) -> Result<(&std::sync::Arc<SshKey>, Vec<u8>), PlacementError> {
    let role = || held.role.clone();
    let key = held.key.as_ref().ok_or_else(|| PlacementError::NoKey { role: role() })?;
    let line = held.credential.fields.get("certificate").and_then(Value::as_str).unwrap_or_default();
    let blob = key.certificate(line).map_err(|source| PlacementError::Certificate { role: role(), source })?;
    Ok((key, blob))
}

/// The document that an endpoint answers with.
pub fn document(held: &Held, body: &Value, names: Names<'_>) -> Result<Secret<String>, PlacementError> {
    let filled = names.document(body, &held.credential.fields);
    let unknown = |UnknownField(field)| PlacementError::Field { role: held.role.clone(), field };
    filled.map(|document| document.to_string().into()).map_err(unknown)
}

/// A file name of one grant's own.
fn named(role: &RoleName, ending: &str) -> String {
    format!("{}.{}.{ending}", role.target(), role.role())
}

fn credential_file(role: &RoleName, file: &str) -> (String, String) {
    let variable = format!("ERRAND_CRED_{}_{}_FILE", role.target(), role.role());
    (variable.to_uppercase().replace('-', "_"), format!("{DIR}/{file}"))
}

/// A path inside the private directory, relative to it; `None` for one that leaves it.
pub fn relative(path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix(DIR).map_or(path, |rest| rest.trim_start_matches('/'));
    let path = Path::new(path);
    let stays = path.components().all(|c| matches!(c, Component::Normal(_)));
    (stays && path.file_name().is_some() && !path.to_string_lossy().contains('\0')).then(|| path.into())
}

/// A name a shell could set, outside the task's own; `ERRAND_CRED_…` is for credentials.
fn is_settable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && (!name.starts_with("ERRAND_") || name.starts_with("ERRAND_CRED_"))
        && !name.starts_with("LD_")
        && !matches!(name, "SPIFFE_ENDPOINT_SOCKET" | "PATH" | "HOME" | "SHELL" | "IFS" | "BASH_ENV" | "ENV")
}
