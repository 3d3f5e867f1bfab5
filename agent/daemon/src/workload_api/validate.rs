//! ValidateJWTSVID: full validation for one audience, with the keys of the token's own trust domain.

use crate::{
    local::{Peer, attest},
    shared::Shared,
};
use prost_types::{ListValue, NullValue, Struct, Value, value::Kind};
use proto_jose::{Expect, claimed_trust_domain, verify_jwt};
use proto_wire::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use serde_json::Value as Json;
use std::time::Duration;
use tonic::Status;

/// Clocks of one deployment differ by this much.
const LEEWAY: Duration = Duration::from_secs(10);

pub async fn validate(
    shared: &Shared,
    peer: &Peer,
    request: &ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Status> {
    if request.audience.is_empty() {
        return Err(Status::invalid_argument("audience must be specified"));
    }
    if request.svid.is_empty() {
        return Err(Status::invalid_argument("svid must be specified"));
    }
    if !shared.is_synced() {
        return Err(attest::not_ready(shared));
    }
    let selectors = attest::selectors(shared, peer).await?;
    if shared.identities.matching(&selectors).is_empty() && attest::innermost(shared, peer)?.is_none() {
        return Err(attest::no_identity());
    }
    let bundle = shared.bundle.load_full().ok_or_else(|| attest::not_ready(shared))?;
    let td = claimed_trust_domain(&request.svid).map_err(|e| Status::invalid_argument(e.to_string()))?;
    if td != shared.trust_domain {
        return Err(Status::invalid_argument("the token is of a trust domain whose keys are not known here"));
    }
    let expect = Expect::jwt_svid(&request.audience, td).leeway(LEEWAY);
    let verified = verify_jwt(&request.svid, &expect, bundle.jwt_keys(), shared.ports.clock.now());
    let verified = verified.map_err(|e| Status::invalid_argument(e.to_string()))?;
    attest::recheck(peer)?;
    let spiffe_id = verified.subject().to_string();
    let fields = verified.into_claims().into_iter().map(|(name, value)| (name, claim(value))).collect();
    Ok(ValidateJwtsvidResponse { spiffe_id, claims: Some(Struct { fields }) })
}

fn claim(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(NullValue::NullValue as i32),
        Json::Bool(b) => Kind::BoolValue(b),
        Json::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or(f64::NAN)),
        Json::String(s) => Kind::StringValue(s),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.into_iter().map(claim).collect() }),
        Json::Object(map) => {
            Kind::StructValue(Struct { fields: map.into_iter().map(|(name, value)| (name, claim(value))).collect() })
        }
    };
    Value { kind: Some(kind) }
}
