//! `errand journal checkpoint`: what the journal says of itself now, the key that verifies it, and what witnesses add.

use crate::{
    DONE,
    admin_client::Query,
    error::{CliError, Result},
    verbs::Ctx,
};
use serde_json::{Value, json};
use server_core::journal::SignedNote;
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

/// Longest file that is read as a note, bytes.
const MAX_NOTE: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
pub struct CheckpointArgs {
    /// Print the key that verifies checkpoints, for `verify --key`
    #[arg(long, conflicts_with = "add_cosignature")]
    vkey: bool,
    /// Keep the signatures of witnesses in this file, which holds a checkpoint of this journal; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    add_cosignature: Option<PathBuf>,
}

pub async fn run(args: CheckpointArgs, ctx: &Ctx) -> Result<i32> {
    let admin = ctx.admin()?;
    let answer = match &args.add_cosignature {
        Some(path) => {
            let body = json!({ "checkpoint": read_note(path)?.to_string() });
            admin.post("/v1/journal/checkpoint/cosignatures", &body).await?
        }
        None => admin.get("/v1/journal/checkpoint", &Query::default()).await?,
    };
    if ctx.out.is_json() {
        ctx.out.json(&answer)?;
    } else if args.vkey {
        let key = answer["key"].as_str();
        let missing = || CliError::failed("the journal has no key yet").hint("see `errand authority`");
        ctx.out.text(&format!("{}\n", key.ok_or_else(missing)?))?;
    } else {
        ctx.out.text(&note_in(&answer["checkpoint"])?.to_string())?;
    }
    Ok(DONE)
}

/// A checkpoint in the server's answer.
pub fn note_in(answer: &Value) -> Result<SignedNote> {
    let note = answer.as_str().unwrap_or_default().parse();
    note.map_err(|e| CliError::failed(format!("the server's checkpoint: {e}")))
}

/// A checkpoint in a file. Who signed it is not looked at.
pub fn read_note(path: &Path) -> Result<SignedNote> {
    let fail =
        |e: &dyn std::fmt::Display| CliError::failed(format!("cannot read the checkpoint: {e}")).at(path.display());
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|e| fail(&e))?)
    };
    let mut text = String::new();
    input.take(MAX_NOTE + 1).read_to_string(&mut text).map_err(|e| fail(&e))?;
    text.parse().map_err(|e| fail(&e))
}
