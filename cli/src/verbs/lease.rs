//! `errand lease`: the credentials that are alive in targets, and those that were.

use super::Ctx;
use crate::{
    DONE,
    admin_client::{Paging, Query, encode},
    error::Result,
    output::{Column, value},
};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(
    about = "Leases: the credentials alive in targets",
    after_help = "EXAMPLES\n  errand lease list --live --target orders-db\n  errand lease revoke 0192f4c1-…"
)]
pub struct LeaseCommand {
    #[command(subcommand)]
    verb: LeaseVerb,
}

#[derive(Debug, clap::Subcommand)]
enum LeaseVerb {
    /// List leases, newest first
    #[command(
        after_help = "EXAMPLES\n  errand lease list --live\n  errand lease list --target orders-db --all --output json"
    )]
    List {
        /// Leases whose credential may still work
        #[arg(long)]
        live: bool,
        /// Of this task
        #[arg(long, value_name = "ID")]
        task: Option<String>,
        /// Of this workload
        #[arg(long, value_name = "ID")]
        workload: Option<String>,
        /// In this target
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one lease
    #[command(after_help = "EXAMPLES\n  errand lease show 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4")]
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Revoke one credential in its target; its task goes on without it
    #[command(after_help = "EXAMPLES\n  errand lease revoke 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4")]
    Revoke {
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

pub async fn run(command: LeaseCommand, ctx: &Ctx) -> Result<i32> {
    let admin = ctx.admin()?;
    match command.verb {
        LeaseVerb::List { live, task, workload, target, paging } => {
            let query = Query::default()
                .with("live", live.then_some(true))
                .with("task", task)
                .with("workload", workload)
                .with("target", target);
            let (rows, next) = admin.list("/v1/leases", "leases", &query, paging).await?;
            ctx.out.list("leases", &rows, next.as_ref(), &columns())?;
        }
        LeaseVerb::Show { id } => {
            let lease = admin.get(&format!("/v1/leases/{}", encode(&id)), &Query::default()).await?;
            ctx.out.one(&lease, &fields())?;
        }
        LeaseVerb::Revoke { ids } => {
            for id in ids {
                let lease = admin.post(&format!("/v1/leases/{}/revoke", encode(&id)), &json!({})).await?;
                ctx.out.done(&lease, told(&id, &lease))?;
            }
        }
    }
    Ok(DONE)
}

/// What became of it: revoking is only over when the target said so.
fn told(id: &str, lease: &Value) -> String {
    match value::text(lease, "state").as_str() {
        "lingering" => {
            let until = value::time(lease, "expires_at");
            format!("{id}: its target cannot end it early; it works until {until} and is not renewed")
        }
        "revoking" => format!("{id}: being revoked; the server tries until its target confirms"),
        "-" => format!("{id}: revoked"),
        state => format!("{id}: {state}"),
    }
}

pub(super) fn columns() -> Vec<Column> {
    vec![
        Column::field("id", "id").whole(),
        Column::field("state", "state"),
        Column::new("role", value::role),
        Column::field("name", "name").whole(),
        Column::time("expires", "expires_at"),
    ]
}

fn fields() -> Vec<Column> {
    let mut fields = columns();
    fields.extend([
        Column::field("task", "task_id"),
        Column::field("workload", "workload"),
        Column::field("revocability", "revocability"),
        Column::time("issued", "issued_at"),
        Column::time("revoked", "revoked_at"),
        Column::field("last error", "last_error"),
    ]);
    fields
}
