//! Filters and masks of the list calls, with SPIRE's meanings. Their pages are in `page`.

use crate::status::wire;
use proto_types::{
    Selector, SpiffeId, TrustDomain,
    id::{excerpt, parse_trust_domain},
};
use proto_wire::{
    convert::{WireError, selectors_in, spiffe_id_in},
    spire::api::types::{Entry, EntryMask, SelectorMatch, Spiffeid, selector_match::MatchBehavior},
};
use tonic::Status;

/// Most terms of a filter.
pub(crate) const MAX_TERMS: usize = 256;

/// A SPIFFE ID below this trust domain.
pub(crate) fn member_in(id: Option<&Spiffeid>, field: &'static str, td: &TrustDomain) -> Result<SpiffeId, Status> {
    let id = spiffe_id_in(id, field).map_err(wire)?;
    if id.trust_domain() == td && !id.path().is_empty() {
        return Ok(id);
    }
    Err(Status::invalid_argument(format!("`{field}`: `{}` is no member of `{td}`", excerpt(&id.to_string()))))
}

/// The ID of an agent of this trust domain.
pub(crate) fn agent_in(id: Option<&Spiffeid>, td: &TrustDomain) -> Result<SpiffeId, Status> {
    let id = member_in(id, "id", td)?;
    if id.path().starts_with("/spire/agent/") {
        return Ok(id);
    }
    let what = format!("`id`: `{}` is no agent: their IDs begin with spiffe://{td}/spire/agent/", excerpt(id.path()));
    Err(Status::invalid_argument(what))
}

/// A trust domain, by its name or by its SPIFFE ID: SPIRE's command line sends either.
pub(crate) fn federated_in(name: &str) -> Result<TrustDomain, Status> {
    parse_trust_domain(name.strip_prefix("spiffe://").unwrap_or(name)).map_err(|e| wire(WireError::Id(e)))
}

/// A selector filter that was read.
pub(crate) struct BySelectors {
    wanted: Vec<Selector>,
    how: MatchBehavior,
}

impl BySelectors {
    pub(crate) fn read(filter: Option<&SelectorMatch>) -> Result<Option<Self>, Status> {
        let Some(filter) = filter else { return Ok(None) };
        let mut wanted = selectors_in(&filter.selectors, MAX_TERMS).map_err(wire)?;
        if wanted.is_empty() {
            return Err(Status::invalid_argument("a selector filter needs at least one selector"));
        }
        wanted.sort();
        wanted.dedup();
        let how =
            MatchBehavior::try_from(filter.r#match).map_err(|_| Status::invalid_argument("unknown match behaviour"))?;
        Ok(Some(Self { wanted, how }))
    }

    pub(crate) fn admits(&self, have: &[Selector]) -> bool {
        let all_wanted = || self.wanted.iter().all(|s| have.contains(s));
        let only_wanted = || have.iter().all(|s| self.wanted.contains(s));
        match self.how {
            MatchBehavior::MatchExact => all_wanted() && only_wanted(),
            MatchBehavior::MatchSubset => !have.is_empty() && only_wanted(),
            MatchBehavior::MatchSuperset => all_wanted(),
            MatchBehavior::MatchAny => self.wanted.iter().any(|s| have.contains(s)),
        }
    }
}

/// Takes away what a mask does not name; the id always stays.
pub(crate) fn mask_entry(mut e: Entry, mask: Option<&EntryMask>) -> Entry {
    let Some(m) = mask else { return e };
    let blank = Entry { id: e.id.clone(), ..Entry::default() };
    macro_rules! keep {
        ($($field:ident),*) => { $( if !m.$field { e.$field = blank.$field.clone(); } )* };
    }
    keep!(
        spiffe_id,
        parent_id,
        selectors,
        x509_svid_ttl,
        federates_with,
        admin,
        downstream,
        expires_at,
        dns_names,
        revision_number,
        store_svid,
        jwt_svid_ttl,
        hint,
        created_at,
        additional_attributes
    );
    e
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_is_named_bare_or_by_its_id() {
        for good in ["other.example.org", "spiffe://other.example.org"] {
            assert_eq!(federated_in(good).unwrap().to_string(), "other.example.org");
        }
        for bad in ["", "spiffe://", "spiffe://other.example.org/x", "https://other.example.org", "OTHER.example.org"] {
            assert!(federated_in(bad).is_err(), "{bad}");
        }
    }
}
