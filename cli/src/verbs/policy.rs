//! `errand policy`: Cedar policy sets, applied under a name.

mod explain;

use super::Ctx;
use crate::{
    DONE,
    admin_client::{Query, encode},
    error::{CliError, Exit, Result, read_text},
    output::{Column, style::clean, value},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const MAX_FILE: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    about = "Policies: which workload may have which role",
    after_help = "EXAMPLES\n  errand policy check -f orders.cedar\n  errand policy apply -f orders.cedar\n  \
        errand policy who-can orders-db/writer"
)]
pub struct PolicyCommand {
    #[command(subcommand)]
    verb: PolicyVerb,
}

#[derive(Debug, clap::Subcommand)]
enum PolicyVerb {
    /// Apply a policy set: from now on it decides
    ///
    /// A set that does not compile changes nothing.
    #[command(
        after_help = "EXAMPLES\n  errand policy apply -f orders.cedar\n  errand policy apply -f - --id orders < orders.cedar"
    )]
    Apply(File),
    /// Say what is wrong with a policy set, and apply nothing
    #[command(after_help = "EXAMPLES\n  errand policy check -f orders.cedar")]
    Check(File),
    /// Show the applied policy sets, or the text of one
    #[command(after_help = "EXAMPLES\n  errand policy show\n  errand policy show orders > orders.cedar")]
    Show {
        #[arg(value_name = "NAME")]
        id: Option<String>,
    },
    Explain(Box<explain::ExplainArgs>),
    WhoCan(explain::WhoCanArgs),
    /// Delete a policy set: what only it permitted is denied from now on
    #[command(after_help = "EXAMPLES\n  errand policy delete orders")]
    Delete {
        #[arg(value_name = "NAME")]
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct File {
    /// The policies, Cedar; `-` reads standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    /// The name it is applied under [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
}

impl File {
    fn document(&self) -> Result<Value> {
        let stem = self.file.file_stem().map(|s| s.to_string_lossy().into_owned()).filter(|s| s != "-");
        let id = self.id.clone().or(stem).ok_or_else(|| {
            CliError::usage("a policy set from standard input needs a name").hint("name it with --id NAME")
        })?;
        if !proto_types::target::is_name(&id) {
            let got = proto_types::id::excerpt(&id);
            return Err(CliError::usage(format!("`{got}` is not a name: use a-z, 0-9, `-` and `_`, at most 63"))
                .hint("name it with --id NAME"));
        }
        Ok(json!({ "id": id, "text": read_text(&self.file, MAX_FILE)? }))
    }
}

pub async fn run(command: PolicyCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        PolicyVerb::Apply(file) => {
            let document = file.document()?;
            let applied = ctx.admin()?.post("/v1/policies", &document).await;
            let answer = applied.map_err(|e| super::unacceptable(e, &file.file))?;
            let text = |path| value::text(&answer, path);
            ctx.out.done(&answer, format!("{} {}, revision {}", text("change"), text("id"), text("revision")))?;
            Ok(DONE)
        }
        PolicyVerb::Check(file) => {
            let answer = ctx.admin()?.post("/v1/policies/check", &file.document()?).await?;
            check(&answer, &file.file, ctx)
        }
        PolicyVerb::Show { id } => {
            let answer = ctx.admin()?.get("/v1/policies", &Query::default()).await?;
            show(&super::rows(&answer, "policies"), id, ctx)
        }
        PolicyVerb::Explain(args) => explain::explain(&args, ctx).await,
        PolicyVerb::WhoCan(args) => explain::who_can(args, ctx).await,
        PolicyVerb::Delete { id } => {
            ctx.admin()?.delete(&format!("/v1/policies/{}", encode(&id))).await?;
            ctx.out.done(&json!({ "id": id, "change": "deleted" }), format!("deleted {id}"))?;
            Ok(DONE)
        }
    }
}

/// `FILE:LINE: policy: problem`, as compilers say it.
fn check(answer: &Value, file: &Path, ctx: &Ctx) -> Result<i32> {
    let problems = super::rows(answer, "problems");
    let status = if problems.is_empty() { DONE } else { Exit::Config as i32 };
    if ctx.out.is_json() {
        ctx.out.json(answer)?;
        return Ok(status);
    }
    if problems.is_empty() {
        ctx.out.note(format!("{}: nothing is wrong", file.display()));
    }
    for problem in &problems {
        let line = problem.get("line").and_then(Value::as_u64).map(|l| format!(":{l}")).unwrap_or_default();
        let (policy, what) = (value::text(problem, "policy"), value::text(problem, "problem"));
        ctx.out.text(&clean(&format!("{}{line}: {policy}: {what}\n", file.display())))?;
    }
    Ok(status)
}

fn show(policies: &[Value], id: Option<String>, ctx: &Ctx) -> Result<i32> {
    let Some(id) = id else {
        ctx.out.list(
            "policies",
            policies,
            None,
            &[
                Column::field("name", "id").whole(),
                Column::field("revision", "revision"),
                Column::field("origin", "origin"),
                Column::new("lines", |p| value::text(p, "text").lines().count().to_string()),
            ],
        )?;
        return Ok(DONE);
    };
    let one = policies.iter().find(|p| p.get("id").is_some_and(|i| *i == id)).ok_or_else(|| {
        CliError::failed(format!("there is no policy set `{}`", proto_types::id::excerpt(&id)))
            .hint("list them with `errand policy show`")
    })?;
    if ctx.out.is_json() {
        ctx.out.json(one)?;
    } else {
        let text = one.get("text").and_then(Value::as_str).unwrap_or_default();
        ctx.out.text(&format!("{}\n", text.trim_end()))?;
    }
    Ok(DONE)
}
