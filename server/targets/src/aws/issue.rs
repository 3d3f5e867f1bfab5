//! One session: a token of ours, spent at the STS at once.
//!
//! A session cannot be ended, so it must end by itself in time: its length is what is left of the grant less the longest
//! a call may take, and what the STS gave is looked at before it leaves.

use super::{
    AwsTarget,
    answer::{self, Session},
    claims,
    config::{Role, SHORTEST},
    failure::StsError,
    http::LONGEST_CALL,
    placement,
};
use proto_types::{CredentialName, Timestamp, format_duration, id::excerpt};
use server_core::ports::{IssueError, IssueRequest, Issued, JwtTemplate};
use std::time::Duration;
use url::form_urlencoded::Serializer;

/// What the token endpoint calls a session.
pub(super) const TOKEN_TYPE: &str = "urn:errand:token-type:aws-credentials";
/// How far the clock of an STS may be from ours.
const SKEW: Duration = Duration::from_secs(300);

pub(super) async fn issue(aws: &AwsTarget, request: &IssueRequest) -> Result<Issued, IssueError> {
    let config = &aws.config;
    let refuse = |why: String| IssueError::Refused { why };
    let never = |why: String| IssueError::Never { why };
    let role = config.roles.get(&request.role);
    let role = role.ok_or_else(|| refuse(format!("`{}` has no such role", config.target)))?;
    if CredentialName::recognise(&aws.context.store_id, request.name.as_str()).is_none() {
        return Err(refuse("the credential's name is not one of this store".into()));
    }
    check_parameters(&request.params).map_err(never)?;
    let now = aws.context.clock.now();
    let length = length(role, request.not_after.since(now)).map_err(never)?;
    let jti = aws.context.entropy.uuid_v7(now).to_string();
    let template = claims::template(config, role, request, &aws.context.issuer, jti, now).map_err(never)?;
    let session = assume(aws, role, request.name.as_str(), &template, length).await?;
    let not_after = end(aws, &session, request.not_after)?;
    Ok(Issued {
        fields: placement::fields(config, role, &session, not_after),
        placement: placement::placement(config, &request.role),
        // What the target's log names a session by; no secret without the other half.
        handle: serde_json::json!({ "serial": session.access_key_id, "role_arn": role.arn.as_str() }),
        access_token: session.session_token,
        token_type: TOKEN_TYPE,
        not_after,
    })
}

/// Nothing in a request but its role decides where it leads.
fn check_parameters(params: &serde_json::Value) -> Result<(), String> {
    match params.as_object().and_then(|map| map.keys().find(|key| *key != "type")) {
        Some(key) => Err(format!("an aws role takes no parameter, and `{}` was given", excerpt(key))),
        None => Ok(()),
    }
}

/// How long the session lives: whole seconds, counted from when the STS makes it, which is a call later at most.
fn length(role: &Role, left: Duration) -> Result<Duration, String> {
    let length = Duration::from_secs(left.saturating_sub(LONGEST_CALL).as_secs()).min(role.session_duration);
    if length >= SHORTEST {
        return Ok(length);
    }
    let left = format_duration(Duration::from_secs(left.as_secs()));
    let need = format_duration(SHORTEST + LONGEST_CALL);
    Err(format!(
        "no AWS session is shorter than 15m, and {left} is left of what was granted, where {need} are needed; start the \
         task with --ttl 20m or more, and let grant and policy allow as much"
    ))
}

/// Signs the token and spends it.
pub(super) async fn assume(
    aws: &AwsTarget,
    role: &Role,
    name: &str,
    template: &JwtTemplate,
    length: Duration,
) -> Result<Session, IssueError> {
    let signed = aws.context.tokens.jwt(template).await;
    let signed = signed.map_err(|e| IssueError::Refused { why: e.to_string() })?;
    Ok(ask(aws, role, name, signed.token.expose(), length).await?)
}

pub(super) async fn ask(
    aws: &AwsTarget,
    role: &Role,
    name: &str,
    token: &str,
    length: Duration,
) -> Result<Session, StsError> {
    let form = form(role, name, token, length);
    let client = &aws.client;
    let reply = client.post(&form).await?;
    answer::read(&reply, &client.endpoint, &role.arn.session(name))
}

fn form(role: &Role, name: &str, token: &str, length: Duration) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", "AssumeRoleWithWebIdentity")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role.arn.as_str())
        .append_pair("RoleSessionName", name)
        .append_pair("WebIdentityToken", token)
        .append_pair("DurationSeconds", &length.as_secs().to_string());
    if let Some(policy) = &role.policy {
        form.append_pair("Policy", policy);
    }
    for (n, arn) in role.policy_arns.iter().enumerate() {
        form.append_pair(&format!("PolicyArns.member.{}.arn", n + 1), arn);
    }
    form.finish()
}

/// When the session ends, never later than was granted. One that the STS made longer than asked must not leave.
fn end(aws: &AwsTarget, session: &Session, granted: Timestamp) -> Result<Timestamp, StsError> {
    let other = |why: String| StsError::Other { at: aws.client.endpoint.to_string(), why };
    let ends = Timestamp::from_secs(session.expiration.as_secs());
    if ends <= aws.context.clock.now() {
        return Err(other(format!("it ended at {ends} already: compare the clocks")));
    }
    if ends > granted.plus(SKEW) {
        return Err(other(format!("it lives until {ends}, and until {granted} was granted")));
    }
    Ok(ends.min(granted))
}
