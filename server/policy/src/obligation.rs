//! What an annotation may say: `@id`, `@description`, `@max_ttl`, `@binding`. An obligation that nobody honours is not accepted.

use cedar_policy::{Effect, Policy};
use proto_types::{id::excerpt, parse_duration, target::is_name};
use std::time::Duration;

/// What one policy says besides permitting or forbidding.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// The document that the policy stands in.
    pub document: String,
    pub id: Option<String>,
    pub max_ttl: Option<Duration>,
    /// `@binding("none")`.
    pub binding_waived: bool,
    pub description: Option<String>,
}

/// Reads a policy's annotations; every problem of it at once.
pub(crate) fn read(policy: &Policy) -> Result<Notes, Vec<String>> {
    let mut notes = Notes::default();
    let mut problems = Vec::new();
    for (name, value) in policy.annotations() {
        let read = match name {
            "id" => id(value).map(|id| notes.id = Some(id)),
            "description" => {
                notes.description = Some(value.chars().filter(|c| !c.is_control()).take(200).collect());
                Ok(())
            }
            "max_ttl" => max_ttl(policy.effect(), value).map(|ttl| notes.max_ttl = Some(ttl)),
            "binding" => binding(policy.effect(), value).map(|()| notes.binding_waived = true),
            "approval" => {
                Err("@approval is not available yet: approvals come with the task plane; remove the annotation or the policy"
                    .into())
            }
            other => {
                let other = excerpt(other);
                Err(format!("@{other} is not an annotation here; known are @id, @description, @max_ttl and @binding"))
            }
        };
        problems.extend(read.err());
    }
    if problems.is_empty() { Ok(notes) } else { Err(problems) }
}

/// One spelling only: ids that differ by case would be two policies with one name.
fn id(value: &str) -> Result<String, String> {
    if is_name(value) {
        Ok(value.to_string())
    } else {
        let got = excerpt(value);
        Err(format!("`{got}` is not a policy id: 1 to 63 of a-z, 0-9, `-` and `_`, starting with a letter or digit"))
    }
}

fn max_ttl(effect: Effect, value: &str) -> Result<Duration, String> {
    if effect == Effect::Forbid {
        return Err("@max_ttl belongs on a permit: what is forbidden has no length".into());
    }
    match parse_duration(value) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(ttl),
        Ok(_) => Err("@max_ttl is at least 1s".into()),
        Err(why) => Err(format!("@max_ttl: {why}")),
    }
}

/// Binding is what there is without a word, so the only thing to say of it is that there is none.
fn binding(effect: Effect, value: &str) -> Result<(), String> {
    if effect == Effect::Forbid {
        return Err("@binding belongs on a permit: what is forbidden is given to nobody".into());
    }
    if value == "none" {
        Ok(())
    } else {
        let got = excerpt(value);
        Err(format!("@binding says `none` or is left out, and then a caller proves its key; `{got}` is neither"))
    }
}
