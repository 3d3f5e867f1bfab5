//! `errand policy explain` and `who-can`: which policy decides and why, and every path to a role.

use crate::{
    DONE,
    admin_client::{Paging, Query},
    error::{Exit, Result},
    output::{
        Column,
        style::{Style, clean},
        value,
    },
    verbs::{Ctx, args, rows},
};
use proto_types::{RoleName, Selector, SpiffeId, format_duration};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(
    about = "Say what policy would answer, which policies decide, and why",
    long_about = "Says what policy would answer, which policies decide, and why. Nothing is started or recorded.\n\nWhat \
        is not said is taken from the workload's entry: its selectors, the uid among them, and the first node that is \
        entitled to it; the answer shows it. Exits 0 when everything is permitted, 77 when something is denied or on hold.",
    after_help = "EXAMPLES\n  errand policy explain --workload spiffe://example.org/reports --grant orders-db/readonly\n  \
        errand policy explain --workload spiffe://example.org/reports --grant orders-db/writer --action exchange \
        --intent 'close the books'"
)]
pub struct ExplainArgs {
    /// Who would ask
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    workload: SpiffeId,
    /// A role that would be asked for; none asks about a task as such
    #[arg(long, value_name = "TARGET/ROLE", value_parser = args::role)]
    grant: Vec<RoleName>,
    /// At the start of the task or at the exchange [default: both]
    #[arg(long, value_name = "ACTION", value_parser = ["start_task", "exchange"])]
    action: Option<String>,
    /// The stated purpose
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// How long the task, or the credential, is to live
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    ttl: Option<Duration>,
    /// For whom: a hold on this user counts
    #[arg(long, value_name = "SUBJECT")]
    user: Option<String>,
    /// On which node
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    node: Option<SpiffeId>,
    /// As which uid
    #[arg(long, value_name = "N")]
    uid: Option<u32>,
    /// Attested of the process, instead of the entry's
    #[arg(long, value_name = "TYPE:VALUE", value_parser = args::selector)]
    selector: Vec<Selector>,
    /// The workload of the parent task
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    parent: Option<SpiffeId>,
}

impl ExplainArgs {
    fn document(&self) -> Value {
        let text = |list: Vec<String>| (!list.is_empty()).then_some(list);
        json!({
            "workload": self.workload.to_string(),
            "grants": self.grant,
            "action": self.action,
            "intent": self.intent.clone().unwrap_or_default(),
            "ttl": self.ttl.map(format_duration),
            "user": self.user,
            "node": self.node.as_ref().map(ToString::to_string),
            "uid": self.uid,
            "selectors": text(self.selector.iter().map(ToString::to_string).collect()),
            "parent": self.parent.as_ref().map(ToString::to_string),
        })
    }
}

pub async fn explain(args: &ExplainArgs, ctx: &Ctx) -> Result<i32> {
    let answer = ctx.admin()?.post("/v1/policies/explain", &args.document()).await?;
    let answers = rows(&answer, "answers");
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
    } else {
        let told: Vec<_> = answers.iter().map(|a| story(a, ctx.out.style)).collect();
        ctx.out.text(&told.join("\n"))?;
    }
    let permitted = answers.iter().all(|a| value::text(a, "outcome") == "permit");
    Ok(if permitted { DONE } else { Exit::Denied as i32 })
}

/// The outcome first, then why, then the policies as they are written.
fn story(answer: &Value, style: Style) -> String {
    let text = |path: &str| clean(&value::text(answer, path));
    let outcome = match text("outcome").as_str() {
        "permit" => style.good("permit"),
        other => style.error(other),
    };
    let role = Some(text("role")).filter(|r| r != "-").unwrap_or_else(|| "a task as such".into());
    let mut out = format!("{outcome} {} {role}: {}\n", text("action"), text("why"));
    let mut line = |name: &str, said: String| {
        if said != "-" && !said.is_empty() {
            out.push_str(&format!("  {} {said}\n", style.faint(&format!("{name}:"))));
        }
    };
    line("at most", text("max_ttl"));
    line("on hold", text("hold"));
    let assumed = answer.get("assumed").cloned().unwrap_or_default();
    let of = |path: &str| clean(&value::text(&assumed, path));
    line("asked as", format!("uid {} on {}, {} for {}", of("uid"), of("node"), of("selectors"), of("ttl")));
    for policy in rows(answer, "policies") {
        let of = |path: &str| clean(&value::text(&policy, path));
        out.push_str(&format!("  {} {} in {}", of("effect"), of("id"), of("document")));
        let description = of("description");
        out.push_str(&if description == "-" { "\n".into() } else { format!(": {description}\n") });
        let source = policy.get("text").and_then(Value::as_str).unwrap_or_default();
        for line in source.lines() {
            out.push_str(&format!("    {}\n", clean(line)));
        }
    }
    out
}

#[derive(Debug, clap::Args)]
#[command(
    about = "List every path to a role: workload, entry, node, and the policies that permit it",
    long_about = "Lists every path to a role: each registration entry, on each node that is entitled to it, whose workload \
        may start a task with the role and exchange for it, with the policies that permit both.\n\nPolicy is asked as for \
        a task without parent, with the entry's selectors. Policies that look at the intent or the length are asked \
        about what --intent and --ttl say.",
    after_help = "EXAMPLES\n  errand policy who-can orders-db/writer\n  \
        errand policy who-can orders-db/writer --all --output json"
)]
pub struct WhoCanArgs {
    #[arg(value_name = "TARGET/ROLE", value_parser = args::role)]
    role: RoleName,
    /// The stated purpose [default: none]
    #[arg(long, value_name = "TEXT")]
    intent: Option<String>,
    /// How long the task is to live [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    paging: Paging,
}

pub async fn who_can(args: WhoCanArgs, ctx: &Ctx) -> Result<i32> {
    let query = Query::default()
        .with("role", Some(args.role))
        .with("intent", args.intent)
        .with("ttl", args.ttl.map(format_duration));
    let (paths, next) = ctx.admin()?.list("/v1/policies/who-can", "paths", &query, args.paging).await?;
    ctx.out.list("paths", &paths, next.as_ref(), &columns())?;
    Ok(DONE)
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("workload", "workload").whole(),
        Column::field("policies", "policies"),
        Column::field("at most", "max_ttl"),
        Column::new("on hold", |p| if value::text(p, "hold") == "-" { "no" } else { "yes" }.into()),
        Column::field("node", "node"),
        Column::field("selectors", "selectors"),
        Column::field("entry", "entry_id"),
    ]
}
