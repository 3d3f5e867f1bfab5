//! Bad SPIFFE IDs and trust domains (group A of the catalogue of bad inputs), each beside an accepted twin.

use proto_types::{
    TrustDomain, WorkloadId,
    id::{parse_spiffe_id, parse_trust_domain},
};
use serde_json::Value;

fn ours() -> TrustDomain {
    parse_trust_domain("example.org").expect("a good name")
}

/// A string, or a short way to write a long one.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        long => {
            let times = usize::try_from(long["times"].as_u64().expect("times")).expect("a small number");
            long["prefix"].as_str().unwrap_or_default().to_string()
                + &long["repeat"].as_str().expect("repeat").repeat(times)
        }
    }
}

/// The error's words, when it is refused.
fn refusal(kind: &str, input: &str) -> Option<String> {
    match kind {
        "id" => parse_spiffe_id(input).err(),
        "trust_domain" => parse_trust_domain(input).err(),
        "workload" => WorkloadId::parse(input, &ours()).err(),
        other => panic!("no such kind: {other}"),
    }
    .map(|e| e.to_string())
}

#[test]
fn every_bad_name_is_refused_in_few_words_and_its_twin_is_accepted() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/spiffe_ids.json")).expect("good JSON");
    for case in &cases {
        let (name, kind) = (case["case"].as_str().expect("case"), case["as"].as_str().expect("as"));
        let why = refusal(kind, &text(&case["bad"])).unwrap_or_else(|| panic!("{name} was accepted"));
        assert!(why.len() <= 512, "{name}: an error does not echo its input: {} bytes", why.len());
        assert!(!why.contains('\0'), "{name}: an error is printable");
        assert_eq!(refusal(kind, &text(&case["good"])), None, "{name}: the twin");
    }
}

#[test]
fn of_all_bytes_only_the_standards_are_accepted_in_each_place() {
    for byte in 0..=255u8 {
        // A byte beyond ASCII stands for the character of that number.
        let c = char::from(byte);
        let domain = parse_spiffe_id(&format!("spiffe://a{c}b/x")).is_ok_and(|id| id.path() == "/x");
        let in_domain = c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        assert_eq!(domain, in_domain, "trust domain, byte {byte}");
        let path = parse_spiffe_id(&format!("spiffe://a/x{c}y")).is_ok_and(|id| id.path() == format!("/x{c}y"));
        let in_path = c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
        assert_eq!(path, in_path, "path, byte {byte}");
    }
}

#[test]
fn names_that_differ_in_case_or_look_alike_are_different_names() {
    let lower = parse_spiffe_id("spiffe://example.org/planner").expect("good");
    let upper = parse_spiffe_id("spiffe://example.org/Planner").expect("good");
    assert_ne!(lower, upper);
    let punycode = parse_trust_domain("xn--exmple-cua.org").expect("good");
    assert_ne!(punycode, ours());
}

#[path = "../../../fuzz/properties/spiffe_id.rs"]
mod property;
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn the_committed_corpus_of_spiffe_ids_and_its_neighbours_hold() {
    replay::over("spiffe_id", property::holds);
}
