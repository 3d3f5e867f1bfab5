//! A record's stored form: one version byte, then RFC 8785 JSON.
//!
//! Decides the bytes that are hashed. `user` and `intent` never enter them: the body says `user_sha256` and
//! `intent_sha256`, lowercase hex of SHA-256(salt || value), and the values stand beside it so that the law can have
//! them erased while the tree stays true. The position is not in the body: it is where the leaf stands.

use super::{keys::keys, kinds::is_kind};
use aws_lc_rs::digest::{Context, SHA256};
use proto_tlog::{Hash, leaf_hash};
use proto_types::{CredentialNote, DecisionNote, Entropy, Record, TaskId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first byte of every body this program writes.
pub const VERSION: u8 = 1;
/// Longest body, bytes: the largest entry that is well-formed fits with room to spare.
pub const MAX_BODY: usize = 256 * 1024;
/// Bytes of a salt.
const SALT: usize = 16;
/// The largest integer that every reader of JSON keeps whole (RFC 8785 section 3.2.2.3, RFC 7493 section 2.2).
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A value that stands beside the body: (field, salt, value).
pub type Private = (String, Vec<u8>, String);

/// SHA-256(salt || value): what the body says of a value that stands beside it.
fn salted(salt: &[u8], value: &str) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(value.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// What is wrong with a record or a stored body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    #[error("a `{kind}` record has {bytes} bytes, at most {MAX_BODY} are kept; put less into its detail")]
    TooLong { kind: String, bytes: usize },
    #[error("a `{kind}` record holds an integer beyond 2^53-1, which JSON readers round; write it as a string")]
    Integer { kind: String },
    #[error("the body is empty")]
    Empty,
    #[error("version {0} is not known here; a newer program wrote this")]
    Version(u8),
    #[error("the body is not a record: {0}")]
    Malformed(String),
    #[error("the body is not in canonical form")]
    NotCanonical,
}

/// A record ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub body: Vec<u8>,
    pub leaf: Hash,
    pub private: Vec<Private>,
    /// What the record is found by; without duplicates.
    pub keys: Vec<String>,
}

#[derive(Serialize)]
struct Out<'a> {
    time: &'a Timestamp,
    kind: &'a str,
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a DecisionNote>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a CredentialNote>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: &'a Value,
}

/// What a body says in place of private values.
#[derive(Deserialize)]
struct Hidden {
    #[serde(default)]
    user_sha256: Option<String>,
    #[serde(default)]
    intent_sha256: Option<String>,
}

/// Writes a record down. The salts are fresh: two records of one user share no byte that says so.
pub fn encode(record: &Record, entropy: &dyn Entropy) -> Result<Encoded, JournalError> {
    // Every field is named: one that is added to the record does not compile until it has a place here.
    let Record {
        time,
        kind,
        workload,
        user,
        task_id,
        target,
        role,
        intent,
        tool,
        decision,
        credential,
        node,
        operator,
        outcome,
        detail,
    } = record;
    debug_assert!(is_kind(kind), "`{kind}` is not in journal::KINDS");
    if !integers_fit(detail) {
        return Err(JournalError::Integer { kind: kind.clone() });
    }
    let mut private = Vec::new();
    let mut hide = |field: &str, value: &Option<String>| {
        let value = value.as_ref()?;
        let mut salt = vec![0; SALT];
        entropy.fill(&mut salt);
        let hash = hex::encode(salted(&salt, value));
        private.push((field.to_string(), salt, value.clone()));
        Some(hash)
    };
    let (user_sha256, intent_sha256) = (hide("user", user), hide("intent", intent));
    let out = Out {
        time,
        kind,
        outcome,
        workload: workload.as_deref(),
        user_sha256,
        task_id: *task_id,
        target: target.as_deref(),
        role: role.as_deref(),
        intent_sha256,
        tool: tool.as_deref(),
        decision: decision.as_ref(),
        credential: credential.as_ref(),
        node: node.as_deref(),
        operator: operator.as_deref(),
        detail,
    };
    let mut body = Vec::with_capacity(512);
    body.push(VERSION);
    serde_json_canonicalizer::to_writer(&out, &mut body).map_err(|e| JournalError::Malformed(e.to_string()))?;
    if body.len() > MAX_BODY {
        return Err(JournalError::TooLong { kind: kind.clone(), bytes: body.len() });
    }
    Ok(Encoded { leaf: leaf_hash(&body), body, private, keys: keys(record) })
}

fn integers_fit(value: &Value) -> bool {
    match value {
        Value::Number(n) => {
            n.as_u64().is_none_or(|n| n <= MAX_INTEGER) && n.as_i64().is_none_or(|n| n.unsigned_abs() <= MAX_INTEGER)
        }
        Value::Array(items) => items.iter().all(integers_fit),
        Value::Object(fields) => fields.values().all(integers_fit),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// Reads a record back. What was redacted is `None`; so is a private value that is not what the body says, because
/// it is no evidence (a verifier names it).
pub fn decode(body: &[u8], private: &[Private]) -> Result<Record, JournalError> {
    let json = json(body)?;
    let malformed = |e: serde_json::Error| JournalError::Malformed(e.to_string());
    let mut record: Record = serde_json::from_slice(json).map_err(malformed)?;
    (record.user, record.intent) = (None, None);
    if !private.is_empty() {
        let hidden: Hidden = serde_json::from_slice(json).map_err(malformed)?;
        record.user = reveal("user", hidden.user_sha256.as_deref(), private);
        record.intent = reveal("intent", hidden.intent_sha256.as_deref(), private);
    }
    Ok(record)
}

fn json(body: &[u8]) -> Result<&[u8], JournalError> {
    match body.split_first() {
        Some((&VERSION, json)) => Ok(json),
        Some((&other, _)) => Err(JournalError::Version(other)),
        None => Err(JournalError::Empty),
    }
}

fn reveal(field: &str, hash: Option<&str>, private: &[Private]) -> Option<String> {
    let hash = hash?;
    let (_, salt, value) = private.iter().find(|(name, ..)| name == field)?;
    (hex::encode(salted(salt, value)) == hash).then(|| value.clone())
}

/// Compares what is written to it with what was expected, and keeps none of it: a journal is verified record by record.
struct Same<'a> {
    rest: &'a [u8],
    holds: bool,
}

impl std::io::Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.rest.strip_prefix(bytes) {
            Some(rest) => self.rest = rest,
            None => self.holds = false,
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a verifier asks of a body besides its hash: known version, canonical JSON, a record, and no private value
/// that the body does not vouch for. Answers the record as its body alone says it.
pub(super) fn check_body(body: &[u8], private: &[Private]) -> Result<Record, JournalError> {
    let text = json(body)?;
    let value: Value = serde_json::from_slice(text).map_err(|e| JournalError::Malformed(e.to_string()))?;
    let mut same = Same { rest: text, holds: true };
    serde_json_canonicalizer::to_writer(&value, &mut same).map_err(|e| JournalError::Malformed(e.to_string()))?;
    if !same.holds || !same.rest.is_empty() {
        return Err(JournalError::NotCanonical);
    }
    if value.get("user").is_some() || value.get("intent").is_some() {
        return Err(JournalError::Malformed("it holds a private value in the clear".into()));
    }
    for (field, ..) in private {
        let said = value.get(format!("{field}_sha256")).and_then(Value::as_str);
        if reveal(field, said, private).is_none() {
            return Err(JournalError::Malformed(format!(
                "the value of `{}` beside it is not the one it was written with",
                proto_types::id::excerpt(field)
            )));
        }
    }
    serde_json::from_value(value).map_err(|e| JournalError::Malformed(e.to_string()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// Bytes that count up: distinct salts, the same in every run.
    #[derive(Default)]
    pub struct Counting(AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill_with(|| self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    pub fn full() -> Record {
        let mut record = Record::new(Timestamp::from_millis(1_795_000_000_123), "lease.handed")
            .workload("spiffe://example.org/agents/planner")
            .task("018f2f0c-8f6b-7c3e-8a52-0123456789ab".parse().unwrap())
            .role(&"orders-db/readonly".parse().unwrap())
            .intent("fix the nightly report")
            .user(Some("kim@example.org".into()))
            .decision("permit", vec!["p1".into()])
            .credential("postgres", "lease-1")
            .node("spiffe://example.org/spire/agent/join_token/x")
            .operator(Some("kim".into()))
            .detail(serde_json::json!({"name": "errand_abcde_x", "a": {"z": 1, "ä": [1.5, "é\n"]}}));
        record.tool = Some("sql".into());
        record
    }

    #[test]
    fn a_record_reads_back_whole_and_reads_back_redacted() {
        let stored = encode(&full(), &Counting::default()).unwrap();
        assert_eq!(decode(&stored.body, &stored.private).unwrap(), full());
        let redacted = decode(&stored.body, &[]).unwrap();
        assert_eq!((redacted.user, redacted.intent), (None, None));
        assert_eq!(redacted.workload, full().workload);
        check_body(&stored.body, &[]).unwrap();
        check_body(&stored.body, &stored.private).unwrap();
    }

    #[test]
    fn nothing_a_person_said_is_in_the_body_and_equal_words_leave_different_hashes() {
        let entropy = Counting::default();
        let (one, two) = (encode(&full(), &entropy).unwrap(), encode(&full(), &entropy).unwrap());
        let text = String::from_utf8(one.body[1..].to_vec()).unwrap();
        assert!(!text.contains("nightly") && !text.contains("kim@"), "{text}");
        assert_ne!(one.leaf, two.leaf);
    }

    #[test]
    fn a_value_that_is_not_what_the_body_says_is_no_evidence() {
        let mut stored = encode(&full(), &Counting::default()).unwrap();
        stored.private[0].2 = "someone@else.example.org".into();
        assert_eq!(decode(&stored.body, &stored.private).unwrap().user, None);
        assert!(check_body(&stored.body, &stored.private).is_err());
    }

    #[test]
    fn bodies_of_other_versions_spellings_and_contents_are_refused_and_the_body_itself_is_not() {
        let good = encode(&full(), &Counting::default()).unwrap().body;
        let mut newer = good.clone();
        newer[0] = 2;
        assert_eq!(check_body(&newer, &[]), Err(JournalError::Version(2)));
        let mut spaced = good.clone();
        spaced.insert(2, b' ');
        assert_eq!(check_body(&spaced, &[]), Err(JournalError::NotCanonical));
        assert_eq!(check_body(&[], &[]), Err(JournalError::Empty));
        for bad in [&good[..good.len() - 1], b"\x01[]", b"\x01{}"] {
            assert!(matches!(check_body(bad, &[]), Err(JournalError::Malformed(_))));
        }
        check_body(&good, &[]).unwrap();
    }

    #[test]
    fn an_integer_that_readers_would_round_is_refused_and_the_largest_whole_one_is_kept() {
        let with = |n: u64| full().detail(serde_json::json!({"deep": [{"inode": n}]}));
        assert!(matches!(encode(&with(1 << 53), &Counting::default()), Err(JournalError::Integer { .. })));
        let kept = encode(&with((1 << 53) - 1), &Counting::default()).unwrap();
        assert_eq!(decode(&kept.body, &[]).unwrap().detail, with((1 << 53) - 1).detail);
    }

    #[test]
    fn a_record_longer_than_the_limit_is_refused_and_one_just_below_is_kept() {
        let with = |n: usize| full().detail(serde_json::json!({"text": "x".repeat(n)}));
        assert!(matches!(encode(&with(MAX_BODY), &Counting::default()), Err(JournalError::TooLong { .. })));
        encode(&with(MAX_BODY - 2048), &Counting::default()).unwrap();
    }
}
