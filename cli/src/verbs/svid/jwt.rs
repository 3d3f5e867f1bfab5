//! The JWT half of `errand svid`.

use super::refused;
use crate::{
    DONE,
    agent_client::AgentClient,
    error::{CliError, Result},
    verbs::Ctx,
};
use proto_types::SpiffeId;
use proto_wire::workload as wire;
use serde_json::{Value, json};
use std::{collections::BTreeMap, io::Read};

/// Longest token that is passed on.
const MAX_TOKEN: u64 = 64 * 1024;

pub async fn fetch(audience: Vec<String>, spiffe_id: Option<SpiffeId>, ctx: &Ctx) -> Result<i32> {
    let client = AgentClient::find().await?;
    let spiffe_id = spiffe_id.map(|id| id.to_string()).unwrap_or_default();
    let answer = client.workload().fetch_jwtsvid(wire::JwtsvidRequest { audience, spiffe_id }).await;
    let svids = answer.map_err(|s| refused("fetching a JWT-SVID", s))?.into_inner().svids;
    let first = svids.first().ok_or_else(|| CliError::denied("this process has no identity"))?;
    if ctx.out.is_json() {
        let all: Vec<_> =
            svids.iter().map(|s| json!({ "spiffe_id": s.spiffe_id, "hint": s.hint, "svid": s.svid })).collect();
        ctx.out.json(&json!({ "svids": all }))?;
    } else {
        ctx.out.text(&format!("{}\n", first.svid))?;
    }
    Ok(DONE)
}

pub async fn validate(audience: String, token: String, ctx: &Ctx) -> Result<i32> {
    let svid = if token == "-" { from_stdin()? } else { token };
    let client = AgentClient::find().await?;
    let request = wire::ValidateJwtsvidRequest { audience, svid };
    let answer = client.workload().validate_jwtsvid(request).await;
    let answer = answer.map_err(|s| refused("validating the JWT-SVID", s))?.into_inner();
    if ctx.out.is_json() {
        let claims = answer.claims.map(|c| Value::Object(c.fields.into_iter().map(|(k, v)| (k, claim(v))).collect()));
        ctx.out.json(&json!({ "spiffe_id": answer.spiffe_id, "claims": claims }))?;
    } else {
        ctx.out.text(&format!("{}\n", answer.spiffe_id))?;
    }
    Ok(DONE)
}

fn from_stdin() -> Result<String> {
    let mut token = String::new();
    let read = std::io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut token);
    read.map_err(|e| CliError::failed(format!("cannot read the token from standard input: {e}")))?;
    match token.trim() {
        "" => Err(CliError::usage("standard input holds no token").hint("errand svid validate --audience A < token")),
        token => Ok(token.to_string()),
    }
}

/// A protobuf value as JSON. Its numbers are doubles; whole ones are written as integers.
fn claim(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(b)) => b.into(),
        Some(Kind::StringValue(s)) => s.into(),
        Some(Kind::NumberValue(n)) => number(n),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(claim).collect(),
        Some(Kind::StructValue(s)) => Value::Object(s.fields.into_iter().map(|(k, v)| (k, claim(v))).collect()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the bounds are checked on the line above the cast")]
fn number(n: f64) -> Value {
    if n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_991.0 {
        return (n as i64).into();
    }
    n.into()
}

/// The JWT bundles by trust domain, each a JWKS.
pub async fn bundles(client: &AgentClient) -> Result<BTreeMap<String, Value>> {
    let doing = "fetching the JWT bundles";
    let request = client.workload().fetch_jwt_bundles(wire::JwtBundlesRequest {}).await;
    let mut stream = request.map_err(|s| refused(doing, s))?.into_inner();
    let answer = stream.message().await.map_err(|s| refused(doing, s))?.unwrap_or_default();
    let parse = |(domain, jwks): (String, Vec<u8>)| {
        let jwks = serde_json::from_slice(&jwks)
            .map_err(|_| CliError::failed(format!("the agent's bundle of `{domain}` is not a key set")))?;
        Ok((domain, jwks))
    };
    answer.bundles.into_iter().map(parse).collect()
}
