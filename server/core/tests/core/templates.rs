//! Templates: the entry decides, the least end wins, and what looks like a task is a task's only.

use proto_types::{EndReason, EntryId, Epoch, KeyUse, SpiffeId, Task, TaskState, Timestamp, id::parse_spiffe_id};
use server_core::issue::{
    JwtSvidRequest, TaskTokenRequest, TemplateError, Ttls, jwt_svid_template, task_jwt_svid_template,
    task_token_template, task_x509_template, x509_template,
};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_750);
const FAR: Timestamp = Timestamp::from_secs(1_900_000_000);

fn id(path: &str) -> SpiffeId {
    parse_spiffe_id(&format!("spiffe://example.org{path}")).unwrap()
}

fn task(n: u8, parent: Option<&Task>, seconds_left: i64) -> Task {
    let own = format!("018f2f0c-8f6b-7c3e-8a52-0123456789{n:02x}").parse().unwrap();
    Task {
        id: own,
        parent: parent.map(|p| p.id),
        root: parent.map_or(own, |p| p.root),
        depth: parent.map_or(0, |p| p.depth + 1),
        workload: id("/agents/planner"),
        entry: EntryId::new("e1").unwrap(),
        node: id("/spire/agent/join_token/n1"),
        user: None,
        intent: "look at the orders".into(),
        state: TaskState::Active,
        epoch: Epoch(1),
        grants: Vec::new(),
        handle: false,
        uid: 1000,
        selectors: Vec::new(),
        started_at: NOW,
        ends_at: Timestamp::from_secs(NOW.as_secs() + seconds_left),
        ended_at: None,
        end_reason: None,
    }
}

fn ended(mut task: Task) -> Task {
    task.state = TaskState::Ended;
    task.end_reason = Some(EndReason::Completed);
    task
}

fn secs_from_now(t: Timestamp) -> i64 {
    t.as_secs() - NOW.as_secs()
}

#[test]
fn a_certificate_begins_ten_seconds_ago_and_ends_at_the_least_of_its_ends() {
    let ttls = Ttls::default();
    let of = |ttl, ca| x509_template(&id("/web"), &[], ttl, &ttls, NOW, ca).unwrap();
    assert_eq!(secs_from_now(of(0, FAR).not_before), -30);
    assert_eq!(secs_from_now(of(0, FAR).not_after), 3600);
    assert_eq!(secs_from_now(of(60, FAR).not_after), 60);
    assert_eq!(secs_from_now(of(0, Timestamp::from_secs(NOW.as_secs() + 5)).not_after), 5);
    assert_eq!(of(0, FAR).not_after.as_millis() % 1000, 0);
    let over = x509_template(&id("/web"), &[], 0, &ttls, NOW, NOW).unwrap_err();
    assert!(matches!(over, TemplateError::Over(_)));
}

#[test]
fn a_task_path_is_refused_to_everything_but_a_live_task() {
    let live = task(1, None, 60);
    let spelled = parse_spiffe_id(&live.spiffe_id()).unwrap();
    let refused = x509_template(&spelled, &[], 0, &Ttls::default(), NOW, FAR).unwrap_err();
    assert!(matches!(refused, TemplateError::TaskPath(_)));
    x509_template(&id("/agents/planner/task/7"), &[], 0, &Ttls::default(), NOW, FAR).unwrap();
    assert_eq!(task_x509_template(&live, NOW, FAR).unwrap().spiffe_id, spelled);
    assert_eq!(task_x509_template(&ended(live), NOW, FAR), Err(TemplateError::NotLive));
}

#[test]
fn names_that_no_certificate_may_carry_are_refused() {
    let of = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        x509_template(&id("/web"), &names, 0, &Ttls::default(), NOW, FAR)
    };
    for bad in ["*.example.org", "a..b", "10.0.0.1", "db\0", "x.", ""] {
        assert!(matches!(of(&[bad]), Err(TemplateError::DnsName(_))), "{bad:?}");
    }
    assert_eq!(of(&["db.example.org"]).unwrap().dns_names, ["db.example.org"]);
    assert!(matches!(of(&["a"; 33]), Err(TemplateError::DnsNames { .. })));
    let root = parse_spiffe_id("spiffe://example.org").unwrap();
    assert!(matches!(x509_template(&root, &[], 0, &Ttls::default(), NOW, FAR), Err(TemplateError::NoPath(_))));
}

#[test]
fn a_tasks_credentials_live_five_minutes_at_most_and_never_past_the_task() {
    let reserved = |_: &str| false;
    let audiences = ["https://errand.example.org".to_string()];
    let request = JwtSvidRequest { audiences: &audiences, issuer: None, jti: "j", reserved: &reserved, now: NOW };
    for (left, lives) in [(3600, 300), (60, 60)] {
        let task = task(1, None, left);
        assert_eq!(secs_from_now(task_x509_template(&task, NOW, FAR).unwrap().not_after), lives);
        assert_eq!(secs_from_now(task_jwt_svid_template(&task, &request).unwrap().expires_at), lives);
    }
    assert!(matches!(task_x509_template(&task(1, None, 0), NOW, FAR), Err(TemplateError::Over(_))));
}

#[test]
fn no_jwt_svid_is_minted_for_a_targets_audience() {
    let reserved = |a: &str| a == "sts.example.org";
    let of = |audiences: &[&str]| {
        let audiences: Vec<String> = audiences.iter().map(|a| a.to_string()).collect();
        let request = JwtSvidRequest { audiences: &audiences, issuer: None, jti: "j", reserved: &reserved, now: NOW };
        jwt_svid_template(&id("/web"), &request, 0, &Ttls::default())
    };
    assert!(matches!(of(&["a", "sts.example.org"]), Err(TemplateError::TargetAudience(_))));
    for bad in [&[][..], &[""], &["a\n"], &["a"; 17]] {
        assert_eq!(of(bad).unwrap_err(), TemplateError::Audience);
    }
    let good = of(&["a", "sts.example.org/"]).unwrap();
    assert_eq!((good.key_use, good.typ, good.not_before), (KeyUse::JwtSvid, "JWT", None));
    let claims = serde_json::to_value(&good.claims).unwrap();
    assert_eq!(claims, serde_json::json!({"sub": "spiffe://example.org/web", "aud": ["a", "sts.example.org/"]}));
}

#[test]
fn a_task_token_names_the_party_the_actors_and_the_callers_key() {
    let root = task(1, None, 200);
    let mut child = task(2, Some(&root), 3600);
    child.user = Some("kim@example.org".into());
    let ancestors = [&root];
    let request = TaskTokenRequest {
        task: &child,
        ancestors: &ancestors,
        issuer: "https://errand.example.org",
        audience: "https://errand.example.org",
        jti: "j1",
        cert_sha256: Some(&[7; 32]),
        scope: "orders-db/readonly",
        authorization_details: &[],
        now: NOW,
    };
    let template = task_token_template(&request).unwrap();
    assert_eq!((template.key_use, template.typ), (KeyUse::Oauth, "at+jwt"));
    // The parent ends first.
    assert_eq!(secs_from_now(template.expires_at), 200);
    let claims = serde_json::to_value(&template.claims).unwrap();
    assert_eq!(claims["sub"], "kim@example.org");
    assert_eq!(claims["act"]["sub"], child.spiffe_id());
    assert_eq!(claims["act"]["act"]["sub"], root.spiffe_id());
    assert_eq!(claims["txn"], root.id.to_string());
    assert_eq!(claims["task"]["parent"], root.id.to_string());
    assert_eq!(claims["cnf"]["x5t#S256"], "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
    assert!(claims.get("authorization_details").is_none() && claims.get("exp").is_none());
    let gone = ended(root.clone());
    let orphaned = TaskTokenRequest { ancestors: &[&gone], ..request };
    assert_eq!(task_token_template(&orphaned).unwrap_err(), TemplateError::NotLive);
}
