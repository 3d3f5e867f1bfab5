//! `errand journal verify`: every record is rehashed here; the server is not believed.

use crate::{
    DONE,
    admin_client::{AdminClient, Query},
    error::{CliError, Exit, Result},
    verbs::Ctx,
};
use serde_json::json;
use server_core::journal::{ExportVerifier, Verdict};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

/// Longest line of an export, bytes: a body of the largest size in base64 with its values beside it.
const MAX_LINE: u64 = 1024 * 1024;

/// Verifies what the server exports, line by line, holding none of it.
pub async fn online(admin: &AdminClient, ctx: &Ctx) -> Result<i32> {
    let place = "/v1/journal/export";
    let mut lines = admin.lines(place, &Query::default()).await?;
    let first = lines.next().await?.unwrap_or_default();
    let mut verifier = start(&first).map_err(|e| e.at(place))?;
    while let Some(line) = lines.next().await? {
        if !line.trim().is_empty() && !verifier.line(line.trim_end()) {
            break;
        }
    }
    tell(verifier, ctx)
}

/// Verifies an export without a server.
pub fn file(path: &Path, ctx: &Ctx) -> Result<i32> {
    let fail = |e: std::io::Error| CliError::failed(format!("cannot read the file: {e}")).at(path.display());
    let input: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(path).map_err(fail)?) };
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut line = String::new();
    next(&mut input, &mut line).map_err(fail)?;
    let mut verifier = start(&line).map_err(|e| e.at(path.display()))?;
    while next(&mut input, &mut line).map_err(fail)? {
        if !line.trim().is_empty() && !verifier.line(line.trim_end()) {
            break;
        }
    }
    tell(verifier, ctx)
}

/// The next line; `false` at the end. One that is too long is cut: it then cannot be a record, and is told as bad.
fn next(input: &mut impl BufRead, line: &mut String) -> std::io::Result<bool> {
    line.clear();
    let mut bytes = Vec::new();
    if input.take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(false);
    }
    line.push_str(&String::from_utf8_lossy(&bytes));
    Ok(true)
}

fn start(first: &str) -> Result<ExportVerifier> {
    ExportVerifier::new(first.trim_end())
        .map_err(|e| CliError::failed(e).hint("make a whole one with `errand journal export > FILE`"))
}

fn tell(verifier: ExportVerifier, ctx: &Ctx) -> Result<i32> {
    let store = verifier.header().store_id.clone();
    match verifier.finish() {
        Verdict::Ok { size, root } => {
            let root = hex::encode(root);
            if ctx.out.is_json() {
                ctx.out.json(&json!({ "ok": true, "store_id": store, "size": size, "root": root }))?;
            } else {
                ctx.out.text(&format!("size {size}\nroot {root}\n"))?;
            }
            Ok(DONE)
        }
        Verdict::Bad { position, why } => bad(
            json!({ "ok": false, "store_id": store, "first_bad_position": position.0, "why": why }),
            &format!("the record at position {} is not what was written: {why}", position.0),
            ctx,
        ),
        Verdict::Rewritten { from, to } => {
            let why = format!(
                "every record fits its own hash, but the hashes of positions {from} to {to} do not come to the root: at \
                 least one record among them was replaced"
            );
            bad(json!({ "ok": false, "store_id": store, "first_bad_position": from, "to": to, "why": why }), &why, ctx)
        }
    }
}

/// The first bad position is data: on stdout, before the error.
fn bad(document: serde_json::Value, why: &str, ctx: &Ctx) -> Result<i32> {
    if ctx.out.is_json() {
        ctx.out.json(&document)?;
        return Ok(Exit::Failed as i32);
    }
    ctx.out.text(&format!("first bad position {}\n", document["first_bad_position"]))?;
    Err(CliError::failed(why).hint("keep this journal as it is, and compare it with your last export or backup"))
}
