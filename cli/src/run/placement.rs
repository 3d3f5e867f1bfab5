//! Where the credentials of a task go: from what the token answers say to variables and files. Pure, and the same for
//! every kind: it knows the five primitives of `proto_types::placement` and no kind of target.
//!
//! Several grants may want one variable. Of grants of one kind that differ in any, only what names one and the same file
//! for all of them is kept: half of one and half of another would be a lie. Of different kinds only that variable is left out.

mod put;

pub use put::{PlacementError, SSH_AGENT, certificate, document, relative};

use super::{
    args::Place,
    texts::{DIR, Names},
};
use crate::ssh::SshKey;
use proto_types::{CredentialInfo, Placement, RoleName, Secret};
use put::Put;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

/// One credential of the task.
pub struct Held {
    pub role: RoleName,
    pub credential: CredentialInfo,
    /// The key it was issued for, where its kind wants one.
    pub key: Option<Arc<SshKey>>,
    /// Where what is served of it answers.
    pub addresses: Vec<Address>,
}

impl Held {
    /// Something beside the command's variables and files answers for it.
    pub fn is_served(&self) -> bool {
        let is_served = |p: &Placement| matches!(p, Placement::SshAgent { .. } | Placement::LoopbackHttp { .. });
        self.credential.placement.iter().any(is_served)
    }
}

/// One endpoint on loopback, open before anything names it.
pub struct Address {
    /// The variable that names it, and tells it from the others of its grant.
    pub variable: String,
    pub url: String,
    /// What a caller must show.
    pub bearer: Secret<String>,
}

/// How placements are carried out.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub names: Names<'a>,
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

/// What to put where for all of `held`, in the order of the grants.
pub fn plan(held: &[Held], rules: Rules<'_>) -> Result<Plan, PlacementError> {
    let mut plan = Plan::default();
    let mut wanted = Vec::new();
    for (grant, one) in held.iter().enumerate() {
        for placement in &one.credential.placement {
            let Put { env, files } = put::put(one, placement, rules)?;
            wanted.extend(env.into_iter().map(|(name, value)| Wanted { grant, name, value }));
            files.into_iter().try_for_each(|file| plan.add_file(&one.role, file))?;
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

impl Plan {
    fn add_file(&mut self, role: &RoleName, file: put::File) -> Result<(), PlacementError> {
        let put::File { path, content, append } = file;
        match self.files.get(&path) {
            None => {
                self.files.insert(path, content);
            }
            Some(there) if !append && there.expose() == content.expose() => {}
            Some(_) if !append => {
                return Err(PlacementError::Contested { role: role.clone(), path: path.display().to_string() });
            }
            Some(there) => {
                let gap = if there.expose().ends_with('\n') { "" } else { "\n" };
                let whole = format!("{}{gap}{}", there.expose(), content.expose());
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
            let value = rules.names.fill(&want.value);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::path::Path;

    fn held(role: &str, kind: &str, placement: Value) -> Held {
        let credential = json!({
            "kind": kind, "id": "l", "expires_at": "2026-01-01T00:00:00Z", "revocability": "ttl_only",
            "password": "p:/@", "placement": placement,
        });
        let credential = serde_json::from_value(credential).unwrap();
        Held { role: role.parse().unwrap(), credential, key: None, addresses: Vec::new() }
    }

    const NAMES: (&str, &str) = ("/shm/errand-1", "/opt/errand");

    fn placed(held: &[Held], place: Place, password_in_url: bool) -> Result<Plan, PlacementError> {
        let names = Names { dir: Path::new(NAMES.0), errand: Path::new(NAMES.1) };
        plan(held, Rules { names, place, password_in_url })
    }

    fn planned(held: &[Held], password_in_url: bool) -> Result<Plan, PlacementError> {
        placed(held, Place::Auto, password_in_url)
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
