//! `errand doctor`: what is wrong with this installation, as far as one user on one machine can see. What a server says
//! of itself is judged in `server`.

mod server;

use super::Ctx;
use crate::{
    DONE,
    admin_client::{
        AdminClient, Query,
        locate::{self, Surroundings},
    },
    agent_client::{AgentClient, discover},
    error::{Exit, Result},
    output::{
        style::{Style, clean},
        value::text,
    },
};
use serde_json::{Value, json};
use std::{
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

#[derive(Debug, clap::Args)]
#[command(
    about = "Say what is wrong with this installation",
    long_about = "Says what is wrong with this installation: sockets, their modes, whether server and agent answer and \
        belong together, whether the store has space, whether the clock runs back, keys, targets that cannot be used, credentials \
        that do not go away, sinks that fail. Changes nothing. Exits 1 when something is wrong, 69 when neither a server nor an agent answers.",
    after_help = "EXAMPLES\n  errand doctor\n  errand doctor --output json"
)]
pub struct DoctorArgs {}

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Nothing is broken, but it may not be what was meant.
    Absent,
    Bad,
}

struct Finding {
    check: &'static str,
    state: State,
    what: String,
    fix: Option<String>,
}

impl Finding {
    fn new(check: &'static str, state: State, what: impl Into<String>) -> Self {
        Self { check, state, what: what.into(), fix: None }
    }
    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

pub async fn run(_args: DoctorArgs, ctx: &Ctx) -> Result<i32> {
    let mut findings = Vec::new();
    let server = server_answers(ctx, &mut findings).await;
    let agent = agent(ctx, &mut findings).await;
    together(server.as_deref(), agent.as_deref(), &mut findings);
    variables(&mut findings);
    show(&findings, ctx)?;
    let broken = findings.iter().any(|f| f.state == State::Bad);
    Ok(match (server.is_none() && agent.is_none(), broken) {
        (true, _) => Exit::Unreachable as i32,
        (false, true) => Exit::Failed as i32,
        (false, false) => DONE,
    })
}

/// The server's trust domain, when it answers.
async fn server_answers(ctx: &Ctx, findings: &mut Vec<Finding>) -> Option<String> {
    let socket = match locate::admin(ctx.named_server(), &Surroundings::of_process()) {
        Ok(socket) => socket,
        Err(error) => {
            findings.push(Finding::new("server", State::Absent, error.to_string()).fix(
                "fine on a node that has an agent only; else start `errand dev` or `errand server run --config FILE`",
            ));
            return None;
        }
    };
    mode("server socket", &socket, 0o077, findings);
    let client = AdminClient::at(socket.clone(), ctx.clock.clone());
    match client.get("/v1/server", &Query::default()).await {
        Ok(answer) => {
            let said = |path| text(&answer, path);
            let what = format!(
                "answers on {}: {}, version {}, {} journal records, {} agents, {} entries",
                socket.display(),
                said("trust_domain"),
                said("version"),
                said("journal_size"),
                said("agents"),
                said("entries"),
            );
            findings.push(Finding::new("server", State::Good, what));
            version(&said("version"), findings);
            server::judge(&answer, ctx.clock.now(), findings);
            match client.get("/v1/targets", &Query::default()).await {
                Ok(answer) => server::targets(&answer, findings),
                Err(error) => findings.push(
                    Finding::new("targets", State::Bad, format!("they cannot be listed: {error}"))
                        .fix("see the server's log"),
                ),
            }
            Some(said("trust_domain"))
        }
        Err(error) => {
            findings.push(Finding::new("server", State::Bad, format!("{}: {error}", socket.display()))
                .fix("see the server's log; `errand server check --config FILE` reports what is wrong with its configuration"));
            None
        }
    }
}

fn version(theirs: &str, findings: &mut Vec<Finding>) {
    let ours = env!("CARGO_PKG_VERSION");
    if theirs != "-" && theirs != ours {
        findings.push(
            Finding::new("version", State::Absent, format!("the server is {theirs}, this program is {ours}"))
                .fix("one minor version apart works; update the older one"),
        );
    }
}

/// The agent's trust domain, when it answers.
async fn agent(ctx: &Ctx, findings: &mut Vec<Finding>) -> Option<String> {
    let sockets = match discover::candidates(&|name| std::env::var_os(name)) {
        Ok(sockets) => sockets,
        Err(error) => {
            findings.push(Finding::new("agent", State::Bad, error.to_string()).fix("write unix:///path/to/agent.sock"));
            return None;
        }
    };
    let Some(socket) = sockets.first() else {
        findings.push(Finding::new("agent", State::Absent, "no agent was found on this machine").fix(
            "fine on a machine that has the server only; else start `errand dev` or `errand agent run --config FILE`",
        ));
        return None;
    };
    mode("agent socket", socket, 0, findings);
    let info = match AgentClient::find().await {
        Ok(client) => client.info(ctx.clock.as_ref()).await,
        Err(error) => Err(error),
    };
    match info {
        Ok(info) => {
            let task = if info.task_id.is_empty() { String::new() } else { format!(", inside task {}", info.task_id) };
            let what = format!("answers on {}: {}{task}", socket.display(), info.trust_domain);
            findings.push(Finding::new("agent", State::Good, what));
            if !info.problem.is_empty() {
                findings.push(
                    Finding::new("agent", State::Bad, info.problem.clone())
                        .fix("what it holds it serves until that expires; what is wrong here is to be right by then"),
                );
            }
            token_endpoint(&info.mtls_token_endpoint, findings).await;
            Some(info.trust_domain)
        }
        Err(error) => {
            findings.push(Finding::new("agent", State::Bad, format!("{}: {error}", socket.display())).fix(
                "see the agent's log; `errand agent check --config FILE` reports what is wrong with its configuration",
            ));
            None
        }
    }
}

/// That exchanges get through from here. A connection is enough: what the endpoint answers needs a task's certificate.
async fn token_endpoint(url: &str, findings: &mut Vec<Finding>) {
    if url.is_empty() {
        findings.push(
            Finding::new("agent", State::Bad, "it does not know the server's token endpoint")
                .fix("it has not reached its server yet: see the agent's log"),
        );
        return;
    }
    let authority =
        url.parse::<http::Uri>().ok().and_then(|u| Some((u.host()?.to_string(), u.port_u16().unwrap_or(443))));
    let Some((host, port)) = authority else {
        findings.push(Finding::new("token endpoint", State::Bad, format!("`{}` is no URL", clean(url))));
        return;
    };
    let connected =
        tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port))).await;
    findings.push(match connected {
        Ok(Ok(_)) => Finding::new("token endpoint", State::Good, format!("{url} can be reached")),
        Ok(Err(error)) => unreachable_from_here(url, &error.to_string()),
        Err(_) => unreachable_from_here(url, &format!("no answer within {} s", PATIENCE.as_secs())),
    });
}

fn unreachable_from_here(url: &str, why: &str) -> Finding {
    Finding::new("token endpoint", State::Bad, format!("{url} cannot be reached from here: {why}"))
        .fix("exchanges and `errand run` need it: open the port, or set `[http] issuer` to a name that resolves here")
}

/// That the path is a socket, and that nobody beyond `forbidden` may open it.
fn mode(check: &'static str, socket: &Path, forbidden: u32, findings: &mut Vec<Finding>) {
    let Ok(meta) = std::fs::metadata(socket) else { return };
    let (at, mode) = (socket.display(), meta.permissions().mode() & 0o777);
    if !meta.file_type().is_socket() {
        findings
            .push(Finding::new(check, State::Bad, format!("{at} is not a socket")).fix("remove it, and start again"));
    } else if mode & forbidden != 0 {
        findings.push(
            Finding::new(check, State::Bad, format!("{at} has mode {mode:04o}: other users may open it"))
                .fix(format!("chmod 0600 {at}")),
        );
    }
}

fn together(server: Option<&str>, agent: Option<&str>, findings: &mut Vec<Finding>) {
    if let (Some(server), Some(agent)) = (server, agent)
        && server != agent
    {
        let what = format!("the server is of `{server}`, the agent of `{agent}`: they do not belong together");
        findings.push(
            Finding::new("trust domain", State::Bad, what)
                .fix("set ERRAND_SERVER_SOCKET and SPIFFE_ENDPOINT_SOCKET to those of one installation"),
        );
    }
}

/// Addresses in the environment that win over what is installed.
fn variables(findings: &mut Vec<Finding>) {
    for name in ["ERRAND_SERVER_SOCKET", "SPIFFE_ENDPOINT_SOCKET"] {
        if let Some(value) = std::env::var_os(name).filter(|v| !v.is_empty()) {
            let what = format!("{name} is set to {}", proto_types::id::excerpt(&value.to_string_lossy()));
            findings.push(Finding::new("environment", State::Good, what));
        }
    }
}

fn show(findings: &[Finding], ctx: &Ctx) -> Result<()> {
    let word = |state| match state {
        State::Good => "ok",
        State::Absent => "note",
        State::Bad => "wrong",
    };
    if ctx.out.is_json() {
        let rows: Vec<Value> = findings
            .iter()
            .map(|f| json!({ "check": f.check, "state": word(f.state), "what": f.what, "fix": f.fix }))
            .collect();
        return ctx.out.json(&json!({ "findings": rows }));
    }
    let style: Style = ctx.out.style;
    let mut out = String::new();
    for f in findings {
        let padded = format!("{:6}", word(f.state));
        let state = match f.state {
            State::Good => style.good(&padded),
            State::Absent => style.warning(&padded),
            State::Bad => style.error(&padded),
        };
        out.push_str(&format!("{state}{}: {}\n", f.check, clean(&f.what)));
        if let Some(fix) = f.fix.as_ref().filter(|_| f.state != State::Good) {
            out.push_str(&format!("      {} {}\n", style.faint("next:"), clean(fix)));
        }
    }
    ctx.out.text(&out)
}
