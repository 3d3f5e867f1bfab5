//! CMD's environment: the caller's own, without what could win over the task's credentials, with what the credentials
//! need. Pure: takes variables, answers variables.
//!
//! Order, later wins: inherited; masked variables removed; what masks set; what placements set; `--keep-env` as it was;
//! the task's own three.

use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

/// A set of variables by name.
pub type Variables = BTreeMap<OsString, OsString>;

/// What one kind of target masks.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Mask {
    /// Variables to remove; a trailing `*` covers every name that starts so.
    #[serde(default)]
    pub env: Vec<String>,
    /// Variables to set so that a default file is not read; `${DIR}` is the private directory.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
}

/// `GetInfo.masked_json`. An empty text masks nothing: the server knows no kind.
pub fn masks(json: &str) -> Result<Vec<Mask>, serde_json::Error> {
    if json.is_empty() { Ok(Vec::new()) } else { serde_json::from_str(json) }
}

/// Everything that decides CMD's environment.
pub struct Surroundings<'a> {
    pub inherited: &'a Variables,
    pub masks: &'a [Mask],
    pub placed: &'a BTreeMap<String, String>,
    pub keep: &'a [String],
    pub dir: &'a Path,
    pub task_id: &'a str,
    pub endpoint_socket: &'a Path,
}

impl Surroundings<'_> {
    pub fn environment(&self) -> Variables {
        let mut env = self.inherited.clone();
        env.retain(|name, _| !self.is_masked(name));
        for (name, value) in self.masks.iter().flat_map(|mask| &mask.set) {
            env.insert(name.into(), substitute(value, self.dir).into());
        }
        env.extend(self.placed.iter().map(|(name, value)| (name.into(), value.into())));
        for name in self.keep.iter().map(OsStr::new) {
            match self.inherited.get(name) {
                Some(value) => env.insert(name.into(), value.clone()),
                None => env.remove(name),
            };
        }
        let mut socket = OsString::from("unix://");
        socket.push(self.endpoint_socket);
        env.insert("ERRAND_TASK_ID".into(), self.task_id.into());
        env.insert("ERRAND_DIR".into(), self.dir.into());
        env.insert("SPIFFE_ENDPOINT_SOCKET".into(), socket);
        env
    }

    fn is_masked(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        // Credentials of the task around this one are not this one's.
        name.starts_with(b"ERRAND_CRED_")
            || self.masks.iter().flat_map(|mask| &mask.env).any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix.as_bytes()),
                None => name == pattern.as_bytes(),
            })
    }
}

/// `${DIR}` in a text of the server, replaced by the private directory.
pub fn substitute(text: &str, dir: &Path) -> String {
    text.replace(DIR, &dir.to_string_lossy())
}

/// How the private directory is spelled in masks and placements.
pub const DIR: &str = "${DIR}";
