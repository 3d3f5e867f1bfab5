//! `errand task`: the tasks that run, and those that ran.

mod end;
mod watch;

use super::{
    Ctx,
    args::{self, When},
};
use crate::{
    DONE,
    admin_client::{AdminClient, Paging, Query, encode},
    error::Result,
    output::{Column, value},
};
use serde_json::Value;

#[derive(Debug, clap::Args)]
#[command(
    about = "Tasks: what runs, for whom, with which grants",
    after_help = "EXAMPLES\n  errand task list --live\n  errand task show 0192f4c1-…\n  \
        errand task revoke --workload spiffe://example.org/planner"
)]
pub struct TaskCommand {
    #[command(subcommand)]
    verb: TaskVerb,
}

#[derive(Debug, clap::Subcommand)]
enum TaskVerb {
    /// List tasks, newest first
    #[command(after_help = "EXAMPLES\n  errand task list --live\n  errand task list --target orders-db --from 24h\n  \
        errand task list --user kim@example.org --all --output json")]
    List {
        /// Tasks that are not over
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one task with its grants and leases
    #[command(after_help = "EXAMPLES\n  errand task show 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4")]
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Follow one task until it is over
    ///
    /// Prints what happens in it as it happens; with `--output json` one journal record per line.
    #[command(after_help = "EXAMPLES\n  errand task watch 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4")]
    Watch {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// End a task because its work is done
    ///
    /// Its tokens are dead at once; its credentials are revoked in their targets.
    #[command(after_help = "EXAMPLES\n  errand task complete 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4")]
    Complete {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
    Revoke(end::RevokeArgs),
}

/// The filters that `list` and `revoke` share.
#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Of this workload; ID/* is every workload below ID
    #[arg(long, value_name = "ID", value_parser = args::workload)]
    workload: Option<String>,
    /// With a grant in this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// For this user
    #[arg(long, value_name = "SUBJECT")]
    user: Option<String>,
    /// On this node
    #[arg(long, value_name = "ID")]
    node: Option<String>,
    /// Started at or after this time, or within this long: 2026-11-21T08:00:00Z, 2h
    #[arg(long, value_name = "TIME", value_parser = args::when)]
    from: Option<When>,
    /// Started before this time, or longer ago than this
    #[arg(long, value_name = "TIME", value_parser = args::when)]
    to: Option<When>,
}

impl Filter {
    fn query(&self, ctx: &Ctx) -> Query {
        let now = ctx.clock.now();
        Query::default()
            .with("workload", self.workload.as_ref())
            .with("target", self.target.as_ref())
            .with("user", self.user.as_ref())
            .with("node", self.node.as_ref())
            .with("from", self.from.map(|w| w.resolve(now)))
            .with("to", self.to.map(|w| w.resolve(now)))
    }
    fn is_empty(&self) -> bool {
        [&self.workload, &self.target, &self.user, &self.node].iter().all(|f| f.is_none())
            && self.from.is_none()
            && self.to.is_none()
    }
}

pub async fn run(command: TaskCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        TaskVerb::List { live, filter, paging } => {
            let query = filter.query(ctx).with("live", live.then_some(true));
            let (rows, next) = ctx.admin()?.list("/v1/tasks", "tasks", &query, paging).await?;
            ctx.out.list("tasks", &rows, next.as_ref(), &columns())?;
            Ok(DONE)
        }
        TaskVerb::Show { id } => {
            let task = get(&ctx.admin()?, &id).await?;
            ctx.out.one(&task, &fields())?;
            let leases = super::rows(&task, "leases");
            // A lease may be told by its id alone; then there is nothing to lay out.
            if !ctx.out.is_json() && leases.iter().any(Value::is_object) {
                ctx.out.text("\n")?;
                ctx.out.list("leases", &leases, None, &super::lease::columns())?;
            }
            Ok(DONE)
        }
        TaskVerb::Watch { id } => watch::run(&ctx.admin()?, &id, ctx).await,
        TaskVerb::Complete { ids } => end::complete(&ctx.admin()?, &ids, ctx).await,
        TaskVerb::Revoke(args) => end::revoke(args, ctx).await,
    }
}

fn path(id: &str) -> String {
    format!("/v1/tasks/{}", encode(id))
}

async fn get(admin: &AdminClient, id: &str) -> Result<Value> {
    admin.get(&path(id), &Query::default()).await
}

/// `target/role` of each grant.
fn grants(task: &Value) -> String {
    let list = task.get("grants").and_then(Value::as_array).filter(|l| !l.is_empty());
    list.map_or_else(|| "-".into(), |l| l.iter().map(grant).collect::<Vec<_>>().join(", "))
}

fn grant(grant: &Value) -> String {
    if grant.is_object() { value::role(grant) } else { value::plain(grant) }
}

/// The state, and why it ended when it did.
fn state(task: &Value) -> String {
    match (value::text(task, "state"), value::text(task, "end_reason")) {
        (state, reason) if reason == "-" => state,
        (state, reason) => format!("{state} ({reason})"),
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("id", "id").whole(),
        Column::new("state", state),
        Column::field("workload", "workload"),
        Column::new("grants", grants),
        Column::time("started", "started_at"),
        Column::time("ends", "ends_at"),
        Column::field("intent", "intent"),
    ]
}

fn fields() -> Vec<Column> {
    vec![
        Column::field("id", "id"),
        Column::new("state", state),
        Column::field("workload", "workload"),
        Column::field("user", "user"),
        Column::field("intent", "intent"),
        Column::new("grants", grants),
        Column::field("parent", "parent"),
        Column::field("node", "node"),
        Column::time("started", "started_at"),
        Column::time("ends", "ends_at"),
        Column::time("ended", "ended_at"),
    ]
}

/// Nothing more happens to it.
fn is_over(task: &Value) -> bool {
    matches!(value::text(task, "state").as_str(), "ended" | "denied")
}
