//! `errand task complete` and `revoke`.

use super::{Filter, columns, path};
use crate::{
    DONE,
    admin_client::{AdminClient, Paging},
    error::{CliError, Result},
    output::value,
    verbs::{Ctx, confirm},
};
use serde_json::{Value, json};

#[derive(Debug, clap::Args)]
#[command(
    about = "End tasks at once, by their ids or everything that matches",
    long_about = "Ends tasks at once, by their ids or everything live that matches the filters: their tokens are dead at \
        once, their credentials are revoked in their targets, and so are those of their children.\n\nWith filters it \
        shows what it found and asks first; --yes does not ask.",
    after_help = "EXAMPLES\n  errand task revoke 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4\n  \
        errand task revoke --workload spiffe://example.org/planner --from 2h\n  errand task revoke --target orders-db --yes"
)]
pub struct RevokeArgs {
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every task that lives
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn complete(admin: &AdminClient, ids: &[String], ctx: &Ctx) -> Result<i32> {
    end(admin, ids, "complete", ctx).await
}

pub async fn revoke(args: RevokeArgs, ctx: &Ctx) -> Result<i32> {
    match (args.ids.is_empty(), args.filter.is_empty() && !args.all) {
        (true, true) => {
            Err(CliError::usage("nothing is named").hint("give task ids, filters such as --workload ID, or --all"))
        }
        (false, false) => Err(CliError::usage("give task ids or filters, not both")),
        (false, true) => end(&ctx.admin()?, &args.ids, "revoke", ctx).await,
        (true, false) => {
            let admin = ctx.admin()?;
            let query = args.filter.query(ctx).with("live", Some(true));
            let everything = Paging { limit: usize::MAX, all: true };
            let (tasks, _) = admin.list("/v1/tasks", "tasks", &query, everything).await?;
            if tasks.is_empty() {
                ctx.out.list("tasks", &tasks, None, &columns())?;
                return Ok(DONE);
            }
            if !args.yes {
                ctx.out.aside(&tasks, &columns());
                confirm(&format!("End {} now?", counted(tasks.len())), "--yes")?;
            }
            let ids: Vec<_> = tasks.iter().map(|t| value::text(t, "id")).collect();
            end(&admin, &ids, "revoke", ctx).await
        }
    }
}

fn counted(n: usize) -> String {
    if n == 1 { "1 task".into() } else { format!("{n} tasks") }
}

/// Ends each; one that fails does not spare the others.
async fn end(admin: &AdminClient, ids: &[String], how: &str, ctx: &Ctx) -> Result<i32> {
    let (mut ended, mut failures) = (Vec::new(), Vec::new());
    for id in ids {
        match admin.post(&format!("{}/{how}", path(id)), &json!({})).await {
            Ok(task) => {
                if !ctx.out.is_json() {
                    ctx.out.note(format!("{id}: {}", super::state(&task)));
                }
                ended.push(task);
            }
            Err(error) => failures.push((id, error)),
        }
    }
    if ctx.out.is_json() {
        match ended.as_slice() {
            [one] if ids.len() == 1 => ctx.out.json(one)?,
            all => ctx.out.json(&json!({ "tasks": Value::from(all.to_vec()) }))?,
        }
    }
    let mut failures = failures.into_iter();
    let Some((_, first)) = failures.next() else { return Ok(DONE) };
    for (id, error) in failures {
        ctx.out.warn(format!("{id}: {error}"));
    }
    Err(first)
}
