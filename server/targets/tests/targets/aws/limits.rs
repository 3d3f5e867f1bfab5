//! What AWS documents, on both sides of each limit; and what an STS refuses, beside the same that it grants.

use super::{Cloud, DEPLOY, PLANNER, document, refusal};
use crate::world;
use proto_types::{Clock as _, id::parse_spiffe_id};
use server_core::ports::{IssueRequest, KindContext};
use std::{sync::Arc, time::Duration};
use testkit::{fakes::FakeClock, signers::TestSigners, target_law::durable};

const HOUR: Duration = Duration::from_secs(3600);

/// Invariants 6 and 8: denied here, before anything is sent.
#[tokio::test]
async fn what_cannot_be_said_to_an_sts_is_denied_and_not_sent() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    let request = || cloud.request(&*target, HOUR);
    let long = format!("spiffe://example.org/{}", "x".repeat(235));
    let workload = |id: &str| parse_spiffe_id(id).unwrap();
    let requests = [
        ("subject of 256 bytes", IssueRequest { workload: workload(&long), ..request() }),
        ("user that no tag may hold", IssueRequest { user: Some("kim;drop".into()), ..request() }),
        ("user of two lines", IssueRequest { user: Some("kim\nroot".into()), ..request() }),
        ("parameter", IssueRequest { params: serde_json::json!({ "type": "x", "policy": "{}" }), ..request() }),
    ];
    for (what, request) in &requests {
        assert_eq!(refusal(target.issue(&durable(), request).await).0, "never", "{what}");
    }
    let by_user = cloud.target("subject = \"{user}|{target}\"", "");
    let (how, why) = refusal(cloud.issue(&*by_user).await);
    assert!(how == "never" && why.contains("no user"), "{how} {why}");
    assert_eq!(cloud.sts.calls().len(), 0);

    cloud.sts.trusts(|t| t.roles.get_mut(DEPLOY).unwrap().subject = None);
    let twins = [
        IssueRequest { workload: workload(&long[..255]), ..request() },
        IssueRequest { user: Some("kim@example.org".into()), ..request() },
        IssueRequest { params: serde_json::json!({ "type": "x" }), ..request() },
    ];
    for twin in &twins {
        target.issue(&durable(), twin).await.unwrap();
    }
    let named = IssueRequest { user: Some("kim@example.org".into()), ..request() };
    by_user.issue(&durable(), &named).await.unwrap();
    assert_eq!(cloud.claims()["sub"], "kim@example.org|lake");
    assert_eq!(cloud.claims()["https://aws.amazon.com/tags"]["principal_tags"]["user"][0], "kim@example.org");
}

/// K16: as many and as long as a session may have, and one more.
#[tokio::test]
async fn tags_are_as_many_and_as_long_as_aws_takes_and_no_more() {
    let cloud = Cloud::new().await;
    let many = |n: usize| {
        let pairs: Vec<String> = (0..n).map(|i| format!("k{i} = \"v\"")).collect();
        format!("tags = {{ {} }}", pairs.join(", "))
    };
    let wide = |key: usize, value: usize| format!("tags = {{ {} = \"{}\" }}", "k".repeat(key), "v".repeat(value));
    for good in [
        many(46),
        wide(128, 256),
        "tags = { \"a:b/c=d+e-f@g.h_i j\" = \"x:y/z=1+2-3@4.5_6 7\" }".into(),
        "tags = { awsome = \"yes\" }".into(),
    ] {
        cloud.issue(&*cloud.target("", &good)).await.unwrap_or_else(|e| panic!("{good}: {e}"));
    }
    for (bad, words) in [
        (many(47), "more than 46"),
        (wide(129, 1), "1 to 128"),
        (wide(1, 257), "at most 256"),
        ("tags = { \"aws:team\" = \"x\" }".into(), "reserved"),
        ("tags = { \"AWS:team\" = \"x\" }".into(), "reserved"),
        ("tags = { task = \"x\" }".into(), "Errand's own"),
        ("tags = { Workload = \"x\" }".into(), "Errand's own"),
        ("tags = { team = \"x\", Team = \"y\" }".into(), "there already"),
        ("tags = { \"\" = \"x\" }".into(), "1 to 128"),
        ("tags = { team = \"\" }".into(), "tags.team"),
        ("tags = { team = \"a,b\" }".into(), "tags.team"),
        ("tags = { team = \"a\\nb\" }".into(), "tags.team"),
        ("tags = { team = [\"x\"] }".into(), "tags.team"),
        ("tags = [\"team\"]".into(), "not a table"),
    ] {
        let docs = server_targets::parse_toml(&document("http://127.0.0.1:1", "", &bad), "config").unwrap();
        let problems = server_targets::Registry::builtin().build(&docs[0], &cloud.context()).err().expect(&bad);
        assert!(problems.len() == 1 && problems[0].problem.contains(words), "{bad}: {problems:?}");
    }
}

/// K14 to K17: what the STS itself refuses, each beside what it grants.
#[tokio::test]
async fn what_the_sts_refuses_is_said_with_what_to_do_and_the_same_without_it_is_granted() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    let foreign = KindContext { tokens: Arc::new(TestSigners::default()), ..cloud.context() };
    let foreign = super::build(&document(&cloud.sts.url(), "", ""), &foreign);
    let elsewhere = KindContext { issuer: "https://errand.example.com".into(), ..cloud.context() };
    let elsewhere = super::build(&document(&cloud.sts.url(), "", ""), &elsewhere);
    let other = super::build(&document(&cloud.sts.url(), "", "").replace("Deploy", "Admin"), &cloud.context());
    let longer = cloud.target("", "session_duration = \"2h\"");
    let tags = (0..46).map(|i| format!("k{i} = \"{}\"", "v".repeat(60))).collect::<Vec<_>>().join(", ");
    let arns = (0..10).map(|i| format!("\"arn:aws:iam::111122223333:policy/{}{i}\"", "p".repeat(100)));
    let arns = arns.collect::<Vec<_>>().join(", ");
    let packed = cloud.target("", &format!("policy_arns = [{arns}]\ntags = {{ {tags} }}"));
    cloud.sts.trusts(|t| t.roles.get_mut(DEPLOY).unwrap().max_session = 3600);
    for (target, how, code) in [
        (&foreign, "refused", "InvalidIdentityToken"),
        (&elsewhere, "refused", "InvalidIdentityToken"),
        (&cloud.target("audience = \"sts.example.org\"", ""), "refused", "InvalidIdentityToken"),
        (&other, "never", "AccessDenied"),
        (&cloud.target("subject = \"{role}\"", ""), "never", "AccessDenied"),
        (&packed, "never", "PackedPolicyTooLarge"),
    ] {
        let (found, why) = refusal(cloud.issue(&**target).await);
        assert!(found == how && why.starts_with(code) && why.contains('('), "{code}: {found} {why}");
        cloud.issue(&*self::twin(&cloud)).await.unwrap();
    }
    let (how, why) = refusal(cloud.issue_for(&*longer, 2 * HOUR + Duration::from_secs(10)).await);
    assert!(how == "never" && why.contains("MaxSessionDuration"), "{how} {why}");
    cloud.issue_for(&*longer, HOUR).await.unwrap();

    cloud.sts.trusts(|t| t.roles.get_mut(DEPLOY).unwrap().may_tag = false);
    assert_eq!(refusal(cloud.issue(&*target).await).0, "never");
    cloud.sts.trusts(|t| {
        let role = t.roles.get_mut(DEPLOY).unwrap();
        (role.may_tag, role.may_set_source) = (true, false);
    });
    let (how, why) = refusal(cloud.issue(&*target).await);
    assert!(how == "never" && why.contains("sts:SetSourceIdentity"), "{how} {why}");
    cloud.sts.trusts(|t| t.roles.get_mut(DEPLOY).unwrap().may_set_source = true);
    cloud.issue(&*target).await.unwrap();
}

fn twin(cloud: &Cloud) -> Arc<dyn server_core::ports::Target> {
    cloud.target("audience = \"sts.amazonaws.com\"\nsubject = \"{workload}\"", "session_duration = \"1h\"")
}

/// A server whose clock is behind signs what is over already.
#[tokio::test]
async fn a_token_of_ten_minutes_ago_buys_nothing() {
    let cloud = Cloud::new().await;
    let ahead = |by| Arc::new(FakeClock::at(cloud.clock.now().plus(Duration::from_secs(by))));
    cloud.sts.trusts(|t| t.clock = ahead(600));
    let (how, why) = refusal(cloud.issue(&*cloud.target("", "")).await);
    assert!(how == "refused" && why.contains("ExpiredTokenException") && why.contains("clocks"), "{how} {why}");
    cloud.sts.trusts(|t| t.clock = ahead(119));
    cloud.issue(&*cloud.target("", "")).await.unwrap();
}

/// K15: name and source identity are of the characters AWS takes, whatever the workload is called.
#[tokio::test]
async fn every_name_of_a_workload_makes_a_source_identity() {
    let cloud = Cloud::new().await;
    let target = cloud.target("subject = \"fixed\"", "");
    cloud.sts.trusts(|t| t.roles.get_mut(DEPLOY).unwrap().subject = Some("fixed".into()));
    for id in
        [PLANNER, "spiffe://example.org/a", "spiffe://example.org/A.b-c_d", &format!("{PLANNER}{}", "x".repeat(150))]
    {
        let request = IssueRequest { workload: parse_spiffe_id(id).unwrap(), ..cloud.request(&*target, HOUR) };
        target.issue(&durable(), &request).await.unwrap_or_else(|e| panic!("{id}: {e}"));
        let source = cloud.claims()["https://aws.amazon.com/source_identity"].as_str().unwrap().to_string();
        assert!(source.len() <= 64 && source.ends_with(&format!(".{}", request.task)), "{source}");
    }
    assert!(world::STORE.len() == 5 && cloud.sts.calls().iter().all(|c| c["RoleSessionName"].len() == 29));
}
