//! A decision names policies; what stands in them can be read back.

use super::query::{Asked, compile, doc};

#[test]
fn the_policies_of_a_decision_are_quoted_with_their_document_and_obligations() {
    let text = "@id(\"orders\")\n@description(\"reports read\")\n@max_ttl(\"10m\")\n\
                permit (principal, action, resource in Target::\"orders-db\");\n\
                forbid (principal, action, resource == Role::\"orders-db/writer\");";
    let policy = compile(&[doc("house", text)]).unwrap();
    let decision = policy.decide(&Asked::default().query());
    assert_eq!(decision.policies, ["orders"]);
    let quoted = policy.policy("orders").unwrap();
    assert_eq!((quoted.document.as_str(), quoted.effect), ("house", "permit"));
    assert_eq!(quoted.description.as_deref(), Some("reports read"));
    assert_eq!(quoted.max_ttl.map(|d| d.as_secs()), Some(600));
    assert!(quoted.text.contains("resource in Target::\"orders-db\""), "{}", quoted.text);

    let denied = policy.decide(&Asked { role: Some("orders-db/writer".into()), ..Asked::default() }.query());
    let forbidding = policy.policy(&denied.policies[0]).unwrap();
    assert_eq!((forbidding.id.as_str(), forbidding.effect), ("house#2", "forbid"));
    assert!(policy.policy("nobody").is_none());
}

#[test]
fn a_policy_of_the_house_is_quoted_like_any_other() {
    let policy = compile(&[]).unwrap();
    assert_eq!(policy.policy("errand-environments").unwrap().document, "errand");
}
