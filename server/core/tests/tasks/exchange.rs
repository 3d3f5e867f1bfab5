//! Group E of the bad inputs: every refused request of the table beside a nearly identical one that is accepted.

use crate::fixture::*;
use proptest::prelude::*;
use proto_types::{EndReason, RoleName, Task, id::parse_spiffe_id};
use serde::Deserialize;
use server_core::{
    exchange::{
        Admitted, Details, ExchangeForm, ExchangeRequest, Goal, MAX_BODY, MAX_PARAMS, OAuthCode, OAuthError, Proven,
        Surroundings, no_query,
    },
    ports::KeyFormat,
    task::end,
};
use std::time::Duration;

const ISSUER: &str = "https://errand.example.org";
const FORM: &str = "application/x-www-form-urlencoded";
const BASE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=e.y.J\
                    &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Its number in the catalogue.
    id: String,
    name: String,
    /// The body; `{base}` stands for a good request without audience.
    refused: String,
    error: String,
    #[serde(default)]
    says: String,
    accepted: String,
    /// What surrounds the refused body; the accepted one comes over mTLS as a plain form.
    #[serde(default)]
    around: Around,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Around {
    content_type: String,
    query: Option<String>,
    authorization: bool,
    certificate: bool,
}

impl Default for Around {
    fn default() -> Self {
        Self { content_type: FORM.into(), query: None, authorization: false, certificate: true }
    }
}

fn registered(uri: &str) -> Option<RoleName> {
    (uri == "https://orders.example.org/api?v=1").then(|| role("orders-db/readonly"))
}

fn the_task() -> Task {
    task(1, &["orders-db/readonly", "bastion/ops"], None)
}

pub fn proven() -> Proven {
    Proven {
        client: parse_spiffe_id(&the_task().spiffe_id()).unwrap(),
        client_task: Some(task_id(1)),
        subject_task: Some(task_id(1)),
        subject_expires: NOW.plus(Duration::from_secs(300)),
    }
}

fn parse(body: &[u8], around: &Around) -> Result<ExchangeRequest, OAuthError> {
    no_query(around.query.as_deref())?;
    let form = ExchangeForm::parse(&around.content_type, body)?;
    let (authorization, certificate) = (around.authorization, around.certificate);
    ExchangeRequest::read(&form, &Surroundings { issuer: ISSUER, authorization, certificate, resource: &registered })
}

fn whole(body: &str, around: &Around) -> Result<ExchangeRequest, OAuthError> {
    let request = parse(body.replace("{base}", BASE).as_bytes(), around)?;
    request.admit(&proven(), &the_task(), NOW)?;
    Ok(request)
}

/// A good request and something more, over mTLS.
pub fn request(extra: &str) -> Result<ExchangeRequest, OAuthError> {
    parse(format!("{BASE}{extra}").as_bytes(), &Around::default())
}

#[test]
fn every_refused_request_of_the_table_is_refused_and_its_twin_accepted() {
    let table: Table = toml::from_str(include_str!("../data/exchange.toml")).unwrap();
    for case in &table.case {
        let name = format!("{} {}", case.id, case.name);
        let Err(error) = whole(&case.refused, &case.around) else { panic!("{name}: accepted") };
        assert_eq!(error.code().as_str(), case.error, "{name}: {error}");
        assert!(error.description().contains(&case.says), "{name}: {error}");
        assert!(!error.description().contains("e.y.J"), "{name}: the token is in {error}");
        if let Err(error) = whole(&case.accepted, &Around::default()) {
            panic!("{name}: its twin is refused: {error}");
        }
    }
}

#[test]
fn every_parameter_but_audience_and_resource_is_sent_once() {
    let names = [
        "grant_type",
        "subject_token",
        "subject_token_type",
        "actor_token",
        "actor_token_type",
        "requested_token_type",
        "scope",
        "authorization_details",
        "client_id",
        "client_assertion",
        "client_assertion_type",
        "client_secret",
        "unknown",
    ];
    for name in names {
        for values in ["&N=a&N=a", "&N=&N="] {
            let body = format!("{BASE}{}", values.replace('N', name));
            let error = ExchangeForm::parse(FORM, body.as_bytes()).unwrap_err();
            assert_eq!(error.code(), OAuthCode::InvalidRequest, "{name}");
        }
    }
    let both = request("&audience=orders-db/readonly&audience=bastion/ops").unwrap();
    assert_eq!(both.goal, Goal::Roles(vec![role("orders-db/readonly"), role("bastion/ops")]));
}

#[test]
fn a_body_has_a_size_and_a_number_of_parameters() {
    let body = |size: usize| format!("{BASE}&x={}", "y".repeat(size - BASE.len() - 3));
    assert!(ExchangeForm::parse(FORM, body(MAX_BODY).as_bytes()).is_ok());
    for size in [MAX_BODY + 1, 1024 * 1024 + 1] {
        assert!(ExchangeForm::parse(FORM, body(size).as_bytes()).is_err());
    }
    let body = |n: usize| (0..n).map(|i| format!("p{i}=1")).collect::<Vec<_>>().join("&");
    assert!(ExchangeForm::parse(FORM, body(MAX_PARAMS).as_bytes()).is_ok());
    assert!(ExchangeForm::parse(FORM, body(MAX_PARAMS + 1).as_bytes()).is_err());
    let audiences = |n: usize| (0..n).map(|i| format!("&audience=db/r{i}")).collect::<String>();
    request(&audiences(16)).unwrap();
    assert_eq!(request(&audiences(17)).unwrap_err().code(), OAuthCode::InvalidTarget);
    assert_eq!(request(&audiences(10_000)).unwrap_err().code(), OAuthCode::InvalidRequest);
    let scopes = |n: usize| format!("&scope={}", (0..n).map(|i| format!("db/r{i}")).collect::<Vec<_>>().join("+"));
    request(&scopes(64)).unwrap();
    for n in [65, 10_000] {
        assert!(request(&scopes(n)).is_err());
    }
}

#[test]
fn details_are_bounded_in_depth_and_size() {
    let nested = |n: usize| {
        let inner = format!("{}{}", "[".repeat(n), "]".repeat(n));
        request(&format!("&audience=bastion/ops&authorization_details=[{{\"type\":\"x\",\"a\":{inner}}}]"))
    };
    nested(14).unwrap();
    for n in [15, 20_000] {
        assert_eq!(nested(n).unwrap_err().code(), OAuthCode::InvalidAuthorizationDetails);
    }
    let long = |n: usize| {
        let filler = "y".repeat(n - "[{\"type\":\"x\",\"a\":\"\"}]".len());
        request(&format!("&audience=bastion/ops&authorization_details=[{{\"type\":\"x\",\"a\":\"{filler}\"}}]"))
    };
    long(16 * 1024).unwrap();
    assert_eq!(long(16 * 1024 + 1).unwrap_err().code(), OAuthCode::InvalidAuthorizationDetails);
}

#[test]
fn no_byte_sequence_makes_the_parser_do_anything_but_answer() {
    // Every byte, raw and escaped, in a name and in a value.
    for byte in 0..=255u8 {
        for (before, after) in [(&b"audience="[..], &b""[..]), (b"", b"=1")] {
            let raw = [before, &[byte], after].concat();
            let escaped = [before, format!("%{byte:02x}").as_bytes(), after].concat();
            let accepted = ExchangeForm::parse(FORM, &escaped).is_ok();
            assert_eq!(accepted, (0x20..=0x7e).contains(&byte), "escaped {byte:#x}");
            let ordinary = (0x21..=0x7e).contains(&byte) && byte != b'%';
            let no_name = before.is_empty() && matches!(byte, b'=' | b'&');
            assert_eq!(ExchangeForm::parse(FORM, &raw).is_ok(), ordinary && !no_name, "raw {byte:#x} in {raw:?}");
        }
    }
}

#[test]
fn a_request_belongs_to_the_one_task_that_caller_and_subject_both_prove() {
    let request = request("&audience=orders-db/readonly").unwrap();
    let task = the_task();
    let admit = |proven: Proven| request.admit(&proven, &task, NOW).map(|_| ()).map_err(|e| e.code());
    assert_eq!(admit(proven()), Ok(()));
    let other = Some(task_id(2));
    assert_eq!(admit(Proven { subject_task: other, ..proven() }), Err(OAuthCode::InvalidRequest));
    assert_eq!(admit(Proven { client_task: other, ..proven() }), Err(OAuthCode::InvalidRequest));
    assert_eq!(admit(Proven { client_task: other, subject_task: other, ..proven() }), Err(OAuthCode::InvalidRequest));
    assert_eq!(admit(Proven { client_task: None, ..proven() }), Err(OAuthCode::InvalidClient));
    assert_eq!(admit(Proven { subject_task: None, ..proven() }), Err(OAuthCode::InvalidRequest));
    let stranger = parse_spiffe_id("spiffe://example.org/agents/other").unwrap();
    assert_eq!(admit(Proven { client: stranger, ..proven() }), Err(OAuthCode::InvalidClient));
    assert_eq!(admit(Proven { subject_expires: NOW, ..proven() }), Err(OAuthCode::InvalidRequest));

    let over = end(&task, EndReason::Completed, NOW).unwrap();
    assert_eq!(request.admit(&proven(), &over, NOW).unwrap_err().code(), OAuthCode::InvalidRequest);
    let late = Task { ends_at: NOW, ..task.clone() };
    assert_eq!(request.admit(&proven(), &late, NOW).unwrap_err().code(), OAuthCode::InvalidRequest);
}

#[test]
fn a_scope_only_narrows() {
    let task = the_task();
    let scope = |extra: &str| {
        let request = request(extra).unwrap();
        let Admitted { scope, narrowed, grants, .. } = request.admit(&proven(), &task, NOW).unwrap();
        assert!(grants.is_empty());
        (scope, narrowed)
    };
    let (all, one) = (vec![role("orders-db/readonly"), role("bastion/ops")], vec![role("bastion/ops")]);
    assert_eq!(scope(""), (all, false));
    assert_eq!(scope("&scope=bastion/ops"), (one, true));
}

const KEY: &str = "{\"type\":\"urn:errand:key\",\"public_key\":\"ssh-ed25519+AAAA\",\"ttl\":\"5m\"}";

fn details(list: &str) -> Details {
    request(&format!("&audience=bastion/ops&authorization_details={list}")).unwrap().details
}

#[test]
fn what_a_target_gets_is_the_object_without_what_is_read_here() {
    let both = details(&format!("[{KEY},{{\"type\":\"x\",\"rows\":7,\"ttl\":\"9m\"}}]"));
    assert_eq!(both.ttl(), Ok(Some(Duration::from_secs(300))));
    assert_eq!(both.key(Some(KeyFormat::OpenSsh)), Ok(Some("ssh-ed25519 AAAA".into())));
    assert_eq!(both.params(), Ok(serde_json::json!({"type": "x", "rows": 7})));
    assert_eq!(details(&format!("[{KEY}]")).params(), Ok(serde_json::Value::Null));
    assert_eq!(request("&audience=bastion/ops").unwrap().details.params(), Ok(serde_json::Value::Null));
}

#[test]
fn a_key_is_sent_once_to_who_asks_for_one_and_to_nobody_else() {
    let openssh = Some(KeyFormat::OpenSsh);
    for (wanted, list) in [
        (None, format!("[{KEY}]")),
        (openssh, format!("[{KEY},{KEY}]")),
        (openssh, "[{\"type\":\"urn:errand:key\"}]".into()),
        (openssh, "[{\"type\":\"urn:errand:key\",\"public_key\":\"\"}]".into()),
        (openssh, format!("[{{\"type\":\"urn:errand:key\",\"public_key\":\"{}\"}}]", "A".repeat(4097))),
    ] {
        let error = details(&list).key(wanted).unwrap_err();
        assert_eq!(error.code(), OAuthCode::InvalidAuthorizationDetails, "{list}");
        assert!(!serde_json::to_string(&error).unwrap().contains("key_format"), "{list}");
    }
    // Only a missing key is something a client can make good by itself.
    let missing = request("&audience=bastion/ops").unwrap().details.key(openssh).unwrap_err();
    assert_eq!(serde_json::to_value(&missing).unwrap()["key_format"], "openssh");
    details(&format!("[{KEY}]")).key(openssh).unwrap();
}

#[test]
fn no_token_is_shown_by_debug() {
    let form = ExchangeForm::parse(FORM, BASE.as_bytes()).unwrap();
    let request = request("").unwrap();
    assert!(!format!("{form:?} {request:?}").contains("e.y.J"));
}

proptest! {
    /// Whatever is sent, the answer is a request or an error, never a panic; and an error keeps to its characters.
    #[test]
    fn any_body_is_answered(body in prop::collection::vec(any::<u8>(), 0..200), details in "[\\[\\]{}\",:0-9a-z ]{0,60}") {
        let encoded: String = details.bytes().map(|b| format!("%{b:02x}")).collect();
        let bodies = [body.clone(), [BASE.as_bytes(), b"&", &body].concat(),
            format!("{BASE}&audience=bastion/ops&authorization_details={encoded}").into_bytes()];
        for body in bodies {
            if let Err(error) = parse(&body, &Around::default()) {
                prop_assert!(error.description().chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\'));
            }
        }
    }
}
