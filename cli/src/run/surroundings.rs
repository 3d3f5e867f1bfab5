//! CMD's environment: the caller's own, without what could win over the task's credentials, with what the credentials
//! need. Pure: takes variables, answers variables.
//!
//! Order, later wins: inherited; masked variables removed; what masks set; what placements set; `--keep-env` as it was;
//! the task's own three.

use super::texts::Names;
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
    pub names: Names<'a>,
    pub task_id: &'a str,
    pub endpoint_socket: &'a Path,
}

impl Surroundings<'_> {
    pub fn environment(&self) -> Variables {
        let mut env = self.inherited.clone();
        env.retain(|name, _| !self.is_masked(name));
        for (name, value) in self.masks.iter().flat_map(|mask| &mask.set) {
            env.insert(name.into(), self.names.fill(value).into());
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
        env.insert("ERRAND_DIR".into(), self.names.dir.into());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(inherited: &[(&str, &str)], masks: &str, placed: &[(&str, &str)], keep: &[&str]) -> Variables {
        let inherited: Variables = inherited.iter().map(|(n, v)| (n.into(), v.into())).collect();
        let placed = placed.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
        Surroundings {
            inherited: &inherited,
            masks: &super::masks(masks).unwrap(),
            placed: &placed,
            keep: &keep,
            names: Names { dir: Path::new("/shm/errand-1"), errand: Path::new("/opt/errand") },
            task_id: "task",
            endpoint_socket: Path::new("/run/agent.sock"),
        }
        .environment()
    }

    fn value<'a>(env: &'a Variables, name: &str) -> Option<&'a str> {
        env.get(OsStr::new(name)).map(|v| v.to_str().unwrap())
    }

    #[test]
    fn later_wins_inherited_mask_set_placement_keep_own() {
        let masks = r#"[{"env":["A","B","C","D*"],"set":{"B":"${DIR}/b","C":"set"}}]"#;
        let mine = [("A", "me"), ("B", "me"), ("C", "me"), ("DX", "me"), ("E", "me"), ("ERRAND_DIR", "me")];
        let env = environment(&mine, masks, &[("C", "placed"), ("DX", "placed")], &["DX"]);
        assert_eq!(value(&env, "A"), None);
        assert_eq!(value(&env, "B"), Some("/shm/errand-1/b"));
        assert_eq!(value(&env, "C"), Some("placed"));
        assert_eq!(value(&env, "DX"), Some("me"), "kept on request");
        assert_eq!(value(&env, "E"), Some("me"), "not a credential");
        assert_eq!(value(&env, "ERRAND_DIR"), Some("/shm/errand-1"));
        assert_eq!(value(&env, "SPIFFE_ENDPOINT_SOCKET"), Some("unix:///run/agent.sock"));
    }

    #[test]
    fn a_kept_variable_that_was_not_set_is_not_set_by_a_mask_either() {
        let masks = r#"[{"env":[],"set":{"AWS_CONFIG_FILE":"${DIR}/none"}}]"#;
        assert_eq!(value(&environment(&[], masks, &[], &["AWS_CONFIG_FILE"]), "AWS_CONFIG_FILE"), None);
        assert!(value(&environment(&[], masks, &[], &[]), "AWS_CONFIG_FILE").is_some());
    }

    #[test]
    fn an_unreadable_list_of_masks_is_an_error_and_an_empty_one_is_not() {
        assert!(super::masks("{").is_err());
        assert!(super::masks("").unwrap().is_empty());
    }
}
