//! The tree of commands. One file or folder per noun; each decides its own flags, what it asks the server or agent,
//! and how the answer is shown.

mod apply;
mod args;
mod authority;
mod bundle;
mod completions;
mod doctor;
mod entry;
mod files;
mod hold;
mod issuer;
mod journal;
mod lease;
mod mint;
mod node;
mod policy;
mod svid;
mod target;
mod task;
mod view;
mod who;

use crate::{
    admin_client::AdminClient,
    cores, dev, error,
    error::Result,
    exchange::{self, ExchangeArgs},
    output::{Format, Output},
    run::{self, RunArgs},
    serve, store,
};
use proto_types::{Clock, SystemClock};
use std::sync::Arc;

const LONG_ABOUT: &str = "\
Errand gives a workload the credentials of one task, for as long as the task lasts.

A node agent attests running workloads; a server issues short-lived identities per task and exchanges them for a \
database user, an SSH certificate or a cloud role. Everything a task was given ends when the task ends, and every step \
is in a journal that cannot be quietly changed.";

const AFTER_HELP: &str = "\
WHERE COMMANDS GO
  Operator verbs speak to the server's admin socket: --server-socket, else
  /run/errand/server.sock, else a running `errand dev` of the same user.
  `svid`, `run` and `exchange` speak to the node's agent:
  SPIFFE_ENDPOINT_SOCKET, else /run/errand/agent.sock, else the same.

VARIABLES
  Every flag has one, shown beside it: `errand node token --ttl 5m` is also
  ERRAND_NODE_TOKEN_TTL=5m. A flag wins over its variable.

EXIT STATUS
   0  done                   75  waits for a person's approval
   1  failed                 77  denied
   2  bad usage              78  bad configuration
  69  no server or agent answered

EXAMPLES
  # everything on this machine, in one process
  errand dev
  # declare a database, then run a command with credentials for it
  errand target apply -f targets.toml
  errand run --grant orders-db/readonly -- psql -c 'select 1'
  # who was that, in the database's own log?
  errand who errand_k3m9x_abcdefghijklmnop";

/// The command line.
#[derive(Debug, clap::Parser)]
#[command(
    name = "errand",
    version,
    about = "Credentials for one task, gone when the task is over",
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    propagate_version = false,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// How to print data: columns for people, JSON for programs
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "table",
        env = "ERRAND_OUTPUT",
        value_name = "FORMAT",
        display_order = 1000
    )]
    output: Format,
    /// The server's admin socket: a path or unix:///path
    #[arg(long, global = true, env = "ERRAND_SERVER_SOCKET", value_name = "SOCKET", display_order = 1001)]
    server_socket: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Dev(dev::DevArgs),
    Server(serve::ServerCommand),
    Agent(serve::AgentCommand),
    Store(store::StoreCommand),
    Run(RunArgs),
    Exchange(ExchangeArgs),
    Node(node::NodeCommand),
    Entry(entry::EntryCommand),
    Bundle(bundle::BundleCommand),
    Issuer(issuer::IssuerCommand),
    Authority(authority::AuthorityCommand),
    Svid(svid::SvidCommand),
    Mint(mint::MintCommand),
    Target(target::TargetCommand),
    Policy(policy::PolicyCommand),
    Apply(apply::ApplyArgs),
    Task(task::TaskCommand),
    Lease(lease::LeaseCommand),
    Hold(hold::HoldCommand),
    Who(who::WhoArgs),
    Journal(journal::JournalCommand),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
}

/// What every verb may use.
pub(crate) struct Ctx {
    pub out: Output,
    pub clock: Arc<dyn Clock>,
    server_socket: Option<String>,
}

impl Ctx {
    /// The server, found but not yet connected to.
    pub fn admin(&self) -> Result<AdminClient> {
        AdminClient::find(self.server_socket.as_deref(), self.clock.clone())
    }
    pub fn named_server(&self) -> Option<&str> {
        self.server_socket.as_deref()
    }
}

/// Runs the verb; the exit status.
pub fn dispatch(cli: Cli) -> Result<i32> {
    let before = cores::forbid();
    let ctx = Ctx {
        out: Output::new(cli.global.output),
        clock: Arc::new(SystemClock),
        server_socket: cli.global.server_socket,
    };
    match cli.verb {
        Verb::Dev(args) => dev::dev(args, ctx.out),
        Verb::Server(command) => serve::server(command, ctx.out),
        Verb::Agent(command) => serve::agent(command, ctx.out),
        Verb::Store(command) => store::store(command, ctx.out),
        Verb::Completions(args) => completions::run(&args),
        Verb::Run(args) => wait(async { Ok(run::run(args, before).await) }),
        Verb::Exchange(args) => wait(async { Ok(exchange::run(args).await) }),
        verb => wait(operator(verb, &ctx)),
    }
}

async fn operator(verb: Verb, ctx: &Ctx) -> Result<i32> {
    match verb {
        Verb::Node(c) => node::run(c, ctx).await,
        Verb::Entry(c) => entry::run(c, ctx).await,
        Verb::Bundle(c) => bundle::run(c, ctx).await,
        Verb::Issuer(c) => issuer::run(c, ctx).await,
        Verb::Authority(c) => authority::run(c, ctx).await,
        Verb::Svid(c) => svid::run(c, ctx).await,
        Verb::Mint(c) => mint::run(c, ctx).await,
        Verb::Target(c) => target::run(c, ctx).await,
        Verb::Policy(c) => policy::run(c, ctx).await,
        Verb::Apply(c) => apply::run(c, ctx).await,
        Verb::Task(c) => task::run(c, ctx).await,
        Verb::Lease(c) => lease::run(c, ctx).await,
        Verb::Hold(c) => hold::run(c, ctx).await,
        Verb::Who(c) => who::run(c, ctx).await,
        Verb::Journal(c) => journal::run(c, ctx).await,
        Verb::Doctor(c) => doctor::run(c, ctx).await,
        Verb::Dev(_)
        | Verb::Server(_)
        | Verb::Agent(_)
        | Verb::Store(_)
        | Verb::Run(_)
        | Verb::Exchange(_)
        | Verb::Completions(_) => {
            Err(error::CliError::failed("this verb is not an operator's; it was dispatched before"))
        }
    }
}

/// One thread is enough for one question and its answer. A read that still waits for somebody else (a terminal, a
/// child's pipe) does not hold the exit.
fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| error::CliError::failed(format!("cannot start: {e}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

/// The list under `key` of an answer; none when there is none.
fn rows(answer: &serde_json::Value, key: &str) -> Vec<serde_json::Value> {
    answer.get(key).and_then(serde_json::Value::as_array).cloned().unwrap_or_default()
}

/// A document that the server did not accept is bad configuration (78); a refusal or an absent server stays what it is.
fn unacceptable(error: error::CliError, file: &std::path::Path) -> error::CliError {
    if error.exit() == error::Exit::Failed && error.is_invalid() {
        error.with_exit(error::Exit::Config).at(file.display())
    } else {
        error
    }
}

/// Asks on the terminal. Without one, nothing is done: a script says `flag`.
fn confirm(question: &str, flag: &str) -> Result<()> {
    use std::io::{BufRead, IsTerminal, Write};
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() {
        return Err(error::CliError::usage("this asks first, and there is no terminal to ask on")
            .hint(format!("look at what would be done, then add {flag}")));
    }
    // Nothing can be read that was not asked.
    let asked = write!(output, "{question} [y/N] ").and_then(|()| output.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| input.lock().read_line(&mut answer));
    match read {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        _ => Err(error::CliError::failed("not confirmed; nothing was done")),
    }
}
