//! `SyncAuthorizedEntries`: first everything (or, when it is much, ids and revisions in pages), then whole entries for the
//! ids that are asked for. The mask of the first request counts for the whole stream.

use crate::grpc::filter::mask_entry;
use proto_types::Entry;
use proto_wire::{
    convert::entry_out,
    spire::api::{
        server::entry::v1::{EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse},
        types::EntryMask,
    },
};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// Most entries, or revisions, in one message.
const PAGE: usize = 500;

type Answers = mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>;

/// Answers request after request until the agent has enough.
pub(super) async fn answer(
    mut incoming: Streaming<SyncAuthorizedEntriesRequest>,
    entries: Vec<Arc<Entry>>,
    answers: Answers,
) {
    let mut first: Option<Option<EntryMask>> = None;
    while let Ok(Some(wish)) = incoming.message().await {
        let pages = match &first {
            Some(mask) => asked_pages(&entries, &wish.ids, mask.as_ref()),
            None => match check_first(&wish) {
                Ok(()) => {
                    let mask = first.insert(wish.output_mask);
                    first_pages(&entries, mask.as_ref())
                }
                Err(refused) => {
                    let _ = answers.send(Err(refused)).await;
                    return;
                }
            },
        };
        for page in pages {
            if answers.send(Ok(page)).await.is_err() {
                return;
            }
        }
    }
}

fn check_first(wish: &SyncAuthorizedEntriesRequest) -> Result<(), Status> {
    if !wish.ids.is_empty() {
        return Err(Status::invalid_argument("the first request names no ids: it is answered with what there is"));
    }
    if wish.output_mask.is_some_and(|m| !m.revision_number) {
        return Err(Status::invalid_argument(
            "the revision number cannot be masked: by it an agent knows what changed",
        ));
    }
    Ok(())
}

fn first_pages(entries: &[Arc<Entry>], mask: Option<&EntryMask>) -> Vec<SyncAuthorizedEntriesResponse> {
    if entries.len() <= PAGE {
        let entries = entries.iter().map(|e| mask_entry(entry_out(e), mask)).collect();
        return vec![SyncAuthorizedEntriesResponse { entry_revisions: vec![], entries, more: false }];
    }
    let last = entries.len().div_ceil(PAGE) - 1;
    let pages = entries.chunks(PAGE).enumerate();
    pages
        .map(|(i, chunk)| SyncAuthorizedEntriesResponse {
            entry_revisions: chunk.iter().map(|e| revision(e)).collect(),
            entries: vec![],
            more: i < last,
        })
        .collect()
}

fn asked_pages(entries: &[Arc<Entry>], ids: &[String], mask: Option<&EntryMask>) -> Vec<SyncAuthorizedEntriesResponse> {
    let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
    let found: Vec<_> = entries.iter().filter(|e| wanted.contains(e.id.as_str())).collect();
    let last = found.len().div_ceil(PAGE).saturating_sub(1);
    let mut pages: Vec<_> = found
        .chunks(PAGE)
        .enumerate()
        .map(|(i, chunk)| SyncAuthorizedEntriesResponse {
            entry_revisions: vec![],
            entries: chunk.iter().map(|e| mask_entry(entry_out(e), mask)).collect(),
            more: i < last,
        })
        .collect();
    if pages.is_empty() {
        pages.push(SyncAuthorizedEntriesResponse::default());
    }
    pages
}

fn revision(e: &Entry) -> EntryRevision {
    EntryRevision {
        id: e.id.to_string(),
        revision_number: i64::try_from(e.revision).unwrap_or(i64::MAX),
        created_at: e.created_at.as_secs(),
    }
}
