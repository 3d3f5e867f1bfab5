//! What a credential looks like in the token answer, and where a client puts it: five primitives, no kinds.
//!
//! A kind of target describes its placement as data; `errand run` knows these five and no kind.

use crate::{lease::Revocability, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One thing to put where a program already looks. In any text `${DIR}` is the task's private directory and `${ERRAND}` the
/// path of the program that places it, for what calls it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Placement {
    /// A variable. `shared`: the text when several grants of a kind meet (then single-valued variables would lie).
    Env { name: String, value: String },
    /// A file in the private directory, mode 0600. `append`: several grants add to one file.
    File {
        path: String,
        content: String,
        #[serde(default)]
        append: bool,
    },
    /// Serve an SSH agent with the certificate of this answer, the field `certificate`, and the key it was issued for.
    SshAgent { variable: String },
    /// Serve `body` on loopback: a JSON document in whose texts `${field}` is one of the answer's own fields.
    LoopbackHttp { variable: String, token_file_variable: String, body: serde_json::Value },
    /// A file that names `errand exchange` as an exec plugin.
    ExecPlugin { path: String, content: String },
}

/// `credential` of the token answer. `fields` are the kind's own (host, user, password ...): secrets, so this type is
/// never logged and has no place in the journal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialInfo {
    pub kind: String,
    pub id: String,
    pub expires_at: Timestamp,
    pub revocability: Revocability,
    #[serde(default)]
    pub placement: Vec<Placement>,
    #[serde(flatten)]
    pub fields: BTreeMap<String, serde_json::Value>,
}

impl std::fmt::Debug for CredentialInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CredentialInfo({} {})", self.kind, self.id)
    }
}
