//! (policies × query) → outcome.

use crate::query::{Asked, compile, doc};
use proto_types::{format_duration, id::parse_spiffe_id};
use serde::Deserialize;
use server_core::ports::{Decision, Outcome};
use server_policy::dev_policy;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    policies: BTreeMap<String, String>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Names of `policies`, each a document of its own.
    under: Vec<String>,
    #[serde(default)]
    asked: Asked,
    outcome: String,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    max_ttl: Option<String>,
    #[serde(default)]
    binding_waived: bool,
    /// Words that the sentence for people holds.
    #[serde(default)]
    why: Vec<String>,
}

#[test]
fn every_query_of_the_table_is_answered_as_it_says() {
    let table: Table = toml::from_str(include_str!("../data/decisions.toml")).unwrap();
    for case in &table.case {
        let docs: Vec<_> = case.under.iter().map(|name| doc(name, &table.policies[name])).collect();
        let policy = compile(&docs).unwrap_or_else(|problems| panic!("{}: {problems:?}", case.name));
        case.holds(&policy.decide(&case.asked.query()));
    }
}

impl Case {
    fn holds(&self, got: &Decision) {
        let outcome = if got.outcome == Outcome::Permit { "permit" } else { "deny" };
        assert_eq!(outcome, self.outcome, "{}: {}", self.name, got.why);
        assert_eq!(got.policies, self.by, "{}", self.name);
        assert_eq!(got.max_ttl.map(format_duration), self.max_ttl, "{}", self.name);
        assert_eq!(got.binding_waived, self.binding_waived, "{}", self.name);
        for word in &self.why {
            assert!(got.why.contains(word), "{}: `{word}` is not in `{}`", self.name, got.why);
        }
    }
}

#[test]
fn the_policy_of_dev_permits_its_workload_everything_and_nobody_else_anything() {
    let user = parse_spiffe_id("spiffe://example.org/dev/kim").unwrap();
    let policy = compile(&[dev_policy(&user)]).unwrap();
    for role in ["orders-db/readonly", "lake/deploy", ""] {
        for action in ["startTask", "exchange"] {
            let mut asked = Asked { role: Some(role.into()), action: Some(action.into()), ..Asked::default() };
            asked.workload = Some(user.to_string());
            assert_eq!(policy.decide(&asked.query()).outcome, Outcome::Permit, "{action} {role}");
            asked.workload = Some("spiffe://example.org/dev/kim2".into());
            assert_eq!(policy.decide(&asked.query()).outcome, Outcome::Deny, "{action} {role}");
        }
    }
}

#[test]
fn no_intent_whatever_its_text_changes_an_answer_that_does_not_ask_for_it() {
    let docs = [doc("planner", "permit (principal, action, resource == Role::\"orders-db/readonly\");")];
    let policy = compile(&docs).unwrap();
    let hostile = [
        "\"); permit (principal, action, resource); //",
        "permit (principal, action, resource);",
        "x\" || true || \"",
        "*",
        "@id(\"root\")",
        "Role::\"orders-db/admin\"",
        "\\",
        "\u{202e}nimda",
    ];
    for intent in hostile {
        let mut asked = Asked { intent: Some(intent.into()), ..Asked::default() };
        assert_eq!(policy.decide(&asked.query()).outcome, Outcome::Permit, "{intent}");
        asked.role = Some("orders-db/admin".into());
        let denied = policy.decide(&asked.query());
        assert_eq!(denied.outcome, Outcome::Deny, "{intent}");
        assert!(!denied.why.contains(intent), "an answer does not repeat the intent: {}", denied.why);
    }
}
