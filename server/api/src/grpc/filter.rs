//! Filters, masks and pages of the list calls, with SPIRE's meanings.

use proto_types::Selector;
use proto_wire::{
    convert::selectors_in,
    spire::api::types::{Entry, EntryMask, SelectorMatch, selector_match::MatchBehavior},
};
use tonic::Status;

/// Most items of a page; a larger wish is cut, a missing one gets this.
const MAX_PAGE: usize = 500;
/// Most terms of a filter.
const MAX_TERMS: usize = 256;

/// A selector filter that was read.
pub(crate) struct BySelectors {
    wanted: Vec<Selector>,
    how: MatchBehavior,
}

impl BySelectors {
    pub(crate) fn read(filter: Option<&SelectorMatch>) -> Result<Option<Self>, Status> {
        let Some(filter) = filter else { return Ok(None) };
        let mut wanted = selectors_in(&filter.selectors, MAX_TERMS).map_err(crate::status::wire)?;
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
            MatchBehavior::MatchSubset => only_wanted(),
            MatchBehavior::MatchSuperset => all_wanted(),
            MatchBehavior::MatchAny => self.wanted.iter().any(|s| have.contains(s)),
        }
    }
}

/// One page of `items` (sorted by key) after `token`, the last key of the page before.
pub(crate) fn page<T>(
    mut items: Vec<T>,
    key: impl Fn(&T) -> String,
    token: &str,
    size: i32,
) -> Result<(Vec<T>, String), Status> {
    if token.len() > 512 {
        return Err(Status::invalid_argument("the page token is not one of ours"));
    }
    let size = match usize::try_from(size) {
        Err(_) => return Err(Status::invalid_argument("page_size is negative")),
        Ok(0) => MAX_PAGE,
        Ok(n) => n.min(MAX_PAGE),
    };
    items.sort_by_key(&key);
    items.retain(|i| key(i).as_str() > token || token.is_empty());
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(&key).unwrap_or_default() } else { String::new() };
    Ok((items, next))
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
