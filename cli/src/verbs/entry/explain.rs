//! `errand entry explain`: why a process of this node gets, or does not get, an identity.
//!
//! The agent says what it found of the process and which of its entries that earns; the server, when it can be reached
//! from here, which entries would match if this node were entitled to them.

use super::client;
use crate::{
    DONE,
    admin_client::{self, Query},
    agent_client::AgentClient,
    error::{Exit, Result},
    output::{
        style::{Style, clean},
        value::text,
    },
    verbs::{Ctx, rows, view},
};
use proto_types::hold::WorkloadPattern;
use proto_wire::{
    errand::v1::ExplainResponse,
    spire::api::{
        server::entry::v1 as wire,
        types::{Selector, SelectorMatch, selector_match::MatchBehavior},
    },
};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Selectors that one filter of the server may have.
const MAX_TERMS: usize = 256;

#[derive(Debug, clap::Args)]
#[command(
    about = "Say why a process gets, or does not get, an identity",
    long_about = "Says why a process of this node gets, or does not get, an identity: the selectors its agent found, the \
        entries that match, and those that want one selector more. When the server's admin socket can be reached from \
        here, also the entries that match and that this node is not served.\n\nSelectors tell what a process is, so the \
        agent answers root and the process's own user only. Exits 1 when the process gets no identity.",
    after_help = "EXAMPLES\n  errand entry explain --pid $(pidof reports)\n  errand entry explain --pid 4711 --output json"
)]
pub struct ExplainArgs {
    /// The process
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
}

pub async fn run(args: &ExplainArgs, ctx: &Ctx) -> Result<i32> {
    let found = AgentClient::find().await?.explain(args.pid, ctx.clock.as_ref()).await?;
    let elsewhere = match elsewhere(&found, ctx).await {
        Ok(rows) => Some(rows),
        Err(error) => {
            ctx.out.note(format!("entries this node is not served are not shown: {error}"));
            None
        }
    };
    let answer = answer(args.pid, &found, elsewhere);
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
    } else {
        ctx.out.text(&story(&answer, ctx.out.style))?;
    }
    let served = found.problems.is_empty() && found.entries.iter().any(|e| e.missing.is_none());
    Ok(if served { DONE } else { Exit::Failed as i32 })
}

fn selector(s: &Selector) -> String {
    format!("{}:{}", s.r#type, s.value)
}

fn answer(pid: i32, found: &ExplainResponse, elsewhere: Option<Vec<Value>>) -> Value {
    let entry = |e: &proto_wire::errand::v1::ExplainedEntry| e.entry.as_ref().map_or(Value::Null, view::entry);
    let (near, matches): (Vec<_>, Vec<_>) = found.entries.iter().partition(|e| e.missing.is_some());
    let near: Vec<_> =
        near.into_iter().map(|e| json!({ "entry": entry(e), "missing": e.missing.as_ref().map(selector) })).collect();
    json!({
        "pid": pid,
        "uid": found.uid,
        "node": (!found.agent_id.is_empty()).then_some(&found.agent_id),
        "task_id": (!found.task_id.is_empty()).then_some(&found.task_id),
        "synced": found.synced,
        "selectors": found.selectors.iter().map(selector).collect::<Vec<_>>(),
        "problems": found.problems,
        "matches": matches.into_iter().map(entry).collect::<Vec<_>>(),
        "near": near,
        "elsewhere": elsewhere,
    })
}

/// Entries of the server that the process matches and the agent does not know, and why not.
async fn elsewhere(found: &ExplainResponse, ctx: &Ctx) -> Result<Vec<Value>> {
    if found.selectors.is_empty() || found.selectors.len() > MAX_TERMS {
        return Ok(Vec::new());
    }
    let admin = ctx.admin()?;
    let known: HashSet<&str> = found.entries.iter().filter_map(|e| Some(e.entry.as_ref()?.id.as_str())).collect();
    let holds = rows(&admin.get("/v1/holds", &Query::default()).await?, "holds");
    let mut client = client(ctx).await?;
    let (mut others, mut page_token) = (Vec::new(), String::new());
    loop {
        let by_selectors =
            SelectorMatch { selectors: found.selectors.clone(), r#match: MatchBehavior::MatchSubset.into() };
        let filter = wire::list_entries_request::Filter { by_selectors: Some(by_selectors), ..Default::default() };
        let request = wire::ListEntriesRequest { filter: Some(filter), output_mask: None, page_size: 0, page_token };
        let page = client.list_entries(request).await.map_err(admin_client::status)?.into_inner();
        let unknown = page.entries.iter().filter(|e| !known.contains(e.id.as_str())).map(view::entry);
        others.extend(unknown.map(|entry| {
            let why = why_not(&entry, &found.agent_id, &holds);
            json!({ "entry": entry, "why": why })
        }));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(others);
        }
    }
}

/// Why the node is not served an entry that the process matches.
fn why_not(entry: &Value, node: &str, holds: &[Value]) -> String {
    let (id, parent) = (text(entry, "spiffe_id"), text(entry, "parent_id"));
    let stops = |hold: &&Value| match text(hold, "matches.kind").as_str() {
        "all" => true,
        "node" => text(hold, "matches.value") == node,
        "workload" => {
            let pattern = WorkloadPattern::parse(&text(hold, "matches.value"));
            let id = proto_types::id::parse_spiffe_id(&id);
            matches!((pattern, id), (Ok(pattern), Ok(id)) if pattern.admits(&id))
        }
        _ => false,
    };
    match holds.iter().find(stops) {
        Some(hold) => format!("it is on hold: `errand hold release {}`", text(hold, "id")),
        None if parent == node => "it has not reached the agent yet".into(),
        None => format!("it is for {parent}, which this node is not, nor has the selectors of"),
    }
}

fn story(answer: &Value, style: Style) -> String {
    let of = |path: &str| clean(&text(answer, path));
    let mut out = format!("process {}, uid {}, on {}\n", of("pid"), of("uid"), of("node"));
    if of("task_id") != "-" {
        out.push_str(&format!("  in task {}\n", of("task_id")));
    }
    for selector in rows(answer, "selectors") {
        out.push_str(&format!("  {}\n", clean(selector.as_str().unwrap_or_default())));
    }
    let mut line = |head: String, said: String| out.push_str(&format!("{head} {said}\n"));
    for problem in rows(answer, "problems") {
        line(style.error("wrong"), clean(problem.as_str().unwrap_or_default()));
    }
    if answer.get("synced") == Some(&Value::Bool(false)) {
        line(style.warning("note"), "the agent has not heard its entries from the server yet".into());
    }
    let named = |entry: &Value| format!("{} (entry {})", clean(&text(entry, "spiffe_id")), clean(&text(entry, "id")));
    let inner = |row: &Value| row.get("entry").cloned().unwrap_or_default();
    let matches = rows(answer, "matches");
    for entry in &matches {
        line(style.good("gets"), named(entry));
    }
    if matches.is_empty() {
        line(style.error("gets"), "nothing: no entry of this node matches".into());
    }
    for row in rows(answer, "near") {
        line(style.warning("nearly"), format!("{}: {} is missing", named(&inner(&row)), clean(&text(&row, "missing"))));
    }
    for row in rows(answer, "elsewhere") {
        line(style.warning("elsewhere"), format!("{}: {}", named(&inner(&row)), clean(&text(&row, "why"))));
    }
    out
}
