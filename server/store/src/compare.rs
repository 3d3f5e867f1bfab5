//! A store at rest beside the record of what it once was: an export of its journal, or the file that a sink wrote.
//!
//! Decides which records of that file the store has lost. Opens nothing as a server does, and changes nothing.

use crate::{
    StorePlace,
    postgres::{self, Connector},
    sqlite::archive,
};
use proto_types::{Clock, Position, Record};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use server_core::{
    journal::{ExportVerifier, Hash, Lost, Trust, Verdict, decode, leaf_hash, parse_line},
    ports::StoredRecord,
};
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    sync::Arc,
};

/// The longest line, bytes: a record's body has at most 64 KiB.
const MAX_LINE: u64 = 1024 * 1024;
/// Most records that may be lost: they are held in memory.
const MAX_LOST: usize = 5_000_000;
/// Records read at a time.
const PAGE: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("{path} cannot be read: {why}")]
    Read { path: String, why: String },
    #[error("line {line} of {path}: {why}")]
    Line { path: String, line: u64, why: String },
    #[error("{path} is no whole export: {why}")]
    Export { path: String, why: String },
    #[error("{path} is of the store {theirs}, and this one is {ours}")]
    OtherStore { path: String, theirs: String, ours: String },
    #[error(
        "nothing in {path} can be read: it is neither an export of the journal nor what a sink writes with format = json"
    )]
    Nothing { path: String },
    #[error("the store cannot be read: {0}")]
    Store(String),
    #[error("{path} holds more than {MAX_LOST} records that the store lacks: is it this store's?")]
    TooMany { path: String },
}

/// What the comparison came to.
#[derive(Debug)]
pub struct Comparison {
    pub store_id: String,
    pub epoch: u64,
    /// Records in the store.
    pub size: u64,
    /// Records that both have, without a gap from the file's first on.
    pub same: u64,
    /// The first position at which the store has another record than the file: it went on by another way.
    pub forked_at: Option<Position>,
    pub lost: Lost,
    /// Lines that a crash had cut short.
    pub cut: u64,
    /// Whether a root vouches for the file as a whole: it is an export.
    pub whole: bool,
}

/// Holds the file `from` against the store.
pub async fn compare(place: &StorePlace, from: &Path, clock: Arc<dyn Clock>) -> Result<Comparison, CompareError> {
    let path = from.display().to_string();
    let mut store = Records::open(place, clock).await?;
    let mut lines = Lines::open(from)?;
    let mut found = Comparison {
        store_id: store.store_id.clone(),
        epoch: store.epoch,
        size: store.size,
        same: 0,
        forked_at: None,
        lost: Lost::default(),
        cut: 0,
        whole: false,
    };
    let mut verifier = None;
    // A sink hands a record over again when it does not know whether it came.
    let mut next = None;
    while let Some(line) = lines.next()? {
        if lines.at == 1 && line.starts_with("{\"errand_journal") {
            let export = |why: String| CompareError::Export { path: path.clone(), why };
            verifier = Some(ExportVerifier::new(&line, &Trust::default()).map_err(|e| export(e.to_string()))?);
            let theirs = header_store(&line);
            if theirs != store.store_id {
                return Err(CompareError::OtherStore { path, theirs, ours: store.store_id });
            }
            found.whole = true;
            continue;
        }
        if let Some(verifier) = &mut verifier {
            verifier.lines(&[&line]);
        }
        let at = lines.at;
        let bad = |why: String| CompareError::Line { path: path.clone(), line: at, why };
        let line = match (Told::read(&line), &verifier) {
            (Ok(told), _) => told,
            (Err(_), None) => {
                found.cut += 1;
                continue;
            }
            (Err(why), Some(_)) => return Err(bad(why)),
        };
        let position = line.position();
        if next.is_some_and(|next| position.0 < next) {
            continue;
        }
        next = Some(position.0 + 1);
        if position.0 < store.size {
            match store.record(position.0).await? {
                // Behind a fork a sink goes on with what the store has now.
                Some(kept) if line.is(kept) => {
                    found.same += u64::from(found.forked_at.is_none());
                    continue;
                }
                // The store has let go of it in time: nothing is known.
                None => continue,
                Some(_) => {
                    found.forked_at.get_or_insert(position);
                }
            }
        }
        if found.lost.kinds.values().sum::<u64>() >= MAX_LOST as u64 {
            return Err(CompareError::TooMany { path });
        }
        found.lost.add(position, &line.record().map_err(bad)?);
    }
    if found.same == 0 && found.lost.first.is_none() {
        return Err(CompareError::Nothing { path });
    }
    match verifier.map(ExportVerifier::finish) {
        None | Some(Verdict::Ok { .. } | Verdict::Included { .. }) => Ok(found),
        Some(other) => Err(CompareError::Export { path, why: format!("{other:?}") }),
    }
}

/// One line: of an export, with the stored bytes, or of a sink, with what they say.
enum Told {
    Stored(Box<StoredRecord>),
    Said(Position, Box<Record>),
}

impl Told {
    fn read(line: &str) -> Result<Self, String> {
        match parse_line(line) {
            Ok((record, _)) if leaf_hash(&record.body) != record.leaf => {
                Err("its leaf is not the hash of its body".into())
            }
            Ok((record, _)) => Ok(Self::Stored(Box::new(record))),
            Err(why) => {
                let mut said: Value = serde_json::from_str(line).map_err(|_| why.clone())?;
                let position = said.as_object_mut().and_then(|fields| fields.remove("position")?.as_u64());
                let record = serde_json::from_value(said).map_err(|_| why.clone())?;
                Ok(Self::Said(Position(position.ok_or(why)?), Box::new(record)))
            }
        }
    }

    fn position(&self) -> Position {
        match self {
            Self::Stored(record) => record.position,
            Self::Said(position, _) => *position,
        }
    }

    /// Whether the store has the same record: by its hash, or by everything a sink is told but names and words, which may have
    /// been erased.
    fn is(&self, kept: &Kept) -> bool {
        match self {
            Self::Stored(record) => record.leaf == kept.leaf,
            Self::Said(_, said) => decode(&kept.body, &[]).is_ok_and(|kept| {
                let plain = |record: &Record| Record { user: None, intent: None, ..record.clone() };
                plain(said) == plain(&kept)
            }),
        }
    }

    fn record(self) -> Result<Record, String> {
        match self {
            Self::Stored(record) => decode(&record.body, &record.private).map_err(|e| e.to_string()),
            Self::Said(_, record) => Ok(*record),
        }
    }
}

fn header_store(line: &str) -> String {
    let header: Value = serde_json::from_str(line).unwrap_or_default();
    header["store_id"].as_str().unwrap_or_default().into()
}

/// Lines of bounded length, counted from 1.
struct Lines {
    file: BufReader<File>,
    path: String,
    at: u64,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, CompareError> {
        let shown = path.display().to_string();
        let file =
            File::open(path).map_err(|e| CompareError::Read { path: shown.clone(), why: e.kind().to_string() })?;
        Ok(Self { file: BufReader::new(file), path: shown, at: 0 })
    }

    fn next(&mut self) -> Result<Option<String>, CompareError> {
        let mut line = Vec::new();
        let fail = |why: String| CompareError::Read { path: self.path.clone(), why };
        (&mut self.file).take(MAX_LINE).read_until(b'\n', &mut line).map_err(|e| fail(e.to_string()))?;
        if line.is_empty() {
            return Ok(None);
        }
        self.at += 1;
        if line.len() as u64 == MAX_LINE && line.last() != Some(&b'\n') {
            return Err(fail(format!("line {} has more than {MAX_LINE} bytes", self.at)));
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.trim_end_matches('\n').into()))
    }
}

/// A record as it lies in a store.
pub(crate) struct Kept {
    pub leaf: Hash,
    pub body: Vec<u8>,
}

/// The records of a store, a page at a time.
struct Records {
    source: Source,
    store_id: String,
    epoch: u64,
    size: u64,
    page: (u64, Vec<Option<Kept>>),
}

enum Source {
    File(Connection),
    Database(postgres::PgConnection),
}

impl Records {
    async fn open(place: &StorePlace, clock: Arc<dyn Clock>) -> Result<Self, CompareError> {
        let said = |e: &dyn std::fmt::Display| CompareError::Store(e.to_string());
        let (source, (store_id, epoch, size)) = match place {
            StorePlace::Sqlite(path) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let conn = Connection::open_with_flags(path, flags).map_err(|e| said(&e))?;
                let sql = "SELECT store_id, epoch, size FROM meta, journal_head";
                let row = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).map_err(|e| said(&e))?;
                (Source::File(conn), row)
            }
            StorePlace::Postgres(config) => {
                let mut conn = Connector::new(config.clone(), clock).primary().await.map_err(CompareError::Store)?;
                let (id, epoch, size) = postgres::standing(&mut conn).await.map_err(|e| said(&e))?;
                (Source::Database(conn), (id, epoch, size))
            }
        };
        Ok(Self { source, store_id, epoch, size, page: (0, Vec::new()) })
    }

    /// The record at a position; `None` when it is no longer kept.
    async fn record(&mut self, position: u64) -> Result<Option<&Kept>, CompareError> {
        let (from, page) = &self.page;
        if !(*from..*from + page.len() as u64).contains(&position) {
            let to = self.size.min(position + PAGE);
            let said = |e: &dyn std::fmt::Display| CompareError::Store(e.to_string());
            let found = match &mut self.source {
                Source::File(conn) => archive::kept(conn, position, to).map_err(|e| said(&e))?,
                Source::Database(conn) => postgres::kept(conn, position, to).await.map_err(|e| said(&e))?,
            };
            let mut page: Vec<_> = (position..to).map(|_| None).collect();
            for (at, kept) in found {
                if let Some(slot) = at.checked_sub(position).and_then(|n| page.get_mut(usize::try_from(n).ok()?)) {
                    *slot = Some(kept);
                }
            }
            self.page = (position, page);
        }
        let (from, page) = &self.page;
        Ok(position.checked_sub(*from).and_then(|n| page.get(usize::try_from(n).ok()?)?.as_ref()))
    }
}
