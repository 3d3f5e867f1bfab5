//! `errand hold`: stopping a workload, a user, a target, a node or everything, and letting it go on.

use super::{Ctx, args, confirm};
use crate::{
    DONE,
    admin_client::{Query, encode},
    error::Result,
    output::{Column, value},
};
use proto_types::{SpiffeId, hold};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(
    about = "Holds: stop a workload, user, target or node until it is released",
    long_about = "Holds stop a workload, a user, a target, a node or everything, until they are released.\n\nA hold ends \
        the tasks it matches with everything they were given, and refuses what is new: tasks, token exchanges, SVIDs. \
        Agents withdraw the SVIDs they serve within a second. Entries, policies and targets stay as they are.",
    after_help = "EXAMPLES\n  errand hold create --workload spiffe://example.org/planner --reason 'odd queries'\n  \
        errand hold list\n  errand hold release 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4"
)]
pub struct HoldCommand {
    #[command(subcommand)]
    verb: HoldVerb,
}

#[derive(Debug, clap::Subcommand)]
enum HoldVerb {
    /// End what matches and refuse what is new, until released
    ///
    /// Answers when every matching task was ended; their credentials are revoked in their targets from then on.
    #[command(after_help = "EXAMPLES\n  errand hold create --target orders-db --reason 'restoring a backup'\n  \
            errand hold create --workload 'spiffe://example.org/agents/*' --reason 'prompt injection in the wiki'\n  \
            errand hold create --all --yes --reason 'key material on a stolen laptop'")]
    Create(CreateArgs),
    /// List the holds that stand, oldest first
    #[command(after_help = "EXAMPLES\n  errand hold list\n  errand hold list --output json")]
    List,
    /// Lift a hold: new work may begin; what it ended stays ended
    #[command(after_help = "EXAMPLES\n  errand hold release 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4")]
    Release {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Why, for whoever releases it; those it stops are not told
    #[arg(long, value_name = "TEXT", value_parser = hold::reason)]
    reason: String,
    /// With --all: do not ask
    #[arg(long)]
    yes: bool,
}

/// What is stopped: exactly one.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ScopeArgs {
    /// One workload by its SPIFFE ID; ID/* is every workload below ID, and not ID itself
    #[arg(long, value_name = "ID", value_parser = args::workload)]
    workload: Option<String>,
    /// A user: every task that acts for them
    #[arg(long, value_name = "SUBJECT")]
    user: Option<String>,
    /// A target: every task with a grant in it
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// A node: every task and SVID of its agent
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    node: Option<SpiffeId>,
    /// Everything
    #[arg(long)]
    all: bool,
}

impl ScopeArgs {
    fn document(&self, reason: &str) -> Value {
        let mut document = json!({ "reason": reason });
        let node = self.node.as_ref().map(ToString::to_string);
        for (name, value) in
            [("workload", &self.workload), ("user", &self.user), ("target", &self.target), ("node", &node)]
        {
            if let Some(value) = value {
                document[name] = json!(value);
            }
        }
        if self.all {
            document["all"] = json!(true);
        }
        document
    }
}

pub async fn run(command: HoldCommand, ctx: &Ctx) -> Result<i32> {
    let admin = ctx.admin()?;
    match command.verb {
        HoldVerb::Create(args) => {
            if args.scope.all && !args.yes {
                confirm("End every task and refuse everything new?", "--yes")?;
            }
            let made = admin.post("/v1/holds", &args.scope.document(&args.reason)).await?;
            ctx.out.done(&made, told(&made))?;
        }
        HoldVerb::List => {
            let answer = admin.get("/v1/holds", &Query::default()).await?;
            ctx.out.list("holds", &super::rows(&answer, "holds"), None, &columns())?;
        }
        HoldVerb::Release { ids } => {
            for id in ids {
                let hold = admin.post(&format!("/v1/holds/{}/release", encode(&id)), &json!({})).await?;
                ctx.out.done(&hold, format!("{id}: released, {} may go on", stopped(&hold)))?;
            }
        }
    }
    Ok(DONE)
}

fn told(made: &Value) -> String {
    let text = |path| value::text(made, path);
    let ended = match text("ended_tasks").as_str() {
        "1" => "1 task ended".into(),
        n => format!("{n} tasks ended"),
    };
    let ending = match text("ending_tasks").as_str() {
        "0" | "-" => String::new(),
        n => format!(", {n} not yet: the server tries until they are"),
    };
    format!("{}: {} on hold, {ended}{ending}", text("id"), stopped(made))
}

/// `workload spiffe://…`, or `everything`.
fn stopped(hold: &Value) -> String {
    let part = |name| hold.pointer(&format!("/matches/{name}")).and_then(Value::as_str).unwrap_or_default();
    match (part("kind"), part("value")) {
        ("all", _) => "everything".into(),
        (kind, value) => format!("{kind} {value}"),
    }
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("id", "id").whole(),
        Column::new("stopped", stopped).whole(),
        Column::field("by", "operator"),
        Column::time("since", "created_at"),
        Column::field("reason", "reason"),
    ]
}
