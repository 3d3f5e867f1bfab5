//! `errand journal verify`: every record is rehashed here; the server is not believed.

use super::checkpoint::{note_in, read_note};
use crate::{
    DONE,
    admin_client::{AdminClient, Query},
    error::{CliError, Exit, Result},
    verbs::Ctx,
};
use serde_json::{Map, Value, json};
use server_core::journal::{Checkpoint, ExportError, ExportVerifier, Hash, Trust, Verdict, VerifierKey};
use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// Longest line of an export, bytes: a body of the largest size in base64 with its values beside it.
const MAX_LINE: u64 = 1024 * 1024;
/// Lines and bytes that are held at once, to be examined on every core.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// An export to verify without a server; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The journal's key, from `errand journal checkpoint --vkey`: its signature must stand under the export's root
    #[arg(long, value_name = "VKEY")]
    key: Option<VerifierKey>,
    /// A witness's key: its signature must stand under a checkpoint that the export continues
    #[arg(long, value_name = "VKEY", requires = "key")]
    witness: Option<VerifierKey>,
    /// A checkpoint kept from before, which the journal must continue
    #[arg(long, value_name = "FILE", requires = "key")]
    since: Option<PathBuf>,
}

pub async fn run(args: VerifyArgs, ctx: &Ctx) -> Result<i32> {
    let mut trust = Trust { key: args.key, witness: args.witness, seen: Vec::new() };
    let since = match (&args.since, &trust.key) {
        (Some(path), Some(key)) => {
            let fail = |e| CliError::failed(format!("the older checkpoint: {e}")).at(path.display());
            Some(read_note(path)?.verify(key).map_err(fail)?.checkpoint().clone())
        }
        _ => None,
    };
    match args.file {
        Some(path) => {
            trust.seen.extend(since);
            file(&path, &trust, ctx)
        }
        None => online(&ctx.admin()?, since, trust, ctx).await,
    }
}

/// Verifies what the server exports, holding a few thousand lines of it, against every checkpoint it has stored, too.
async fn online(admin: &AdminClient, since: Option<Checkpoint>, mut trust: Trust, ctx: &Ctx) -> Result<i32> {
    let place = "/v1/journal/export";
    let mut lines = admin.lines(place, &Query::default()).await?;
    let first = lines.next().await?.unwrap_or_default();
    // What the header itself says is looked at before anything is asked on its account.
    let header = start(&first, &trust).map_err(|e| e.at(place))?;
    let (size, oldest) = (header.header().root.size, header.header().pruned.size());
    match since {
        Some(seen) if seen.size < oldest => continued(admin, &header, &seen).await?,
        since => trust.seen.extend(since),
    }
    stored(admin, oldest, size, &mut trust).await?;
    let mut verifier = start(&first, &trust).map_err(|e| e.at(place))?;
    let mut batch = Batch::default();
    let mut good = true;
    while good && let Some(line) = lines.next().await? {
        good = !batch.add(&line) || batch.hand(&mut verifier);
    }
    batch.hand(&mut verifier);
    tell(verifier, &trust, ctx)
}

/// That the journal continues a checkpoint over records that are no longer kept: the server proves it.
async fn continued(admin: &AdminClient, export: &ExportVerifier, seen: &Checkpoint) -> Result<()> {
    let place = "/v1/journal/consistency";
    let asked = Query::default().with("from", Some(seen.size)).with("to", Some(export.header().root.size));
    let answer = admin.get(place, &asked).await?;
    let hash = |text: &Value| -> Option<Hash> { hex::decode(text.as_str()?).ok()?.try_into().ok() };
    let path: Option<Vec<Hash>> = answer["path"].as_array().and_then(|path| path.iter().map(hash).collect());
    let path = path.ok_or_else(|| CliError::failed("the server's proof cannot be read").at(place))?;
    export.continues(seen, &path).map_err(|e| CliError::failed(&e).hint(hint(&e)))
}

/// The checkpoints that the server has stored over `oldest` to `size` records: the more, the narrower a rewriting is told.
async fn stored(admin: &AdminClient, oldest: u64, size: u64, trust: &mut Trust) -> Result<()> {
    let place = "/v1/journal/checkpoints";
    let mut after = oldest;
    while after < size {
        let answer = admin.get(place, &Query::default().with("after", Some(after))).await?;
        let notes = answer["checkpoints"].as_array().cloned().unwrap_or_default();
        if notes.is_empty() {
            return Ok(());
        }
        for note in &notes {
            let bad = |why: &dyn std::fmt::Display| {
                CliError::failed(format!("a checkpoint that the server stored behind {after} records: {why}")).at(place)
            };
            let note = note_in(note)?;
            let claims = note.claims().map_err(|e| bad(&e))?;
            match trust.key.as_ref().map(|key| note.verify(key)) {
                // An earlier key of the journal may have signed it; its root must fit all the same.
                None | Some(Ok(_) | Err(server_core::journal::NoteError::Unsigned(_))) => {}
                Some(Err(e)) => return Err(bad(&e)),
            }
            if claims.size <= after {
                return Err(bad(&"they are not in order"));
            }
            after = claims.size;
            if claims.size <= size {
                trust.seen.push(claims);
            }
        }
    }
    Ok(())
}

/// Verifies an export without a server.
fn file(path: &Path, trust: &Trust, ctx: &Ctx) -> Result<i32> {
    let fail = |e: std::io::Error| CliError::failed(format!("cannot read the file: {e}")).at(path.display());
    let input: Box<dyn Read> =
        if path == Path::new("-") { Box::new(std::io::stdin()) } else { Box::new(File::open(path).map_err(fail)?) };
    let mut input = BufReader::with_capacity(1 << 20, input);
    let first = next(&mut input).map_err(fail)?.unwrap_or_default();
    let mut verifier = start(&first, trust).map_err(|e| e.at(path.display()))?;
    let mut batch = Batch::default();
    let mut good = true;
    while good && let Some(line) = next(&mut input).map_err(fail)? {
        good = !batch.add(&line) || batch.hand(&mut verifier);
    }
    batch.hand(&mut verifier);
    tell(verifier, trust, ctx)
}

/// The next line; `None` at the end. One that is too long is cut: it then cannot be a record, and is told as bad.
fn next(input: &mut impl BufRead) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if input.take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())))
}

/// Lines that wait to be examined together.
#[derive(Default)]
struct Batch {
    lines: Vec<String>,
    bytes: usize,
}

impl Batch {
    /// Whether there are enough.
    fn add(&mut self, line: &str) -> bool {
        let line = line.trim_end();
        if !line.is_empty() {
            self.bytes += line.len();
            self.lines.push(line.into());
        }
        self.lines.len() >= BATCH || self.bytes >= BATCH_BYTES
    }
    fn hand(&mut self, verifier: &mut ExportVerifier) -> bool {
        let Self { lines, .. } = std::mem::take(self);
        verifier.lines(&lines)
    }
}

fn start(first: &str, trust: &Trust) -> Result<ExportVerifier> {
    ExportVerifier::new(first.trim_end(), trust).map_err(|e| CliError::failed(&e).hint(hint(&e)))
}

fn hint(e: &ExportError) -> &'static str {
    match e {
        ExportError::Header(_) | ExportError::Format(_) => "make one with `errand journal export > FILE`",
        ExportError::Unsigned | ExportError::SelectionSince => "make a new export; a server signs what it exports",
        ExportError::Pruned { .. } => "ask a running server: `errand journal verify --key VKEY --since FILE`",
        ExportError::Witness(_) => {
            "add its signature with `errand journal checkpoint --add-cosignature FILE`, and export again"
        }
        _ => "keep this file as it is, and compare it with your last export or backup",
    }
}

/// Who vouches for what, as rows and as fields.
fn vouched(verifier: &ExportVerifier, trust: &Trust) -> (String, Map<String, Value>) {
    let (mut text, mut fields) = (String::new(), Map::new());
    fields.insert("store_id".into(), verifier.header().store_id.clone().into());
    let oldest = verifier.header().pruned.size();
    if oldest > 0 {
        text += &format!("from position {oldest}: those before are no longer kept, as a record among these says\n");
        fields.insert("start".into(), oldest.into());
    }
    if let Some(key) = &trust.key {
        text += &format!("signed by {}\n", key.name());
        fields.insert("signed_by".into(), key.name().into());
    }
    if let Some(witness) = verifier.witness() {
        let at = proto_types::Timestamp::from_secs(i64::try_from(witness.time).unwrap_or_default());
        text += &format!("witnessed by {} at size {}, {at}\n", witness.name, witness.size);
        let said = json!({ "name": witness.name, "size": witness.size, "time": at });
        fields.insert("witnessed".into(), said);
    }
    (text, fields)
}

fn tell(verifier: ExportVerifier, trust: &Trust, ctx: &Ctx) -> Result<i32> {
    let (vouched, mut fields) = vouched(&verifier, trust);
    let mut say = |ok: bool, more: Value| {
        fields.insert("ok".into(), ok.into());
        fields.extend(more.as_object().cloned().unwrap_or_default());
        std::mem::take(&mut fields).into()
    };
    match verifier.finish() {
        Verdict::Ok { size, root } => {
            let root = hex::encode(root);
            let document = say(true, json!({ "size": size, "root": root }));
            good(&format!("size {size}\nroot {root}\n{vouched}"), &document, ctx)
        }
        Verdict::Included { records, size, root } => {
            let root = hex::encode(root);
            let document = say(true, json!({ "records": records, "complete": false, "size": size, "root": root }));
            let line = format!("{records} records of {size}, each included; completeness not claimed\n");
            good(&format!("{line}root {root}\n{vouched}"), &document, ctx)
        }
        Verdict::Bad { position, why } => {
            let document = say(false, json!({ "first_bad_position": position.0, "why": why }));
            bad(&document, &format!("the record at position {} is not what was written: {why}", position.0), ctx)
        }
        Verdict::Rewritten { from, to } => {
            let why = format!(
                "every record fits its own hash, but the hashes of positions {from} to {to} do not come to the root: at \
                 least one record among them was replaced"
            );
            let document = say(false, json!({ "first_bad_position": from, "to": to, "why": why }));
            bad(&document, &why, ctx)
        }
    }
}

fn good(text: &str, document: &Value, ctx: &Ctx) -> Result<i32> {
    if ctx.out.is_json() {
        ctx.out.json(document)?
    } else {
        ctx.out.text(text)?
    }
    Ok(DONE)
}

/// The first bad position is data: on stdout, before the error.
fn bad(document: &Value, why: &str, ctx: &Ctx) -> Result<i32> {
    if ctx.out.is_json() {
        ctx.out.json(document)?;
        return Ok(Exit::Failed as i32);
    }
    ctx.out.text(&format!("first bad position {}\n", document["first_bad_position"]))?;
    Err(CliError::failed(why).hint("keep this journal as it is, and compare it with your last export or backup"))
}
