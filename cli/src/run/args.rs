//! What `errand run` is told.

use proto_types::{RoleName, id::excerpt, parse_duration};
use std::{ffi::OsString, path::Path, time::Duration};

const EXAMPLES: &str = "\
Examples:
  errand run --grant orders-db/readonly -- psql
  errand run --intent 'nightly report' --ttl 1h --grant orders-db/readonly --grant billing-db/readonly -- ./report.sh
  errand run --keep-env PGOPTIONS --grant orders-db/readonly -- psql -c 'select 1'

CMD finds its credentials where it already looks. Its standard input and output are its own, signals pass through, and
the exit status is CMD's; 125 when `errand run` itself failed, 126 and 127 when CMD cannot be executed or found.";

/// Start a task, run CMD with the task's credentials, and end the task when CMD exits.
#[derive(Clone, Debug, clap::Args)]
#[command(override_usage = "errand run [OPTIONS] [--grant TARGET/ROLE]… -- CMD [ARG]…", after_help = EXAMPLES)]
pub struct RunArgs {
    /// What the task is for, in your own words; it is recorded, and policy may look at it [default: `run` and CMD's name]
    #[arg(long, value_name = "TEXT")]
    pub intent: Option<String>,

    /// How long the task may last; at its end CMD goes on and its credentials do not
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = ttl)]
    pub ttl: Duration,

    /// A role that CMD needs; repeat for several
    #[arg(long = "grant", value_name = "TARGET/ROLE", value_delimiter = ',')]
    pub grants: Vec<RoleName>,

    /// Leave this variable to CMD as it is here, although a credential of your own may be in it; repeat for several
    #[arg(long = "keep-env", value_name = "NAME", value_delimiter = ',')]
    pub keep_env: Vec<String>,

    /// Where credentials go: `auto` the best place of each kind, `static` files and variables only
    #[arg(long, value_enum, default_value_t = Place::Auto)]
    pub place: Place,

    /// Put the password into URLs such as DATABASE_URL too, for programs that read nothing else
    #[arg(long)]
    pub password_in_url: bool,

    /// The second process that cleans up when the first is killed; started by `errand run` alone.
    #[arg(long, hide = true, exclusive = true)]
    pub(super) watchdog: bool,

    /// The command and its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "watchdog")]
    pub command: Vec<OsString>,
}

impl RunArgs {
    /// What is recorded as the purpose. Without one, what is plainly so; never CMD's arguments, which may hold secrets.
    pub(super) fn purpose(&self) -> String {
        let name = self.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        self.intent.clone().unwrap_or_else(|| format!("run {}", excerpt(&name.to_string_lossy())))
    }
}

/// `--place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Place {
    /// Whatever CMD's own libraries prefer.
    #[default]
    Auto,
    /// Plain files and variables, for a sandbox that blocks sockets.
    Static,
}

/// A task's length: at least a second, at most what 32 bits of seconds hold.
pub(crate) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = parse_duration(text).map_err(|e| e.to_string())?;
    match u32::try_from(ttl.as_secs()) {
        Ok(1..) => Ok(ttl),
        _ => Err("a task lasts at least 1s".into()),
    }
}
