//! Which entries a list or a count means, with SPIRE's meanings: every field that is set narrows.

use crate::grpc::filter::{BySelectors, MAX_TERMS, federated_in, member_in};
use proto_types::{Entry, SpiffeId, TrustDomain};
use proto_wire::spire::api::{
    server::entry::v1::list_entries_request,
    types::{FederatesWithMatch, Spiffeid, federates_with_match::MatchBehavior},
};
use tonic::Status;

/// A filter that was read.
#[derive(Default)]
pub(super) struct Wanted {
    spiffe_id: Option<SpiffeId>,
    parent_id: Option<SpiffeId>,
    selectors: Option<BySelectors>,
    federates_with: Option<(Vec<String>, MatchBehavior)>,
    hint: Option<String>,
    downstream: Option<bool>,
}

impl Wanted {
    pub(super) fn read(filter: Option<list_entries_request::Filter>, td: &TrustDomain) -> Result<Self, Status> {
        let Some(f) = filter else { return Ok(Self::default()) };
        let id = |id: Option<Spiffeid>, field| id.map(|i| member_in(Some(&i), field, td)).transpose();
        Ok(Self {
            spiffe_id: id(f.by_spiffe_id, "by_spiffe_id")?,
            parent_id: id(f.by_parent_id, "by_parent_id")?,
            selectors: BySelectors::read(f.by_selectors.as_ref())?,
            federates_with: f.by_federates_with.map(domains).transpose()?,
            hint: f.by_hint.filter(|h| !h.is_empty()),
            downstream: f.by_downstream,
        })
    }

    pub(super) fn admits(&self, e: &Entry) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| &e.spiffe_id == id)
            && self.parent_id.as_ref().is_none_or(|id| &e.parent_id == id)
            && self.selectors.as_ref().is_none_or(|s| s.admits(&e.selectors))
            && self.federates_with.as_ref().is_none_or(|(names, how)| federates(e, names, *how))
            && self.hint.as_ref().is_none_or(|h| &e.hint == h)
            && self.downstream.is_none_or(|d| e.downstream == d)
    }
}

fn domains(filter: FederatesWithMatch) -> Result<(Vec<String>, MatchBehavior), Status> {
    if filter.trust_domains.is_empty() || filter.trust_domains.len() > MAX_TERMS {
        return Err(Status::invalid_argument("a filter by trust domains names 1 to 256 of them"));
    }
    let how =
        MatchBehavior::try_from(filter.r#match).map_err(|_| Status::invalid_argument("unknown match behaviour"))?;
    let names = filter.trust_domains.iter().map(|name| federated_in(name).map(|td| td.to_string()));
    Ok((names.collect::<Result<_, _>>()?, how))
}

fn federates(e: &Entry, names: &[String], how: MatchBehavior) -> bool {
    let all = || names.iter().all(|n| e.federates_with.contains(n));
    let only = || e.federates_with.iter().all(|n| names.contains(n));
    match how {
        MatchBehavior::MatchExact => all() && only(),
        MatchBehavior::MatchSubset => !e.federates_with.is_empty() && only(),
        MatchBehavior::MatchSuperset => all(),
        MatchBehavior::MatchAny => names.iter().any(|n| e.federates_with.contains(n)),
    }
}
