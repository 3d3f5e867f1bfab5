//! The least of all limits, and what makes two requests one.

use crate::{exchange::request as read, fixture::*};
use proptest::prelude::*;
use proto_types::{CredentialInfo, Grant, Revocability, Secret, Task, Timestamp, id::parse_spiffe_id};
use server_core::{
    exchange::{
        Limits, OAuthCode, OAuthError, Proven, TokenResponse, fingerprint, idempotency_key, narrow, narrow_task_token,
    },
    ports::{Making, RoleLimits},
};
use std::{collections::BTreeMap, time::Duration};

fn limits(secs: u64) -> RoleLimits {
    RoleLimits {
        making: Making::Created,
        key: None,
        max_ttl: Duration::from_secs(secs),
        revocability: Revocability::SessionKill,
        token_type: "urn:errand:token-type:database-credential",
    }
}

fn grant(secs: u64) -> Grant {
    Grant { role: role("orders-db/readonly"), max_ttl: Duration::from_secs(secs), policies: vec![] }
}

proptest! {
    #[test]
    fn a_credential_outlives_nothing_that_bounds_it(
        task_secs in -10i64..2000, g in 1u64..2000, r in 1u64..2000,
        p in prop::option::of(1u64..2000), a in prop::option::of(1u64..2000), s in prop::option::of(-10i64..2000),
        millis in 0i64..1000,
    ) {
        let now = Timestamp::from_millis(NOW.as_millis() + millis);
        let at = |secs: i64| Timestamp::from_millis(now.as_millis() + secs * 1000);
        let task = Task { ends_at: at(task_secs), ..task(1, &["orders-db/readonly"], None) };
        let secs = |n: u64| Duration::from_secs(n);
        let decision = permit(p.map(secs));
        let (grant, role) = (grant(g), limits(r));
        let subject_expires = s.map(at);
        let all = Limits { task: &task, grant: &grant, role: &role, decision: &decision, subject_expires, asked: a.map(secs), now };
        let bounds = [Some(task.ends_at), Some(now.plus(secs(g))), Some(now.plus(secs(r))), p.map(|n| now.plus(secs(n))), a.map(|n| now.plus(secs(n))), subject_expires];
        let least = bounds.into_iter().flatten().min().unwrap();
        match narrow(&all) {
            Ok(end) => {
                prop_assert!(end > now && end <= least);
                prop_assert!(least.since(end) < secs(1), "nothing is taken away but the fraction of a second");
            }
            Err(why) => {
                prop_assert!(Timestamp::from_secs(least.as_secs()) <= now);
                prop_assert_eq!(why.code(), OAuthCode::InvalidRequest);
            }
        }
    }

    /// Exchanging one's own output again and again never buys a millisecond.
    #[test]
    fn a_task_token_never_ratchets_up(waits in prop::collection::vec(0u64..20_000, 100)) {
        let task = task(1, &["orders-db/readonly"], None);
        let mut now = NOW;
        let mut held = narrow_task_token(&task, &permit(None), None, now).unwrap();
        for wait in waits {
            now = now.plus(Duration::from_millis(wait));
            match narrow_task_token(&task, &permit(None), Some(held), now) {
                Ok(next) => { prop_assert!(next <= held); held = next; }
                Err(_) => prop_assert!(held <= now.plus(Duration::from_secs(1))),
            }
        }
    }
}

#[test]
fn what_policy_denies_has_no_length() {
    let task = task(1, &["orders-db/readonly"], None);
    let (grant, role, decision) = (grant(60), limits(60), deny());
    let all = Limits {
        task: &task,
        grant: &grant,
        role: &role,
        decision: &decision,
        subject_expires: None,
        asked: None,
        now: NOW,
    };
    let why = narrow(&all).unwrap_err();
    assert_eq!((why.code(), why.description()), (OAuthCode::AccessDenied, "forbidden by no"));
    assert_eq!(narrow(&Limits { decision: &permit(None), ..all }), Ok(NOW.plus(Duration::from_secs(60))));
    assert_eq!(narrow_task_token(&task, &decision, None, NOW).unwrap_err().code(), OAuthCode::AccessDenied);
    assert_eq!(narrow_task_token(&task, &permit(None), None, NOW), Ok(NOW.plus(Duration::from_secs(300))));
}

#[test]
fn the_same_request_with_a_fresh_token_is_the_same_and_any_other_is_not() {
    let proven = crate::exchange::proven();
    let of = |extra: &str, proven: &Proven| fingerprint(&read(extra).unwrap(), proven);
    let base = of("&audience=orders-db/readonly", &proven);
    assert_eq!(base, of("&audience=orders-db%2Freadonly&ignored=1", &proven));
    let fresh = Proven { subject_expires: proven.subject_expires.plus(Duration::from_secs(60)), ..proven.clone() };
    assert_eq!(base, of("&audience=orders-db/readonly", &fresh));

    let other_task = Proven { subject_task: Some(task_id(9)), ..proven.clone() };
    let other_client = Proven { client: parse_spiffe_id("spiffe://example.org/other").unwrap(), ..proven.clone() };
    let others = [
        of("&audience=bastion/ops", &proven),
        of("", &proven),
        of("&audience=orders-db/readonly&scope=orders-db/readonly", &proven),
        of("&audience=orders-db/readonly&requested_token_type=urn:ietf:params:oauth:token-type:jwt", &proven),
        of("&audience=orders-db/readonly&authorization_details=[{\"type\":\"x\",\"n\":1}]", &proven),
        of("&audience=orders-db/readonly&authorization_details=[{\"type\":\"x\",\"n\":2}]", &proven),
        of("&audience=orders-db/readonly", &other_task),
        of("&audience=orders-db/readonly", &other_client),
        base,
    ];
    assert_eq!(std::collections::BTreeSet::from(others).len(), others.len());
    // Order and white space inside the details are not differences.
    let one = of("&audience=orders-db/readonly&authorization_details=[{\"type\":\"x\",\"a\":1,\"b\":2}]", &proven);
    let two = of("&audience=orders-db/readonly&authorization_details=[%7B\"b\":2,+\"a\":1,\"type\":\"x\"}]", &proven);
    assert_eq!(one, two);
}

#[test]
fn an_idempotency_key_is_one_header_of_visible_ascii() {
    let key = |headers: &[&str]| idempotency_key(headers.iter().map(|h| h.as_bytes()));
    assert_eq!(key(&[]), Ok(None));
    assert_eq!(key(&["a-1"]), Ok(Some("a-1".into())));
    assert_eq!(key(&[&"x".repeat(128)]).unwrap().unwrap().len(), 128);
    for bad in [&["a", "a"][..], &[""], &["a b"], &["ä"], &["a\0"], &[&"x".repeat(129)]] {
        assert_eq!(key(bad).unwrap_err().code(), OAuthCode::InvalidRequest, "{bad:?}");
    }
}

#[test]
fn an_error_has_a_code_and_a_sentence_and_no_room_for_a_token() {
    let error = OAuthError::new(OAuthCode::InvalidTarget, "no \"such\" target\\\u{0}\u{e4}");
    let json = serde_json::to_value(&error).unwrap();
    let wanted = serde_json::json!({"error": "invalid_target", "error_description": "no 'such' target/??"});
    assert_eq!(json, wanted);
    let codes = [OAuthCode::InvalidClient, OAuthCode::TemporarilyUnavailable, OAuthCode::InvalidRequest];
    assert_eq!(codes.map(OAuthCode::status), [401, 503, 400]);
}

#[test]
fn an_answer_shows_its_token_on_the_wire_and_nowhere_else() {
    let fields = BTreeMap::from([("password".to_string(), serde_json::json!("hunter2"))]);
    let credential = CredentialInfo {
        kind: "postgres".into(),
        id: lease_id(1).to_string(),
        expires_at: NOW,
        revocability: Revocability::SessionKill,
        placement: vec![],
        fields,
    };
    let answer = TokenResponse {
        access_token: Secret::new("hunter2".into()),
        issued_token_type: "urn:errand:token-type:database-credential".into(),
        token_type: "N_A".into(),
        expires_in: 300,
        scope: None,
        credential: Some(credential),
        journal: None,
    };
    assert!(!format!("{answer:?}").contains("hunter2"));
    let wire = serde_json::to_value(&answer).unwrap();
    assert_eq!(wire["access_token"], "hunter2");
    assert_eq!(wire["credential"]["password"], "hunter2");
    assert!(wire.get("scope").is_none() && wire.get("refresh_token").is_none() && wire.get("error").is_none());
    let back: TokenResponse = serde_json::from_value(wire).unwrap();
    assert_eq!(back.access_token.expose(), "hunter2");
}
