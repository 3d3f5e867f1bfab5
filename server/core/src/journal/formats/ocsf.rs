//! OCSF events. Attribute names and numbers are the schema's (1.5.0); what it has no attribute for is in `unmapped`.
//!
//! Decides who is the actor (the operator, else the user acted for, else the workload, else the server itself), who
//! the event is about, and which object it concerns.

use super::{
    Seen,
    classes::{self, Class, Event, Status},
};
use crate::journal::kinds::meaning;
use proto_types::Record;
use serde_json::{Map, Value, json};

const SCHEMA: &str = "1.5.0";

/// Kinds of users, as the schema numbers them.
const PERSON: u32 = 1;
const ADMIN: u32 = 2;
const SYSTEM: u32 = 3;
const SERVICE: u32 = 4;

pub fn event(seen: &Seen<'_>) -> Value {
    let record = seen.record;
    let event = classes::event(&record.kind);
    let class = event.class as u32;
    let (status_id, status) = status(&event, record);
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| drop(out.insert(name.into(), value));
    put("class_uid", class.into());
    put("category_uid", (class / 1000).into());
    put("activity_id", event.activity.into());
    put("type_uid", (class * 100 + event.activity).into());
    put("severity_id", (event.severity as u32).into());
    put("time", record.time.as_millis().into());
    put("status_id", status_id.into());
    put("status", status.into());
    put("status_code", record.outcome.clone().into());
    put("message", meaning(&record.kind).into());
    put("metadata", metadata(seen));
    put("actor", actor(record));
    out.extend(of_class(event.class, record));
    put_rest(&mut out, seen);
    Value::Object(said(out))
}

/// Without what is not known: the schema has no nulls.
fn said(map: Map<String, Value>) -> Map<String, Value> {
    let known = map.into_iter().filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::Object(inner) => Some(said(inner)).filter(|inner| !inner.is_empty()).map(|inner| (name, inner.into())),
        value => Some((name, value)),
    });
    known.collect()
}

fn status(event: &Event, record: &Record) -> (u32, &'static str) {
    match event.status {
        Status::Pending => (99, "Other"),
        Status::Outcome if record.outcome == "ok" => (1, "Success"),
        Status::Outcome | Status::Failure => (2, "Failure"),
    }
}

fn metadata(seen: &Seen<'_>) -> Value {
    json!({
        "version": SCHEMA,
        "product": { "name": "Errand", "vendor_name": "Errand", "version": env!("CARGO_PKG_VERSION") },
        "log_name": "journal",
        "event_code": seen.record.kind,
        "sequence": seen.position,
        "uid": format!("{}/{}", seen.store_id, seen.position.0),
    })
}

fn user(name: &str, type_id: u32) -> Value {
    json!({ "name": name, "uid": name, "type_id": type_id })
}

fn actor(record: &Record) -> Value {
    let user = match (&record.operator, &record.user, &record.workload) {
        (Some(operator), ..) => user(operator, ADMIN),
        (None, Some(person), _) => user(person, PERSON),
        (None, None, Some(workload)) => user(workload, SERVICE),
        (None, None, None) => return json!({ "app_name": "errand" }),
    };
    let mut actor = json!({ "user": user });
    if let Some(task) = record.task_id {
        actor["session"] = json!({ "uid": task });
    }
    actor
}

/// Who gets or loses something: the workload, or the node.
fn subject(record: &Record) -> Value {
    match (&record.workload, &record.node) {
        (Some(workload), _) => user(workload, SERVICE),
        (None, Some(node)) => user(node, SYSTEM),
        (None, None) => user("unknown", 0),
    }
}

fn role(record: &Record) -> String {
    match (&record.target, &record.role) {
        (Some(target), Some(role)) => format!("{target}/{role}"),
        (Some(target), None) => target.clone(),
        (None, _) => record.kind.clone(),
    }
}

/// What the class demands besides the common attributes.
fn of_class(class: Class, record: &Record) -> Map<String, Value> {
    let object = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
    let credential = record.credential.as_ref();
    object(match class {
        Class::Base => json!({}),
        Class::DetectionFinding => json!({
            "finding_info": { "title": meaning(&record.kind), "uid": named(record).unwrap_or_else(|| role(record)) },
            "resources": [{ "name": role(record), "type": "role" }],
        }),
        Class::Authentication => json!({
            "user": subject(record),
            "service": { "name": record.target.as_deref().unwrap_or("errand") },
            "session": { "uid": record.task_id },
            "authentication_token": { "uid": credential.map(|c| &c.id), "type": credential.map(|c| &c.kind) },
        }),
        Class::AuthorizeSession => json!({
            "user": subject(record),
            "session": { "uid": record.task_id },
            "privileges": grants(record),
        }),
        Class::EntityManagement => json!({ "entity": entity(record) }),
        Class::UserAccess => json!({
            "user": subject(record),
            "privileges": [role(record)],
            "resources": [{ "name": record.target.as_deref().unwrap_or("unknown"), "type": "target" }],
        }),
        Class::Lifecycle => json!({
            "app": { "name": "Errand", "vendor_name": "Errand", "version": env!("CARGO_PKG_VERSION") },
        }),
        Class::ApiActivity => json!({
            "api": { "operation": record.kind },
            "src_endpoint": { "svc_name": record.workload.as_deref().unwrap_or("admin socket") },
            "resources": [{ "name": role(record), "type": "role" }],
        }),
    })
}

/// The roles a task was started with.
fn grants(record: &Record) -> Vec<Value> {
    let grants = record.detail.pointer("/task/grants").and_then(Value::as_array);
    let roles: Vec<_> = grants.into_iter().flatten().filter_map(|g| g.get("role").cloned()).collect();
    if roles.is_empty() { vec![role(record).into()] } else { roles }
}

/// The name a detail gives to what it is about.
fn named(record: &Record) -> Option<String> {
    record.detail.get("name").and_then(Value::as_str).map(String::from)
}

/// What was made, changed or removed: its noun, and its id where the record has one.
fn entity(record: &Record) -> Value {
    let noun = record.kind.split('.').next().unwrap_or_default();
    let detail = |path: &str| record.detail.pointer(path).and_then(Value::as_str).map(String::from);
    let uid = match noun {
        "node" => record.node.clone(),
        "target" => record.target.clone(),
        "authority" => record.credential.as_ref().map(|c| c.id.clone()),
        _ => detail(&format!("/{noun}/id")).or_else(|| detail("/deleted")),
    };
    json!({ "name": noun, "type": noun, "uid": uid })
}

fn put_rest(out: &mut Map<String, Value>, seen: &Seen<'_>) {
    let record = seen.record;
    let rest = json!({
        "position": seen.position,
        "leaf": hex::encode(seen.leaf),
        "kind": record.kind,
        "workload": record.workload,
        "user": record.user,
        "task_id": record.task_id,
        "target": record.target,
        "role": record.role,
        "intent": record.intent,
        "tool": record.tool,
        "decision": record.decision,
        "credential": record.credential,
        "node": record.node,
        "detail": record.detail,
    });
    out.insert("unmapped".into(), rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{KINDS, canonical::tests::full};
    use proto_types::{Position, Timestamp};

    fn of(record: &Record) -> Value {
        event(&Seen { store_id: "k3m9x", position: Position(7), leaf: &[1; 32], record })
    }

    #[test]
    fn every_event_has_what_its_class_demands_also_when_the_record_says_little() {
        for (kind, _) in KINDS {
            for record in [Record::new(Timestamp::from_secs(1), kind), Record { kind: (*kind).into(), ..full() }] {
                let event = of(&record);
                let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{kind}: {name}"));
                assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
                assert_eq!(number("category_uid"), number("class_uid") / 1000);
                let demanded: &[&str] = match number("class_uid") {
                    2004 => &["/finding_info/uid", "/finding_info/title"],
                    3002 => &["/user/name", "/service/name"],
                    3003 => &["/user/name", "/privileges/0"],
                    3004 => &["/entity/name"],
                    3005 => &["/user/name", "/privileges/0"],
                    6002 => &["/app/name"],
                    6003 => &["/api/operation", "/src_endpoint/svc_name", "/actor"],
                    other => panic!("{kind}: class {other}"),
                };
                for path in demanded.iter().chain(&["/metadata/product/name", "/metadata/version", "/message"]) {
                    assert!(!event.pointer(path).unwrap_or(&Value::Null).is_null(), "{kind}: {path} in {event}");
                }
            }
        }
    }

    #[test]
    fn the_actor_is_the_operator_then_the_user_then_the_workload() {
        let mut record = full();
        let name = |record: &Record| of(record)["actor"]["user"]["name"].clone();
        assert_eq!(name(&record), "kim");
        record.operator = None;
        assert_eq!(name(&record), "kim@example.org");
        record.user = None;
        assert_eq!(name(&record), "spiffe://example.org/agents/planner");
        record.workload = None;
        assert_eq!(of(&record)["actor"]["app_name"], "errand");
    }

    #[test]
    fn what_was_refused_is_a_failure_and_what_was_done_a_success() {
        assert_eq!(of(&full())["status_id"], 1);
        assert_eq!(of(&full().outcome("target_unavailable"))["status_id"], 2);
        assert_eq!(of(&Record { kind: "lease.intended".into(), ..full() })["status_id"], 99);
    }
}
