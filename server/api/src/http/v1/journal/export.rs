//! `/v1/journal/export`: the journal up to a root written down now, oldest record first.
//!
//! A whole export is the stored bytes, verified by the reader. One with a filter says in its first line that it is a
//! selection. The formats of others have no first line, and prove nothing.

use super::{
    super::query::{Export, Params},
    BATCH, ndjson,
};
use crate::{Api, problem::Problem};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use futures_util::stream;
use proto_types::Position;
use server_core::{
    journal::{ExportHeader, Format, Seen, admits, decode, export_header, export_line, selection_header},
    ports::{Filter, StoredRecord},
};
use server_service::ServiceError;
use std::io;

pub(super) async fn export(State(api): State<Api>, Params(asked): Params<Export>) -> Result<Response, Problem> {
    let form = Form { format: asked.format()?, filter: asked.filter()?, store_id: api.service.meta().store_id.clone() };
    api.admin.write_root().await?;
    let root = api.service.ports().archive.root().await?;
    let root = root.ok_or_else(|| Problem(ServiceError::NotFound { what: "journal root", id: "newest".into() }))?;
    let size = root.size;
    let first = form.first(ExportHeader { store_id: form.store_id.clone(), root });
    let content = form.content_type();
    let lines = stream::try_unfold((api, form, 0u64, first), move |(api, form, mut at, first)| async move {
        if let Some(first) = first {
            return Ok::<_, io::Error>(Some((first, (api, form, at, None))));
        }
        loop {
            let left = u32::try_from(size - at).unwrap_or(BATCH).min(BATCH);
            if left == 0 {
                return Ok(None);
            }
            let rows = api.service.ports().archive.stored(Position(at), left).await.map_err(io::Error::other)?;
            form.whole(at, left, &rows)?;
            let text = form.lines(&rows)?;
            // A gap ends the file early; the reader's verification names it.
            at = rows.last().map_or(size, |r| r.position.0 + 1);
            if !text.is_empty() {
                return Ok(Some((text, (api, form, at, None))));
            }
        }
    });
    let mut answer = ndjson(Body::from_stream(lines));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    Ok(answer)
}

/// What is exported, and how it reads.
struct Form {
    format: Option<Format>,
    filter: Option<Filter>,
    store_id: String,
}

impl Form {
    fn first(&self, header: ExportHeader) -> Option<String> {
        match (self.format, &self.filter) {
            (None, None) => Some(export_header(&header) + "\n"),
            (None, Some(_)) => Some(selection_header(&header) + "\n"),
            (Some(_), _) => None,
        }
    }

    fn content_type(&self) -> &'static str {
        match self.format {
            Some(Format::Cef) => "text/plain; charset=utf-8",
            None | Some(Format::Json | Format::Ocsf) => "application/x-ndjson",
        }
    }

    /// Whether nothing is missing: without a proof nobody else would notice.
    fn whole(&self, from: u64, count: u32, rows: &[StoredRecord]) -> io::Result<()> {
        let expected = from..from + u64::from(count);
        if self.proves() || rows.iter().map(|row| row.position.0).eq(expected) {
            return Ok(());
        }
        Err(io::Error::other(format!("a record after position {from} is missing; run `errand journal verify`")))
    }

    fn proves(&self) -> bool {
        self.format.is_none() && self.filter.is_none()
    }

    fn lines(&self, rows: &[StoredRecord]) -> io::Result<String> {
        let mut text = String::new();
        for row in rows {
            if let Some(line) = self.line(row)? {
                text.push_str(&line);
                text.push('\n');
            }
        }
        Ok(text)
    }

    /// `None`: not asked for. A record that must be read and cannot be ends the export with an error.
    fn line(&self, row: &StoredRecord) -> io::Result<Option<String>> {
        if self.proves() {
            return Ok(Some(export_line(row)));
        }
        let record = decode(&row.body, &row.private)
            .map_err(|e| io::Error::other(format!("the record at position {}: {e}", row.position.0)))?;
        if self.filter.as_ref().is_some_and(|filter| !admits(filter, &record)) {
            return Ok(None);
        }
        Ok(Some(match self.format {
            None => export_line(row),
            Some(format) => {
                let (store_id, position, leaf) = (&self.store_id, row.position, &row.leaf);
                format.line(&Seen { store_id, position, leaf, record: &record })
            }
        }))
    }
}
