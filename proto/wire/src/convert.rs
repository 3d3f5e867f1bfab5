//! Between protobuf and the nouns of `proto-types`. Every conversion inward validates; outward cannot fail.

use crate::spire::api::types as wire;
use proto_types::{
    Entry, EntryId, Node, Selector, SpiffeId, Timestamp, TrustDomain,
    entry::EntryError,
    id::{IdError, parse_spiffe_id},
};

/// Why a message is not the noun it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{0}` is out of range")]
    Range(&'static str),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Entry(#[from] EntryError),
}

pub fn spiffe_id_out(id: &SpiffeId) -> wire::Spiffeid {
    wire::Spiffeid { trust_domain: id.trust_domain().to_string(), path: id.path().to_string() }
}

/// Reads trust domain and path apart, as SPIRE sends them; a path is empty or starts with a slash.
pub fn spiffe_id_in(id: Option<&wire::Spiffeid>, field: &'static str) -> Result<SpiffeId, WireError> {
    let id = id.ok_or(WireError::Missing(field))?;
    if id.trust_domain.is_empty() {
        return Err(WireError::Missing(field));
    }
    // A slash in the trust domain would let one field speak for the other.
    proto_types::id::parse_trust_domain(&id.trust_domain)?;
    if !id.path.is_empty() && !id.path.starts_with('/') {
        return Err(IdError::SpiffeId {
            got: proto_types::id::excerpt(&id.path),
            why: "a path starts with a slash".into(),
        }
        .into());
    }
    Ok(parse_spiffe_id(&format!("spiffe://{}{}", id.trust_domain, id.path))?)
}

pub fn selector_out(s: &Selector) -> wire::Selector {
    wire::Selector { r#type: s.kind().into(), value: s.value().into() }
}

pub fn selector_in(s: &wire::Selector) -> Result<Selector, WireError> {
    Ok(Selector::new(s.r#type.clone(), s.value.clone())?)
}

/// At most `limit` selectors, each well-formed.
pub fn selectors_in(list: &[wire::Selector], limit: usize) -> Result<Vec<Selector>, WireError> {
    if list.len() > limit {
        return Err(EntryError::TooMany { what: "selectors", limit, got: list.len() }.into());
    }
    list.iter().map(selector_in).collect()
}

pub fn entry_out(e: &Entry) -> wire::Entry {
    wire::Entry {
        id: e.id.as_str().into(),
        spiffe_id: Some(spiffe_id_out(&e.spiffe_id)),
        parent_id: Some(spiffe_id_out(&e.parent_id)),
        selectors: e.selectors.iter().map(selector_out).collect(),
        x509_svid_ttl: i32::try_from(e.x509_svid_ttl).unwrap_or(i32::MAX),
        federates_with: e.federates_with.clone(),
        admin: e.admin,
        downstream: e.downstream,
        expires_at: e.expires_at,
        dns_names: e.dns_names.clone(),
        revision_number: i64::try_from(e.revision).unwrap_or(i64::MAX),
        store_svid: e.store_svid,
        jwt_svid_ttl: i32::try_from(e.jwt_svid_ttl).unwrap_or(i32::MAX),
        hint: e.hint.clone(),
        created_at: e.created_at.as_secs(),
        additional_attributes: attributes_out(e),
    }
}

/// Absent when none is set, as SPIRE sends them.
fn attributes_out(e: &Entry) -> Option<wire::entry::AdditionalAttributes> {
    (e.disable_x509_svid_prefetch || e.jwt_svid_include_jti).then_some(wire::entry::AdditionalAttributes {
        disable_x509_svid_prefetch: e.disable_x509_svid_prefetch,
        jwt_svid_include_jti: e.jwt_svid_include_jti,
    })
}

/// An entry as a caller wants it. `fallback` is the id when the message has none; revision and creation time are the
/// server's and not read.
pub fn entry_in(e: &wire::Entry, td: &TrustDomain, fallback: impl FnOnce() -> String) -> Result<Entry, WireError> {
    let ttl = |t: i32, name| u32::try_from(t).map_err(|_| WireError::Range(name));
    let id = if e.id.is_empty() { fallback() } else { e.id.clone() };
    let attributes = e.additional_attributes.unwrap_or_default();
    let entry = Entry {
        id: EntryId::new(id)?,
        spiffe_id: spiffe_id_in(e.spiffe_id.as_ref(), "spiffe_id")?,
        parent_id: spiffe_id_in(e.parent_id.as_ref(), "parent_id")?,
        selectors: selectors_in(&e.selectors, proto_types::entry::MAX_SELECTORS)?,
        x509_svid_ttl: ttl(e.x509_svid_ttl, "x509_svid_ttl")?,
        jwt_svid_ttl: ttl(e.jwt_svid_ttl, "jwt_svid_ttl")?,
        // By name or by SPIFFE ID: SPIRE's command line sends either.
        federates_with: e.federates_with.iter().map(|n| n.strip_prefix("spiffe://").unwrap_or(n).into()).collect(),
        dns_names: e.dns_names.clone(),
        hint: e.hint.clone(),
        admin: e.admin,
        downstream: e.downstream,
        store_svid: e.store_svid,
        expires_at: e.expires_at,
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
        revision: 0,
        created_at: Timestamp::default(),
    };
    Ok(entry.checked(td)?)
}

/// An entry as a server states it: with its revision and creation time.
pub fn entry_stated(e: &wire::Entry, td: &TrustDomain) -> Result<Entry, WireError> {
    let mut entry = entry_in(e, td, String::new)?;
    entry.revision = u64::try_from(e.revision_number).map_err(|_| WireError::Range("revision_number"))?;
    entry.created_at = Timestamp::from_secs(e.created_at);
    Ok(entry)
}

pub fn node_out(n: &Node) -> wire::Agent {
    wire::Agent {
        id: Some(spiffe_id_out(&n.id)),
        attestation_type: n.attestation_type.clone(),
        x509svid_serial_number: n.serial.clone(),
        x509svid_expires_at: n.expires_at.as_secs(),
        selectors: n.selectors.iter().map(selector_out).collect(),
        banned: n.banned,
        can_reattest: n.can_reattest,
        agent_version: n.version.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_domain_with_a_slash_cannot_speak_for_the_path() {
        let bad = wire::Spiffeid { trust_domain: "example.org/spire".into(), path: "/server".into() };
        assert!(spiffe_id_in(Some(&bad), "id").is_err());
        let good = wire::Spiffeid { trust_domain: "example.org".into(), path: "/spire/server".into() };
        assert_eq!(spiffe_id_in(Some(&good), "id").unwrap().to_string(), "spiffe://example.org/spire/server");
    }
}
