//! The token endpoint over mutual TLS, spoken to by hand (interfaces, section 4).

use aws_lc_rs::{digest, signature};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_types::Secret;
use serde_json::{Value, json};
use testkit::poll;
use tests::world::{ClientIdentity, Exchange, SOON, World, get, jwt_svid};

const READONLY: &str = "orders-db/readonly";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A world with a database that everything is permitted on.
async fn world() -> (World, tests::world::Database) {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    (world, orders)
}

async fn records(world: &World) -> usize {
    world.operator(["journal", "search", "--all"]).await["records"].as_array().map_or(0, Vec::len)
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Verifies a JWS by hand with a set of keys (RFC 7515 section 5.2, RFC 7518 section 3.4): header and claims.
fn verified(token: &str, jwks: &Value) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    let header = decoded(parts[0]);
    assert_eq!(header["alg"], "ES256", "{header}");
    let keys = jwks["keys"].as_array().unwrap();
    let key =
        keys.iter().find(|k| k["kid"] == header["kid"]).unwrap_or_else(|| panic!("{header} names no key of {jwks}"));
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let public = signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point);
    let signed = format!("{}.{}", parts[0], parts[1]);
    public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).expect("the signature is good");
    (header, decoded(parts[1]))
}

/// Invariants 1 and 6.
#[tokio::test]
async fn a_task_token_has_its_claims_and_verifies_with_the_published_keys() {
    let (world, _orders) = world().await;
    let task = world.holds_task("read the orders", &[READONLY]).await;
    let answer = Exchange::of(&task).to(&world.layout.issuer()).send(&world).await.granted();
    assert_eq!((&answer["issued_token_type"], &answer["token_type"]), (&ACCESS_TOKEN.into(), &"Bearer".into()));
    assert!(answer.get("refresh_token").is_none() && answer["expires_in"].as_u64().unwrap() <= 300, "{answer}");

    // As a stranger finds the keys: issuer, discovery, keys.
    let ca = world.layout.ca_file();
    let discovery = get(&ca, world.layout.public, "/.well-known/openid-configuration").await.json();
    assert_eq!(discovery["issuer"], world.layout.issuer());
    let jwks_uri = discovery["jwks_uri"].as_str().unwrap();
    let path = jwks_uri.strip_prefix(&world.layout.issuer()).expect("the keys are under the issuer");
    let jwks = get(&ca, world.layout.public, path).await.json();
    let (header, claims) = verified(answer["access_token"].as_str().unwrap(), &jwks);

    assert_eq!(header["typ"], "at+jwt");
    let planner = world.workload("planner");
    assert_eq!((&claims["iss"], &claims["aud"]), (&world.layout.issuer().into(), &world.layout.issuer().into()));
    assert_eq!((&claims["sub"], &claims["client_id"]), (&planner.clone().into(), &planner.into()), "{claims}");
    assert_eq!(claims["scope"], READONLY);
    assert_eq!((&claims["task"]["id"], &claims["txn"]), (&json!(task.id), &json!(task.id)), "{claims}");
    assert_eq!(claims["task"]["depth"], 0);
    let (issued, expires) = (claims["iat"].as_u64().unwrap(), claims["exp"].as_u64().unwrap());
    assert!(expires - issued <= 300 && expires <= claims["task"]["exp"].as_u64().unwrap(), "{claims}");
    let certificate = digest::digest(&digest::SHA256, &task.identity.chain[0]);
    assert_eq!(claims["cnf"]["x5t#S256"], URL_SAFE_NO_PAD.encode(certificate));
    let intent = claims["intent_hash"].as_str().expect("the intent travels as a hash");
    assert!(!intent.contains("orders") && !claims["jti"].as_str().unwrap().is_empty(), "{claims}");
    assert!(claims["act"]["sub"].is_string(), "the actor stands in the token: {claims}");
    assert_eq!(world.journal("token.issued").await.len(), 1);
    world.ends_well().await;
}

/// Invariants 1, 2 and 5.
#[tokio::test]
async fn the_same_idempotency_key_brings_the_same_answer_and_another_request_is_refused() {
    let (world, orders) = world().await;
    let task = world.holds_task("twice", &[READONLY, "orders-db/writer"]).await;
    let ask = Exchange::of(&task).to(READONLY).idempotency_key("one");
    let first = ask.send(&world).await.granted();
    let again = ask.send(&world).await.granted();
    assert_eq!(first, again);
    assert_eq!((orders.roles().await, world.journal("lease.handed").await.len()), (1, 1));

    let other = Exchange::of(&task).to("orders-db/writer");
    other.clone().idempotency_key("one").send(&world).await.refused("invalid_request");
    assert_eq!(orders.roles().await, 1);
    let third = other.idempotency_key("two").send(&world).await.granted();
    assert_ne!(third["credential"]["id"], first["credential"]["id"]);
    assert_eq!(orders.roles().await, 2);
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariant 5: under any race.
#[tokio::test]
async fn of_many_requests_with_one_idempotency_key_at_once_one_credential_comes() {
    let (world, orders) = world().await;
    let task = world.holds_task("all at once", &[READONLY]).await;
    let ask = Exchange::of(&task).to(READONLY).idempotency_key("one");
    let answers = futures_util::future::join_all((0..8).map(|_| ask.send(&world))).await;
    let (granted, early): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.status == 200);
    assert!(granted.windows(2).all(|pair| pair[0].body == pair[1].body) && !granted.is_empty());
    early.iter().for_each(|answer| drop(answer.refused("temporarily_unavailable")));
    assert_eq!(ask.send(&world).await.granted(), granted[0].json(), "who came too early asks again");
    assert_eq!((orders.roles().await, world.journal("lease.intended").await.len()), (1, 1));
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariants 1 and 2: what is answered is what is in the database and in the journal.
#[tokio::test]
async fn a_database_credential_works_and_its_answer_says_what_it_is() {
    let (world, orders) = world().await;
    let task = world.holds_task("look", &[READONLY]).await;
    let answer = Exchange::of(&task).to(READONLY).send(&world).await.granted();
    assert_eq!(answer["issued_token_type"], "urn:errand:token-type:database-credential");
    assert_eq!(answer["token_type"], "N_A");
    let credential = &answer["credential"];
    assert_eq!(
        (&credential["kind"], &credential["revocability"]),
        (&"postgres".into(), &"session_kill".into()),
        "{answer}"
    );
    let text = |name: &str| credential[name].as_str().unwrap_or_else(|| panic!("{name} in {answer}")).to_string();
    let (user, password) = (text("user"), text("password"));
    assert_eq!((user.clone(), answer["access_token"].as_str()), (orders.role().await, Some(password.as_str())));
    let mut session = orders.postgres.connect(&user, &password, "orders").await.expect("the credential is good");
    let count: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&mut session).await.unwrap();
    assert_eq!(count, 2);
    assert!(sqlx::query("delete from orders").execute(&mut session).await.is_err(), "readonly only reads");
    drop(session);

    let handed = &world.journal("lease.handed").await[0];
    assert_eq!(handed["credential"]["id"], credential["id"], "{handed}");
    // The answer names its record, and the leaf is what the journal has there.
    assert_eq!(answer["journal"]["position"], handed["position"], "{answer}");
    let export = world.errand(["journal", "export"]).to_end().await.exited(0).stdout;
    let leaf = format!("\"leaf\":{}", answer["journal"]["leaf"]);
    let line = export.lines().find(|l| l.contains(&format!("\"position\":{},", handed["position"])));
    assert!(line.is_some_and(|l| l.contains(&leaf)), "{leaf} is not in {line:?}");
    task.completes().await;
    orders.is_left_alone().await;
    let again = orders.postgres.connect(&user, &password, "orders").await;
    assert!(again.is_err(), "the credential outlived its task");
    world.ends_well().await;
}

/// Invariants 6, 8 and 10: each is right but for one thing.
#[tokio::test]
async fn nothing_is_issued_to_a_caller_that_is_not_the_task_or_a_subject_that_is_not_its_own() {
    let (world, orders) = world().await;
    let task = world.holds_task("mine", &[READONLY]).await;
    let other = world.holds_task("other", &[READONLY]).await;
    let agent = world.node.connect().await;
    let workload = world.node.svids().await.unwrap().remove(0);
    let chain = workload.cert_chain().iter().map(|c| c.as_bytes().to_vec().into()).collect();
    let as_workload: ClientIdentity = (chain, workload.private_key().as_bytes().to_vec());
    let workload_jwt = jwt_svid(&agent, &world.layout.issuer()).await.unwrap();
    let elsewhere = jwt_svid(&agent, "https://elsewhere.example.org").await.unwrap();
    let before = records(&world).await;

    let mine = Exchange::of(&task).to(READONLY);
    let refused = [
        ("another task's subject token", mine.clone().subject_jwt(other.subject_token()), "invalid_request"),
        ("the workload's own subject token", mine.clone().subject_jwt(&workload_jwt), "invalid_request"),
        ("a subject token for another audience", mine.clone().subject_jwt(&elsewhere), "invalid_request"),
        ("a role that was not granted", Exchange::of(&task).to("orders-db/writer"), "invalid_target"),
    ];
    for (n, (what, request, error)) in refused.iter().enumerate() {
        request.send(&world).await.refused(error);
        assert_eq!(records(&world).await, before + n + 1, "{what}: one record of the refusal and nothing else");
    }
    // Not well formed, or not the task: not even a record.
    let after = records(&world).await;
    let unheard = [
        (mine.clone().without("subject_token"), "invalid_request"),
        (mine.clone().subject("nonsense", "urn:ietf:params:oauth:token-type:jwt"), "invalid_request"),
        (mine.clone().without("grant_type").and("grant_type", "client_credentials"), "unsupported_grant_type"),
        (Exchange::over(Some(as_workload)).subject_jwt(task.subject_token()).to(READONLY), "invalid_client"),
        (Exchange::over(Some(agents_own(&world))).subject_jwt(task.subject_token()).to(READONLY), "invalid_client"),
    ];
    for (request, error) in unheard {
        request.send(&world).await.refused(error);
    }
    assert_eq!(records(&world).await, after);
    assert_eq!((orders.roles().await, world.journal("lease.intended").await.len()), (0, 0));
    mine.send(&world).await.granted();
    world.ends_well().await;
}

/// The agent's certificate with its key, as it keeps them.
fn agents_own(world: &World) -> ClientIdentity {
    let text = std::fs::read(world.layout.dir().join("node/data/agent_svid.json")).unwrap();
    let doc: Value = serde_json::from_slice(&text).unwrap();
    let bytes = |v: &Value| base64::engine::general_purpose::STANDARD.decode(v.as_str().unwrap()).unwrap();
    let chain = doc["current"]["chain"].as_array().unwrap().iter().map(|c| bytes(c).into()).collect();
    (chain, Secret::new(bytes(&doc["current"]["key"])).expose().clone())
}

/// Invariant 4: refused from the moment the end is acknowledged.
#[tokio::test]
async fn an_ended_task_gets_nothing_more_however_it_ended() {
    let (world, orders) = world().await;
    let completed = world.holds_task("completed", &[READONLY]).await;
    let token = Exchange::of(&completed).send(&world).await.granted();
    completed.completes().await;
    let revoked = world.holds_task("revoked", &[READONLY]).await;
    world.operator(["task", "revoke", &revoked.id]).await;
    let mut overdue = world.tries_task("overdue", &[READONLY], 2).await.unwrap();
    assert_eq!(overdue.end_reason().await, "deadline");

    let issued = world.journal("token.issued").await.len();
    for task in [&completed, &revoked] {
        Exchange::of(task).to(READONLY).send(&world).await.refused("invalid_client");
        Exchange::of(task).send(&world).await.refused("invalid_client");
    }
    // Its certificate ends in the same second: the handshake may refuse it before the endpoint does.
    if let Ok(answer) = Exchange::of(&overdue).to(READONLY).try_send(&world).await {
        answer.refused("invalid_client");
    }
    // Its token in another task's hands is worth nothing either.
    let alive = world.holds_task("alive", &[READONLY]).await;
    let stolen = Exchange::of(&alive).subject(token["access_token"].as_str().unwrap(), ACCESS_TOKEN).to(READONLY);
    stolen.send(&world).await.refused("invalid_request");
    assert_eq!((orders.roles().await, world.journal("token.issued").await.len()), (0, issued));
    world.ends_well().await;
}

/// Invariant 6: expiry only comes nearer.
#[tokio::test]
async fn exchanging_one_s_own_output_a_hundred_times_never_lengthens_it() {
    let (world, orders) = world().await;
    let task = world.tries_task("again and again", &[READONLY, "orders-db/writer"], 90).await.unwrap();
    let first = Exchange::of(&task).and("scope", READONLY).send(&world).await.granted();
    let claims = |answer: &Value| decoded(answer["access_token"].as_str().unwrap().split('.').nth(1).unwrap());
    let mut last = first;
    for _ in 0..100 {
        let token = last["access_token"].as_str().unwrap();
        let next = Exchange::of(&task).subject(token, ACCESS_TOKEN).and("scope", READONLY);
        let next = next.send(&world).await.granted();
        let (before, after) = (claims(&last), claims(&next));
        assert!(after["exp"].as_u64() <= before["exp"].as_u64(), "{before} became {after}");
        assert_eq!((&after["txn"], &after["scope"]), (&before["txn"], &READONLY.into()), "{after}");
        last = next;
    }
    let narrowed = Exchange::of(&task).subject(last["access_token"].as_str().unwrap(), ACCESS_TOKEN);
    let bought = narrowed.clone().to(READONLY).send(&world).await.granted();
    assert!(bought["expires_in"].as_u64().unwrap() <= 90, "{bought}");
    // What the token was narrowed away from cannot be had with it again.
    narrowed.clone().to("orders-db/writer").send(&world).await.refused("invalid_scope");
    narrowed.clone().and("scope", "orders-db/writer").send(&world).await.refused("invalid_scope");
    narrowed.send(&world).await.refused("invalid_scope");
    task.completes().await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Invariant 13: what a stranger was refused is counted, not recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_over_plain_https_is_refused_and_leaves_no_record() {
    let (world, _orders) = world().await;
    let task = world.holds_task("mine", &[READONLY]).await;
    let before = records(&world).await;
    let stranger = Exchange::over(None).subject_jwt(task.subject_token()).to(READONLY);
    for _ in 0..3 {
        let answer = stranger.send_to(&world, world.layout.http).await.unwrap();
        let said = answer.refused("invalid_client");
        assert_eq!(answer.status, 401, "{said}");
        assert!(said["error_description"].as_str().unwrap().contains("mTLS"), "{said}");
    }
    // The listener for tasks does not even let a stranger in, and the public one knows no such path.
    assert!(stranger.try_send(&world).await.is_err());
    assert_eq!(stranger.send_to(&world, world.layout.public).await.unwrap().status, 404);
    assert_eq!(records(&world).await, before);
    let counted = async || {
        let metrics = std::net::TcpStream::connect(("127.0.0.1", world.layout.metrics)).unwrap();
        use std::io::{Read as _, Write as _};
        (&metrics).write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        tokio::task::block_in_place(|| (&metrics).read_to_string(&mut text)).unwrap();
        text.lines().any(|l| l.contains("unauthenticated") && !l.starts_with('#') && !l.ends_with(" 0"))
    };
    poll::until("the refusals are counted", SOON, counted).await;
    world.ends_well().await;
}
