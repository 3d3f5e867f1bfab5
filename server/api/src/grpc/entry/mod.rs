//! `spire.api.server.entry.v1.Entry`: registration entries for operators, authorised entries for agents.

mod sync;
mod wanted;

use super::{
    caller::{agent_caller, operator},
    filter::mask_entry,
    page::Page,
};
use crate::{
    Api,
    status::{item, status, wire},
};
use futures_util::Stream;
use proto_types::{Entry, EntryId};
use proto_wire::{
    convert::{entry_in, entry_out},
    spire::api::{
        server::entry::v1::{
            BatchCreateEntryRequest, BatchCreateEntryResponse, BatchDeleteEntryRequest, BatchDeleteEntryResponse,
            BatchUpdateEntryRequest, BatchUpdateEntryResponse, CountEntriesRequest, CountEntriesResponse,
            GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, GetEntryRequest, ListEntriesRequest,
            ListEntriesResponse, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
            batch_create_entry_response, batch_delete_entry_response, batch_update_entry_response,
            count_entries_request, entry_server::Entry as Api_, list_entries_request,
        },
        types::{self, EntryMask},
    },
};
use server_core::entry::is_for_nodes;
use server_service::Created;
use std::{pin::Pin, sync::Arc};
use tonic::{Code, Request, Response, Status, Streaming};
use wanted::Wanted;

/// Most entries in one batch.
const MAX_BATCH: usize = 1000;

pub(crate) struct Service(pub Api);

impl Service {
    async fn create(&self, wanted: &types::Entry, operator: Option<String>) -> Result<Created, Status> {
        let service = &self.0.service;
        let fallback = || service.ports().entropy.uuid_v7(service.now()).to_string();
        let entry = entry_in(wanted, &service.settings().trust_domain, fallback).map_err(wire)?;
        service.entry_create(entry, operator).await.map_err(status)
    }

    async fn update(
        &self,
        wanted: &types::Entry,
        mask: Option<&EntryMask>,
        operator: Option<String>,
    ) -> Result<Arc<Entry>, Status> {
        let service = &self.0.service;
        let id = EntryId::new(wanted.id.clone()).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let before = service
            .read(|s| s.entries.get(&id).cloned())
            .ok_or_else(|| Status::not_found(format!("entry `{id}` does not exist")))?;
        let merged = merge(entry_out(&before), wanted, mask);
        let entry = entry_in(&merged, &service.settings().trust_domain, String::new).map_err(wire)?;
        service.entry_update(entry, operator).await.map_err(status)
    }

    fn wanted(&self, filter: Option<list_entries_request::Filter>) -> Result<Wanted, Status> {
        Wanted::read(filter, &self.0.service.settings().trust_domain)
    }

    fn select(&self, filter: &Wanted) -> Vec<Arc<Entry>> {
        self.0.service.read(|s| s.entries.iter().filter(|e| filter.admits(e)).cloned().collect())
    }
}

/// The new entry: what the mask names from `wanted`, the rest as it was. No mask means all of it.
fn merge(before: types::Entry, wanted: &types::Entry, mask: Option<&EntryMask>) -> types::Entry {
    let Some(m) = mask else { return types::Entry { id: before.id, ..wanted.clone() } };
    let mut e = before;
    macro_rules! take {
        ($($field:ident),*) => { $( if m.$field { e.$field = wanted.$field.clone(); } )* };
    }
    take!(
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        store_svid,
        jwt_svid_ttl,
        hint,
        additional_attributes
    );
    e
}

#[tonic::async_trait]
impl Api_ for Service {
    async fn count_entries(
        &self,
        request: Request<CountEntriesRequest>,
    ) -> Result<Response<CountEntriesResponse>, Status> {
        operator(&self.0, &request)?;
        let filter = request.into_inner().filter.map(|f: count_entries_request::Filter| list_entries_request::Filter {
            by_spiffe_id: f.by_spiffe_id,
            by_parent_id: f.by_parent_id,
            by_selectors: f.by_selectors,
            by_federates_with: f.by_federates_with,
            by_hint: f.by_hint,
            by_downstream: f.by_downstream,
        });
        let count = self.select(&self.wanted(filter)?).len();
        Ok(Response::new(CountEntriesResponse { count: i32::try_from(count).unwrap_or(i32::MAX) }))
    }

    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        operator(&self.0, &request)?;
        let request = request.into_inner();
        let page = Page::read(&request.page_token, request.page_size)?;
        let found = self.select(&self.wanted(request.filter)?);
        let (found, next_page_token) = page.cut(found, |e| e.id.to_string());
        let mask = request.output_mask.as_ref();
        let entries = found.iter().map(|e| mask_entry(entry_out(e), mask)).collect();
        Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
    }

    async fn get_entry(&self, request: Request<GetEntryRequest>) -> Result<Response<types::Entry>, Status> {
        operator(&self.0, &request)?;
        let request = request.into_inner();
        let id = EntryId::new(request.id).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let found = self.0.service.read(|s| s.entries.get(&id).cloned());
        let found = found.ok_or_else(|| Status::not_found(format!("entry `{id}` does not exist")))?;
        Ok(Response::new(mask_entry(entry_out(&found), request.output_mask.as_ref())))
    }

    async fn batch_create_entry(
        &self,
        request: Request<BatchCreateEntryRequest>,
    ) -> Result<Response<BatchCreateEntryResponse>, Status> {
        let operator = operator(&self.0, &request)?;
        let request = request.into_inner();
        bounded(request.entries.len())?;
        let mask = request.output_mask.as_ref();
        let mut results = Vec::with_capacity(request.entries.len());
        for wanted in &request.entries {
            let (status, entry) = match self.create(wanted, operator.clone()).await {
                Ok(Created::New(e)) => (item(Ok(())), Some(e)),
                // SPIRE's clients read the standing entry from an ALREADY_EXISTS.
                Ok(Created::Exists(e)) => {
                    (item(Err(&Status::new(Code::AlreadyExists, "similar entry already exists"))), Some(e))
                }
                Err(e) => (item(Err(&e)), None),
            };
            let entry = entry.map(|e| mask_entry(entry_out(&e), mask));
            results.push(batch_create_entry_response::Result { status, entry });
        }
        Ok(Response::new(BatchCreateEntryResponse { results }))
    }

    async fn batch_update_entry(
        &self,
        request: Request<BatchUpdateEntryRequest>,
    ) -> Result<Response<BatchUpdateEntryResponse>, Status> {
        let operator = operator(&self.0, &request)?;
        let request = request.into_inner();
        bounded(request.entries.len())?;
        let mut results = Vec::with_capacity(request.entries.len());
        for wanted in &request.entries {
            let updated = self.update(wanted, request.input_mask.as_ref(), operator.clone()).await;
            results.push(match updated {
                Ok(e) => batch_update_entry_response::Result {
                    status: item(Ok(())),
                    entry: Some(mask_entry(entry_out(&e), request.output_mask.as_ref())),
                },
                Err(e) => batch_update_entry_response::Result { status: item(Err(&e)), entry: None },
            });
        }
        Ok(Response::new(BatchUpdateEntryResponse { results }))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<BatchDeleteEntryRequest>,
    ) -> Result<Response<BatchDeleteEntryResponse>, Status> {
        let operator = operator(&self.0, &request)?;
        let ids = request.into_inner().ids;
        bounded(ids.len())?;
        let mut results = Vec::with_capacity(ids.len());
        for text in ids {
            let deleted = match EntryId::new(text.clone()) {
                Ok(id) => self.0.service.entry_delete(&id, operator.clone()).await.map_err(status),
                Err(e) => Err(Status::invalid_argument(e.to_string())),
            };
            results.push(batch_delete_entry_response::Result { status: item(deleted.as_ref().map(drop)), id: text });
        }
        Ok(Response::new(BatchDeleteEntryResponse { results }))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<GetAuthorizedEntriesRequest>,
    ) -> Result<Response<GetAuthorizedEntriesResponse>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let mask = request.into_inner().output_mask;
        let entries = self.authorized(&caller).iter().map(|e| mask_entry(entry_out(e), mask.as_ref())).collect();
        Ok(Response::new(GetAuthorizedEntriesResponse { entries }))
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let caller = agent_caller(&self.0, &request).await?;
        let entries = self.authorized(&caller);
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        tokio::spawn(sync::answer(request.into_inner(), entries, tx));
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(rx))))
    }
}

impl Service {
    fn authorized(&self, caller: &server_service::AgentCaller) -> Vec<Arc<Entry>> {
        let earned = self.0.service.read(|s| s.earned(caller.node()));
        earned.into_iter().filter(|e| !is_for_nodes(e)).collect()
    }
}

fn bounded(n: usize) -> Result<(), Status> {
    if n == 0 || n > MAX_BATCH { Err(Status::invalid_argument("a batch has 1 to 1000 items")) } else { Ok(()) }
}
