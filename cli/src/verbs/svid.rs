//! `errand svid`: what a workload sees, over the Workload API. The agent answers for the calling process: what is
//! printed here is the identity of this shell, not of another process.

use super::{Ctx, args, files, view};
use crate::{
    DONE,
    agent_client::{AgentClient, ClientError, identity::split_der},
    error::{CliError, Result},
    output::{Column, value},
};
use proto_types::{SpiffeId, Timestamp};
use proto_wire::workload as wire;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use tonic::{Code, Status};
use x509_parser::prelude::{FromDer, X509Certificate};

mod jwt;

#[derive(Debug, clap::Args)]
#[command(
    about = "What this process gets from the Workload API",
    long_about = "What this process gets from the SPIFFE Workload API of the node's agent. The agent looks at the calling \
        process: run this as the user, unit or container whose identity you want to see.",
    after_help = "EXAMPLES\n  errand svid x509 --write ./id\n  \
        TOKEN=$(errand svid jwt --audience https://api.example.org)\n  \
        errand svid watch"
)]
pub struct SvidCommand {
    #[command(subcommand)]
    verb: SvidVerb,
}

#[derive(Debug, clap::Subcommand)]
enum SvidVerb {
    /// Show the X.509-SVIDs, or write one into a directory
    #[command(after_help = "EXAMPLES\n  errand svid x509\n  errand svid x509 --write ./id")]
    X509 {
        /// This identity only; without it the first is the one that is written
        #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
        spiffe_id: Option<SpiffeId>,
        /// Write svid.pem, key.pem and bundle.pem into this directory, readable by you only
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
    },
    /// Print a JWT-SVID
    #[command(after_help = "EXAMPLES\n  errand svid jwt --audience https://api.example.org\n  \
        errand svid jwt --audience a --audience b --spiffe-id spiffe://example.org/web")]
    Jwt {
        /// Who shall accept it; repeat it for several
        #[arg(long, value_name = "AUDIENCE", required = true)]
        audience: Vec<String>,
        /// Which of this process's identities [default: the first]
        #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
        spiffe_id: Option<SpiffeId>,
    },
    /// Print the bundles that verify others: this trust domain's and the federated ones
    #[command(after_help = "EXAMPLES\n  errand svid bundles > ca.pem\n  errand svid bundles --output json")]
    Bundles,
    /// Let the agent check somebody's JWT-SVID, and print whose it is
    ///
    /// The token is read from standard input, so that it does not show in the list of processes.
    #[command(after_help = "EXAMPLES\n  errand svid validate --audience https://api.example.org < token\n  \
        errand svid jwt --audience a | errand svid validate --audience a")]
    Validate {
        /// The audience it must be for
        #[arg(long, value_name = "AUDIENCE")]
        audience: String,
        /// The token itself; other users may see it in the list of processes
        #[arg(value_name = "TOKEN", default_value = "-", hide_default_value = true)]
        token: String,
    },
    /// Follow the X.509-SVIDs: prints each change as it arrives
    #[command(after_help = "EXAMPLES\n  errand svid watch\n  errand svid watch --output json")]
    Watch,
}

pub async fn run(command: SvidCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        SvidVerb::X509 { spiffe_id, write } => x509(spiffe_id, write, ctx).await,
        SvidVerb::Jwt { audience, spiffe_id } => jwt::fetch(audience, spiffe_id, ctx).await,
        SvidVerb::Bundles => bundles(ctx).await,
        SvidVerb::Validate { audience, token } => jwt::validate(audience, token, ctx).await,
        SvidVerb::Watch => watch(ctx).await,
    }
}

/// What the agent refused. No identity is a matter of entries, not of this command.
fn refused(doing: &'static str, status: Status) -> CliError {
    let none = status.code() == Code::PermissionDenied;
    let error = CliError::from(ClientError::Status { doing, code: status.code(), message: status.message().into() });
    if none {
        error.hint("no entry matches this process: compare `errand entry list` with its uid, unit and path")
    } else {
        error
    }
}

async fn x509(wanted: Option<SpiffeId>, write: Option<PathBuf>, ctx: &Ctx) -> Result<i32> {
    let client = AgentClient::find().await?;
    let doing = "fetching the X.509-SVIDs";
    let request = client.workload().fetch_x509svid(wire::X509svidRequest {}).await;
    let mut stream = request.map_err(|s| refused(doing, s))?.into_inner();
    let answer = crate::agent_client::within(ctx.clock.as_ref(), crate::agent_client::ANSWER, stream.message()).await;
    let answer = answer.ok_or_else(|| ClientError::Silent { doing, socket: client.socket().into() })?;
    let mut svids = answer.map_err(|s| refused(doing, s))?.unwrap_or_default().svids;
    if let Some(wanted) = &wanted {
        svids.retain(|s| s.spiffe_id == wanted.to_string());
    }
    let Some(first) = svids.first() else {
        let which = wanted.map_or_else(|| "no identity".to_string(), |id| format!("not the identity `{id}`"));
        return Err(CliError::denied(format!("this process has {which}")).hint("see `errand svid x509`"));
    };
    let Some(dir) = write else {
        let rows = svids.iter().map(svid).collect::<Result<Vec<_>>>()?;
        ctx.out.list("svids", &rows, None, &columns())?;
        return Ok(DONE);
    };
    let shown = svid(first)?;
    let (chain, bundle) = (value::text(&shown, "x509_svid"), value::text(&shown, "bundle"));
    let key = view::pem("PRIVATE KEY", &first.x509_svid_key);
    files::write_svid(&dir, &files::SvidFiles { svid: &chain, key: &key, bundle: &bundle })?;
    let until = value::text(&shown, "expires_at");
    let mut document = json!({ "spiffe_id": first.spiffe_id, "expires_at": shown["expires_at"] });
    document["written_to"] = dir.display().to_string().into();
    ctx.out.done(&document, format!("wrote {} to {}; valid until {until}", first.spiffe_id, dir.display()))?;
    Ok(DONE)
}

/// What is shown of an SVID: never its key.
fn svid(svid: &wire::X509svid) -> Result<Value> {
    let chain = certificates(&svid.x509_svid)?;
    let leaf = chain.first().and_then(|der| X509Certificate::from_der(der).ok()).map(|(_, c)| c);
    let leaf = leaf.ok_or_else(|| CliError::failed("the agent's answer holds a certificate that cannot be read"))?;
    Ok(json!({
        "spiffe_id": svid.spiffe_id,
        "hint": svid.hint,
        "serial": hex::encode(leaf.raw_serial()),
        "not_before": Timestamp::from_secs(leaf.validity().not_before.timestamp()).to_string(),
        "expires_at": Timestamp::from_secs(leaf.validity().not_after.timestamp()).to_string(),
        "x509_svid": pem(&chain),
        "bundle": pem(&certificates(&svid.bundle)?),
    }))
}

fn certificates(der: &[u8]) -> Result<Vec<Vec<u8>>> {
    let list =
        split_der(der).ok_or_else(|| CliError::failed("the agent's answer holds certificates that are not DER"))?;
    Ok(list.iter().map(|c| c.to_vec()).collect())
}

fn pem(chain: &[Vec<u8>]) -> String {
    view::certificates(chain.iter().map(Vec::as_slice))
}

fn columns() -> Vec<Column> {
    vec![
        Column::field("spiffe id", "spiffe_id").whole(),
        Column::field("hint", "hint"),
        Column::time("expires", "expires_at"),
        Column::field("serial", "serial"),
    ]
}

async fn bundles(ctx: &Ctx) -> Result<i32> {
    let client = AgentClient::find().await?;
    let doing = "fetching the bundles";
    let request = client.workload().fetch_x509_bundles(wire::X509BundlesRequest {}).await;
    let mut stream = request.map_err(|s| refused(doing, s))?.into_inner();
    let answer = stream.message().await.map_err(|s| refused(doing, s))?.unwrap_or_default();
    let mut x509 = BTreeMap::new();
    for (domain, der) in answer.bundles {
        x509.insert(domain, pem(&certificates(&der)?));
    }
    if !ctx.out.is_json() {
        // `#` lines are no part of PEM; every reader skips them.
        let text: String = x509.iter().map(|(domain, pem)| format!("# {domain}\n{pem}")).collect();
        ctx.out.text(&text)?;
        return Ok(DONE);
    }
    ctx.out.json(&json!({ "x509": x509, "jwt": jwt::bundles(&client).await? }))?;
    Ok(DONE)
}

async fn watch(ctx: &Ctx) -> Result<i32> {
    let client = AgentClient::find().await?;
    let doing = "following the X.509-SVIDs";
    let request = client.workload().fetch_x509svid(wire::X509svidRequest {}).await;
    let mut stream = request.map_err(|s| refused(doing, s))?.into_inner();
    while let Some(answer) = stream.message().await.map_err(|s| refused(doing, s))? {
        let rows = answer.svids.iter().map(svid).collect::<Result<Vec<_>>>()?;
        let now = ctx.clock.now().to_string();
        if ctx.out.is_json() {
            ctx.out.text(&format!("{}\n", json!({ "time": now, "svids": rows })))?;
            continue;
        }
        for row in &rows {
            let (id, until) = (value::text(row, "spiffe_id"), value::time(row, "expires_at"));
            ctx.out.text(&format!("{}  {id}  until {until}\n", value::time(&json!({ "t": now }), "t")))?;
        }
    }
    Err(CliError::unreachable("the agent ended the stream").hint("it may have stopped; start the command again"))
}
