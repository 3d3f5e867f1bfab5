//! `errand dev`: server and agent in one process on an embedded store.

use crate::{
    error::{CliError, Result},
    output::Output,
};
use std::{net::SocketAddr, path::PathBuf};

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
}

/// Runs until SIGTERM or SIGINT; the exit status.
pub fn dev(_args: DevArgs, _output: Output) -> Result<i32> {
    Err(CliError::failed("`errand dev` is not wired to the server and agent of this build"))
}
