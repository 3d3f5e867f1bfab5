//! `/v1/journal/export`: the journal up to a checkpoint signed now, oldest record first.
//!
//! A whole export is the stored bytes of all that is kept, verified by the reader. One with a filter proves each of its
//! records by itself and says in its first line that it is a selection. The formats of others have no first line, and prove
//! nothing.

use super::{
    super::query::{Export, Params},
    BATCH, checkpoint, ndjson,
};
use crate::{Api, problem::Problem};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::stream;
use proto_types::{Position, Record};
use server_core::{
    journal::{ExportHeader, Format, Seen, Witnessed, admits, decode, export_header, export_line},
    ports::{Archive, Filter, StoredRecord, TreeRoot},
};
use server_service::ServiceError;
use std::{io, sync::Arc};

pub(super) async fn export(State(api): State<Api>, Params(asked): Params<Export>) -> Result<Response, Problem> {
    let (format, filter) = (asked.format()?, asked.filter()?);
    let archive = api.service.ports().archive.clone();
    // Before the root: the record that says what went is then under it.
    let pruned = archive.pruned().await?;
    let note = checkpoint::newest(&api).await?;
    let damaged = |e| Problem(ServiceError::Unavailable(format!("the newest checkpoint cannot be read: {e}")));
    let claims = note.claims().map_err(damaged)?;
    let root = TreeRoot { size: claims.size, root: claims.root };
    let form = Form { format, filter, store_id: api.service.meta().store_id.clone(), archive, size: root.size };
    let (begin, header) = (pruned.size(), ExportHeader::whole(&form.store_id, root).behind(pruned).signed(note));
    let header = header.witnessed(form.witnessed().await?);
    let (first, content) = (form.first(header), form.content_type());
    let lines = stream::try_unfold((form, begin, first), move |(form, mut at, first)| async move {
        if let Some(first) = first {
            return Ok::<_, io::Error>(Some((first, (form, at, None))));
        }
        loop {
            let left = u32::try_from(form.size.saturating_sub(at)).unwrap_or(BATCH).min(BATCH);
            if left == 0 {
                return Ok(None);
            }
            let rows = form.archive.stored(Position(at), left).await.map_err(io::Error::other)?;
            form.whole(at, left, &rows)?;
            let text = form.lines(&rows).await?;
            // A gap ends the file early; the reader's verification names it.
            at = rows.last().map_or(form.size, |r| r.position.0 + 1);
            if !text.is_empty() {
                return Ok(Some((text, (form, at, None))));
            }
        }
    });
    let mut answer = ndjson(Body::from_stream(lines));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    Ok(answer)
}

/// What is exported, up to where, and how it reads.
struct Form {
    format: Option<Format>,
    filter: Option<Filter>,
    store_id: String,
    archive: Arc<dyn Archive>,
    size: u64,
}

impl Form {
    fn first(&self, header: ExportHeader) -> Option<String> {
        let header = ExportHeader { selection: self.filter.is_some(), ..header };
        self.format.is_none().then(|| export_header(&header) + "\n")
    }

    /// The newest checkpoint that a witness signed, with the proof that this export continues it.
    async fn witnessed(&self) -> Result<Option<Witnessed>, Problem> {
        let Some(checkpoint) = self.archive.witnessed().await? else { return Ok(None) };
        let Some(size) = checkpoint.claims().ok().map(|c| c.size) else { return Ok(None) };
        let path = self.archive.consistency(size, self.size).await?;
        Ok(path.map(|consistency| Witnessed { checkpoint, consistency }))
    }

    fn content_type(&self) -> &'static str {
        match self.format {
            Some(Format::Cef) => "text/plain; charset=utf-8",
            None | Some(Format::Json | Format::Ocsf) => "application/x-ndjson",
        }
    }

    /// Whether nothing is missing: where records are left out nobody else would notice.
    fn whole(&self, from: u64, count: u32, rows: &[StoredRecord]) -> io::Result<()> {
        let expected = from..from + u64::from(count);
        let proves = self.format.is_none() && self.filter.is_none();
        if proves || rows.iter().map(|row| row.position.0).eq(expected) {
            return Ok(());
        }
        Err(io::Error::other(format!("a record after position {from} is missing; run `errand journal verify`")))
    }

    async fn lines(&self, rows: &[StoredRecord]) -> io::Result<String> {
        let lines = match (self.format, &self.filter) {
            (None, None) => rows.iter().map(|row| export_line(row, None)).collect(),
            (None, Some(filter)) => self.proven(rows, filter).await?,
            (Some(format), filter) => self.read(rows, format, filter.as_ref())?,
        };
        Ok(lines.into_iter().flat_map(|line| [line, "\n".into()]).collect())
    }

    /// Those that are asked for, each with its path to the root.
    async fn proven(&self, rows: &[StoredRecord], filter: &Filter) -> io::Result<Vec<String>> {
        let mut chosen = Vec::new();
        for row in rows {
            if admits(filter, &record(row)?) {
                chosen.push(row);
            }
        }
        let positions = chosen.iter().map(|row| row.position).collect();
        let paths = self.archive.inclusions(positions, self.size).await.map_err(io::Error::other)?;
        let paths = paths.ok_or_else(|| io::Error::other("the journal's tiles end before its checkpoint"))?;
        Ok(chosen.into_iter().zip(paths).map(|(row, path)| export_line(row, Some(&path))).collect())
    }

    fn read(&self, rows: &[StoredRecord], format: Format, filter: Option<&Filter>) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        for row in rows {
            let record = record(row)?;
            if filter.is_none_or(|filter| admits(filter, &record)) {
                let (store_id, position, leaf) = (&self.store_id, row.position, &row.leaf);
                lines.push(format.line(&Seen { store_id, position, leaf, record: &record }));
            }
        }
        Ok(lines)
    }
}

/// A record that must be read and cannot be ends the export with an error.
fn record(row: &StoredRecord) -> io::Result<Record> {
    decode(&row.body, &row.private)
        .map_err(|e| io::Error::other(format!("the record at position {}: {e}", row.position.0)))
}
