//! `errand store`: the store itself: backed up while a server runs on it; without one put back, moved, checked, sealed anew,
//! brought up to date.
//!
//! Decides how it is asked for and told. What a copy is, and what is refused, is the store's.

use crate::{
    error::{CliError, Result},
    output::{Output, style::Style},
    serve::{compared, load_server, runtime, start_failed},
};
use proto_types::{OsEntropy, SystemClock};
use serde_json::json;
use server_core::journal::{Ending, Verdict};
use server_daemon::{
    Machine, ServerConfig, StorePlace, existing_store, open_store, rekey_store,
    store::{Backup, Copied, CopyError, Files, PostgresConfig, Progress, backup, copy, restore, verify},
};
use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(Debug, clap::Args)]
#[command(
    about = "Back up, move, check or upgrade a store",
    after_help = "EXAMPLES\n  errand store backup --config /etc/errand/server.toml --to /srv/backup/errand-monday.db\n  \
        errand store check --config /etc/errand/server.toml\n  \
        errand store copy --from sqlite:///var/lib/errand/server/errand.db --to postgres://errand@db.example.org/errand \\\n    \
        --password-file /etc/errand/db-password"
)]
pub struct StoreCommand {
    #[command(subcommand)]
    pub verb: StoreVerb,
}

#[derive(Debug, clap::Subcommand)]
pub enum StoreVerb {
    /// Rehash the whole journal of a store; exit 1 names the first record that is not what was written
    #[command(after_help = "EXAMPLES\n  errand store check --config /etc/errand/server.toml")]
    Check(PlaceArgs),
    /// Bring a store's schema up to this version, as the next start of a server would
    #[command(after_help = "EXAMPLES\n  errand store migrate --config /etc/errand/server.toml")]
    Migrate(PlaceArgs),
    /// Write an embedded store, as it is in this moment, to a new file; a server may run on it
    ///
    /// The key-encryption key is not in it: keep that elsewhere.
    #[command(
        after_help = "EXAMPLES\n  errand store backup --config /etc/errand/server.toml --to /srv/backup/errand-monday.db"
    )]
    Backup(BackupArgs),
    /// Put a backup in the place of an embedded store that is gone
    ///
    /// What was committed after the backup is not in it. Credentials of that time that are alive in targets are found by the
    /// scans and ended; nodes that joined since join again. The store says that it went back: a server opens it with
    /// `--accept-rollback`, once.
    #[command(
        after_help = "EXAMPLES\n  errand store restore --config /etc/errand/server.toml --from /srv/backup/errand-monday.db\n  \
        errand server run --config /etc/errand/server.toml --accept-rollback"
    )]
    Restore(RestoreArgs),
    /// Say what a store that went back has lost, by an export of its journal or the file of a sink; exit 1 when it has
    ///
    /// A standby that took over without the newest commits, or a backup that was put in, lacks records that were acknowledged.
    /// This names them, and what they had ended or stopped: entries, nodes, tasks, tokens, holds. Nothing is changed;
    /// `errand server run --accept-rollback --replay FILE` ends it again.
    #[command(
        after_help = "EXAMPLES\n  errand store reconcile --config /etc/errand/server.toml --from /var/log/errand/journal.jsonl\n  \
        errand server run --config /etc/errand/server.toml --accept-rollback --replay /var/log/errand/journal.jsonl"
    )]
    Reconcile(ReconcileArgs),
    /// Seal a store's signing keys with another key-encryption key
    ///
    /// The configuration names the new key; --from is the configuration that names the old one. Stop every server first, and
    /// start them with the new configuration. The keys stay the same: nobody notices. Backups made before need the old
    /// key-encryption key still.
    #[command(
        after_help = "EXAMPLES\n  errand store rekey --config /etc/errand/server.toml --from /etc/errand/server-before.toml"
    )]
    Rekey(RekeyArgs),
    /// Copy an embedded store into a PostgreSQL database: the same keys, nodes and journal there
    ///
    /// Stop the server first. A copy that was broken off goes on where it was. At the end every record is rehashed in the
    /// database, and the file gets another name: two stores of one id must never run.
    #[command(after_help = "EXAMPLES\n  errand store copy --from sqlite:///var/lib/errand/server/errand.db \\\n    \
        --to postgres://errand@db.example.org/errand --password-file /etc/errand/db-password\n\n\
        Then write the same `[store] url` into the server's configuration, and start it.")]
    Copy(CopyArgs),
}

#[derive(Debug, clap::Args)]
pub struct PlaceArgs {
    /// The server's configuration file, TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The file to write; it must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What the journal once was: `errand journal export`, or what a file sink wrote
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct RekeyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A configuration file whose [authority] names the key-encryption key of now
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
}

#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// The store to copy
    #[arg(long, value_name = "sqlite:///PATH")]
    from: String,
    /// The database, which must hold no store yet
    #[arg(long, value_name = "postgres://USER@HOST/DATABASE")]
    to: String,
    /// The file with the database's password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The authorities that the database's certificate is verified with, PEM; those of the system otherwise
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// The exit status of `errand store …`.
pub fn store(command: StoreCommand, out: Output) -> Result<i32> {
    match command.verb {
        StoreVerb::Check(args) => runtime()?.block_on(check(load_server(&args.config)?, out)),
        StoreVerb::Migrate(args) => runtime()?.block_on(async {
            let store = open_store(&load_server(&args.config)?, &machine()).await.map_err(|e| start_failed(&e))?;
            let id = store.meta().store_id;
            out.done(&json!({ "store_id": id }), format!("store {id} is up to date"))?;
            Ok(crate::DONE)
        }),
        StoreVerb::Backup(args) => {
            let Backup { records, root } = backup(&file_of(&args.place)?, &args.to).map_err(CliError::failed)?;
            told(&args.to, records, root, "in", out)
        }
        StoreVerb::Restore(args) => {
            let path = file_of(&args.place)?;
            let Backup { records, root } = restore(&args.from, &path).map_err(CliError::failed)?;
            out.note("start the server once with --accept-rollback: what came after the backup is not in it");
            told(&path, records, root, "back in", out)
        }
        StoreVerb::Reconcile(args) => runtime()?.block_on(reconcile(&args, out)),
        StoreVerb::Rekey(args) => runtime()?.block_on(async {
            let (config, old) = (load_server(&args.place.config)?, load_server(&args.from)?.kek);
            let keys = rekey_store(&config, &old, &machine()).await.map_err(CliError::failed)?;
            let said = match keys {
                0 => format!("every signing key is sealed with {} already", config.kek),
                _ => format!("{keys} signing keys are sealed with {} now", config.kek),
            };
            out.done(&json!({ "keys": keys, "kek": config.kek.to_string() }), said)?;
            Ok(crate::DONE)
        }),
        StoreVerb::Copy(args) => runtime()?.block_on(copied(args, out)),
    }
}

/// The file of an embedded store.
fn file_of(place: &PlaceArgs) -> Result<PathBuf> {
    match load_server(&place.config)?.store {
        StorePlace::Sqlite(path) => Ok(path),
        StorePlace::Postgres(_) => Err(CliError::usage("this store is a PostgreSQL database")
            .hint("back it up as you back up databases, such as with pg_basebackup or pg_dump")),
    }
}

fn told(path: &Path, records: u64, root: [u8; 32], place: &str, out: Output) -> Result<i32> {
    let root = hex::encode(root);
    let document = json!({ "records": records, "root": root, "file": path.display().to_string() });
    out.done(&document, format!("{records} records, root {root}, {place} {}", path.display()))?;
    Ok(crate::DONE)
}

fn machine() -> Machine {
    Machine { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) }
}

async fn check(config: ServerConfig, out: Output) -> Result<i32> {
    let store = existing_store(&config, &machine()).await.map_err(|e| start_failed(&e))?;
    let line = Line::new();
    let told = verify(store.as_ref(), &mut |done, of| line.tell("records", done, of)).await;
    line.end();
    match told.map_err(CliError::failed)? {
        Verdict::Ok { size, root } => {
            let document = json!({ "store_id": store.meta().store_id, "records": size, "root": hex::encode(root) });
            out.done(&document, format!("{size} records, root {}", hex::encode(root)))?;
            Ok(crate::DONE)
        }
        Verdict::Bad { position, why } => Err(bad(format!("the record at position {}: {why}", position.0))),
        Verdict::Rewritten { from, to } => Err(bad(format!("a hash between positions {from} and {to} was replaced"))),
        Verdict::Included { .. } => Err(bad("the journal is not whole".into())),
    }
}

fn bad(why: String) -> CliError {
    CliError::failed(why).at("the journal").hint("restore a backup, and keep this store for whoever looks into it")
}

async fn reconcile(args: &ReconcileArgs, out: Output) -> Result<i32> {
    let found = compared(&load_server(&args.place.config)?, &args.from).await?;
    let lost: u64 = found.lost.kinds.values().sum();
    let ended: Vec<_> = found.lost.endings.iter().map(named).collect();
    let handed: Vec<_> = found.lost.handed.values().map(|lease| {
        json!({ "lease_id": lease.id, "target": lease.role.target(), "name": lease.name.as_str(), "expires_at": lease.expires_at })
    }).collect();
    let document = json!({
        "store_id": found.store_id, "epoch": found.epoch, "records": found.size, "in_common": found.same, "lost": lost,
        "first": found.lost.first, "last": found.lost.last, "forked_at": found.forked_at, "kinds": found.lost.kinds,
        "ended": ended.iter().map(|(what, id)| json!({ "what": what, "id": id })).collect::<Vec<_>>(), "handed": handed,
        "signed_until": found.lost.signed_until, "lines_cut_short": found.cut, "vouched_for": found.whole,
    });
    let mut said = format!("the store has {} records, {} of them in {}", found.size, found.same, args.from.display());
    if let (Some(first), Some(last)) = (found.lost.first, found.lost.last) {
        let kinds: Vec<_> = found.lost.kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        said += &format!("\n{lost} are lost, positions {} to {}: {}", first.0, last.0, kinds.join(", "));
        if let Some(at) = found.forked_at {
            said += &format!("\nthe store has gone on by another way since position {}", at.0);
        }
        if !ended.is_empty() {
            said += "\nthey had ended or stopped, and it stands again until they are replayed:";
            ended.iter().for_each(|(what, id)| said += &format!("\n  {what} {id}"));
        }
        if !found.lost.handed.is_empty() {
            said += "\ncredentials that left the house and have no lease here; a scan of the target ends them:";
            for lease in found.lost.handed.values() {
                let until = lease.expires_at;
                said += &format!("\n  {} {}, until {until}", lease.role.target(), lease.name.as_str());
            }
        }
        if let Some(until) = found.lost.signed_until {
            said += &format!("\nwho verifies offline believes what they signed until {until} at the latest");
        }
        if !found.whole {
            said += "\nno root vouches for this file as a whole: it is what a sink wrote";
        }
        said += &format!(
            "\nnext: errand server run --config {} --accept-rollback --replay {}",
            args.place.config.display(),
            args.from.display()
        );
    } else {
        said += "\nnothing in it is lost";
    }
    out.done(&document, said)?;
    Ok(i32::from(lost > 0))
}

/// What was ended, for people.
fn named(ending: &Ending) -> (&'static str, String) {
    match ending {
        Ending::Entry(id) => ("entry", id.to_string()),
        Ending::NodeEvicted(id) => ("evicted node", id.to_string()),
        Ending::NodeBanned(id) => ("banned node", id.to_string()),
        Ending::Task(id) => ("task", id.to_string()),
        Ending::Held(hold) => ("hold", hold.id.to_string()),
        Ending::Token(record, _) => ("token", record.credential.as_ref().map(|c| c.id.clone()).unwrap_or_default()),
    }
}

async fn copied(args: CopyArgs, out: Output) -> Result<i32> {
    let path = args.from.strip_prefix("sqlite://").filter(|path| path.starts_with('/'));
    let from = PathBuf::from(path.ok_or_else(|| CliError::usage("--from is sqlite:///absolute/path"))?);
    let files = Files { password: args.password_file, ca: args.ca_file, ..Files::default() };
    let to = PostgresConfig::parse(&args.to, files).map_err(|why| CliError::usage(format!("--to {why}")))?;
    let line = Line::new();
    let Machine { clock, entropy } = machine();
    let mut progress = |p: Progress| line.tell(p.table, p.done, p.of);
    let outcome = copy(&from, to, (entropy, clock), &mut progress).await;
    line.end();
    let Copied { rows, records, root, left_as } = outcome.map_err(failed)?;
    let document = json!({
        "rows": rows, "records": records, "root": hex::encode(root), "left_as": left_as.display().to_string(),
    });
    let root = hex::encode(root);
    let said =
        format!("{records} records, {rows} rows, root {root} on both sides; the file is now {}", left_as.display());
    out.done(&document, said)?;
    Ok(crate::DONE)
}

fn failed(error: CopyError) -> CliError {
    let hint = match &error {
        CopyError::File(_) => "stop the server that runs on it",
        CopyError::Write { .. } | CopyError::Read { .. } | CopyError::Database(_) => {
            "mend that and run this again: it goes on where it was"
        }
        _ => return CliError::failed(error),
    };
    CliError::failed(error).hint(hint)
}

/// How far it is, on one line of a terminal.
struct Line(bool);

impl Line {
    fn new() -> Self {
        Self(std::io::stderr().is_terminal())
    }
    fn tell(&self, what: &str, done: u64, of: u64) {
        if self.0 {
            eprint!("\r\x1b[K{}", Style::of_stderr().faint(&format!("{what}: {done} of {of}")));
        }
    }
    fn end(&self) {
        if self.0 {
            eprint!("\r\x1b[K");
        }
    }
}
