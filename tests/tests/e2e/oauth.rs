//! Tokens after they were issued, and callers without a certificate: RFC 7662, RFC 7009, `jwt-spiffe` (interfaces, sections
//! 3 and 4).

use serde_json::{Value, json};
use tests::world::{ClientIdentity, Exchange, HeldTask, World, get, jwt_svid};

const READONLY: &str = "orders-db/readonly";

async fn task_token(world: &World, task: &HeldTask) -> String {
    let answer = Exchange::of(task).to(&world.layout.issuer()).send(world).await.granted();
    answer["access_token"].as_str().unwrap().into()
}

/// The workload's own certificate: it is in no task.
async fn workload(world: &World) -> ClientIdentity {
    let svid = world.node.svids().await.unwrap().remove(0);
    let chain = svid.cert_chain().iter().map(|c| c.as_bytes().to_vec().into()).collect();
    (chain, svid.private_key().as_bytes().to_vec())
}

async fn told(world: &World, identity: ClientIdentity, token: &str) -> Value {
    Exchange::introspection(Some(identity), token).send(world).await.granted()
}

fn inactive() -> Value {
    json!({ "active": false })
}

/// Invariants 4 and 8.
#[tokio::test]
async fn a_task_hears_of_its_own_token_and_nobody_of_anothers_and_at_the_end_it_is_dead_at_once() {
    let world = World::start().await;
    world.permits_everything().await;
    let (task, other) = (world.holds_task("ask", &[]).await, world.holds_task("other", &[]).await);
    let token = task_token(&world, &task).await;

    let own = told(&world, task.certificate(), &token).await;
    let planner = world.workload("planner");
    assert_eq!(own["active"], true);
    assert_eq!((&own["iss"], &own["sub"]), (&world.layout.issuer().into(), &planner.clone().into()), "{own}");
    assert_eq!((&own["task"]["id"], &own["client_id"]), (&task.id.clone().into(), &planner.into()), "{own}");
    assert!(own["exp"].is_u64() && own["jti"].is_string() && own["cnf"]["x5t#S256"].is_string(), "{own}");
    // Its JWT-SVID is a token of this server as well, and no access token.
    let svid = told(&world, task.certificate(), task.subject_token()).await;
    assert_eq!((&svid["active"], &svid["token_type"]), (&true.into(), &"N_A".into()), "{svid}");

    // Nobody else hears more than of a token that does not exist.
    for (who, asks) in [("another task", other.certificate()), ("its own workload", workload(&world).await)] {
        assert_eq!(told(&world, asks, &token).await, inactive(), "{who}");
    }
    let at = token.len() - 10;
    let letter = if &token[at..=at] == "A" { "B" } else { "A" };
    let changed = format!("{}{letter}{}", &token[..at], &token[at + 1..]);
    for (what, bad) in [("nonsense", "nonsense".to_string()), ("a changed one", changed)] {
        assert_eq!(told(&world, task.certificate(), &bad).await, inactive(), "{what}");
    }
    // A bearer token is not who asks, not even about itself.
    let assertion = other.subject_token().to_string();
    let asked = Exchange::introspection(None, &assertion).asserting(&assertion);
    asked.send_to(&world, world.layout.http).await.unwrap().refused("invalid_client");
    let nobody = Exchange::introspection(None, &token).send_to(&world, world.layout.http).await.unwrap();
    nobody.refused("invalid_client");

    let certificate = other.certificate();
    let others = task_token(&world, &other).await;
    other.completes().await;
    Exchange::introspection(Some(certificate), &others).send(&world).await.refused("invalid_client");
    assert_eq!(told(&world, task.certificate(), &assertion).await, inactive());
    task.completes().await;
    world.ends_well().await;
}

/// Invariants 1, 4 and 5.
#[tokio::test]
async fn a_revoked_token_is_dead_at_once_and_after_a_restart_and_only_its_own_task_revokes_it() {
    let mut world = World::of_processes().await;
    world.permits_everything().await;
    let (task, other) = (world.holds_task("hand on", &[]).await, world.holds_task("other", &[]).await);
    let (token, kept) = (task_token(&world, &task).await, task_token(&world, &task).await);
    let issuer = world.layout.issuer();
    let buys =
        |token: &str| Exchange::of(&task).subject(token, "urn:ietf:params:oauth:token-type:access_token").to(&issuer);
    buys(&token).send(&world).await.granted();

    // Another's, and what is no token: nothing happens, and nothing is told.
    for (identity, revoked) in [(other.certificate(), token.as_str()), (task.certificate(), "nonsense")] {
        Exchange::revocation(Some(identity), revoked).send(&world).await.granted();
    }
    assert_eq!(told(&world, task.certificate(), &token).await["active"], true);
    // What cannot be called back is not said to be.
    let svid = Exchange::revocation(Some(task.certificate()), task.subject_token()).send(&world).await;
    svid.refused("unsupported_token_type");

    for _ in 0..2 {
        Exchange::revocation(Some(task.certificate()), &token).send(&world).await.granted();
    }
    assert_eq!(world.journal("token.revoked").await.len(), 1, "twice is once");
    assert_eq!(told(&world, task.certificate(), &token).await, inactive());
    buys(&token).send(&world).await.refused("invalid_request");

    world.server.kill();
    world.server.start_again().await;
    assert_eq!(told(&world, task.certificate(), &token).await, inactive());
    buys(&token).send(&world).await.refused("invalid_request");
    assert_eq!(told(&world, task.certificate(), &kept).await["active"], true, "the other one lives");
    buys(&kept).send(&world).await.granted();
}

/// Invariants 5 and 6.
#[tokio::test]
async fn an_assertion_buys_something_once_and_only_where_every_permit_waives_binding() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    let permit = format!("permit (principal == Workload::\"{}\", action, resource);", world.workload("planner"));
    let waived = format!("@binding(\"none\") {permit}");
    world.permits(&permit).await;
    let task = world.holds_task("without a certificate", &[READONLY]).await;
    let assertion = task.subject_token().to_string();
    let asks = Exchange::of(&task).to(READONLY).asserting(&assertion);
    let http = world.layout.http;

    // Authority only narrows: one permit that says nothing is enough to want a key.
    for cedar in [permit.clone(), format!("{waived}\n{permit}")] {
        world.permits(&cedar).await;
        let refused = asks.send_to(&world, http).await.unwrap().refused("unauthorized_client");
        assert!(refused["error_description"].as_str().unwrap().contains("@binding"), "{refused}");
    }
    assert_eq!(orders.roles().await, 0);
    world.permits(&waived).await;
    // Meant for others too; a workload's that is in no task; beside a certificate.
    let agent = world.node.connect().await;
    let workloads = jwt_svid(&agent, &world.layout.issuer()).await.unwrap();
    let no_assertion = Exchange::of(&task).to(READONLY);
    no_assertion.clone().asserting(&workloads).send_to(&world, http).await.unwrap().refused("invalid_client");
    let elsewhere = jwt_svid(&agent, "https://elsewhere.example.org").await.unwrap();
    no_assertion.clone().asserting(&elsewhere).send_to(&world, http).await.unwrap().refused("invalid_client");
    let both = no_assertion.and("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe");
    both.and("client_assertion", &assertion).send(&world).await.refused("invalid_request");

    let granted = asks.send_to(&world, http).await.unwrap().granted();
    assert_eq!((&granted["credential"]["kind"], orders.roles().await), (&"postgres".into(), 1));
    asks.send_to(&world, http).await.unwrap().refused("invalid_client");
    assert_eq!(orders.roles().await, 1, "an assertion is good once");
    assert_eq!(world.journal("client.authenticated").await.len(), 1);
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

#[tokio::test]
async fn discovery_names_the_endpoints_and_who_fails_to_authenticate_too_often_is_told_to_wait() {
    let world = World::start().await;
    let document =
        get(&world.layout.ca_file(), world.layout.public, "/.well-known/oauth-authorization-server").await.json();
    for (name, path) in [("introspection_endpoint", "/oauth2/introspect"), ("revocation_endpoint", "/oauth2/revoke")] {
        assert!(document[name].as_str().unwrap().ends_with(path), "{document}");
        let mtls = document["mtls_endpoint_aliases"][name].as_str().unwrap();
        assert!(mtls.contains(&format!(":{}{path}", world.layout.mtls)), "{document}");
    }
    world.permits_everything().await;
    let task = world.holds_task("be heard", &[]).await;
    let guess = Exchange::introspection(None, "x").asserting("e30.e30.AA");
    let mut told_to_wait = None;
    for _ in 0..200 {
        let answer = guess.send_to(&world, world.layout.http).await.unwrap();
        if answer.status == 429 {
            told_to_wait = Some(answer);
            break;
        }
        answer.refused("invalid_client");
    }
    let answer = told_to_wait.expect("nobody may fail for ever");
    let seconds: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    answer.refused("temporarily_unavailable");
    // Who authenticates is heard all the same, from the same address.
    assert_eq!(told(&world, task.certificate(), task.subject_token()).await["active"], true);
    task.completes().await;
    world.ends_well().await;
}
