//! Where the credentials of a task go: from what the token answers say to variables and files. Pure, and the same for
//! every kind: it knows the five primitives of `proto_types::placement` and no kind of target.
//!
//! Several grants may want one variable. Of grants of one kind that differ in any, only what names one and the same file
//! for all of them is kept: half of one and half of another would be a lie. Of different kinds only that variable is left out.

use super::{
    args::Place,
    surroundings::{DIR, substitute},
};
use proto_types::{CredentialInfo, Placement, RoleName, Secret};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

/// One credential of the task.
pub struct Held {
    pub role: RoleName,
    pub credential: CredentialInfo,
}

/// How placements are carried out.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub dir: &'a Path,
    pub place: Place,
    pub password_in_url: bool,
}

/// What to put where.
#[derive(Default)]
pub struct Plan {
    pub env: BTreeMap<String, String>,
    /// Content by path relative to the private directory.
    pub files: BTreeMap<PathBuf, Secret<String>>,
    /// Variables that grants disagree on and nobody gets.
    pub left_out: BTreeSet<String>,
    /// A URL took its password in.
    pub urls_with_password: usize,
}

/// A placement that cannot be carried out. Says which grant, never a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("this version cannot place a credential of kind `{kind}` ({role}): it needs {needs}")]
    Unsupported { role: RoleName, kind: String, needs: &'static str },
    #[error("the server's placement for {role} names a file outside the private directory")]
    Outside { role: RoleName },
    #[error("the server's placement for {role} names a variable that cannot be set")]
    Variable { role: RoleName },
    #[error("{role} and another grant both want the file `{path}` for themselves")]
    Contested { role: RoleName, path: String },
}

/// What to put where for all of `held`, in the order of the grants.
pub fn plan(held: &[Held], rules: Rules<'_>) -> Result<Plan, PlacementError> {
    let mut plan = Plan::default();
    let mut wanted = Vec::new();
    for (grant, one) in held.iter().enumerate() {
        for placement in &one.credential.placement {
            match carry_out(one, placement, rules)? {
                Put::Env(name, value) => wanted.push(Wanted { grant, name, value }),
                Put::File { path, content, append } => plan.add_file(&one.role, path, content, append)?,
                Put::Credential { path, content, variable } => {
                    wanted.push(Wanted { grant, name: variable, value: format!("{DIR}/{}", path.display()) });
                    plan.add_file(&one.role, path, content, false)?;
                }
            }
        }
    }
    plan.settle(held, wanted, rules);
    Ok(plan)
}

/// One variable that one grant gives; `${DIR}` not yet replaced.
struct Wanted {
    grant: usize,
    name: String,
    value: String,
}

enum Put {
    Env(String, String),
    File { path: PathBuf, content: String, append: bool },
    Credential { path: PathBuf, content: String, variable: String },
}

fn carry_out(held: &Held, placement: &Placement, rules: Rules<'_>) -> Result<Put, PlacementError> {
    let Held { role, credential } = held;
    let unsupported = |needs| PlacementError::Unsupported { role: role.clone(), kind: credential.kind.clone(), needs };
    let inside = |path: &str| relative(path).ok_or_else(|| PlacementError::Outside { role: role.clone() });
    Ok(match placement {
        Placement::Env { name, value } if is_settable(name) => Put::Env(name.clone(), value.clone()),
        Placement::Env { .. } => return Err(PlacementError::Variable { role: role.clone() }),
        Placement::File { path, content, append } => {
            Put::File { path: inside(path)?, content: substitute(content, rules.dir), append: *append }
        }
        // A plugin calls `errand exchange`, which needs the agent's socket.
        Placement::ExecPlugin { .. } | Placement::LoopbackHttp { .. } if rules.place == Place::Static => plain(held),
        Placement::ExecPlugin { path, content } => {
            Put::File { path: inside(path)?, content: substitute(content, rules.dir), append: false }
        }
        Placement::SshAgent { .. } => return Err(unsupported("an SSH agent")),
        Placement::LoopbackHttp { .. } => return Err(unsupported("an endpoint on loopback")),
    })
}

/// The credential's own fields as a JSON file, for a sandbox in which no socket can be reached.
fn plain(held: &Held) -> Put {
    let mut fields = CredentialInfo { placement: Vec::new(), ..held.credential.clone() };
    fields.fields.remove("placement");
    let content = serde_json::to_string(&fields).expect("a credential that was read from JSON is JSON");
    let (target, role) = (held.role.target(), held.role.role());
    let variable: String = format!("ERRAND_CRED_{target}_{role}_FILE").to_uppercase().replace('-', "_");
    Put::Credential { path: PathBuf::from(format!("{target}.{role}.json")), content, variable }
}

impl Plan {
    fn add_file(
        &mut self,
        role: &RoleName,
        path: PathBuf,
        content: String,
        append: bool,
    ) -> Result<(), PlacementError> {
        match self.files.get(&path) {
            None => {
                self.files.insert(path, content.into());
            }
            Some(there) if !append && there.expose() == &content => {}
            Some(_) if !append => {
                return Err(PlacementError::Contested { role: role.clone(), path: path.display().to_string() });
            }
            Some(there) => {
                let gap = if there.expose().ends_with('\n') { "" } else { "\n" };
                let whole = format!("{}{gap}{content}", there.expose());
                self.files.insert(path, whole.into());
            }
        }
        Ok(())
    }

    /// Decides who gets each variable.
    fn settle(&mut self, held: &[Held], wanted: Vec<Wanted>, rules: Rules<'_>) {
        let differ: Vec<(&Wanted, &Wanted)> = wanted
            .iter()
            .flat_map(|a| wanted.iter().map(move |b| (a, b)))
            .filter(|(a, b)| a.name == b.name && a.value != b.value)
            .collect();
        let kind = |want: &Wanted| &held[want.grant].credential.kind;
        let disputed: BTreeSet<&str> = differ.iter().map(|(a, _)| a.name.as_str()).collect();
        let clashing: BTreeSet<usize> =
            differ.iter().filter(|(a, b)| kind(a) == kind(b)).map(|(a, _)| a.grant).collect();
        // A file in the private directory that every one of them adds to.
        let is_shared = |want: &Wanted| {
            let says_the_same = |w: &Wanted, grant| w.grant == grant && w.name == want.name && w.value == want.value;
            let mut peers = clashing.iter().filter(|grant| held[**grant].credential.kind == *kind(want));
            want.value.contains(DIR) && peers.all(|grant| wanted.iter().any(|w| says_the_same(w, *grant)))
        };
        let is_left_out = |want: &Wanted| {
            disputed.contains(want.name.as_str()) || (clashing.contains(&want.grant) && !is_shared(want))
        };
        self.left_out = wanted.iter().filter(|w| is_left_out(w)).map(|w| w.name.clone()).collect();
        for want in wanted.iter().filter(|w| !self.left_out.contains(&w.name)) {
            let value = substitute(&want.value, rules.dir);
            let with = rules.password_in_url.then(|| password_url(&value, &held[want.grant].credential)).flatten();
            self.urls_with_password += usize::from(with.is_some());
            self.env.insert(want.name.clone(), with.unwrap_or(value));
        }
    }
}

/// `scheme://user@host…` with the credential's password in it; `None` for every other text.
pub fn password_url(value: &str, credential: &CredentialInfo) -> Option<String> {
    let password = credential.fields.get("password")?.as_str()?;
    let (scheme, rest) = value.split_once("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if scheme.is_empty() || !scheme.chars().all(is_scheme) {
        return None;
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, _) = authority.rsplit_once('@')?;
    if user.is_empty() || user.contains(':') {
        return None;
    }
    let password = percent_encoding::utf8_percent_encode(password, percent_encoding::NON_ALPHANUMERIC);
    Some(format!("{scheme}://{user}:{password}{}", &rest[user.len()..]))
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn held(role: &str, kind: &str, placement: Value) -> Held {
        let credential = json!({
            "kind": kind, "id": "l", "expires_at": "2026-01-01T00:00:00Z", "revocability": "ttl_only",
            "password": "p:/@", "placement": placement,
        });
        Held { role: role.parse().unwrap(), credential: serde_json::from_value(credential).unwrap() }
    }

    fn planned(held: &[Held], password_in_url: bool) -> Result<Plan, PlacementError> {
        plan(held, Rules { dir: Path::new("/shm/errand-1"), place: Place::Auto, password_in_url })
    }

    fn env(name: &str, value: &str) -> Value {
        json!({ "type": "env", "name": name, "value": value })
    }

    fn file(path: &str, content: &str, append: bool) -> Value {
        json!({ "type": "file", "path": path, "content": content, "append": append })
    }

    #[test]
    fn kinds_that_share_a_name_lose_that_name_only() {
        let a = held("a/r", "postgres", json!([env("DATABASE_URL", "postgres://a"), env("PGHOST", "a")]));
        let b = held("b/r", "mysql", json!([env("DATABASE_URL", "mysql://b"), env("MYSQL_HOST", "b")]));
        let plan = planned(&[a, b], false).unwrap();
        assert_eq!(plan.env.keys().collect::<Vec<_>>(), ["MYSQL_HOST", "PGHOST"]);
        assert!(plan.left_out.contains("DATABASE_URL"));
    }

    #[test]
    fn of_one_kind_only_the_files_of_all_are_named() {
        let shared = env("PGPASSFILE", "${DIR}/pgpass");
        let a = held("a/r", "postgres", json!([env("PGHOST", "a"), shared, env("PGSSLROOTCERT", "${DIR}/a.pem")]));
        let b = held("b/r", "postgres", json!([env("PGHOST", "b"), shared, env("PGSSLMODE", "require")]));
        let plan = planned(&[a, b], false).unwrap();
        assert_eq!(plan.env, BTreeMap::from([("PGPASSFILE".to_string(), "/shm/errand-1/pgpass".to_string())]));
    }

    #[test]
    fn a_file_is_added_to_by_all_or_belongs_to_one() {
        let two = |a: Value, b: Value| [held("a/r", "k", json!([a])), held("b/r", "k", json!([b]))];
        let plan = planned(&two(file("f", "a", true), file("${DIR}/f", "b\n", true)), false).unwrap();
        assert_eq!(plan.files[Path::new("f")].expose(), "a\nb\n");
        let contested = planned(&two(file("f", "a", false), file("f", "b", false)), false).err().unwrap();
        assert!(matches!(contested, PlacementError::Contested { .. }));
        planned(&two(file("f", "same", false), file("f", "same", false)), false).unwrap();
    }

    #[test]
    fn a_file_stays_inside_and_a_variable_is_one() {
        for bad in ["/etc/passwd", "../x", "a/../../x", "${DIR}/../x", "", "${DIR}", "a/./../b", "a\0b"] {
            assert!(planned(&[held("a/r", "k", json!([file(bad, "", false)]))], false).is_err(), "{bad}");
        }
        for good in ["x", "${DIR}/x", "a/b/x", ".netrc"] {
            planned(&[held("a/r", "k", json!([file(good, "", false)]))], false).unwrap();
        }
        for bad in ["", "1A", "A=B", "A B", "ERRAND_DIR", "SPIFFE_ENDPOINT_SOCKET"] {
            assert!(planned(&[held("a/r", "k", json!([env(bad, "v")]))], false).is_err(), "{bad}");
        }
        planned(&[held("a/r", "k", json!([env("ERRAND_CRED_A_FILE", "v"), env("_a1", "v")]))], false).unwrap();
    }

    #[test]
    fn a_password_goes_into_a_url_that_has_a_user_and_no_password() {
        let one = held("a/r", "k", json!([]));
        for left in ["a@b", "://u@h", "http://h/u@x", "http://u:p@h/", "http://@h/"] {
            assert_eq!(password_url(left, &one.credential), None, "{left}");
        }
        let url = password_url("postgres://u@h:1/d?x=y@z", &one.credential).unwrap();
        assert_eq!(url, "postgres://u:p%3A%2F%40@h:1/d?x=y@z");
    }
}
