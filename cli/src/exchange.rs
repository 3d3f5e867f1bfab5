//! `errand exchange`: one credential on standard output, for the task the caller is in; outside a task, for a task of
//! its own that lasts as long as the credential may.
//!
//! Decides whose identity is shown and in which form the answer is printed. The credential's content is the server's.

mod forms;
mod key;

use crate::{
    agent_client::{
        AgentClient, ClientError,
        identity::Identity,
        token::{Answer, TokenEndpoint, Wanted},
        within,
    },
    error::CliError,
    run::{Failure, Ports, Task, note, ttl},
};
use forms::Form;
use proto_types::{OsEntropy, RoleName, SystemClock};
use proto_wire::{
    errand::v1::{GetInfoResponse, StartRequest},
    workload::{JwtsvidRequest, X509svid, X509svidRequest},
};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  errand exchange orders-db/readonly --as json
  eval \"$(errand exchange orders-db/readonly --as env)\" && psql
  errand exchange orders-db/readonly --as pgpass >> \"$ERRAND_DIR/more.pgpass\"
  # ssh finds the certificate beside the key; the private half is never read
  errand exchange bastion/ops --key ~/.ssh/id_ed25519.pub --as ssh > ~/.ssh/id_ed25519-cert.pub
  # in a profile of ~/.aws/config
  credential_process = errand exchange lake/deploy --as aws

Prefer `errand run` where you can: it puts credentials where programs look for them and ends them with the command.";

/// How long a task of its own lasts when nothing is said.
const OWN_TASK: Duration = Duration::from_secs(15 * 60);

/// Obtain one credential, for the task the caller is in.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ExchangeArgs {
    /// The role to obtain
    #[arg(value_name = "TARGET/ROLE")]
    pub role: RoleName,

    /// The form to print it in; `env` on a terminal and `json` elsewhere
    #[arg(long = "as", value_enum, value_name = "FORM")]
    pub form: Option<Form>,

    /// The file with the public half of a key of yours, for a role that is issued for one, such as `ssh`: the credential
    /// is of use to whoever has the private half
    #[arg(long, value_name = "FILE.pub")]
    pub key: Option<PathBuf>,

    /// Outside a task: how long the credential may be used [default: 15m]
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    pub ttl: Option<Duration>,

    /// Outside a task: what the credential is for [default: `exchange` and the role]
    #[arg(long, value_name = "TEXT")]
    pub intent: Option<String>,
}

/// `errand exchange`. Answers the exit status.
pub async fn run(args: ExchangeArgs) -> i32 {
    let ports = Ports { clock: &SystemClock, entropy: &OsEntropy };
    match exchange(&args, ports).await {
        Ok(()) => 0,
        Err(failure) => failure.report(),
    }
}

async fn exchange(args: &ExchangeArgs, ports: Ports<'_>) -> Result<(), Failure> {
    let Ports { clock, entropy } = ports;
    let public_key = args.key.as_deref().map(key::public).transpose()?;
    let agent = AgentClient::find().await.map_err(CliError::from)?;
    let info = agent.info(clock).await.map_err(CliError::from)?;
    let endpoint = TokenEndpoint::new(&info).map_err(|e| e.of(&args.role))?;
    let idempotency_key = entropy.uuid_v7(clock.now()).to_string();
    let wanted = Wanted { role: &args.role, public_key: public_key.as_deref(), idempotency_key: &idempotency_key };
    let show = |identity: &Identity| endpoint.client(identity).map_err(|e| Failure::from(e.of(&args.role)));
    if info.task_id.is_empty() {
        let task = start_own(args, &agent, ports).await?;
        let answer = match show(&task.identity) {
            Ok(client) => client.exchange(wanted, clock).await.map_err(|e| Failure::from(e.of(&args.role))),
            Err(failure) => Err(failure),
        };
        let printed = answer.and_then(|answer| print(&answer, args));
        if printed.is_err() {
            // Nobody has the credential: nothing is left to use it for.
            let _ = crate::run::end_unused(&agent, task.id, clock).await;
        } else if std::io::stderr().is_terminal() {
            note(format!("good until {}; `errand task revoke {}` ends it now", task.ends_at, task.id));
        }
        return printed;
    }
    if args.ttl.is_some() || args.intent.is_some() {
        return Err(Failure::usage("--ttl and --intent are of a new task, and the caller is in one already"));
    }
    let identity = own_identity(&agent, &info, ports).await.map_err(CliError::from)?;
    let answer = show(&identity)?.exchange(wanted, clock).await.map_err(|e| e.of(&args.role))?;
    print(&answer, args)
}

/// A task that is held by its key, which never leaves this process, so nobody else can use it.
async fn start_own(args: &ExchangeArgs, agent: &AgentClient, ports: Ports<'_>) -> Result<Task, Failure> {
    let ttl = args.ttl.unwrap_or(OWN_TASK);
    let request = StartRequest {
        intent: args.intent.clone().unwrap_or_else(|| format!("exchange {}", args.role)),
        grants: vec![args.role.to_string()],
        ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        launch_id: String::new(),
        spiffe_id: String::new(),
    };
    Ok(Task::start(agent, request, ports.clock).await.map_err(CliError::from)?)
}

/// The caller's task as the Workload API serves it: the innermost task's SVIDs come first.
async fn own_identity(agent: &AgentClient, info: &GetInfoResponse, ports: Ports<'_>) -> Result<Identity, ClientError> {
    const DOING: &str = "asking the agent for the task's identity";
    let unusable = |why: &str| ClientError::Answer { doing: DOING, why: why.into() };
    let mut workload = agent.workload();
    let conversation = async {
        let mut stream = workload.fetch_x509svid(X509svidRequest {}).await?.into_inner();
        let svid = stream.message().await?.and_then(|message| message.svids.into_iter().next());
        let Some(svid) = svid else { return Ok(tonic::Response::new(None)) };
        let request = JwtsvidRequest { audience: vec![info.issuer.clone()], spiffe_id: svid.spiffe_id.clone() };
        let tokens = workload.fetch_jwtsvid(request).await?.into_inner().svids;
        Ok(tonic::Response::new(tokens.into_iter().next().map(|token| (svid, token.svid))))
    };
    let limit = crate::agent_client::ANSWER;
    let answer = agent.answer(DOING, within(ports.clock, limit, conversation).await)?;
    let (svid, token) = answer.ok_or_else(|| unusable("it has none"))?;
    let X509svid { spiffe_id, x509_svid, x509_svid_key, .. } = svid;
    if !spiffe_id.ends_with(&format!("/task/{}", info.task_id)) {
        return Err(unusable("the first identity is not the task's"));
    }
    Identity::new(spiffe_id, &x509_svid, x509_svid_key, token)
}

fn print(answer: &Answer, args: &ExchangeArgs) -> Result<(), Failure> {
    let default = if std::io::stdout().is_terminal() { Form::Env } else { Form::Json };
    let form = args.form.unwrap_or(default);
    let errand =
        std::env::current_exe().map_err(|e| CliError::failed(format!("cannot find this program's file: {e}")))?;
    let text = forms::render(answer, form, &errand).map_err(CliError::failed)?;
    let missing = forms::missing_in_env(&answer.credential);
    if form == Form::Env && !missing.is_empty() {
        note(format!("{} would name files or sockets, which only `errand run` makes", missing.join(", ")));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.expose().as_bytes()).and_then(|()| out.flush()).map_err(|e| CliError::stdout(e).into())
}
