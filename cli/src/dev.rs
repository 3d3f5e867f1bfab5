//! `errand dev`: server and agent in one process on an embedded store.
//!
//! Decides what a newcomer need not: ports (chosen once and kept), keys, an attested agent, an identity for the caller's
//! uid and a policy that permits it every role. The agent dials the server over real loopback mTLS, as anywhere.

mod environment;
mod layout;
mod seed;

use crate::{
    error::{CliError, Result},
    output::Output,
    serve,
};
use layout::Layout;
use proto_types::{OsEntropy, SystemClock};
use server_daemon::{Machine, Server, ServerConfig};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

#[derive(Debug, clap::Args)]
#[command(
    about = "Run server and agent in one process, for trying out and developing",
    long_about = "Runs server and agent in one process on an embedded store, for trying out and developing.\n\n\
        Prints a line that begins with `ready` on stderr when all of it answers. Every other command of the same user \
        finds it by itself; DIR/dev.env holds its addresses and sockets for other programs. SIGTERM ends it; started \
        again on the same directory it goes on where it was.\n\nIts store is stamped `dev`: `errand server run` \
        refuses it.",
    after_help = "EXAMPLES\n  errand dev\n  errand dev --data-dir /tmp/try --http 127.0.0.1:0\n  \
        . ~/.local/share/errand/dev/dev.env && curl --cacert \"$ERRAND_CA_FILE\" \"$ERRAND_ISSUER/keys\""
)]
pub struct DevArgs {
    /// Where the store, sockets and dev.env lie [default: $XDG_DATA_HOME/errand/dev]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTPS listener; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub http: SocketAddr,
    /// Go on from a store that may lack what was committed last (a copy, a restored backup)
    #[arg(long)]
    pub accept_rollback: bool,
}

/// Runs until SIGTERM or SIGINT; the exit status.
pub fn dev(args: DevArgs, _output: Output) -> Result<i32> {
    serve::runtime()?.block_on(run(args))
}

async fn run(args: DevArgs) -> Result<i32> {
    serve::logs("warn");
    let mut signals = serve::Signals::install()?;
    let layout = Layout::prepare(args.data_dir, args.http)?;
    let config = ServerConfig { accept_rollback: args.accept_rollback, ..layout.server_config()? };
    let machine = Machine { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    let server = Server::start(config, machine).await.map_err(|e| serve::start_failed(&e))?;
    let token = seed::seed(&server.service, &layout).await?;
    let ports = agent_daemon::Ports::system();
    let config = layout.agent_config(&server, &token)?;
    let agent = agent_daemon::Agent::start(config, ports).await.map_err(|e| {
        CliError::failed(e).at("the agent").hint("look at the lines above; `errand doctor` checks more")
    })?;
    agent.ready().await.map_err(|e| CliError::failed(e).at("the agent"))?;
    environment::write(&layout, &server)?;
    eprintln!(
        "ready in {} as {} ({} and agent in one process)",
        layout.dir.display(),
        layout.trust_domain,
        server.addresses.issuer
    );
    eprintln!("  try: errand svid x509                          the identity of this user's processes");
    eprintln!("       errand target apply -f targets.toml       declare a database");
    eprintln!("       errand run --intent 'look around' --grant TARGET/ROLE -- CMD");
    let failed = loop {
        tokio::select! {
            signal = signals.next() => if signal == serve::Signal::Stop { break None },
            why = server.store_fails() => break Some(why),
        }
    };
    let stopping = async {
        agent.stop().await;
        server.stop().await;
    };
    let stopped = serve::finish(stopping, &mut signals).await;
    layout.leave();
    stopped?;
    match failed {
        Some(why) => Err(CliError::failed(why).at("the store").hint(serve::STORE_FAILED)),
        None => Ok(crate::DONE),
    }
}
