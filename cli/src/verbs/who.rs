//! `errand who`: from a name found in a target's own log back to who, for whom and why.

use super::{Ctx, journal};
use crate::{
    DONE,
    admin_client::Query,
    error::Result,
    output::{
        style::{Style, clean_line},
        value::{self, text},
    },
};
use proto_types::Timestamp;
use serde_json::Value;

#[derive(Debug, clap::Args)]
#[command(
    about = "Who was behind a credential, a database role or a certificate",
    long_about = "Tells who was behind a name found in a target's own log: a database role, the serial of a \
        certificate, the id of a token or of a lease. Back to the task, its workload and user, its intent, who decided, \
        and whether it is over.",
    after_help = "EXAMPLES\n  errand who errand_k3m9x_abcdefghijklmnop\n  errand who 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4\n  \
        errand who 5f2a9c --output json"
)]
pub struct WhoArgs {
    #[arg(value_name = "CREDENTIAL-ID|ROLE-NAME|SERIAL")]
    name: String,
}

pub async fn run(args: WhoArgs, ctx: &Ctx) -> Result<i32> {
    let answer = ctx.admin()?.get(&journal::who_path(&args.name), &Query::default()).await?;
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
    } else {
        ctx.out.text(&story(&args.name, &answer, ctx.clock.now(), ctx.out.style))?;
    }
    Ok(DONE)
}

/// A few lines: what it is, who had it, why, who decided, when, whether it is over.
fn story(name: &str, answer: &Value, now: Timestamp, style: Style) -> String {
    let (lease, task, records) = (&answer["lease"], &answer["task"], super::rows(answer, "records"));
    let any = |path: &str| records.iter().map(|r| text(r, path)).find(|t| t != "-").unwrap_or_else(|| "-".into());
    let either = |first: String, path: &str| if first == "-" { any(path) } else { first };
    let role = value::role(lease);
    let role = if role == "-" { records.iter().map(value::role).find(|r| r != "-").unwrap_or(role) } else { role };
    let lines = [
        ("what", what(name, answer, &role)),
        ("who", either(text(task, "workload"), "workload")),
        ("for", either(text(task, "user"), "user")),
        ("why", quoted(&either(text(task, "intent"), "intent"))),
        ("task", either(text(task, "id"), "task_id")),
        ("decided", decided(&records, task)),
        ("operator", any("operator")),
        ("node", either(text(task, "node"), "node")),
        ("when", when(lease, &records)),
        ("over", if lease.is_object() { over(lease, task) } else { svid_over(&any("detail.not_after"), now) }),
        ("records", positions(&records)),
    ];
    let mut out = String::new();
    for (label, said) in lines.into_iter().filter(|(_, said)| said != "-") {
        out.push_str(&format!("{}  {}\n", style.faint(&format!("{label:8}")), clean_line(&said)));
    }
    out
}

fn what(name: &str, answer: &Value, role: &str) -> String {
    let credential = &answer["credential"];
    let id = if credential.is_string() { value::plain(credential) } else { text(credential, "id") };
    let records = super::rows(answer, "records");
    let noted = records.iter().map(|r| text(r, "credential.kind"));
    let kind = [text(credential, "kind"), text(&answer["lease"], "kind")].into_iter().chain(noted).find(|k| k != "-");
    let mut said = name.to_string();
    if let Some(kind) = kind {
        said.push_str(&format!(", {kind}"));
    }
    if role != "-" {
        said.push_str(&format!(", {role}"));
    }
    if id != "-" && id != name {
        said.push_str(&format!(" ({id})"));
    }
    said
}

fn quoted(text: &str) -> String {
    if text == "-" { "-".into() } else { format!("\u{201c}{text}\u{201d}") }
}

/// The last decision among the records, and who approved.
fn decided(records: &[Value], task: &Value) -> String {
    let Some(record) = records.iter().rfind(|r| r.get("decision").is_some_and(Value::is_object)) else {
        let policies: Vec<_> = super::rows(task, "grants").iter().map(|g| text(g, "policies")).collect();
        return match policies.join(", ") {
            none if none.is_empty() || none == "-" => "-".into(),
            policies => format!("permit by {policies}"),
        };
    };
    let mut said = text(record, "decision.outcome");
    match text(record, "decision.policies").as_str() {
        "-" => {}
        policies => said.push_str(&format!(" by {policies}")),
    }
    match text(record, "approval.approver").as_str() {
        "-" => {}
        approver => said.push_str(&format!(", approved by {approver}")),
    }
    said
}

fn when(lease: &Value, records: &[Value]) -> String {
    let issued = match value::time(lease, "issued_at") {
        none if none == "-" => records.first().map_or(none, |r| value::time(r, "time")),
        issued => issued,
    };
    match value::time(lease, "expires_at").as_str() {
        "-" => issued,
        expires => format!("{issued}, to expire {expires}"),
    }
}

/// Whether the credential can still be used, as far as this server knows.
fn over(lease: &Value, task: &Value) -> String {
    let because = match text(task, "end_reason").as_str() {
        "-" => String::new(),
        reason => format!("; its task ended: {reason}"),
    };
    match text(lease, "state").as_str() {
        "-" => "-".into(),
        "revoked" => format!("yes, revoked {}{because}", value::time(lease, "revoked_at")),
        "expired" => format!("yes, expired {}{because}", value::time(lease, "expires_at")),
        "void" => "yes, the target refused it: it never existed".into(),
        "lingering" => {
            format!("not yet: its target cannot end it before {}{because}", value::time(lease, "expires_at"))
        }
        "revoking" => format!("not yet: it is being revoked{because}"),
        "intended" => "it was being made".into(),
        _ => format!("no, it works until {}", value::time(lease, "expires_at")),
    }
}

/// The same of an SVID, which has no lease and ends by its own time. Nothing is claimed when that is not known.
fn svid_over(not_after: &str, now: Timestamp) -> String {
    match not_after.parse::<Timestamp>() {
        Err(_) => "-".into(),
        Ok(end) if end <= now => format!("yes, expired {not_after}"),
        Ok(_) => format!("no, it is valid until {not_after}"),
    }
}

fn positions(records: &[Value]) -> String {
    let list: Vec<_> = records.iter().map(|r| text(r, "position")).filter(|p| p != "-").collect();
    if list.is_empty() { "-".into() } else { format!("{} (errand journal show POSITION)", list.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn an_svid_is_over_when_its_own_time_is() {
        assert_eq!(svid_over("2026-11-21T12:00:00Z", now()), "yes, expired 2026-11-21T12:00:00Z");
        assert_eq!(svid_over("2026-11-21T12:00:01Z", now()), "no, it is valid until 2026-11-21T12:00:01Z");
    }

    #[test]
    fn a_role_name_leads_back_to_task_workload_intent_and_decision() {
        let answer = json!({
            "credential": "l-1",
            "lease": {"id": "l-1", "kind": "postgres", "role": "orders-db/readonly", "state": "revoked",
                "issued_at": "2026-11-21T08:00:00.5Z", "expires_at": "2026-11-21T08:30:00Z",
                "revoked_at": "2026-11-21T08:10:00Z"},
            "task": {"id": "t-1", "workload": "spiffe://example.org/planner", "user": null, "intent": "totals",
                "end_reason": "completed"},
            "records": [
                {"position": 4, "kind": "task.started", "decision": {"outcome": "permit", "policies": ["orders"]}},
                {"position": 5, "kind": "lease.handed"}
            ],
        });
        let text = story("errand_k3m9x_a", &answer, now(), Style::PLAIN);
        assert_eq!(
            text,
            "what      errand_k3m9x_a, postgres, orders-db/readonly (l-1)\n\
             who       spiffe://example.org/planner\n\
             why       “totals”\n\
             task      t-1\n\
             decided   permit by orders\n\
             when      2026-11-21T08:00:00Z, to expire 2026-11-21T08:30:00Z\n\
             over      yes, revoked 2026-11-21T08:10:00Z; its task ended: completed\n\
             records   4, 5 (errand journal show POSITION)\n"
        );
    }

    #[test]
    fn an_svid_without_lease_or_task_is_told_from_its_record() {
        let answer = json!({"credential": {"id": "5f2a", "kind": "x509_svid"}, "records": [
            {"position": 9, "time": "2026-11-21T08:00:00Z", "workload": "spiffe://example.org/legacy", "operator": "kim"}]});
        let text = story("5f2a", &answer, now(), Style::PLAIN);
        assert!(text.contains("who       spiffe://example.org/legacy\n") && text.contains("operator  kim\n"), "{text}");
        assert!(!text.contains("over"), "nothing is claimed that is not known: {text}");
    }
}
