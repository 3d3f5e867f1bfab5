//! A token-exchange request that is well formed (RFC 8693 section 2.1): what is asked, by which tokens.
//!
//! Decides form only. Whether the tokens are true is the verifier's, whether the task may is [`super::Admitted`]'s.

use super::{
    client::ClientAuth,
    details::Details,
    error::{OAuthCode, OAuthError, invalid_request, invalid_scope, invalid_target},
    form::ExchangeForm,
    resource,
};
use proto_types::{RoleName, Secret, id::excerpt};
use std::collections::BTreeSet;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Most values of `audience` and of `resource`.
const MAX_AUDIENCES: usize = 16;
const MAX_SCOPES: usize = 64;

/// What the request stands in.
pub struct Surroundings<'a> {
    /// This server's issuer URL, byte for byte.
    pub issuer: &'a str,
    /// An `Authorization` header came along.
    pub authorization: bool,
    /// The connection has a verified client certificate.
    pub certificate: bool,
    /// The role a resource URI was registered for.
    pub resource: &'a dyn Fn(&str) -> Option<RoleName>,
}

/// What kind of token the subject token claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectType {
    /// The task's JWT-SVID (later a user's token).
    Jwt,
    /// A task token of this server.
    AccessToken,
}

#[derive(Debug)]
pub struct Subject {
    pub kind: SubjectType,
    pub token: Secret<String>,
}

/// A `requested_token_type` that something here can issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenType(&'static str);

impl TokenType {
    pub const ACCESS_TOKEN: Self = Self("urn:ietf:params:oauth:token-type:access_token");
    pub const JWT: Self = Self("urn:ietf:params:oauth:token-type:jwt");
    const ALL: [Self; 9] = [
        Self::ACCESS_TOKEN,
        Self::JWT,
        Self("urn:errand:token-type:aws-credentials"),
        Self("urn:errand:token-type:gcp-access-token"),
        Self("urn:errand:token-type:azure-access-token"),
        Self("urn:errand:token-type:kubernetes-token"),
        Self("urn:errand:token-type:database-credential"),
        Self("urn:errand:token-type:ssh-certificate"),
        Self("urn:errand:token-type:api-key"),
    ];
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// What the answer is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A task token: the audience is this issuer, or none was named.
    TaskToken,
    /// Credentials for these roles, in the order asked, each once.
    Roles(Vec<RoleName>),
}

/// A well-formed request. Its tokens are not verified yet.
#[derive(Debug)]
pub struct ExchangeRequest {
    pub client: ClientAuth,
    /// `client_id`, when sent: it must name the client that is proven.
    pub client_id: Option<String>,
    pub subject: Subject,
    pub requested: Option<TokenType>,
    pub goal: Goal,
    /// Roles to narrow a task token to; sorted. `None`: all the task has.
    pub scope: Option<Vec<RoleName>>,
    pub details: Details,
}

impl ExchangeRequest {
    /// The grant first: a request of another grant must not be judged by this one's rules.
    pub fn read(form: &ExchangeForm, around: &Surroundings<'_>) -> Result<Self, OAuthError> {
        grant_type(form)?;
        let client = ClientAuth::read(form, around.authorization, around.certificate)?;
        let subject = subject(form)?;
        no_actor(form)?;
        let goal = goal(form, around)?;
        let requested = requested(form, &goal)?;
        let scope = scope(form, &goal)?;
        let details = form.get("authorization_details").map_or(Ok(Details::default()), Details::parse)?;
        if goal == Goal::TaskToken && !details.objects().is_empty() {
            let why = "authorization_details narrow one role's credential; name its target/role as audience";
            return Err(OAuthError::new(OAuthCode::InvalidAuthorizationDetails, why));
        }
        let client_id = form.get("client_id").map(str::to_string);
        Ok(Self { client, client_id, subject, requested, goal, scope, details })
    }
}

fn grant_type(form: &ExchangeForm) -> Result<(), OAuthError> {
    match form.get("grant_type") {
        Some(GRANT) => Ok(()),
        None => Err(invalid_request(format!("grant_type is missing; send {GRANT}"))),
        Some(_) => {
            Err(OAuthError::new(OAuthCode::UnsupportedGrantType, format!("the only grant_type here is {GRANT}")))
        }
    }
}

/// A missing subject token is never quietly another grant.
fn subject(form: &ExchangeForm) -> Result<Subject, OAuthError> {
    let token = form.get("subject_token").ok_or_else(|| {
        invalid_request("subject_token is missing; send the task's JWT-SVID with this issuer as its audience")
    })?;
    let kind = match form.get("subject_token_type") {
        Some("urn:ietf:params:oauth:token-type:jwt") => SubjectType::Jwt,
        Some("urn:ietf:params:oauth:token-type:access_token") => SubjectType::AccessToken,
        None => return Err(invalid_request("subject_token_type is missing")),
        Some(_) => {
            let why = "subject_token_type is urn:ietf:params:oauth:token-type:jwt or :access_token";
            return Err(invalid_request(why));
        }
    };
    // Both types are signed tokens of three parts here; anything else is refused before a verifier spends on it.
    if !is_compact(token) {
        return Err(invalid_request(
            "subject_token is not what its subject_token_type says: a signed JWT of three parts",
        ));
    }
    Ok(Subject { kind, token: Secret::new(token.into()) })
}

/// Three non-empty parts of base64url, without padding (RFC 7515 section 7.1).
fn is_compact(token: &str) -> bool {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    token.bytes().filter(|b| *b == b'.').count() == 2 && token.split('.').all(part)
}

fn no_actor(form: &ExchangeForm) -> Result<(), OAuthError> {
    match (form.get("actor_token"), form.get("actor_token_type")) {
        (None, None) => Ok(()),
        (Some(_), Some(_)) => Err(invalid_request(
            "acting for a user is not available yet; leave actor_token out and send the task's JWT-SVID as subject_token",
        )),
        _ => Err(invalid_request("actor_token and actor_token_type come together")),
    }
}

fn requested(form: &ExchangeForm, goal: &Goal) -> Result<Option<TokenType>, OAuthError> {
    let Some(name) = form.get("requested_token_type") else { return Ok(None) };
    let known = TokenType::ALL.into_iter().find(|t| t.as_str() == name);
    let known = known.ok_or_else(|| invalid_request("no such requested_token_type is issued here; leave it out"))?;
    let fits = *goal != Goal::TaskToken || matches!(known, TokenType::ACCESS_TOKEN | TokenType::JWT);
    if fits {
        Ok(Some(known))
    } else {
        Err(invalid_request("a task token is an access_token; name a target/role as audience for another type"))
    }
}

fn goal(form: &ExchangeForm, around: &Surroundings<'_>) -> Result<Goal, OAuthError> {
    let named = audiences(form, around)?;
    let meant = resources(form, around)?;
    match (named, meant) {
        (None, None) => Ok(Goal::TaskToken),
        (Some(goal), None) | (None, Some(goal)) => Ok(goal),
        (Some(a), Some(b)) if a == b => Ok(a),
        _ => Err(invalid_target("audience and resource name different things; send one of them")),
    }
}

fn audiences(form: &ExchangeForm, around: &Surroundings<'_>) -> Result<Option<Goal>, OAuthError> {
    collect(form.all("audience"), around.issuer, |value| {
        value.parse().map_err(|_| {
            let got = excerpt(value);
            invalid_target(format!("'{got}' is no audience here; write target/role, or this issuer for a task token"))
        })
    })
}

fn resources(form: &ExchangeForm, around: &Surroundings<'_>) -> Result<Option<Goal>, OAuthError> {
    collect(form.all("resource"), around.issuer, |value| {
        let uri = resource::check(value)?;
        (around.resource)(uri)
            .ok_or_else(|| invalid_target("no target is registered for this resource; send audience=target/role"))
    })
}

/// Reads repeated values: the issuer alone, or roles, each once.
fn collect<'a>(
    values: impl Iterator<Item = &'a str>,
    issuer: &str,
    role: impl Fn(&str) -> Result<RoleName, OAuthError>,
) -> Result<Option<Goal>, OAuthError> {
    let values: Vec<&str> = values.take(MAX_AUDIENCES + 1).collect();
    if values.len() > MAX_AUDIENCES {
        return Err(invalid_target(format!("at most {MAX_AUDIENCES} audiences fit in one request")));
    }
    match &values[..] {
        [] => Ok(None),
        [one] if *one == issuer => Ok(Some(Goal::TaskToken)),
        many => {
            let roles = many.iter().map(|v| role(v)).collect::<Result<Vec<_>, _>>()?;
            let distinct: BTreeSet<_> = roles.iter().collect();
            if distinct.len() == roles.len() {
                Ok(Some(Goal::Roles(roles)))
            } else {
                Err(invalid_target("an audience is named twice; name each once"))
            }
        }
    }
}

/// An empty scope is refused, not taken for an absent one: absent means everything.
fn scope(form: &ExchangeForm, goal: &Goal) -> Result<Option<Vec<RoleName>>, OAuthError> {
    let Some(text) = form.raw("scope") else { return Ok(None) };
    let mut roles = BTreeSet::new();
    for (at, token) in text.split(' ').enumerate() {
        if at == MAX_SCOPES {
            return Err(invalid_scope(format!("a scope has at most {MAX_SCOPES} names")));
        }
        let role = token
            .parse::<RoleName>()
            .map_err(|_| invalid_scope("a scope is a list of target/role, one space between; leave it out for all"))?;
        if !roles.insert(role) {
            return Err(invalid_scope("a scope names a role twice; name each once"));
        }
    }
    match goal {
        Goal::Roles(asked) if !asked.iter().collect::<BTreeSet<_>>().iter().copied().eq(&roles) => {
            Err(invalid_scope("with a target/role as audience the scope is that role; leave it out"))
        }
        _ => Ok(Some(roles.into_iter().collect())),
    }
}
