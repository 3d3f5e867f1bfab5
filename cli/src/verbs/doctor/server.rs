//! What a server says of itself (`/v1/server`, `/v1/targets`), judged.
//!
//! Decides what is wrong, what is worth a note and what to do next. Asks nothing.

use super::{Finding, State};
use crate::{output::value::text, verbs::rows};
use proto_types::Timestamp;
use serde_json::Value;

/// Free bytes below which an operator is told, and below which it is wrong.
const SCARCE: u64 = 1 << 30;
const NEARLY_FULL: u64 = 64 << 20;
/// How far two clocks may stand apart, milliseconds: what the ledger lets a clock run back.
const APART: i64 = 30_000;

/// Everything but targets. What a server of another version does not say is not judged.
pub(super) fn judge(about: &Value, now: Timestamp, findings: &mut Vec<Finding>) {
    for problem in rows(about, "not_ready") {
        let what = format!("it is not ready: {}", problem.as_str().unwrap_or_default());
        findings.push(Finding::new("server", State::Bad, what).fix("see the server's log"));
    }
    space(&about["space"], findings);
    clock(&about["clock"], now, findings);
    if let Some(stuck) = about["stuck_leases"].as_u64().filter(|n| *n > 0) {
        let what =
            format!("{stuck} that should be gone are not let go by their targets; they are tried again and again");
        findings.push(Finding::new("credentials", State::Bad, what).fix(
            "`errand lease list --live` shows them with their errors, `errand target check NAME` what a target lacks",
        ));
    }
    for sink in rows(about, "sinks") {
        if let Some(error) = sink["last_error"].as_str() {
            let what = format!("`{}` fails, {} records behind: {error}", text(&sink, "name"), text(&sink, "behind"));
            findings
                .push(Finding::new("sink", State::Bad, what).fix("mend its outlet; it goes on from where it stopped"));
        }
    }
}

fn space(space: &Value, findings: &mut Vec<Finding>) {
    let (Some(used), Some(free)) = (space["used_bytes"].as_u64(), space["free_bytes"].as_u64()) else { return };
    let what = format!("the store takes {} MiB, its volume has {} MiB left", used >> 20, free >> 20);
    findings.push(match free {
        _ if free < NEARLY_FULL => {
            Finding::new("store", State::Bad, what).fix("free space on its volume now: with none, nothing is issued")
        }
        _ if free < SCARCE => {
            Finding::new("store", State::Absent, what).fix("watch it: with none left, nothing is issued")
        }
        _ => Finding::new("store", State::Good, what),
    });
}

fn clock(clock: &Value, ours: Timestamp, findings: &mut Vec<Finding>) {
    let time = |name: &str| clock[name].as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let (Some(theirs), Some(newest)) = (time("now"), time("newest_record")) else { return };
    if newest.as_millis() - theirs.as_millis() > APART {
        let what =
            format!("it runs back: it says {theirs}, the newest record was written at {newest}; nothing is issued");
        findings.push(Finding::new("clock", State::Bad, what).fix("set the clock of the server's machine"));
    } else if (ours.as_millis() - theirs.as_millis()).abs() > APART {
        let what = format!("the server's says {theirs}, this machine's {ours}");
        findings.push(Finding::new("clock", State::Bad, what).fix("set the one that is wrong; use NTP on both"));
    }
}

/// Targets that the server has and cannot use: every exchange for them is refused.
pub(super) fn targets(answer: &Value, findings: &mut Vec<Finding>) {
    let all = rows(answer, "targets");
    let broken = |t: &&Value| t["problems"].as_array().is_some_and(|p| !p.is_empty());
    for target in all.iter().filter(broken) {
        let (name, problems) = (text(target, "name"), rows(target, "problems"));
        let problems: Vec<&str> = problems.iter().filter_map(Value::as_str).collect();
        let fix = match text(target, "origin").as_str() {
            "config" => "mend it in the server's configuration file, and restart the server".to_string(),
            "directory" => "mend it in its file, and run `errand apply -f DIR`".to_string(),
            _ => "mend it in its file, and run `errand target apply -f FILE`".to_string(),
        };
        let what = format!("`{name}` cannot be used: {}", problems.join("; "));
        findings.push(Finding::new("target", State::Bad, what).fix(fix));
    }
    if !all.is_empty() && !all.iter().any(|t| broken(&t)) {
        findings.push(Finding::new(
            "targets",
            State::Good,
            format!("{} can be used, as far as their settings go", all.len()),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-11-21T08:00:00Z";

    fn judged(about: Value) -> Vec<Finding> {
        let mut findings = Vec::new();
        judge(&about, NOW.parse().unwrap(), &mut findings);
        findings
    }

    #[test]
    fn what_is_well_with_a_server_is_not_complained_of_and_what_is_not_is_wrong_with_a_next_step() {
        let well = json!({"not_ready": [], "stuck_leases": 0, "sinks": [{"name": "siem", "behind": 0, "last_error": null}],
            "space": {"used_bytes": 5 << 20, "free_bytes": 5u64 << 30}, "clock": {"now": NOW, "newest_record": NOW}});
        assert!(judged(well.clone()).iter().all(|f| f.state == State::Good));
        assert!(judged(json!({})).is_empty(), "what an older server does not say is not judged");
        let late = "2026-11-21T08:00:31Z";
        for (place, value, state, says) in [
            ("/not_ready", json!(["authority: no ssh key"]), State::Bad, "no ssh key"),
            ("/stuck_leases", json!(2), State::Bad, "2 that should be gone"),
            ("/sinks/0/last_error", json!("connection refused"), State::Bad, "`siem` fails"),
            ("/space/free_bytes", json!(900 << 20), State::Absent, "900 MiB left"),
            ("/space/free_bytes", json!(63 << 20), State::Bad, "63 MiB left"),
            ("/clock/newest_record", json!(late), State::Bad, "runs back"),
            ("/clock/now", json!(late), State::Bad, "this machine's"),
            ("/clock/now", json!("2026-11-21T07:59:29Z"), State::Bad, "runs back"),
        ] {
            let mut about = well.clone();
            *about.pointer_mut(place).unwrap() = value;
            let found: Vec<_> = judged(about).into_iter().filter(|f| f.state != State::Good).collect();
            assert_eq!(found.len(), 1, "{place}");
            assert!(
                found[0].state == state && found[0].what.contains(says) && found[0].fix.is_some(),
                "{}",
                found[0].what
            );
        }
        let mut about = well;
        about["clock"]["newest_record"] = json!("2026-11-21T08:00:30Z");
        assert!(judged(about).iter().all(|f| f.state == State::Good), "within the bound");
    }

    #[test]
    fn a_target_that_cannot_be_used_is_wrong_and_says_where_to_mend_it() {
        let target =
            |name: &str, origin: &str, problems: Value| json!({ "name": name, "origin": origin, "problems": problems });
        let found = |all: Value| {
            let mut findings = Vec::new();
            targets(&json!({ "targets": all }), &mut findings);
            findings
        };
        let good = found(json!([target("a", "config", json!([]))]));
        assert!(good.len() == 1 && good[0].state == State::Good);
        assert!(found(json!([])).is_empty());
        for (origin, next) in [("config", "restart"), ("directory", "errand apply"), ("applied", "errand target apply")]
        {
            let bad = found(json!([target("a", "config", json!([])), target("b", origin, json!(["no file"]))]));
            assert!(bad.len() == 1 && bad[0].state == State::Bad && bad[0].what.contains("`b`"), "{}", bad[0].what);
            assert!(bad[0].what.contains("no file") && bad[0].fix.as_ref().unwrap().contains(next), "{origin}");
        }
    }
}
