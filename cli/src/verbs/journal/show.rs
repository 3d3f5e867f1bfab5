//! How one record reads: a sentence in a stream, a row in a list, a card by itself.

use crate::{
    error::Result,
    output::{
        Column,
        style::clean_line,
        value::{self, text},
    },
    verbs::Ctx,
};
use serde_json::Value;

/// One record of a stream: JSON on a line, or a sentence.
pub fn print(record: &Value, ctx: &Ctx) -> Result<()> {
    if ctx.out.is_json() {
        return ctx.out.text(&format!("{record}\n"));
    }
    let style = ctx.out.style;
    let head = format!("{:>8}  {}", text(record, "position"), value::time(record, "time"));
    let line = format!("{}  {}  {}", style.faint(&head), style.strong(&kind(record)), clean_line(&sentence(record)));
    ctx.out.text(&format!("{}\n", line.trim_end()))
}

fn kind(record: &Value) -> String {
    clean_line(&text(record, "kind"))
}

/// What happened besides its kind: who, where, with what, for what.
pub fn sentence(record: &Value) -> String {
    let mut parts = Vec::new();
    let mut say = |label: &str, said: String| {
        if said != "-" {
            parts.push(if label.is_empty() { said } else { format!("{label} {said}") });
        }
    };
    say("", text(record, "workload"));
    say("for", text(record, "user"));
    say("", value::role(record));
    say("credential", text(record, "credential.id"));
    say("task", text(record, "task_id"));
    say("node", text(record, "node"));
    say("by", text(record, "operator"));
    say("decision", text(record, "decision.outcome"));
    match text(record, "outcome").as_str() {
        "ok" | "-" => {}
        outcome => say("", format!("[{outcome}]")),
    }
    if let Some(intent) = record.get("intent").and_then(Value::as_str) {
        say("", format!("\u{201c}{intent}\u{201d}"));
    }
    parts.join(", ")
}

pub fn columns() -> Vec<Column> {
    vec![
        Column::field("position", "position").whole(),
        Column::time("time", "time"),
        Column::field("kind", "kind").whole(),
        Column::new("what", sentence),
    ]
}

pub fn fields() -> Vec<Column> {
    vec![
        Column::field("position", "position"),
        Column::field("time", "time"),
        Column::field("kind", "kind"),
        Column::field("outcome", "outcome"),
        Column::field("workload", "workload"),
        Column::field("user", "user"),
        Column::field("task", "task_id"),
        Column::new("role", value::role),
        Column::field("intent", "intent"),
        Column::field("tool", "tool"),
        Column::field("decision", "decision.outcome"),
        Column::field("policies", "decision.policies"),
        Column::field("credential", "credential.id"),
        Column::field("its kind", "credential.kind"),
        Column::field("node", "node"),
        Column::field("operator", "operator"),
        Column::field("detail", "detail"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_record_reads_as_a_sentence_that_leaves_out_what_is_not_known() {
        let record = json!({"kind": "lease.handed", "workload": "spiffe://example.org/planner", "target": "orders-db",
            "role": "readonly", "outcome": "ok", "intent": "totals"});
        assert_eq!(sentence(&record), "spiffe://example.org/planner, orders-db/readonly, “totals”");
        let refused = json!({"kind": "decision.made", "outcome": "denied", "decision": {"outcome": "deny"}});
        assert_eq!(sentence(&refused), "decision deny, [denied]");
    }
}
