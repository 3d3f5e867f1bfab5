//! `errand entry`: registration entries, over the SPIRE entry API.

mod create;
mod data;
mod explain;
mod fields;
mod find;
mod update;

use super::{Ctx, view};
use crate::{
    DONE, admin_client,
    error::{CliError, Result},
    output::Column,
};
use proto_wire::spire::api::server::entry::v1::{self as wire, entry_client::EntryClient};
use serde_json::{Value, json};
use tonic::transport::Channel;

pub(super) type Client = EntryClient<Channel>;
/// Entries sent in one message: far below the server's limit on a message's size.
const BATCH: usize = 200;

#[derive(Debug, clap::Args)]
#[command(
    about = "Registration entries: which processes get which identity",
    long_about = "Registration entries: which processes get which identity.\n\nAn entry matches a process when all of \
        the entry's selectors are among those attested of the process.",
    after_help = "EXAMPLES\n  errand entry create --spiffe-id spiffe://acme.test/web --selector unix:uid:1000\n  \
        errand entry list --selector unix:uid:1000\n  errand entry explain --pid 4711"
)]
pub struct EntryCommand {
    #[command(subcommand)]
    verb: EntryVerb,
}

#[derive(Debug, clap::Subcommand)]
enum EntryVerb {
    Create(Box<create::CreateArgs>),
    /// Show entries by their ids
    #[command(after_help = "EXAMPLES\n  errand entry show 0b9c6a1e-1f7e-4d0b-9a57-3f8a2c1d4e5f")]
    Show(Ids),
    /// List entries
    #[command(after_help = "EXAMPLES\n  errand entry list\n  \
        errand entry list --parent-id spiffe://acme.test/racks/r7 --all --output json")]
    List(find::ListArgs),
    /// Count entries
    #[command(after_help = "EXAMPLES\n  errand entry count\n  errand entry count --selector unix:uid:1000")]
    Count(find::Filter),
    Update(Box<update::UpdateArgs>),
    Explain(explain::ExplainArgs),
    /// Delete entries by their ids: their SVIDs are withdrawn and their tasks end
    #[command(after_help = "EXAMPLES\n  errand entry delete 0b9c6a1e-1f7e-4d0b-9a57-3f8a2c1d4e5f")]
    Delete(Ids),
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Ids {
    /// Ids of entries
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The same as ID
    #[arg(long, value_name = "ID")]
    entry_id: Vec<String>,
}

impl Ids {
    fn all(self) -> Vec<String> {
        self.ids.into_iter().chain(self.entry_id).collect()
    }
}

pub async fn run(command: EntryCommand, ctx: &Ctx) -> Result<i32> {
    // What is wrong with the arguments is said before a server is looked for.
    match command.verb {
        EntryVerb::Create(args) => create::run(*args, ctx).await,
        EntryVerb::Update(args) => update::run(*args, ctx).await,
        EntryVerb::Show(ids) => show(&mut client(ctx).await?, ids.all(), ctx).await,
        EntryVerb::List(args) => find::list(&mut client(ctx).await?, args, ctx).await,
        EntryVerb::Count(filter) => find::count(&mut client(ctx).await?, filter, ctx).await,
        EntryVerb::Explain(args) => explain::run(&args, ctx).await,
        EntryVerb::Delete(ids) => delete(&mut client(ctx).await?, ids.all(), ctx).await,
    }
}

async fn client(ctx: &Ctx) -> Result<Client> {
    Ok(EntryClient::new(ctx.admin()?.channel().await?))
}

async fn show(client: &mut Client, ids: Vec<String>, ctx: &Ctx) -> Result<i32> {
    let mut rows = Vec::new();
    for id in ids {
        let request = wire::GetEntryRequest { id, output_mask: None };
        rows.push(view::entry(&client.get_entry(request).await.map_err(admin_client::status)?.into_inner()));
    }
    match rows.as_slice() {
        [one] => ctx.out.one(one, &card())?,
        many if ctx.out.is_json() => ctx.out.list("entries", many, None, &[])?,
        many => {
            for row in many {
                ctx.out.one(row, &card())?;
                ctx.out.text("\n")?;
            }
        }
    }
    Ok(DONE)
}

async fn delete(client: &mut Client, ids: Vec<String>, ctx: &Ctx) -> Result<i32> {
    let (mut deleted, mut outcome) = (Vec::new(), Outcome::default());
    for some in ids.chunks(BATCH) {
        let request = wire::BatchDeleteEntryRequest { ids: some.to_vec() };
        let answer = client.batch_delete_entry(request).await.map_err(admin_client::status)?.into_inner();
        for result in answer.results {
            match admin_client::row(result.status.as_ref()) {
                None => deleted.push(Value::from(result.id)),
                Some(why) => outcome.failed(result.id, why),
            }
        }
    }
    let remark = format!("deleted {}", counted(deleted.len()));
    ctx.out.done(&json!({ "deleted": deleted, "failed": outcome.rows() }), remark)?;
    outcome.finish(ctx)
}

/// What became of a batch, row by row.
#[derive(Default)]
struct Outcome {
    failures: Vec<(String, CliError)>,
}

impl Outcome {
    fn failed(&mut self, which: impl Into<String>, why: CliError) {
        self.failures.push((which.into(), why));
    }
    fn rows(&self) -> Vec<Value> {
        self.failures.iter().map(|(which, why)| json!({ "entry": which, "why": why.to_string() })).collect()
    }
    /// The exit status: that of the first failure. Each is said, up to twenty.
    fn finish(mut self, ctx: &Ctx) -> Result<i32> {
        if self.failures.is_empty() {
            return Ok(DONE);
        }
        let count = self.failures.len();
        let (which, first) = self.failures.remove(0);
        if count == 1 {
            return Err(first.at(which));
        }
        ctx.out.warn(format!("{which}: {first}"));
        for (which, why) in self.failures.iter().take(19) {
            ctx.out.warn(format!("{which}: {why}"));
        }
        Err(CliError::failed(format!("{} failed, see above", counted(count))).with_exit(first.exit()))
    }
}

fn counted(n: usize) -> String {
    if n == 1 { "1 entry".into() } else { format!("{n} entries") }
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("id", "id").whole(),
        Column::field("spiffe id", "spiffe_id").whole(),
        Column::new("selectors", view::selector_text),
        Column::field("parent", "parent_id"),
    ]
}

fn card() -> Vec<Column> {
    vec![
        Column::field("id", "id"),
        Column::field("spiffe id", "spiffe_id"),
        Column::field("parent id", "parent_id"),
        Column::new("selectors", view::selector_text),
        Column::new("x509 svid ttl", |v| or_default(v, "x509_svid_ttl")),
        Column::new("jwt svid ttl", |v| or_default(v, "jwt_svid_ttl")),
        Column::field("dns names", "dns_names"),
        Column::field("federates with", "federates_with"),
        Column::field("hint", "hint"),
        Column::field("admin", "admin"),
        Column::field("downstream", "downstream"),
        Column::time("expires", "expires_at"),
        Column::field("revision", "revision_number"),
        Column::time("created", "created_at"),
    ]
}

fn or_default(row: &Value, field: &str) -> String {
    row.get(field).and_then(Value::as_str).unwrap_or("the server's default").to_string()
}
