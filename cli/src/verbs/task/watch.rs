//! `errand task watch`: the journal's records of one task, until it is over. Nothing is polled.

use super::{get, is_over, state};
use crate::{
    DONE,
    admin_client::{AdminClient, Query},
    error::{CliError, Result},
    output::value,
    verbs::{Ctx, journal},
};
use serde_json::Value;

pub async fn run(admin: &AdminClient, id: &str, ctx: &Ctx) -> Result<i32> {
    // The journal's size first: what happens while the task is read is then seen in the tail.
    let root = admin.get("/v1/journal/root", &Query::default()).await?;
    let task = get(admin, id).await?;
    if !ctx.out.is_json() {
        ctx.out.note(format!("{id}: {}", state(&task)));
    }
    if is_over(&task) {
        return finish(&task, ctx);
    }
    let from = root.get("size").and_then(Value::as_u64).unwrap_or_default();
    let query = Query::default().with("from", Some(from)).with("follow", Some(true));
    let mut lines = admin.lines("/v1/journal/tail", &query).await?;
    while let Some(line) = lines.next().await? {
        let record = journal::record(&line)?;
        if value::text(&record, "task_id") != id {
            continue;
        }
        journal::print(&record, ctx)?;
        // Other records of a task never end it; asking after each would only slow the stream.
        if matches!(value::text(&record, "kind").as_str(), "task.ended" | "task.denied") {
            return finish(&get(admin, id).await?, ctx);
        }
    }
    Err(CliError::unreachable("the server ended the stream before the task was over")
        .hint(format!("start `errand task watch {id}` again")))
}

fn finish(task: &Value, ctx: &Ctx) -> Result<i32> {
    if ctx.out.is_json() {
        // One line like the records before it, so that a reader takes the stream line by line.
        ctx.out.text(&format!("{task}\n"))?;
    } else {
        ctx.out.note(format!("{}: {}", value::text(task, "id"), state(task)));
    }
    Ok(DONE)
}
