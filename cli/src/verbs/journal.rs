//! `errand journal`: the record of everything that happened.

mod checkpoint;
mod redact;
mod show;
mod verify;

use super::{
    Ctx,
    args::{self, When},
};
use crate::{
    DONE,
    admin_client::{Paging, Query, encode},
    error::{CliError, Result},
};
use serde_json::Value;
use show::columns;
pub(super) use show::print;

#[derive(Debug, clap::Args)]
#[command(
    about = "The journal: the record of everything that happened",
    after_help = "EXAMPLES\n  errand journal tail --follow\n  errand journal search --workload spiffe://example.org/planner\n  \
        errand journal verify"
)]
pub struct JournalCommand {
    #[command(subcommand)]
    verb: JournalVerb,
}

#[derive(Debug, clap::Subcommand)]
enum JournalVerb {
    /// Print the newest records, and with --follow every new one
    ///
    /// With `--output json` one record per line.
    #[command(after_help = "EXAMPLES\n  errand journal tail\n  errand journal tail --follow --target orders-db\n  \
        errand journal tail --from-position 0 --output json")]
    Tail {
        /// Go on with every record as it is written, until interrupted
        #[arg(long, short = 'f')]
        follow: bool,
        /// How many of the newest records to begin with
        #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
        lines: u64,
        /// Begin at this position instead
        #[arg(long, value_name = "N", conflicts_with = "lines")]
        from_position: Option<u64>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Search records, newest first
    #[command(after_help = "EXAMPLES\n  errand journal search --kind lease.handed --from 24h\n  \
        errand journal search --task 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4 --all")]
    Search {
        #[command(flatten)]
        filter: Filter,
        /// Written at or after this time, or within this long: 2026-11-21T08:00:00Z, 2h
        #[arg(long, value_name = "TIME", value_parser = args::when)]
        from: Option<When>,
        /// Written before this time, or longer ago than this
        #[arg(long, value_name = "TIME", value_parser = args::when)]
        to: Option<When>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show the record at a position
    #[command(after_help = "EXAMPLES\n  errand journal show 1207")]
    Show {
        #[arg(value_name = "POSITION")]
        position: u64,
    },
    /// Check that no record was changed, removed or added behind the server's back
    ///
    /// Reads every record, rehashes it here and compares the whole with the root. Prints size and root, or exits 1
    /// with the first bad position. An export with filters proves each of its records, and no more. With --key the root
    /// must be signed by the journal's key; keep that key, and a checkpoint, elsewhere to notice that a whole journal was
    /// replaced.
    #[command(after_help = "EXAMPLES\n  errand journal verify\n  errand journal verify --file export.jsonl\n  \
        errand journal verify --file export.jsonl --key \"$VKEY\" --since kept.checkpoint")]
    Verify(verify::VerifyArgs),
    /// Print the newest checkpoint: size and root of the journal, signed
    ///
    /// A signed note, as transparency logs write it. Keep one elsewhere: `verify --since` shows that the journal
    /// continues it. A witness signs it, too, and --add-cosignature gives that signature back: exports carry it.
    #[command(after_help = "EXAMPLES\n  errand journal checkpoint > kept.checkpoint\n  \
        errand journal checkpoint --vkey\n  errand journal checkpoint --add-cosignature cosigned.checkpoint")]
    Checkpoint(checkpoint::CheckpointArgs),
    /// Print the journal as it is stored, or as others read it
    ///
    /// jsonl is what `verify --file` reads. With filters it is a selection: each line proves its record, and the first
    /// says that completeness is not claimed. ocsf and cef are for those who sort events; each line names the position
    /// and the leaf of its record.
    #[command(after_help = "EXAMPLES\n  errand journal export > export.jsonl\n  \
        errand journal export | errand journal verify --file -\n  \
        errand journal export --format ocsf --from 24h --target orders-db")]
    Export {
        /// How a record reads: as it is stored, as an OCSF event, or as a CEF line
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ExportFormat::Jsonl)]
        format: ExportFormat,
        #[command(flatten)]
        filter: Filter,
        /// Written at or after this time, or within this long: 2026-11-21T08:00:00Z, 2h
        #[arg(long, value_name = "TIME", value_parser = args::when)]
        from: Option<When>,
        /// Written before this time, or longer ago than this
        #[arg(long, value_name = "TIME", value_parser = args::when)]
        to: Option<When>,
    },
    /// Erase people's names and words from records; every hash stays true
    ///
    /// Erases the user and the intent that stand beside records, and the copies in the tasks they belong to. Names the
    /// records by position or by filters. What is still in use is not erased: end the task, release the hold. Exports,
    /// backups and what sinks were given before keep their copies. The redaction is itself a record. Asks first.
    #[command(after_help = "EXAMPLES\n  errand journal redact 1207 --reason 'request 4711'\n  \
        errand journal redact --user kim@example.org --reason 'request 4711' --yes\n  \
        errand journal redact --task 0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4 --field intent --reason 'a secret in the text'")]
    Redact(redact::RedactArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    Jsonl,
    Ocsf,
    Cef,
}

impl ExportFormat {
    /// As the server is asked; the form it has by itself is not asked for.
    fn asked(self) -> Option<&'static str> {
        match self {
            Self::Jsonl => None,
            Self::Ocsf => Some("ocsf"),
            Self::Cef => Some("cef"),
        }
    }
}

/// The filters of `tail`, `search`, `export` and `redact`.
#[derive(Debug, Clone, clap::Args)]
pub struct Filter {
    /// Records of this kind, such as lease.handed
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// About this workload
    #[arg(long, value_name = "ID")]
    workload: Option<String>,
    /// About this user
    #[arg(long, value_name = "SUBJECT")]
    user: Option<String>,
    /// About this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// About this task
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// About this credential: a serial, token id or lease id
    #[arg(long, value_name = "ID")]
    credential: Option<String>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        let Self { kind, workload, user, target, task, credential } = self;
        [kind, workload, user, target, task, credential].into_iter().all(Option::is_none)
    }
    fn query(&self) -> Query {
        Query::default()
            .with("kind", self.kind.as_ref())
            .with("workload", self.workload.as_ref())
            .with("user", self.user.as_ref())
            .with("target", self.target.as_ref())
            .with("task", self.task.as_ref())
            .with("credential", self.credential.as_ref())
    }
    fn between(&self, from: Option<When>, to: Option<When>, ctx: &Ctx) -> Query {
        let now = ctx.clock.now();
        self.query().with("from", from.map(|w| w.resolve(now))).with("to", to.map(|w| w.resolve(now)))
    }
    /// The same decision on a record of a stream, which the server does not filter.
    fn admits(&self, record: &Value) -> bool {
        let is = |wanted: &Option<String>, path: &[&str]| {
            let found = path.iter().try_fold(record, |v, key| v.get(key)).and_then(Value::as_str);
            wanted.as_deref().is_none_or(|w| found == Some(w))
        };
        is(&self.kind, &["kind"])
            && is(&self.workload, &["workload"])
            && is(&self.user, &["user"])
            && is(&self.target, &["target"])
            && is(&self.task, &["task_id"])
            && is(&self.credential, &["credential", "id"])
    }
}

pub async fn run(command: JournalCommand, ctx: &Ctx) -> Result<i32> {
    match command.verb {
        JournalVerb::Tail { follow, lines, from_position, filter } => {
            tail(follow, lines, from_position, &filter, ctx).await
        }
        JournalVerb::Search { filter, from, to, paging } => {
            let query = filter.between(from, to, ctx);
            let (rows, next) = ctx.admin()?.list("/v1/journal", "records", &query, paging).await?;
            ctx.out.list("records", &rows, next.as_ref(), &columns())?;
            Ok(DONE)
        }
        JournalVerb::Show { position } => {
            let record = ctx.admin()?.get(&format!("/v1/journal/{position}"), &Query::default()).await?;
            ctx.out.one(&record, &show::fields())?;
            Ok(DONE)
        }
        JournalVerb::Verify(args) => verify::run(args, ctx).await,
        JournalVerb::Checkpoint(args) => checkpoint::run(args, ctx).await,
        JournalVerb::Redact(args) => redact::run(args, ctx).await,
        JournalVerb::Export { format, filter, from, to } => {
            export(&filter.between(from, to, ctx).with("format", format.asked()), ctx).await
        }
    }
}

async fn tail(follow: bool, newest: u64, from: Option<u64>, filter: &Filter, ctx: &Ctx) -> Result<i32> {
    let admin = ctx.admin()?;
    let from = match from {
        Some(position) => position,
        None => {
            let root = admin.get("/v1/journal/root", &Query::default()).await?;
            let number = |name: &str| root.get(name).and_then(Value::as_u64).unwrap_or_default();
            number("size").saturating_sub(newest).max(number("start"))
        }
    };
    let query = Query::default().with("from", Some(from)).with("follow", Some(follow));
    let mut lines = admin.lines("/v1/journal/tail", &query).await?;
    while let Some(line) = lines.next().await? {
        if line.trim().is_empty() {
            continue;
        }
        let record = record(&line)?;
        if filter.admits(&record) {
            print(&record, ctx)?;
        }
    }
    Ok(DONE)
}

async fn export(query: &Query, ctx: &Ctx) -> Result<i32> {
    let mut lines = ctx.admin()?.lines("/v1/journal/export", query).await?;
    while let Some(line) = lines.next().await? {
        ctx.out.text(&format!("{line}\n"))?;
    }
    Ok(DONE)
}

/// One line of a stream of records.
pub(super) fn record(line: &str) -> Result<Value> {
    serde_json::from_str(line).map_err(|e| {
        CliError::failed(format!("the server's stream holds a line that is not JSON: {e}"))
            .hint("check that this program and the server are of the same version")
    })
}

/// Where a credential is looked up.
pub(super) fn who_path(name: &str) -> String {
    format!("/v1/who/{}", encode(name))
}
