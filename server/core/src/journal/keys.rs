//! What a record is found by: exact keys, `<what>:<value>`.
//!
//! Users are not among them: a key would outlive the erasure of the value, so a store looks for users in the values
//! that stand beside the bodies.

use crate::ports::Filter;
use aws_lc_rs::digest::{SHA256, digest};
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

/// A key as an index of fixed width keeps it: the first eight bytes of its SHA-256, big-endian. Two keys may share one: what
/// is found is held against the filter.
pub fn key_hash(key: &str) -> i64 {
    let digest = digest(&SHA256, key.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
}

/// The keys under which a serial, a `jti`, a lease id or a credential's name is found: any of them.
pub fn credential_keys(text: &str) -> [String; 2] {
    [format!("cred:{text}"), format!("name:{text}")]
}

/// The keys that a record must have all of, to be what a filter asks for; the most telling one first.
pub fn asked_keys(filter: &Filter) -> Vec<String> {
    let key = |what: &str, value: Option<&str>| value.map(|v| format!("{what}:{v}"));
    let task = filter.task.map(|t| t.to_string());
    let keys = [
        key("task", task.as_deref()),
        key("target", filter.target.as_deref()),
        key("workload", filter.workload.as_deref()),
        key("node", filter.node.as_deref()),
        key("kind", filter.kind.as_deref()),
    ];
    keys.into_iter().flatten().collect()
}

/// Whether a record is what a filter asks for: the same answer as a search in a store.
pub fn admits(filter: &Filter, record: &Record) -> bool {
    let has = keys(record);
    let credential = filter.credential.as_deref().map(credential_keys);
    asked_keys(filter).iter().all(|key| has.contains(key))
        && credential.is_none_or(|either| either.iter().any(|key| has.contains(key)))
        && (filter.user.is_none() || filter.user == record.user)
        && filter.from.is_none_or(|from| record.time >= from)
        && filter.to.is_none_or(|to| record.time <= to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::canonical::tests::full;

    #[test]
    fn a_filter_admits_what_fits_all_of_it_and_nothing_that_differs_in_one_thing() {
        let record = full();
        let asked = Filter {
            from: Some(record.time),
            to: Some(record.time),
            kind: Some("lease.handed".into()),
            workload: record.workload.clone(),
            user: record.user.clone(),
            target: record.target.clone(),
            task: record.task_id,
            node: record.node.clone(),
            credential: Some("errand_abcde_x".into()),
            live: None,
        };
        assert!(admits(&asked, &record) && admits(&Filter::default(), &record));
        let minute = std::time::Duration::from_secs(60);
        let other = || Some("other".to_string());
        let changes: [fn(&mut Filter, Option<String>); 6] = [
            |f, other| f.kind = other,
            |f, other| f.workload = other,
            |f, other| f.user = other,
            |f, other| f.target = other,
            |f, other| f.node = other,
            |f, other| f.credential = other,
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut filter = asked.clone();
            change(&mut filter, other());
            assert!(!admits(&filter, &record), "{i}");
        }
        let task = Some("018f2f0c-8f6b-7c3e-8a52-000000000000".parse().unwrap());
        assert!(!admits(&Filter { task, ..asked.clone() }, &record));
        assert!(!admits(&Filter { from: Some(record.time.plus(minute)), ..asked.clone() }, &record));
        assert!(!admits(&Filter { to: Some(record.time.minus(minute)), ..asked }, &record));
    }

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
