//! Wire messages as the JSON that commands print: snake_case names, RFC 3339 times, durations as `5m`, absent as null.

use base64::{Engine, engine::general_purpose::STANDARD};
use proto_types::{Timestamp, format_duration};
use proto_wire::spire::api::types as wire;
use serde_json::{Value, json};
use std::time::Duration;

pub fn id(id: Option<&wire::Spiffeid>) -> Value {
    id.map_or(Value::Null, |id| format!("spiffe://{}{}", id.trust_domain, id.path).into())
}

/// Seconds since the epoch; 0 is never.
pub fn time(seconds: i64) -> Value {
    if seconds == 0 { Value::Null } else { Timestamp::from_secs(seconds).to_string().into() }
}

/// Seconds; 0 is the server's default.
fn ttl(seconds: i32) -> Value {
    match u64::try_from(seconds) {
        Ok(s) if s > 0 => format_duration(Duration::from_secs(s)).into(),
        _ => Value::Null,
    }
}

fn selectors(list: &[wire::Selector]) -> Vec<Value> {
    list.iter().map(|s| json!({ "type": s.r#type, "value": s.value })).collect()
}

pub fn entry(e: &wire::Entry) -> Value {
    json!({
        "id": e.id,
        "spiffe_id": id(e.spiffe_id.as_ref()),
        "parent_id": id(e.parent_id.as_ref()),
        "selectors": selectors(&e.selectors),
        "x509_svid_ttl": ttl(e.x509_svid_ttl),
        "jwt_svid_ttl": ttl(e.jwt_svid_ttl),
        "federates_with": e.federates_with,
        "dns_names": e.dns_names,
        "hint": e.hint,
        "admin": e.admin,
        "downstream": e.downstream,
        "store_svid": e.store_svid,
        "expires_at": time(e.expires_at),
        "disable_x509_svid_prefetch": e.additional_attributes.is_some_and(|a| a.disable_x509_svid_prefetch),
        "jwt_svid_include_jti": e.additional_attributes.is_some_and(|a| a.jwt_svid_include_jti),
        "revision_number": e.revision_number,
        "created_at": time(e.created_at),
    })
}

pub fn node(a: &wire::Agent) -> Value {
    json!({
        "id": id(a.id.as_ref()),
        "attestation_type": a.attestation_type,
        "x509svid_serial_number": a.x509svid_serial_number,
        "x509svid_expires_at": time(a.x509svid_expires_at),
        "selectors": selectors(&a.selectors),
        "banned": a.banned,
        "can_reattest": a.can_reattest,
        "agent_version": a.agent_version,
    })
}

/// `type:value` of each selector of a row.
pub fn selector_text(row: &Value) -> String {
    let one = |s: &Value| Some(format!("{}:{}", s.get("type")?.as_str()?, s.get("value")?.as_str()?));
    let list = row.get("selectors").and_then(Value::as_array);
    list.map(|l| l.iter().filter_map(one).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

/// PEM (RFC 7468): 64 columns.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// Certificates, one PEM block each.
pub fn certificates<'a>(ders: impl IntoIterator<Item = &'a [u8]>) -> String {
    ders.into_iter().map(|der| pem("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_shows_its_ttl_as_a_duration_and_what_is_unset_as_null() {
        let shown = entry(&wire::Entry { x509_svid_ttl: 3600, created_at: 1_795_000_000, ..Default::default() });
        assert_eq!(shown["x509_svid_ttl"], "1h");
        assert_eq!(shown["jwt_svid_ttl"], Value::Null);
        assert_eq!(shown["expires_at"], Value::Null);
        assert_eq!(shown["created_at"], "2026-11-18T11:06:40Z");
    }

    #[test]
    fn pem_breaks_after_64_columns() {
        let text = pem("CERTIFICATE", &[7; 60]);
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [27, 64, 16, 25]);
    }
}
