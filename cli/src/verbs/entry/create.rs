//! `errand entry create`: one entry from flags, or many from a file.

use super::{BATCH, Client, Outcome, client, columns, counted, data, fields::Fields};
use crate::{
    DONE, admin_client,
    error::{CliError, Result},
    output::style::Style,
    verbs::{Ctx, node, view},
};
use proto_wire::spire::api::{
    server::{
        agent::v1::{agent_client::AgentClient, list_agents_request},
        entry::v1 as wire,
    },
    types::{Entry, Spiffeid},
};
use serde_json::{Value, json};
use std::{io::IsTerminal, path::PathBuf};

const AFTER: &str = "\
FILE
  JSON: an array of entries, entries one after another, or SPIRE's
  {\"entries\": [...]}. Each has the fields that `errand entry show` prints with
  --output json. A selector is {\"type\", \"value\"} or \"type:value\"; a TTL is
  \"1h\" or seconds. An entry without parent_id takes --parent-id.

EXAMPLES
  errand entry create --spiffe-id spiffe://acme.test/web --selector unix:uid:1000
  errand entry create --spiffe-id spiffe://acme.test/planner \\
      --selector systemd:id:planner.service --x509-svid-ttl 30m \\
      --parent-id spiffe://acme.test/racks/r7 --dns planner.acme.test
  errand entry create --data entries.json";

#[derive(Debug, clap::Args)]
#[command(
    about = "Create an entry, or many from a file",
    long_about = "Creates an entry, or many from a file.\n\nWithout --parent-id the entry goes under the only attested \
        agent; when there are several, the error lists them.",
    after_help = AFTER
)]
pub struct CreateArgs {
    #[command(flatten)]
    fields: Fields,
    /// The workload may call the server's administrative APIs with its SVID
    #[arg(long)]
    admin: bool,
    /// The workload is a server of its own that may have an intermediate CA
    #[arg(long)]
    downstream: bool,
    /// The entry's id [default: a UUID]
    #[arg(long, value_name = "ID")]
    entry_id: Option<String>,
    /// Create every entry of this file; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spiffe_id", "selector", "entry_id"])]
    data: Option<PathBuf>,
}

pub async fn run(args: CreateArgs, ctx: &Ctx) -> Result<i32> {
    if let Some(path) = &args.data {
        return many(data::read(path)?, args.fields.parent_id.as_ref(), ctx).await;
    }
    if args.fields.spiffe_id.is_none() || args.fields.selector.is_empty() {
        return Err(CliError::usage("an entry needs --spiffe-id and at least one --selector")
            .hint("or name a file of entries with --data; see `errand entry create --help`"));
    }
    let mut entry = args.fields.entry(args.entry_id.unwrap_or_default());
    entry.admin = args.admin;
    entry.downstream = args.downstream;
    if entry.parent_id.is_none() {
        entry.parent_id = Some(only_agent(ctx).await?);
    }
    let request = wire::BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
    let answer = client(ctx).await?.batch_create_entry(request).await.map_err(admin_client::status)?.into_inner();
    let result = answer.results.into_iter().next().ok_or_else(|| CliError::failed("the server's answer is empty"))?;
    if let Some(refused) = admin_client::row(result.status.as_ref()) {
        let there = result.entry.filter(|e| !e.id.is_empty());
        return Err(there.iter().fold(refused, |r, e| r.hint(format!("see `errand entry show {}`", e.id))));
    }
    ctx.out.one(&view::entry(&result.entry.unwrap_or_default()), &super::card())?;
    Ok(DONE)
}

/// The parent of an entry that names none: the only agent there is.
pub async fn only_agent(ctx: &Ctx) -> Result<Spiffeid> {
    let mut agents = AgentClient::new(ctx.admin()?.channel().await?);
    let filter = list_agents_request::Filter { by_banned: Some(false), ..Default::default() };
    let paging = crate::admin_client::Paging { limit: 20, all: false };
    let (nodes, more) = node::list(&mut agents, filter, paging).await?;
    let ids: Vec<&str> = nodes.iter().filter_map(|n| n.get("id")?.as_str()).collect();
    match ids.as_slice() {
        [] => Err(CliError::failed("no agent is attested yet, so the entry has no parent")
            .hint("attest one (`errand node token`), or name a parent with --parent-id")),
        [one] => {
            let id = proto_types::id::parse_spiffe_id(one).map_err(|e| CliError::failed(e.to_string()))?;
            Ok(proto_wire::convert::spiffe_id_out(&id))
        }
        several => {
            let list = several.join("\n    ");
            let rest = if more.is_some() { "\n    … (`errand node list --all`)" } else { "" };
            Err(CliError::usage(format!("there are several agents; name the entry's parent:\n    {list}{rest}"))
                .hint("--parent-id ID"))
        }
    }
}

async fn many(mut entries: Vec<Entry>, parent: Option<&proto_types::SpiffeId>, ctx: &Ctx) -> Result<i32> {
    if entries.iter().any(|e| e.parent_id.is_none()) {
        let parent = match parent {
            Some(id) => proto_wire::convert::spiffe_id_out(id),
            None => only_agent(ctx).await?,
        };
        entries.iter_mut().filter(|e| e.parent_id.is_none()).for_each(|e| e.parent_id = Some(parent.clone()));
    }
    let mut client = client(ctx).await?;
    let (mut rows, mut outcome) = (Vec::new(), Outcome::default());
    let total = entries.len();
    let progress = Progress::new(total);
    let mut at = 0;
    for some in entries.chunks(BATCH) {
        create_some(&mut client, some, at, &mut rows, &mut outcome).await?;
        at += some.len();
        progress.tell(at);
    }
    if ctx.out.is_json() {
        ctx.out.json(&json!({ "entries": rows, "failed": outcome.rows() }))?;
    } else {
        if !rows.is_empty() {
            ctx.out.list("entries", &rows, None, &columns())?;
        }
        ctx.out.note(format!("created {} of {total}", counted(rows.len())));
    }
    outcome.finish(ctx)
}

async fn create_some(
    client: &mut Client,
    entries: &[Entry],
    first: usize,
    rows: &mut Vec<Value>,
    outcome: &mut Outcome,
) -> Result<()> {
    let request = wire::BatchCreateEntryRequest { entries: entries.to_vec(), output_mask: None };
    let answer = client.batch_create_entry(request).await.map_err(|status| {
        let done = rows.len();
        admin_client::status(status).at(format!("entry {} of the file; {done} were created before it", first + 1))
    })?;
    for (n, (result, sent)) in answer.into_inner().results.into_iter().zip(entries).enumerate() {
        match admin_client::row(result.status.as_ref()) {
            None => rows.push(view::entry(&result.entry.unwrap_or_default())),
            Some(why) => {
                let id = crate::output::value::plain(&view::id(sent.spiffe_id.as_ref()));
                outcome.failed(format!("entry {} of the file, {id}", first + n + 1), why);
            }
        }
    }
    Ok(())
}

/// How far it is, on one line of a terminal.
struct Progress {
    total: usize,
    shown: bool,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self { total, shown: total > BATCH && std::io::stderr().is_terminal() }
    }
    fn tell(&self, done: usize) {
        if self.shown {
            let end = if done == self.total { "\n" } else { "" };
            eprint!("\r{}{end}", Style::of_stderr().faint(&format!("{done} of {} entries", self.total)));
        }
    }
}
