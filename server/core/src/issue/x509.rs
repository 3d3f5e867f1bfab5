//! Templates of X509-SVIDs: workloads', agents', the server's own, and tasks'.

use super::{BACKDATE, TASK_TTL, TemplateError, Ttls, end, seconds};
use crate::ports::X509Template;
use proto_types::{
    SpiffeId, Task, Timestamp,
    entry::{MAX_NAMES, is_dns_name},
    id::{excerpt, is_task_path, parse_spiffe_id},
};
use std::time::Duration;

/// The certificate of an identity that is not a task's. `ttl` in seconds, 0 takes the default; it ends with the CA at
/// the latest.
pub fn x509_template(
    id: &SpiffeId,
    dns_names: &[String],
    ttl: u32,
    ttls: &Ttls,
    now: Timestamp,
    ca_not_after: Timestamp,
) -> Result<X509Template, TemplateError> {
    if is_task_path(id.path()) {
        return Err(TemplateError::TaskPath(excerpt(&id.to_string())));
    }
    // X509-SVID section 3.1: a leaf's ID has a path.
    if id.path().is_empty() {
        return Err(TemplateError::NoPath(excerpt(&id.to_string())));
    }
    if dns_names.len() > MAX_NAMES {
        return Err(TemplateError::DnsNames { limit: MAX_NAMES, got: dns_names.len() });
    }
    if let Some(bad) = dns_names.iter().find(|n| !is_dns_name(n)) {
        return Err(TemplateError::DnsName(excerpt(bad)));
    }
    let life = if ttl == 0 { ttls.x509_svid_ttl } else { Duration::from_secs(ttl.into()) };
    Ok(X509Template {
        spiffe_id: id.clone(),
        dns_names: dns_names.to_vec(),
        not_before: seconds(now.minus(BACKDATE)),
        not_after: end(now, &[now.plus(life), ca_not_after])?,
    })
}

/// The certificate of a task: its own identity, no DNS name, at most five minutes and never past the task.
pub fn task_x509_template(task: &Task, now: Timestamp, ca_not_after: Timestamp) -> Result<X509Template, TemplateError> {
    if !task.is_live() {
        return Err(TemplateError::NotLive);
    }
    let id = task.spiffe_id();
    Ok(X509Template {
        // Longer than a SPIFFE ID may be: the workload's own ID leaves no room.
        spiffe_id: parse_spiffe_id(&id).map_err(|_| TemplateError::TaskPath(excerpt(&id)))?,
        dns_names: Vec::new(),
        not_before: seconds(now.minus(BACKDATE)),
        not_after: end(now, &[now.plus(TASK_TTL), task.ends_at, ca_not_after])?,
    })
}
