//! `errand apply -f DIR`: targets, policies and entries as files. Shows the difference, then makes it so.
//!
//! Decides how files become what a server compares; what differs, and what may be deleted, is the server's.

mod diff;
mod read;

use super::{Ctx, confirm, entry, rows};
use crate::{
    DONE,
    error::{CliError, Exit, Result},
    output::value::text,
};
use proto_types::{Entry, id::parse_trust_domain};
use proto_wire::convert::entry_in;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(
    about = "Make targets, policies and entries what a directory of files says",
    long_about = "Makes targets, policies and registration entries what a directory of files says: shows the difference, \
        then makes it so. Applied again it changes nothing.\n\nNothing is deleted without --prune, and with it only what \
        `errand apply` made: a server has one such directory.",
    after_help = "FILES\n  NAME.cedar   a policy set, applied as NAME\n  *.toml       [[target]] tables as for `errand target \
        apply`, and [[entry]] tables:\n\n  [[entry]]\n  name = \"reports\"                # its id will be apply.reports\n  \
        spiffe_id = \"spiffe://example.org/reports\"\n  selectors = [\"unix:user:reports\"]\n  parent_id = \
        \"spiffe://example.org/node\"   # may be left out with one agent\n\n  and x509_svid_ttl, jwt_svid_ttl, dns_names, \
        federates_with, hint, admin,\n  downstream, expires_at as in `errand entry create --data`.\n\nEXAMPLES\n  \
        errand apply -f house/ --dry-run\n  errand apply -f house/\n  errand apply -f house/ --prune --yes --output json"
)]
pub struct ApplyArgs {
    /// The directory, or one file; files whose names end otherwise are not read
    #[arg(short = 'f', long, value_name = "DIR")]
    file: PathBuf,
    /// Show the difference and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Delete what `errand apply` made and the directory does not have
    #[arg(long)]
    prune: bool,
    /// Delete without asking
    #[arg(long)]
    yes: bool,
}

pub async fn run(args: ApplyArgs, ctx: &Ctx) -> Result<i32> {
    let files = read::read(&args.file)?;
    let admin = ctx.admin()?;
    let refused = |e: CliError| match e.exit() == Exit::Failed && e.is_invalid() {
        true => e.with_exit(Exit::Config).at(args.file.display()),
        false => e,
    };
    let entries = entries(files.entries, ctx).await?;
    let mut document = json!({
        "targets": files.targets,
        "policies": files.policies,
        "entries": entries,
        "prune": args.prune,
        "dry_run": true,
    });
    let plan = admin.post("/v1/apply", &document).await.map_err(refused)?;
    if args.dry_run {
        show(&plan, ctx)?;
        return Ok(DONE);
    }
    if !ctx.out.is_json() {
        show(&plan, ctx)?;
    }
    let doomed = rows(&plan, "changes").iter().filter(|c| text(c, "change") == "delete").count();
    if doomed > 0 && !args.yes {
        confirm(&format!("Delete {doomed} of what was applied before?"), "--yes")?;
    }
    document["dry_run"] = json!(false);
    let done = admin.post("/v1/apply", &document).await.map_err(refused)?;
    let count = rows(&done, "changes").len();
    ctx.out.done(&done, format!("applied: {count} changed, {} as they were", text(&done, "unchanged")))?;
    Ok(DONE)
}

/// Entries as the server has them; one without a parent takes the only agent there is.
async fn entries(wanted: Vec<proto_wire::spire::api::types::Entry>, ctx: &Ctx) -> Result<Vec<Entry>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let about = ctx.admin()?.get("/v1/server", &crate::admin_client::Query::default()).await?;
    let trust_domain = parse_trust_domain(&text(&about, "trust_domain"))
        .map_err(|e| CliError::failed(format!("the server's answer cannot be used: {e}")))?;
    let parent = match wanted.iter().any(|e| e.parent_id.is_none()) {
        true => Some(entry::only_agent(ctx).await?),
        false => None,
    };
    let whole = |mut e: proto_wire::spire::api::types::Entry| {
        e.parent_id = e.parent_id.or_else(|| parent.clone());
        let name = e.id.clone();
        entry_in(&e, &trust_domain, String::new)
            .map_err(|why| CliError::config(format!("entry `{name}`: {why}")).hint("nothing was changed"))
    };
    wanted.into_iter().map(whole).collect()
}

fn show(plan: &Value, ctx: &Ctx) -> Result<()> {
    if ctx.out.is_json() {
        return ctx.out.json(plan);
    }
    let changes = rows(plan, "changes");
    let mut out: String = changes.iter().map(|c| diff::change(c, ctx.out.style)).collect();
    if changes.is_empty() {
        out = format!("nothing differs ({} compared)\n", text(plan, "unchanged"));
    }
    ctx.out.text(&out)
}
