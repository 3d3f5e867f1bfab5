//! AssumeRoleWithWebIdentity by its documentation: what is checked of the parameters, of the token, of its session tags
//! and source identity, and of the role's trust policy; and the errors by which each is refused.

use super::Call;
use proto_jose::{Expect, JwtError, KeySet, VerifiedJwt, verify_jwt};
use proto_types::{Clock, Timestamp};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Whom the stand-in believes, and what its roles admit.
pub struct Trust {
    pub issuer: String,
    pub audience: String,
    pub keys: KeySet,
    pub roles: BTreeMap<String, RoleTrust>,
    pub clock: Arc<dyn Clock>,
    /// Sessions given so far.
    pub given: u32,
}

/// A role's trust policy and its own limit.
#[derive(Clone, Debug)]
pub struct RoleTrust {
    /// The condition on `sub`; `None` admits every subject.
    pub subject: Option<String>,
    pub may_tag: bool,
    pub may_set_source: bool,
    pub max_session: u64,
}

impl RoleTrust {
    /// As AWS recommends it, for one subject, and with the longest sessions there are.
    pub fn for_subject(subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), may_tag: true, may_set_source: true, max_session: 43_200 }
    }
}

/// A refusal: status, code and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(pub u16, pub &'static str, pub &'static str);

const TAGS: &str = "https://aws.amazon.com/tags";
const SOURCE_IDENTITY: &str = "https://aws.amazon.com/source_identity";
/// AWS does not say what it packs and how; this is as much as plain characters come to at the most.
const MAX_PACKED: usize = 4096;

/// Status and XML.
pub(super) fn answer(form: &Call, trust: &mut Trust) -> (u16, String) {
    match assume(form, trust) {
        Ok(session) => {
            trust.given += 1;
            (200, granted(form, &session, trust.given))
        }
        Err(Fault(status, code, message)) => (
            status,
            format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>{message}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
            ),
        ),
    }
}

struct Session {
    expires_at: Timestamp,
    subject: String,
}

fn assume(form: &Call, trust: &Trust) -> Result<Session, Fault> {
    let invalid = |message| Fault(400, "ValidationError", message);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if field("Action") != "AssumeRoleWithWebIdentity" || field("Version") != "2011-06-15" {
        return Err(Fault(400, "InvalidAction", "no such action"));
    }
    let (arn, name, token) = (field("RoleArn"), field("RoleSessionName"), field("WebIdentityToken"));
    if !(20..=2048).contains(&arn.len()) {
        return Err(invalid("RoleArn has 20 to 2048 characters"));
    }
    if !(2..=64).contains(&name.len()) || !name.chars().all(is_name_character) {
        return Err(invalid("RoleSessionName has 2 to 64 characters of [\\w+=,.@-]"));
    }
    if !(4..=20_000).contains(&token.len()) {
        return Err(invalid("WebIdentityToken has 4 to 20000 characters"));
    }
    let length: u64 = field("DurationSeconds").parse().map_err(|_| invalid("DurationSeconds is a number"))?;
    if !(900..=43_200).contains(&length) {
        return Err(invalid("DurationSeconds is from 900 to 43200"));
    }
    let policy = policies(form)?;
    let now = trust.clock.now();
    let verified = verified(token, trust, now)?;
    let role = trust.roles.get(arn).ok_or(DENIED)?;
    if role.subject.as_deref().is_some_and(|wanted| wanted != verified.subject()) {
        return Err(DENIED);
    }
    let tags = tags(verified.claims(), role)?;
    source_identity(verified.claims(), role)?;
    if length > role.max_session {
        return Err(invalid("DurationSeconds exceeds the MaxSessionDuration set for this role"));
    }
    if policy + tags > MAX_PACKED {
        return Err(Fault(400, "PackedPolicyTooLarge", "policies and tags are too large when packed"));
    }
    Ok(Session { expires_at: now.plus(Duration::from_secs(length)), subject: verified.subject().to_string() })
}

const DENIED: Fault = Fault(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");

/// The size of the session policies.
fn policies(form: &Call) -> Result<usize, Fault> {
    let arns: Vec<&String> =
        form.iter().filter(|(k, _)| k.starts_with("PolicyArns.member.")).map(|(_, arn)| arn).collect();
    if arns.len() > 10 {
        return Err(Fault(400, "ValidationError", "at most 10 PolicyArns"));
    }
    let mut size = arns.iter().map(|a| a.len()).sum();
    if let Some(policy) = form.get("Policy") {
        if !(1..=2048).contains(&policy.chars().count()) {
            return Err(Fault(400, "ValidationError", "Policy has 1 to 2048 characters"));
        }
        let document = serde_json::from_str::<Value>(policy).ok().filter(|p| p.get("Statement").is_some());
        document.ok_or(Fault(400, "MalformedPolicyDocument", "no policy"))?;
        size += policy.len();
    }
    Ok(size)
}

fn verified(token: &str, trust: &Trust, now: Timestamp) -> Result<VerifiedJwt, Fault> {
    let invalid = |message| Fault(400, "InvalidIdentityToken", message);
    let expect = Expect::oidc(&*trust.issuer, &*trust.audience);
    let verified = verify_jwt(token, &expect, &trust.keys, now).map_err(|error| match error {
        JwtError::Expired(_) => Fault(400, "ExpiredTokenException", "Token expired"),
        JwtError::Audience { .. } => invalid("Incorrect token audience"),
        JwtError::Issuer { .. } => invalid("No OpenIDConnect provider found in your account for the issuer"),
        _ => invalid("The web identity token could not be validated"),
    })?;
    if !verified.claims().contains_key("iat") {
        return Err(invalid("Missing a required claim: iat"));
    }
    if verified.subject().len() > 255 {
        return Err(invalid("the subject has more than 255 characters"));
    }
    Ok(verified)
}

/// The nested form of the claim. Answers what the tags add to the packed size.
fn tags(claims: &Map<String, Value>, role: &RoleTrust) -> Result<usize, Fault> {
    let invalid = |message| Fault(400, "InvalidIdentityToken", message);
    let Some(claim) = claims.get(TAGS) else { return Ok(0) };
    let tags = claim.get("principal_tags").and_then(Value::as_object).ok_or(invalid("principal_tags is an object"))?;
    if tags.len() > 50 {
        return Err(invalid("a session has at most 50 tags"));
    }
    let mut size = 0;
    let mut folded: Vec<String> = Vec::new();
    for (key, value) in tags {
        let one = value.as_array().filter(|all| all.len() == 1).and_then(|all| all[0].as_str());
        let value = one.ok_or(invalid("a tag has a list of one value"))?;
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(invalid("aws: is reserved"));
        }
        if !(1..=128).contains(&key.chars().count()) || value.chars().count() > 256 {
            return Err(invalid("a tag's key has 1 to 128 characters and its value at most 256"));
        }
        if !key.chars().chain(value.chars()).all(is_tag_character) {
            return Err(invalid("a tag has letters, numbers, spaces and _.:/=+-@"));
        }
        folded.push(key.to_lowercase());
        size += key.len() + value.len();
    }
    folded.sort();
    if folded.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("two tags differ by case only"));
    }
    let transitive = claim.get("transitive_tag_keys").and_then(Value::as_array).cloned().unwrap_or_default();
    if !transitive.iter().all(|key| key.as_str().is_some_and(|key| tags.contains_key(key))) {
        return Err(invalid("a transitive key is no tag's"));
    }
    if role.may_tag { Ok(size) } else { Err(DENIED) }
}

fn source_identity(claims: &Map<String, Value>, role: &RoleTrust) -> Result<(), Fault> {
    let Some(claim) = claims.get(SOURCE_IDENTITY) else { return Ok(()) };
    let good = claim.as_str().is_some_and(|s| (2..=64).contains(&s.len()) && s.chars().all(is_name_character));
    match (good, role.may_set_source) {
        (false, _) => Err(Fault(400, "InvalidIdentityToken", "the source identity has 2 to 64 of [\\w+=,.@-]")),
        (true, false) => Err(DENIED),
        (true, true) => Ok(()),
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn is_tag_character(c: char) -> bool {
    c.is_alphanumeric() || " _.:/=+-@".contains(c)
}

fn granted(form: &Call, session: &Session, nth: u32) -> String {
    let (arn, name) = (&form["RoleArn"], &form["RoleSessionName"]);
    let mut parts = arn.splitn(6, ':');
    let (partition, account) = (parts.nth(1).unwrap_or_default(), parts.nth(2).unwrap_or_default());
    let role = arn.rsplit('/').next().unwrap_or_default();
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken>\
         <AssumedRoleUser><Arn>arn:{partition}:sts::{account}:assumed-role/{role}/{name}</Arn>\
         <AssumedRoleId>AROASTANDIN:{name}</AssumedRoleId></AssumedRoleUser><Credentials>\
         <AccessKeyId>ASIASTANDIN{nth:09}</AccessKeyId><SecretAccessKey>secret/of+session{nth}</SecretAccessKey>\
         <SessionToken>token/of+session{nth}==</SessionToken><Expiration>{}</Expiration></Credentials>\
         <PackedPolicySize>1</PackedPolicySize></AssumeRoleWithWebIdentityResult>\
         <ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>",
        session.subject,
        Timestamp::from_secs(session.expires_at.as_secs()),
    )
}
