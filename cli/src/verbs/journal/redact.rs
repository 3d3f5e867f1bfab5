//! `errand journal redact`: which records are meant, asked about once, erased in batches.

use super::{Filter, Paging, args, args::When};
use crate::{
    DONE,
    error::{CliError, Result},
    verbs::{Ctx, confirm},
};
use serde_json::{Value, json};

/// Positions in one request: what the server takes at most.
const BATCH: usize = 500;

#[derive(Debug, clap::Args)]
pub struct RedactArgs {
    /// The records, by position
    #[arg(value_name = "POSITION")]
    positions: Vec<u64>,
    /// What to erase beside them; both when not given
    #[arg(long = "field", value_name = "FIELD", value_parser = ["user", "intent"])]
    fields: Vec<String>,
    /// Why: it is recorded, and may be redacted in its turn
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    filter: Filter,
    /// Written at or after this time, or within this long: 2026-11-21T08:00:00Z, 2h
    #[arg(long, value_name = "TIME", value_parser = args::when)]
    from: Option<When>,
    /// Written before this time, or longer ago than this
    #[arg(long, value_name = "TIME", value_parser = args::when)]
    to: Option<When>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub async fn run(mut args: RedactArgs, ctx: &Ctx) -> Result<i32> {
    if args.fields.is_empty() {
        args.fields = vec!["user".into(), "intent".into()];
    }
    let filtered = !args.filter.is_empty() || args.from.is_some() || args.to.is_some();
    let positions = match (args.positions.is_empty(), filtered) {
        (false, false) => std::mem::take(&mut args.positions),
        (true, true) => matching(&args, ctx).await?,
        _ => {
            return Err(CliError::usage("a redaction names its records by position, or by filters")
                .hint("give positions, or for example --user or --task"));
        }
    };
    if positions.is_empty() {
        return Err(CliError::failed("no record that matches holds any of these values; nothing was done")
            .hint("look with `errand journal search` and the same filters"));
    }
    if !args.yes {
        let what = args.fields.join(" and ");
        confirm(&format!("Erase {what} from {} for good?", records(positions.len())), "--yes")?;
    }
    let mut erased = Vec::new();
    let mut said = Vec::new();
    let admin = ctx.admin()?;
    for batch in positions.chunks(BATCH) {
        let asked = json!({ "positions": batch, "fields": args.fields, "reason": args.reason });
        let done = admin.post("/v1/journal/redact", &asked).await.map_err(|e| match erased.len() {
            0 => e,
            n => e.hint(format!("{} had been erased before this; run the same again for the rest", values(n))),
        })?;
        erased.extend(super::super::rows(&done, "redacted"));
        said.extend(done.get("position").and_then(Value::as_u64));
    }
    let told = format!("{} erased, recorded at {}", values(erased.len()), places(&said));
    ctx.out.done(&json!({ "redacted": erased, "records": said }), told)?;
    Ok(DONE)
}

/// Positions of the records that match and still hold one of the fields.
async fn matching(args: &RedactArgs, ctx: &Ctx) -> Result<Vec<u64>> {
    let query = args.filter.between(args.from, args.to, ctx);
    let everything = Paging { limit: BATCH, all: true };
    let (rows, _) = ctx.admin()?.list("/v1/journal", "records", &query, everything).await?;
    let holds = |record: &&Value| args.fields.iter().any(|f| record.get(f).is_some_and(Value::is_string));
    Ok(rows.iter().filter(holds).filter_map(|r| r.get("position").and_then(Value::as_u64)).collect())
}

fn records(n: usize) -> String {
    if n == 1 { "1 record".into() } else { format!("{n} records") }
}

fn values(n: usize) -> String {
    if n == 1 { "1 value".into() } else { format!("{n} values") }
}

fn places(positions: &[u64]) -> String {
    let all: Vec<String> = positions.iter().map(u64::to_string).collect();
    format!("position{} {}", if all.len() == 1 { "" } else { "s" }, all.join(", "))
}
