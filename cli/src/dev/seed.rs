//! What a new `errand dev` starts with: a join token for its agent, the caller's identity, and a policy that permits it
//! every role. A store that has them is left alone: what the user changed stays changed.

use super::layout::Layout;
use crate::error::{CliError, Result};
use proto_types::{Entry, EntryId, Secret, Selector, SpiffeId, Timestamp, id::parse_spiffe_id};
use server_service::{Service, ServiceError};
use std::time::Duration;

/// Plenty for an agent in the same process.
const TOKEN_TTL: Duration = Duration::from_secs(60);

/// Answers a join token for the agent; it needs one only when it has no identity of its own.
pub(super) async fn seed(service: &Service, layout: &Layout) -> Result<Secret<String>> {
    let failed = |e: ServiceError| CliError::failed(e).at("the store of `errand dev`");
    forget_expired(service).await.map_err(failed)?;
    let id = |path: &str| parse_spiffe_id(&format!("spiffe://{}{path}", layout.trust_domain));
    let node = id("/dev/node").map_err(CliError::failed)?;
    let user = id(&format!("/dev/{}", path_segment(&layout.user, layout.uid))).map_err(CliError::failed)?;
    if !service.read(|s| s.entries.iter().any(|e| e.spiffe_id == user)) {
        let entry = entry(&user, &node, layout)?;
        service.entry_create(entry, Some(layout.user.clone())).await.map_err(failed)?;
        let doc = server_policy::dev_policy(&user);
        service.policy_apply(&doc.id, &doc.text, Some(layout.user.clone())).await.map_err(failed)?;
    }
    let (token, _) =
        service.join_token(TOKEN_TTL, None, Some(node), Some(layout.user.clone())).await.map_err(failed)?;
    Ok(token)
}

/// An agent whose SVID ran out while nothing was running attests anew, under another name: the old one is forgotten.
async fn forget_expired(service: &Service) -> std::result::Result<(), ServiceError> {
    let now = service.now();
    let expired: Vec<SpiffeId> =
        service.read(|s| s.nodes.values().filter(|n| n.expires_at <= now).map(|n| n.id.clone()).collect());
    for id in expired {
        service.node_evict(&id, None).await?;
    }
    Ok(())
}

fn entry(user: &SpiffeId, node: &SpiffeId, layout: &Layout) -> Result<Entry> {
    let entry = Entry {
        id: EntryId::new(format!("dev-{}", layout.uid)).map_err(CliError::failed)?,
        spiffe_id: user.clone(),
        parent_id: node.clone(),
        selectors: vec![Selector::new("unix", format!("uid:{}", layout.uid)).map_err(CliError::failed)?],
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        dns_names: Vec::new(),
        hint: String::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: 0,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision: 0,
        created_at: Timestamp::default(),
    };
    entry.checked(&layout.trust_domain).map_err(CliError::failed)
}

/// A user's name as one segment of a SPIFFE ID's path; a name that does not fit becomes the uid.
fn path_segment(user: &str, uid: u32) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let ok = !user.is_empty() && user.chars().all(fits) && !user.starts_with('.') && user != "node";
    if ok { user.into() } else { uid.to_string() }
}
