//! The kind `aws` against strangers: SeaweedFS as the STS and the store, OpenBao as another that verifies by discovery. What
//! neither checks (session tags, AWS's own limits) is checked in `server/targets`.

use proto_jose::{JwksUses, KeySet};
use proto_types::SystemClock;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::{
    poll,
    sts::{RoleTrust, StandInSts, Trust},
};
use tests::world::{
    Answer, DEPLOY, Exchange, NO_WAY_OUT, OpenBao, SeaweedFs, World, errand_binary, get, jwt_svid, peers, venv,
};

const AUDIENCE: &str = "sts.test";

/// Declares `name` with one role, `deploy`.
async fn declare(world: &World, name: &str, sts: &str, lines: &str) {
    let text = format!(
        "[[target]]\nname = \"{name}\"\nkind = \"aws\"\nregion = \"us-east-1\"\nsts_endpoint = \"{sts}\"\n\
         endpoint_url = \"{sts}\"\ndanger_allow_http = true\n{lines}\n\
         [[target.role]]\nname = \"deploy\"\nrole_arn = \"{DEPLOY}\"\nsession_duration = \"15m\"\n"
    );
    let file = world.layout.write(&format!("{name}.toml"), &text);
    world.operator(["target", "apply", "-f", &file]).await;
}

fn audience(name: &str) -> String {
    format!("audience = \"{name}\"")
}

/// A stand-in that gives the planner the role for tokens of this audience, and takes down what it is asked.
async fn verifying_sts(world: &World, audience: &str) -> StandInSts {
    let keys = get(&world.layout.ca_file(), world.layout.public, "/keys").await;
    StandInSts::start(Trust {
        issuer: world.layout.issuer(),
        audience: audience.into(),
        keys: KeySet::from_jwks(&keys.body, JwksUses::Oidc).unwrap(),
        roles: BTreeMap::from([(DEPLOY.into(), RoleTrust::for_subject(world.workload("planner")))]),
        clock: Arc::new(SystemClock),
        given: 0,
    })
    .await
}

/// The token that the server sends to an STS for `audience`: a stand-in that verifies takes it down.
async fn token(world: &World, audience: &str) -> String {
    let sts = verifying_sts(world, audience).await;
    declare(world, "noted", &sts.url(), &self::audience(audience)).await;
    let task = world.tries_task("noted", &["noted/deploy"], 1200).await.unwrap();
    Exchange::of(&task).to("noted/deploy").send(world).await.granted();
    task.completes().await;
    let over = async || world.journal("lease.lingering").await.iter().any(|r| r["task_id"] == task.id);
    poll::until("the session lingers", Duration::from_secs(5), over).await;
    world.operator(["target", "delete", "noted"]).await;
    sts.calls()[0]["WebIdentityToken"].clone()
}

/// The same with one character of one of its three parts changed.
fn changed(token: &str, part: usize) -> String {
    let mut parts: Vec<String> = token.split('.').map(String::from).collect();
    let middle = parts[part].len() / 2;
    let other = if parts[part].as_bytes()[middle] == b'A' { "B" } else { "A" };
    parts[part].replace_range(middle..=middle, other);
    parts.join(".")
}

#[track_caller]
fn refused(answer: &Answer) {
    let body = String::from_utf8_lossy(&answer.body);
    assert!(answer.status.is_client_error() && !body.contains("SecretAccessKey"), "{} {body}", answer.status);
}

/// Invariants 1 and 6.
#[tokio::test]
async fn an_object_is_put_and_got_with_the_session_that_an_sts_gave_for_our_token() {
    let world = World::start().await;
    world.permits_everything().await;
    let cloud = SeaweedFs::start(&world, AUDIENCE, &world.workload("planner")).await;
    declare(&world, "lake", &cloud.url(), &audience(AUDIENCE)).await;
    let found = world.operator(["target", "check", "lake"]).await;
    let severities: Vec<_> = found["findings"].as_array().unwrap().iter().map(|f| &f["severity"]).collect();
    assert_eq!(severities, ["warning"], "only that it is http: {found}");

    let python = venv("cloud").join("bin/python");
    let script = format!(
        "eval \"$({} exchange lake/deploy --ttl 20m --intent 'one object' --as env)\" && exec {} {}",
        errand_binary().display(),
        python.display(),
        peers("cloud").join("object.py").display()
    );
    let sh = world.program("sh".as_ref()).args(["-c", &script]);
    sh.to_end().await.exited(0).printed("for one task\nby env\nother: AccessDenied\n");

    let task = world.task_for("one object").await;
    let lease = &task["leases"][0];
    assert_eq!((&lease["revocability"], &lease["state"]), (&"ttl_only".into(), &"handed".into()), "{lease}");
    let who = world.operator(["who", lease["name"].as_str().unwrap()]).await;
    assert_eq!(who["task"]["id"], task["id"], "from the session's name back to its task");
    world.operator(["task", "revoke", task["id"].as_str().unwrap()]).await;
    let id = lease["id"].as_str().unwrap();
    let lingers = async || world.operator(["lease", "show", id]).await["state"] == "lingering";
    poll::until("the session lingers until it ends by itself", Duration::from_secs(5), lingers).await;

    // A task that is too short for any session is told so, and not to try again.
    let run = world.errand(["exchange", "lake/deploy", "--ttl", "15m", "--as", "json"]);
    run.to_end().await.exited(1).said("no AWS session is shorter than 15m").printed("");
    world.ends_well().await;
}

/// Invariants 6 and 10.
/// H19: server, agent and commands go where they are told to go, whatever proxy their environment names.
#[tokio::test]
async fn no_proxy_of_the_environment_is_asked() {
    let world = World::of_processes().await;
    world.permits_everything().await;
    let sts = verifying_sts(&world, AUDIENCE).await;
    declare(&world, "lake", &sts.url(), &audience(AUDIENCE)).await;
    // The twin: a program that does ask one gets nowhere.
    let strangers = world.program(&venv("cloud").join("bin/python"));
    let fetch = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1])";
    let mut strangers = strangers.args(["-c", fetch, &sts.url()]);
    let mut exchange =
        world.errand(["exchange", "lake/deploy", "--ttl", "20m", "--intent", "go straight", "--as", "json"]);
    for (name, nobody) in NO_WAY_OUT {
        strangers = strangers.env(name, nobody);
        exchange = exchange.env(name, nobody);
    }
    strangers.to_end().await.exited(1).said("Connection refused");
    assert!(exchange.to_end().await.exited(0).json()["credential"].is_object());
    assert_eq!(sts.calls().len(), 1);
    world.ends_well().await;
}

#[tokio::test]
async fn a_token_that_was_changed_or_is_for_another_audience_buys_nothing() {
    let world = World::start().await;
    world.permits_everything().await;
    let cloud = SeaweedFs::start(&world, AUDIENCE, &world.workload("planner")).await;
    let good = token(&world, AUDIENCE).await;
    for part in 0..3 {
        refused(&cloud.assume(&changed(&good, part)).await);
    }
    let answer = cloud.assume(&good).await;
    let body = String::from_utf8_lossy(&answer.body);
    assert!(answer.status == 200 && body.contains("<SecretAccessKey>"), "{} {body}", answer.status);

    declare(&world, "elsewhere", &cloud.url(), &audience("other.test")).await;
    declare(&world, "somebody", &cloud.url(), &format!("{}\nsubject = \"{{target}}\"", audience(AUDIENCE))).await;
    declare(&world, "lake", &cloud.url(), &audience(AUDIENCE)).await;
    let grants = ["elsewhere/deploy", "somebody/deploy", "lake/deploy"];
    let task = world.tries_task("each", &grants, 1200).await.unwrap();
    for role in &grants[..2] {
        let refusal = Exchange::of(&task).to(role).send(&world).await.refused("invalid_target");
        assert!(refusal["error_description"].as_str().unwrap().contains("AccessDenied"), "{refusal}");
    }
    Exchange::of(&task).to("lake/deploy").send(&world).await.granted();

    // A plain JWT-SVID for that audience would walk around task, policy and lease.
    let agent = world.node.connect().await;
    for taken in [AUDIENCE, "other.test"] {
        let refusal = jwt_svid(&agent, taken).await.unwrap_err();
        assert!(refusal.message().contains("belongs to a target"), "{refusal}");
    }
    jwt_svid(&agent, "sts.example.org").await.unwrap();
    world.ends_well().await;
}

/// Invariant 7.
#[tokio::test]
async fn a_server_whose_clock_is_ten_minutes_behind_gets_no_session() {
    let world = World::behind(Duration::from_secs(600)).await;
    world.permits_everything().await;
    let cloud = SeaweedFs::start(&world, AUDIENCE, &world.workload("planner")).await;
    declare(&world, "lake", &cloud.url(), &audience(AUDIENCE)).await;
    let task = world.tries_task("late", &["lake/deploy"], 1200).await.unwrap();
    let refusal = Exchange::of(&task).to("lake/deploy").send(&world).await.refused("temporarily_unavailable");
    let why = refusal["error_description"].as_str().unwrap();
    assert!(why.contains("ExpiredToken") && why.contains("compare the clocks"), "{why}");
    assert_eq!(world.journal("lease.void").await.len(), 1);
    world.ends_well().await;
}

/// Invariant 10.
#[tokio::test]
async fn another_stranger_verifies_our_tokens_by_discovery_and_refuses_the_wrong_ones() {
    let world = World::start().await;
    world.permits_everything().await;
    let bao = OpenBao::start(&world, AUDIENCE, &world.workload("planner")).await;
    let good = token(&world, AUDIENCE).await;
    let other = token(&world, "other.test").await;
    for part in 0..3 {
        refused(&bao.log_in(&changed(&good, part)).await);
    }
    refused(&bao.log_in(&other).await);
    let answer = bao.log_in(&good).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.json()["auth"]["client_token"].is_string());
    world.ends_well().await;
}

#[tokio::test]
async fn what_is_published_is_what_the_public_listener_serves() {
    let world = World::start().await;
    let dir = world.layout.dir().join("www");
    world.errand(["issuer", "publish", "--to", dir.to_str().unwrap()]).to_end().await.exited(0);
    for path in ["/keys", "/.well-known/openid-configuration"] {
        let served = get(&world.layout.ca_file(), world.layout.public, path).await;
        let published = std::fs::read(dir.join(&path[1..])).unwrap();
        assert_eq!(String::from_utf8_lossy(&published), String::from_utf8_lossy(&served.body), "{path}");
    }
    let issuer = format!("{}\n", world.layout.issuer());
    world.errand(["issuer", "show"]).to_end().await.exited(0).printed(&issuer);
    world.ends_well().await;
}
