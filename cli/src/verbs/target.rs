//! `errand target`: downstream systems and their roles.

use super::Ctx;
use crate::{
    DONE,
    admin_client::{Query, encode},
    error::{CliError, Exit, Result, read_text},
    output::{Column, style::Style},
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// A declaration is text that people write.
const MAX_FILE: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    about = "Targets: the systems that accept short-lived credentials, and their roles",
    after_help = "EXAMPLES\n  errand target apply -f targets.toml\n  errand target check orders-db\n  \
        errand target show orders-db --setup | psql orders"
)]
pub struct TargetCommand {
    #[command(subcommand)]
    verb: TargetVerb,
}

#[derive(Debug, clap::Subcommand)]
enum TargetVerb {
    /// Declare targets from a file: creates what is new, changes what differs
    ///
    /// The file holds [[target]] tables. A target that the server's configuration declares cannot be changed here.
    #[command(
        after_help = "EXAMPLES\n  errand target apply -f targets.toml\n  errand target apply -f - < targets.toml"
    )]
    Apply {
        /// The declaration, TOML; `-` reads standard input
        #[arg(short = 'f', long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List targets, those of the configuration and those applied
    #[command(after_help = "EXAMPLES\n  errand target list\n  errand target list --output json")]
    List,
    /// Show one target, or the statements for its own side
    #[command(
        after_help = "EXAMPLES\n  errand target show orders-db\n  errand target show orders-db --setup | psql orders\n  \
        errand target show orders-db --by-hand > when-the-server-is-down.sql"
    )]
    Show {
        #[arg(value_name = "NAME")]
        name: String,
        /// What must be set up in the target itself
        #[arg(long, conflicts_with = "by_hand")]
        setup: bool,
        /// The statements that find and drop everything of ours while the server is down
        #[arg(long)]
        by_hand: bool,
    },
    /// Connect to a target, test the rights that are needed, and say what is missing
    ///
    /// Exits 1 when issuing or revoking would fail.
    #[command(after_help = "EXAMPLES\n  errand target check orders-db")]
    Check {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete an applied target; refused while credentials of it are alive
    #[command(after_help = "EXAMPLES\n  errand target delete orders-db")]
    Delete {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub async fn run(command: TargetCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        TargetVerb::Apply { file } => apply(file, ctx).await,
        TargetVerb::List => {
            let answer = ctx.admin()?.get("/v1/targets", &Query::default()).await?;
            let rows = super::rows(&answer, "targets");
            ctx.out.list("targets", &rows, None, &columns())?;
            Ok(DONE)
        }
        TargetVerb::Show { name, setup, by_hand } => show(&name, setup, by_hand, ctx).await,
        TargetVerb::Check { name } => check(&name, ctx).await,
        TargetVerb::Delete { name } => {
            ctx.admin()?.delete(&path(&name)).await?;
            ctx.out.done(&json!({ "name": name, "change": "deleted" }), format!("deleted {name}"))?;
            Ok(DONE)
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/targets/{}", encode(name))
}

async fn apply(file: PathBuf, ctx: &Ctx) -> Result<i32> {
    let text = read_text(&file, MAX_FILE)?;
    let applied = ctx.admin()?.post("/v1/targets", &json!({ "text": text })).await;
    let answer = applied.map_err(|e| super::unacceptable(e, &file))?;
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
    } else {
        ctx.out.list(
            "applied",
            &super::rows(&answer, "applied"),
            None,
            &[Column::field("name", "name"), Column::field("change", "change")],
        )?;
    }
    Ok(DONE)
}

async fn show(name: &str, setup: bool, by_hand: bool, ctx: &Ctx) -> Result<i32> {
    let admin = ctx.admin()?;
    if !setup && !by_hand {
        let target = admin.get(&path(name), &Query::default()).await?;
        ctx.out.one(&target, &fields())?;
        return Ok(DONE);
    }
    let answer = admin.get(&format!("{}/setup", path(name)), &Query::default()).await?;
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
        return Ok(DONE);
    }
    let which = if setup { "setup" } else { "by_hand" };
    match answer.get(which).and_then(Value::as_str) {
        Some(text) => {
            let end = if text.ends_with('\n') { "" } else { "\n" };
            ctx.out.text(&format!("{text}{end}"))?;
            Ok(DONE)
        }
        None => Err(CliError::failed(format!("there are no such statements for `{name}`"))
            .hint("its kind needs nothing on the target's side, or keeps nothing there")),
    }
}

async fn check(name: &str, ctx: &Ctx) -> Result<i32> {
    let answer = ctx.admin()?.post(&format!("{}/check", path(name)), &json!({})).await?;
    let findings = super::rows(&answer, "findings");
    let broken = findings.iter().any(|f| f.get("severity").is_some_and(|s| s == "error"));
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
    } else if findings.is_empty() {
        ctx.out.note(format!("{name}: nothing is missing"));
    } else {
        ctx.out.text(&story(&findings, ctx.out.style))?;
    }
    // The findings are the message; a second one would only repeat them.
    Ok(if broken { Exit::Failed as i32 } else { DONE })
}

/// Findings are sentences and statements: a table would break both.
fn story(findings: &[Value], style: Style) -> String {
    use crate::output::{style::clean, value::text};
    let mut out = String::new();
    for finding in findings {
        let severity = text(finding, "severity");
        let head = format!("{severity}:");
        let head = if severity == "error" { style.error(&head) } else { style.warning(&head) };
        out.push_str(&format!("{head} {}\n", clean(&text(finding, "what"))));
        if let Some(fix) = finding.get("fix").and_then(Value::as_str) {
            out.push_str(&format!("  {} {}\n", style.faint("fix:"), clean(fix).trim_end().replace('\n', "\n       ")));
        }
    }
    out
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("name", "name").whole(),
        Column::field("kind", "kind"),
        Column::new("roles", roles),
        Column::field("origin", "origin"),
        Column::field("revision", "revision"),
        Column::new("state", |t| if t.get("retired").is_some_and(|r| r == true) { "retired" } else { "live" }.into()),
    ]
}

fn fields() -> Vec<Column> {
    let mut fields = columns();
    fields.push(Column::field("declared as", "body"));
    fields
}

/// The names of a target's roles, whether the answer lists names or whole roles.
fn roles(target: &Value) -> String {
    let name = |role: &Value| crate::output::value::plain(role.get("name").unwrap_or(role));
    let list = target.get("roles").and_then(Value::as_array);
    list.map_or_else(|| "-".into(), |l| l.iter().map(name).collect::<Vec<_>>().join(", "))
}
