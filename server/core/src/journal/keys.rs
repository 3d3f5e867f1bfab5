//! What a record is found by: exact keys, `<what>:<value>`.
//!
//! Users are not among them: a key would outlive the erasure of the value, so a store looks for users in the values
//! that stand beside the bodies.

use proto_types::Record;
use serde_json::Value;

/// The search keys of a record, sorted, without duplicates.
pub fn keys(record: &Record) -> Vec<String> {
    let name = record.detail.get("name").and_then(Value::as_str);
    let credential = record.credential.as_ref().map(|c| c.id.as_str());
    // What a kind calls its credential in its target's own log, such as a certificate's serial.
    let serial = record.detail.pointer("/lease/handle/serial").and_then(Value::as_str);
    let task = record.task_id.map(|t| t.to_string());
    let mut keys = vec![format!("kind:{}", record.kind)];
    let mut add = |what: &str, value: Option<&str>| keys.extend(value.map(|v| format!("{what}:{v}")));
    add("task", task.as_deref());
    add("workload", record.workload.as_deref());
    add("target", record.target.as_deref());
    add("node", record.node.as_deref());
    add("cred", credential);
    add("cred", serial);
    add("name", name);
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// The keys under which a serial, a `jti`, a lease id or a credential's name is found: any of them.
pub fn credential_keys(text: &str) -> [String; 2] {
    [format!("cred:{text}"), format!("name:{text}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::canonical::tests::full;

    #[test]
    fn a_lease_is_found_by_the_serial_its_target_logs() {
        let of = |handle: Value| keys(&full().detail(serde_json::json!({ "lease": { "handle": handle } })));
        assert!(of(serde_json::json!({ "serial": "77" })).contains(&"cred:77".to_string()));
        assert!(!of(serde_json::json!({ "other": "77" })).iter().any(|k| k.ends_with(":77")));
    }

    #[test]
    fn a_record_is_found_by_everything_it_names_but_its_user() {
        let keys = keys(&full());
        assert_eq!(
            keys,
            [
                "cred:lease-1",
                "kind:lease.handed",
                "name:errand_abcde_x",
                "node:spiffe://example.org/spire/agent/join_token/x",
                "target:orders-db",
                "task:018f2f0c-8f6b-7c3e-8a52-0123456789ab",
                "workload:spiffe://example.org/agents/planner",
            ]
        );
    }
}
