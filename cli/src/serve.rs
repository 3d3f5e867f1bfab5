//! `errand server run|check` and `errand agent run|check`: the two daemons.

use crate::{
    agent_client::AgentClient,
    error::{CliError, Result},
    output::Output,
};
use agent_daemon::{Agent, AgentConfig, Ports};
use proto_types::{OsEntropy, SystemClock};
use server_daemon::{
    Machine, Running, Server, ServerConfig,
    store::{Comparison, compare},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(Debug, clap::Args)]
#[command(
    about = "Run the server, or check its configuration",
    after_help = "EXAMPLES\n  errand server check --config /etc/errand/server.toml\n  \
        errand server run --config /etc/errand/server.toml"
)]
pub struct ServerCommand {
    #[command(subcommand)]
    pub verb: ServerVerb,
}

#[derive(Debug, clap::Subcommand)]
pub enum ServerVerb {
    /// Run the server until SIGTERM; SIGHUP reloads what can change
    #[command(after_help = "EXAMPLES\n  errand server run --config /etc/errand/server.toml")]
    Run(RunServerArgs),
    /// Report every error of a configuration at once, and start nothing
    #[command(after_help = "EXAMPLES\n  errand server check --config /etc/errand/server.toml")]
    Check(ConfigArgs),
    /// Ask the running server whether it is ready; exit 1 says what is not
    #[command(after_help = "EXAMPLES\n  errand server healthcheck --config /etc/errand/server.toml")]
    Healthcheck(ConfigArgs),
}

#[derive(Debug, clap::Args)]
#[command(
    about = "Run the node agent, or check its configuration",
    after_help = "EXAMPLES\n  errand agent check --config /etc/errand/agent.toml\n  \
        errand agent run --config /etc/errand/agent.toml"
)]
pub struct AgentCommand {
    #[command(subcommand)]
    pub verb: AgentVerb,
}

#[derive(Debug, clap::Subcommand)]
pub enum AgentVerb {
    /// Run the agent until SIGTERM
    #[command(after_help = "EXAMPLES\n  errand agent run --config /etc/errand/agent.toml")]
    Run(ConfigArgs),
    /// Report every error of a configuration at once, and start nothing
    #[command(after_help = "EXAMPLES\n  errand agent check --config /etc/errand/agent.toml")]
    Check(ConfigArgs),
    /// Ask the running agent whether all is well; exit 1 says what is not
    #[command(after_help = "EXAMPLES\n  errand agent healthcheck --config /etc/errand/agent.toml")]
    Healthcheck(ConfigArgs),
}

#[derive(Debug, clap::Args)]
pub struct RunServerArgs {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Go on from a store that may lack what was committed last (a copy, a restored backup)
    #[arg(long)]
    pub accept_rollback: bool,
    /// End again what this file's lost records had ended, before anybody is answered: an export of the journal, or what a
    /// file sink wrote. `errand store reconcile` says what that is
    #[arg(long, value_name = "FILE", requires = "accept_rollback")]
    pub replay: Option<PathBuf>,
    /// Take the clock for right, though the newest record is from a later day, or from more than a month ago
    #[arg(long)]
    pub accept_clock: bool,
}

#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// The exit status of `errand server …`.
pub fn server(command: ServerCommand, _output: Output) -> Result<i32> {
    match command.verb {
        ServerVerb::Check(args) => {
            let config = load_server(&args.config)?;
            eprintln!("{}: good, trust domain {}", args.config.display(), config.trust_domain);
            Ok(crate::DONE)
        }
        ServerVerb::Run(args) => {
            let RunServerArgs { config: path, accept_rollback, accept_clock, replay } = args;
            let config = ServerConfig { accept_rollback, accept_clock, ..load_server(&path)? };
            runtime()?.block_on(async {
                let replay = match replay {
                    Some(file) => compared(&config, &file).await?.lost.endings,
                    None => Vec::new(),
                };
                run_server(path, ServerConfig { replay, ..config }).await
            })
        }
        ServerVerb::Healthcheck(args) => {
            let config = load_server(&args.config)?;
            healthcheck(config.listen.metrics)
        }
    }
}

/// A store at rest, held against what its journal once was.
pub(crate) async fn compared(config: &ServerConfig, file: &Path) -> Result<Comparison> {
    compare(&config.store, file, Arc::new(SystemClock)).await.map_err(CliError::failed)
}

/// What is told of a store that failed under a running server.
pub(crate) const STORE_FAILED: &str = "what was acknowledged is on disk; look at the disk, then start the server again";

async fn run_server(path: PathBuf, config: ServerConfig) -> Result<i32> {
    logs("info");
    let signals = Signals::install()?;
    let machine = Machine { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    let server = Server::start(config, machine).await.map_err(|e| start_failed(&e))?;
    eprintln!("ready at {}", server.addresses.issuer);
    until_told(server, &path, signals).await
}

/// Serves until it is told to stop, finishes what is under way then, and answers the exit status. SIGHUP reads the
/// configuration at `path` again.
pub async fn until_told(server: Running, path: &Path, mut signals: Signals) -> Result<i32> {
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            why = server.store_fails() => {
                finish(server.stop(), &mut signals).await?;
                return Err(CliError::failed(why).at("the store").hint(STORE_FAILED));
            }
        };
        match signal {
            Signal::Stop => break,
            Signal::Reload => match server.reload(path).await {
                Ok(()) => tracing::info!("targets and policies were read again"),
                Err(error) => tracing::error!(%error, "the old configuration stays in force"),
            },
        }
    }
    finish(server.stop(), &mut signals).await?;
    Ok(crate::DONE)
}

/// An orderly end. Told to stop once more, it does not wait for it: nothing was released without its record, and what is
/// open is ended by the next start.
pub(crate) async fn finish(stopping: impl Future<Output = ()>, signals: &mut Signals) -> Result<()> {
    let once_more = async { while signals.next().await != Signal::Stop {} };
    tokio::select! {
        () = stopping => Ok(()),
        () = once_more => Err(CliError::failed("told to stop a second time: what was under way is cut off")
            .hint("start it again: what is open in targets is ended then")),
    }
}

pub(crate) fn load_server(path: &Path) -> Result<ServerConfig> {
    ServerConfig::load(path).map_err(|problems| all_problems(path, problems.iter().map(ToString::to_string)))
}

fn all_problems(path: &Path, problems: impl Iterator<Item = String>) -> CliError {
    CliError::config(problems.collect::<Vec<_>>().join("\n")).at(path.display())
}

/// The exit status of `errand agent …`.
pub fn agent(command: AgentCommand, _output: Output) -> Result<i32> {
    let load = |path: &Path| -> Result<AgentConfig> {
        let text = std::fs::read_to_string(path).map_err(|e| CliError::config(e).at(path.display()))?;
        AgentConfig::parse(&text).map_err(|problems| all_problems(path, problems.iter().map(ToString::to_string)))
    };
    match command.verb {
        AgentVerb::Check(args) => {
            let config = load(&args.config)?;
            eprintln!("{}: good, trust domain {}", args.config.display(), config.trust_domain);
            Ok(crate::DONE)
        }
        AgentVerb::Healthcheck(args) => {
            let config = load(&args.config)?;
            runtime()?.block_on(agent_health(&config))
        }
        AgentVerb::Run(args) => {
            let config = load(&args.config)?;
            runtime()?.block_on(async {
                logs("info");
                let mut signals = Signals::install()?;
                let agent =
                    Agent::start(config, Ports::system()).await.map_err(|e| CliError::failed(e).at("the agent"))?;
                tokio::select! {
                    // Its server may be away for long: it can be told to stop before it was ready.
                    failed = until_lost(&agent) => return Err(failed),
                    () = told_to_stop(&mut signals) => {}
                }
                finish(agent.stop(), &mut signals).await?;
                Ok(crate::DONE)
            })
        }
    }
}

/// Says when the agent is ready; completes only when it will never be.
async fn until_lost(agent: &agent_daemon::Running) -> CliError {
    match agent.ready().await {
        Ok(()) => eprintln!("ready"),
        Err(why) => return CliError::failed(why).at("the agent"),
    }
    std::future::pending().await
}

async fn told_to_stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {
        tracing::info!("the agent reads its configuration at start only; restart it");
    }
}

/// An agent that has reached its server can say who that is, and one that is not well says why.
async fn agent_health(config: &AgentConfig) -> Result<i32> {
    let agent = AgentClient::connect(&config.socket).await.map_err(CliError::from)?;
    let info = agent.info(&SystemClock).await.map_err(CliError::from)?;
    if info.issuer.is_empty() {
        return Err(CliError::failed("the agent has not reached its server").at(config.socket.display()));
    }
    if !info.problem.is_empty() {
        return Err(CliError::failed(info.problem).at(config.socket.display()));
    }
    eprintln!("ready, trust domain {}, issuer {}", info.trust_domain, info.issuer);
    Ok(crate::DONE)
}

/// Asks a server on this machine whether it is ready; what is not is printed.
fn healthcheck(metrics: SocketAddr) -> Result<i32> {
    use std::io::{Read, Write};
    let unreachable = |e: std::io::Error| CliError::unreachable(e).at(metrics);
    let limit = std::time::Duration::from_secs(5);
    let mut stream = std::net::TcpStream::connect_timeout(&metrics, limit).map_err(unreachable)?;
    stream.set_read_timeout(Some(limit)).map_err(unreachable)?;
    stream.write_all(b"GET /readyz HTTP/1.0\r\nhost: localhost\r\n\r\n").map_err(unreachable)?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).map_err(unreachable)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_string();
    if answer.split(' ').nth(1) == Some("200") {
        eprintln!("{body}");
        Ok(crate::DONE)
    } else {
        Err(CliError::failed(if body.is_empty() { "not ready".into() } else { body }).at(metrics))
    }
}

pub(crate) fn start_failed(error: &server_daemon::StartError) -> CliError {
    let failed = CliError::failed(error).at("the server");
    match error {
        server_daemon::StartError::Config(_) => failed.with_exit(crate::error::Exit::Config),
        _ => failed,
    }
}

/// A daemon's runtime. Two workers: nothing here computes for long.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    more_descriptors();
    crate::cores::forbid_tracing();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(CliError::failed)
}

/// Logs to stderr; `ERRAND_LOG` says how much. Process-wide, so only a daemon's command installs it.
pub(crate) fn logs(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ERRAND_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    // A second subscriber in one process (tests) is no error.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Stop,
    Reload,
}

/// What a daemon is told by signals.
pub struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
    hup: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn install() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let on = |kind| signal(kind).map_err(CliError::failed);
        Ok(Self {
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
            hup: on(SignalKind::hangup())?,
        })
    }
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
            _ = self.hup.recv() => Signal::Reload,
        }
    }
}

/// Every connection is a descriptor: the soft limit of a shell (1024) is a relic, the hard one is the
/// administrator's. For daemons alone: what `errand run` starts has the limits it was started with.
fn more_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(65_536);
        if soft < wanted {
            // Refused: the limit stays as it was, and so does what it allows.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
        }
    }
}
