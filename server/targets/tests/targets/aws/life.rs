//! A session from its token to its end.

use super::{Cloud, DEPLOY, PLANNER, document, refusal};
use crate::world::STORE;
use proto_types::{Clock as _, Placement, Revocability, Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::target_law::{Subject, durable, holds_for_sessions};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_session_is_asked_for_with_a_name_tags_and_a_source_identity_that_name_the_task() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "tags = { team = \"data\" }");
    let request = cloud.request(&*target, Duration::from_secs(1810));
    let issued = target.issue(&durable(), &request).await.unwrap();

    let call = cloud.sts.calls().remove(0);
    let (task, now) = (request.task.to_string(), cloud.clock.now().as_secs());
    assert_eq!((call["RoleArn"].as_str(), call["RoleSessionName"].as_str()), (DEPLOY, request.name.as_str()));
    assert_eq!(call["DurationSeconds"], "1800");
    assert!(!call.contains_key("Policy"), "{call:?}");
    let claims = cloud.claims();
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://errand.example.org"), &json!("sts.amazonaws.com")));
    assert_eq!((&claims["sub"], &claims["iat"]), (&json!(PLANNER), &json!(now)));
    assert_eq!((&claims["nbf"], &claims["exp"]), (&json!(now - 30), &json!(now + 120)));
    assert_eq!(
        claims["https://aws.amazon.com/tags"],
        json!({
            "principal_tags": {
                "task": [task], "workload": [PLANNER], "role": ["lake/deploy"], "team": ["data"],
            },
            "transitive_tag_keys": ["task", "workload", "role"],
        })
    );
    assert_eq!(claims["https://aws.amazon.com/source_identity"], format!("planner.{task}"));
    let names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.len(), 9, "a cloud is told no more than it needs: {names:?}");

    let fields: Value = serde_json::from_str(issued.fields.expose()).unwrap();
    let ends = cloud.clock.now().plus(Duration::from_secs(1800));
    assert_eq!(
        fields,
        json!({
            "access_key_id": "ASIASTANDIN000000001", "secret_access_key": "secret/of+session1",
            "session_token": "token/of+session1==", "expiration": ends, "region": "eu-west-1", "role_arn": DEPLOY,
        })
    );
    assert_eq!((issued.not_after, issued.token_type), (ends, "urn:errand:token-type:aws-credentials"));
    assert_eq!(issued.handle, json!({ "serial": "ASIASTANDIN000000001", "role_arn": DEPLOY }));
}

#[tokio::test]
async fn two_tokens_are_never_the_same() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    for _ in 0..2 {
        cloud.issue(&*target).await.unwrap();
    }
    let calls = cloud.sts.calls();
    assert_ne!(calls[0]["WebIdentityToken"], calls[1]["WebIdentityToken"]);
    assert_ne!(calls[0]["RoleSessionName"], calls[1]["RoleSessionName"]);
}

/// Invariant 6, K17: a session is shorter than what was granted by the longest a call may take.
#[tokio::test]
async fn no_session_outlives_what_was_granted() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "session_duration = \"30m\"");
    let limits = target.role("deploy").unwrap();
    assert_eq!((limits.max_ttl, limits.revocability), (30 * MINUTE + MINUTE / 2, Revocability::TtlOnly));
    for (left, asked) in [(910, 900), (1000, 990), (1809, 1799), (1810, 1800), (43_200, 1800)] {
        let left = Duration::from_secs(left);
        let issued = cloud.issue_for(&*target, left).await.unwrap();
        assert_eq!(cloud.sts.calls().pop().unwrap()["DurationSeconds"], asked.to_string());
        assert!(issued.not_after <= cloud.clock.now().plus(left));
    }
    let asked = cloud.sts.calls().len();
    for left in [0, 1, 600, 899, 900, 909] {
        let (how, why) = refusal(cloud.issue_for(&*target, Duration::from_secs(left)).await);
        assert!(how == "never" && why.contains("--ttl 20m"), "{left}: {how} {why}");
    }
    assert_eq!(cloud.sts.calls().len(), asked, "the STS was not even asked");
}

/// Invariant 6: what an STS makes of its own accord does not leave.
#[tokio::test]
async fn a_session_that_is_longer_than_granted_or_over_already_is_dropped() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "session_duration = \"15m\"");
    let at = |seconds: i64| Timestamp::from_secs(cloud.clock.now().as_secs() + seconds).to_string();
    let left = Duration::from_secs(910);
    for ends in [910 + 301, 43_200, 0, -900] {
        cloud.sts.answers_changed(&at(900), &at(ends));
        let (how, why) = refusal(cloud.issue_for(&*target, left).await);
        assert!(how == "unknown" && why.contains("not the one that was asked for"), "{ends}: {how} {why}");
    }
    // Clocks differ a little; what is said of it never passes the grant.
    for (ends, said) in [(910 + 300, 910), (1, 1), (900, 900)] {
        cloud.sts.answers_changed(&at(900), &at(ends));
        let issued = cloud.issue_for(&*target, left).await.unwrap();
        assert_eq!(issued.not_after.to_string(), at(said));
    }
}

#[tokio::test]
async fn aws_keeps_the_law_of_sessions() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    let now = cloud.clock.now();
    let subject = Subject { target: &*target, name: "lake", kind: "aws", role: "deploy", store_id: STORE, now };
    holds_for_sessions(&subject, 60 * MINUTE).await;
    assert_eq!(target.audiences(), ["sts.amazonaws.com"]);
}

#[tokio::test]
async fn tools_find_a_session_where_they_look_and_no_key_is_in_a_variable_or_file() {
    let cloud = Cloud::new().await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    let pem = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap().cert.pem();
    std::fs::write(ca.path(), &pem).unwrap();
    let own = format!("endpoint_url = \"http://127.0.0.1:8333\"\nca_file = \"{}\"", ca.path().display());
    let target = cloud.target(&own, "");
    let issued = cloud.issue(&*target).await.unwrap();
    let placed = serde_json::to_string(&issued.placement).unwrap();
    for secret in ["ASIASTANDIN", "secret/of", "token/of"] {
        assert!(!placed.contains(secret), "{placed}");
    }
    let body = issued.placement.iter().find_map(|p| match p {
        Placement::LoopbackHttp { variable, token_file_variable, body } => {
            assert_eq!(variable, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
            assert_eq!(token_file_variable, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
            Some(body)
        }
        _ => None,
    });
    let fields: Value = serde_json::from_str(issued.fields.expose()).unwrap();
    for (_, text) in body.unwrap().as_object().unwrap() {
        let name = text.as_str().unwrap().trim_start_matches("${").trim_end_matches('}');
        assert!(fields[name].is_string(), "{name} is a field of the answer");
    }
    let env = |wanted: &str| {
        issued.placement.iter().find_map(|p| match p {
            Placement::Env { name, value } if name == wanted => Some(value.as_str()),
            _ => None,
        })
    };
    assert_eq!((env("AWS_REGION"), env("AWS_DEFAULT_REGION")), (Some("eu-west-1"), Some("eu-west-1")));
    assert_eq!(env("AWS_ENDPOINT_URL"), Some("http://127.0.0.1:8333"));
    assert_eq!(env("AWS_CA_BUNDLE"), Some("${DIR}/lake-ca.pem"));
    let file = |wanted: &str| {
        issued.placement.iter().find_map(|p| match p {
            Placement::File { path, content, .. } if path == wanted => Some(content.as_str()),
            _ => None,
        })
    };
    assert_eq!(file("lake-ca.pem").map(str::trim), Some(pem.trim()));
    let profile = "credential_process = \"${ERRAND}\" exchange lake/deploy --as aws\nregion = eu-west-1\n\
                   endpoint_url = http://127.0.0.1:8333\nca_bundle = ${DIR}/lake-ca.pem\n\n";
    let config = format!("[profile lake/deploy]\n{profile}[profile lake]\n{profile}");
    assert_eq!((env("AWS_CONFIG_FILE"), file("aws_config")), (Some("${DIR}/aws_config"), Some(config.as_str())));
}

/// botocore refuses a file in which a profile stands twice.
#[tokio::test]
async fn a_target_with_several_roles_has_a_profile_for_each_and_none_of_its_own_name() {
    let cloud = Cloud::new().await;
    let second = format!("[[target.role]]\nname = \"read\"\nrole_arn = \"{DEPLOY}\"");
    let issued = cloud.issue(&*super::build(&document(&cloud.sts.url(), "", &second), &cloud.context())).await.unwrap();
    let config = issued.placement.iter().find_map(|p| match p {
        Placement::File { path, content, append: true } if path == "aws_config" => Some(content),
        _ => None,
    });
    let config = config.expect("a file that grants share");
    assert_eq!(config.matches("[profile ").count(), 1, "{config}");
    assert!(config.starts_with("[profile lake/deploy]\n"), "{config}");
}
