//! Lines of the Common Event Format, version 0, with the keys of its dictionary.
//!
//! Decides the escaping: in the header `\` and `|`, in the extension `\`, `=` and line ends. Each value is cut to the
//! length its key may have.

use super::{
    Seen,
    classes::{self, Severity, Status},
};
use crate::journal::kinds::meaning;

/// How severe, of 10.
fn severity(severity: Severity) -> u32 {
    match severity {
        Severity::Informational => 2,
        Severity::Low => 4,
        Severity::Medium => 6,
        Severity::High => 8,
    }
}

pub fn line(seen: &Seen<'_>) -> String {
    let record = seen.record;
    let event = classes::event(&record.kind);
    let version = env!("CARGO_PKG_VERSION");
    let mut line = format!(
        "CEF:0|Errand|errand|{version}|{}|{}|{}|",
        header(&record.kind),
        header(meaning(&record.kind)),
        severity(event.severity)
    );
    let outcome = match event.status {
        Status::Pending => "pending",
        Status::Outcome if record.outcome == "ok" => "success",
        Status::Outcome | Status::Failure => "failure",
    };
    let role = match (&record.target, &record.role) {
        (Some(target), Some(role)) => Some(format!("{target}/{role}")),
        (target, _) => target.clone(),
    };
    let task = record.task_id.map(|t| t.to_string());
    let decision = record.decision.as_ref().map(|d| format!("{} {}", d.outcome, d.policies.join(",")));
    let detail = (!record.detail.is_null()).then(|| record.detail.to_string());
    let mut first = true;
    let mut say = |key: &str, value: Option<&str>, most: usize| {
        let Some(value) = value else { return };
        line += &format!("{}{key}={}", if first { "" } else { " " }, extension(cut(value, most)));
        first = false;
    };
    say("rt", Some(&record.time.as_millis().to_string()), 20);
    say("externalId", Some(&seen.position.0.to_string()), 40);
    say("deviceExternalId", Some(seen.store_id), 255);
    say("act", Some(&record.kind), 63);
    say("outcome", Some(outcome), 63);
    say("reason", Some(record.outcome.as_str()).filter(|o| *o != "ok"), 1023);
    say("sourceServiceName", record.workload.as_deref(), 1023);
    say("suser", record.operator.as_deref().or(record.user.as_deref()), 1023);
    say("duser", record.user.as_deref(), 1023);
    say("destinationServiceName", role.as_deref(), 1023);
    for (key, label, value) in [
        ("cs1", "task", task.as_deref()),
        ("cs2", "intent", record.intent.as_deref()),
        ("cs3", "credential", record.credential.as_ref().map(|c| c.id.as_str())),
        ("cs4", "decision", decision.as_deref()),
        ("cs5", "node", record.node.as_deref()),
        ("cs6", "leaf", Some(hex::encode(seen.leaf).as_str())),
    ] {
        say(&format!("{key}Label"), value.map(|_| label), 1023);
        say(key, value, 4000);
    }
    say("msg", detail.as_deref(), 1023);
    line
}

/// The first `most` characters.
fn cut(value: &str, most: usize) -> &str {
    value.char_indices().nth(most).map_or(value, |(at, _)| &value[..at])
}

fn escape(value: &str, special: char, line_end: &dyn Fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            c if c == special => out.extend(['\\', c]),
            c => match line_end(c) {
                Some(written) => out.push_str(written),
                None if c.is_control() => out.push(' '),
                None => out.push(c),
            },
        }
    }
    out
}

/// The header knows no line ends: they become blanks.
fn header(value: &str) -> String {
    escape(value, '|', &|_| None)
}

fn extension(value: &str) -> String {
    escape(value, '=', &|c| match c {
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_extension_escape_what_each_must_and_nothing_else() {
        assert_eq!(header(r"a|b\c=d"), r"a\|b\\c=d");
        assert_eq!(header("a\r\nb"), "a  b");
        assert_eq!(extension(r"a|b\c=d"), r"a|b\\c\=d");
        assert_eq!(extension("a\nb\rc\td"), r"a\nb\rc d");
        assert_eq!(extension("plain, text: ä"), "plain, text: ä");
    }

    #[test]
    fn a_value_is_cut_at_a_character() {
        assert_eq!(cut("ääää", 2), "ää");
        assert_eq!(cut("ä", 2), "ä");
    }
}
