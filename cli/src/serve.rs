//! `errand server run|check` and `errand agent run|check`: the two daemons.

use crate::{
    error::{CliError, Result},
    output::Output,
};
use std::path::PathBuf;

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
    Run(ConfigArgs),
    /// Report every error of a configuration at once, and start nothing
    #[command(after_help = "EXAMPLES\n  errand server check --config /etc/errand/server.toml")]
    Check(ConfigArgs),
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
    /// Run the agent until SIGTERM; SIGHUP reloads what can change
    #[command(after_help = "EXAMPLES\n  errand agent run --config /etc/errand/agent.toml")]
    Run(ConfigArgs),
    /// Report every error of a configuration at once, and start nothing
    #[command(after_help = "EXAMPLES\n  errand agent check --config /etc/errand/agent.toml")]
    Check(ConfigArgs),
}

#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file, TOML
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// The exit status of `errand server …`.
pub fn server(_command: ServerCommand, _output: Output) -> Result<i32> {
    Err(CliError::failed("`errand server` is not wired to the server of this build"))
}

/// The exit status of `errand agent …`.
pub fn agent(_command: AgentCommand, _output: Output) -> Result<i32> {
    Err(CliError::failed("`errand agent` is not wired to the agent of this build"))
}
