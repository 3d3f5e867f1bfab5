//! Several servers on one database: whoever asks one of them might have asked any other.

use crate::{
    exports::{get, post, post_form},
    sinks::positions,
    world::{SOON, Who, World, csr, entry, tls},
};
use proto_types::{Clock as _, Record};
use proto_wire::{
    errand::v1::{
        EndTaskRequest, NewTaskX509svidRequest, StartTaskRequest, WatchRequest, WatchResponse, node_client::NodeClient,
    },
    spire::api::{
        server::{agent::v1::ListAgentsRequest, entry::v1::ListEntriesRequest},
        types::Entry,
    },
};
use serde_json::{Value, json};
use server_core::ports::Commit;
use std::time::Duration;
use testkit::{poll, postgres::PostgresFixture};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Streaming};

/// The `[store]` of a server that keeps its ledger in this database.
async fn store(pg: &PostgresFixture, name: &str) -> String {
    let (url, password) = (pg.store_url(name).await, pg.manager_password_file());
    format!("[store]\nurl = \"{url}\"\npassword_file = \"{}\"\n", password.display())
}

/// Two servers on one database.
async fn two(pg: &PostgresFixture, more: &str) -> [World; 2] {
    let store = store(pg, "house").await;
    let one = World::sharing(&store, more, None).await;
    let other = World::sharing(&store, more, Some(&one)).await;
    [one, other]
}

/// Waits until it is so, while time passes; no faster than it does: a batch that takes longer than its limit is handed over
/// again.
async fn becomes(what: &str, world: &World, so: impl AsyncFn() -> bool) {
    poll::until(what, SOON, async || {
        world.clock.advance(Duration::from_millis(10));
        so().await
    })
    .await;
}

async fn published(world: &World) -> Value {
    let mut stream = tls(world.server.addresses.public, None, "http/1.1").await.unwrap();
    stream.write_all(b"GET /keys HTTP/1.0\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said).await;
    let said = String::from_utf8(said).unwrap();
    serde_json::from_str(said.split_once("\r\n\r\n").unwrap().1).unwrap()
}

async fn keys(world: &World) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&get(world, "/v1/authorities").await.1).unwrap();
    let text = |a: &Value, key: &str| a[key].as_str().unwrap().to_string();
    let mut keys: Vec<_> =
        list["authorities"].as_array().unwrap().iter().map(|a| (text(a, "id"), text(a, "state"))).collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_was_told_every_other_knows() {
    let pg = PostgresFixture::start().await;
    let [one, other] = two(&pg, "").await;
    assert_eq!(published(&one).await, published(&other).await, "one set of keys, however many servers");

    let made = one.create(vec![entry("/a")]).await;
    let known = async || {
        let list = other.entries().list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
        list.entries.iter().any(|e| e.id == made[0])
    };
    becomes("the other knows the entry", &other, known).await;

    // A token is good once, wherever it is shown.
    let token = one.token().await;
    other.attest(token.as_bytes()).await.expect("a token of one is good at the other");
    assert!(one.attest(token.as_bytes()).await.is_err(), "and not a second time");
    let attested = async || {
        let list = one.agents().list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
        list.agents.len() == 1
    };
    becomes("the one knows the agent of the other", &one, attested).await;

    let size = one.records();
    becomes("both have one journal", &other, async || other.records() >= size).await;
    for world in [one, other] {
        world.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_server_rotates_every_server_uses_and_a_step_is_carried_out_once() {
    let pg = PostgresFixture::start().await;
    let [one, other] = two(&pg, "").await;
    let before = keys(&other).await;
    let (status, prepared) = post(&one, "/v1/authorities/jwt/prepare", &json!({})).await;
    assert_eq!(status, 200, "{prepared}");
    becomes("the other publishes the prepared key", &other, async || keys(&other).await.len() == before.len() + 1)
        .await;
    let id = prepared["id"].as_str().unwrap();
    let (status, active) = post(&other, &format!("/v1/authorities/{id}/activate"), &json!({})).await;
    assert_eq!(status, 200, "{active}");
    let same = async || keys(&one).await == keys(&other).await;
    becomes("both sign with it", &one, same).await;
    assert!(keys(&one).await.contains(&(id.to_string(), "active".to_string())));
    assert_eq!(published(&one).await, published(&other).await);

    // Both come to the time at which keys are due in one moment: each is made once.
    one.clock.advance(Duration::from_secs(13 * 3600));
    becomes("what is due is done", &one, async || {
        keys(&one).await.iter().any(|(_, state)| state == "prepared") && same().await
    })
    .await;
    let list: Value = serde_json::from_str(&get(&one, "/v1/authorities").await.1).unwrap();
    for key_use in ["x509", "jwt-svid", "oauth", "journal", "ssh"] {
        let of = |state: &str| {
            let all = list["authorities"].as_array().unwrap().iter();
            all.filter(|a| a["use"] == key_use && a["state"] == state).count()
        };
        assert!(of("prepared") <= 1 && of("active") == 1, "{key_use}: {list}");
    }
    for world in [one, other] {
        world.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_gets_each_record_from_one_server_and_from_another_when_that_one_is_gone() {
    let pg = PostgresFixture::start().await;
    let [one, other] = two(&pg, "[[journal.sink]]\nkind = \"file\"\npath = \"DIR/journal.jsonl\"\n").await;
    let (first, second) = (one.at("journal.jsonl"), other.at("journal.jsonl"));
    let all = |upto: u64| {
        let mut seen = [positions(&first), positions(&second)].concat();
        seen.sort_unstable();
        // What was being handed over when a server was stopped comes again.
        seen.dedup();
        seen.into_iter().eq(0..upto)
    };
    let size = one.records();
    becomes("one of them has handed over everything", &one, async || all(size.max(one.records()))).await;
    let (gone, left, own) = match positions(&first).is_empty() {
        true => (other, one, &first),
        false => (one, other, &second),
    };
    assert!(positions(own).is_empty(), "both handed over");
    gone.server.stop().await;
    left.create(vec![entry("/later")]).await;
    becomes("the other goes on", &left, async || all(left.records())).await;
    assert!(!positions(own).is_empty());
    left.server.stop().await;
}

/// F16: the database goes away and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_says_that_the_database_is_away_and_what_was_cached_is_there_when_it_is_back() {
    let mut pg = PostgresFixture::start().await;
    let world = World::sharing(&store(&pg, "house").await, "", None).await;
    let made = world.create(vec![entry("/a")]).await;
    let ready = async || {
        let mut stream = tokio::net::TcpStream::connect(world.server.addresses.metrics).await.unwrap();
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        said
    };
    assert!(ready().await.contains(" 200 "));
    pg.stop();
    let away = async || {
        let said = ready().await;
        said.contains(" 503 ") && said.contains("store: ") && said.contains("journal: ")
    };
    becomes("it says so", &world, away).await;
    assert_ne!(
        world.try_create(vec![entry("/b")]).await[0].status.as_ref().unwrap().code,
        0,
        "nothing is made meanwhile"
    );
    let list = world.entries().list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.entries.len(), 1, "what is in memory is served");

    pg.resume().await;
    becomes("it is ready again", &world, async || ready().await.contains(" 200 ")).await;
    world.create(vec![entry("/c")]).await;
    let list = world.entries().list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
    assert!(list.entries.len() == 2 && list.entries.iter().any(|e| e.id == made[0]), "{list:?}");
    world.server.stop().await;
}

/// Nobody is told any more when another server commits; what is not asked for is seen with the next look, and time stands
/// still.
async fn deafen(pg: &PostgresFixture) {
    let listens = "FROM pg_stat_activity WHERE datname = 'house' AND query LIKE 'LISTEN%'";
    poll::until("all servers listen", SOON, async || pg.ask::<i64>(&format!("SELECT count(*) {listens}")).await == 2)
        .await;
    let cut = format!("SELECT count(pg_terminate_backend(pid)) {listens}");
    assert_eq!(pg.ask::<i64>(&cut).await, 2);
}

async fn first(stream: &mut Streaming<WatchResponse>) -> WatchResponse {
    tokio::time::timeout(SOON, stream.message()).await.expect("the watch says nothing").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_from_one_server_finds_all_that_it_was_told_at_another_that_has_not_heard_of_it_yet() {
    let pg = PostgresFixture::start().await;
    let [one, other] = two(&pg, "").await;
    deafen(&pg).await;
    let policy = json!({ "id": "all", "text": "permit(principal, action, resource);" });
    assert_eq!(post(&one, "/v1/policies", &policy).await.0, 200);
    let agent = one.agent().await;
    let parent_id = Some(agent.id.clone());
    let made = one.create(vec![Entry { parent_id, ..entry("/planner") }]).await;
    let (_, csr) = csr(None);
    let start = StartTaskRequest {
        entry_id: made[0].clone(),
        intent: "to move".into(),
        csr: csr.clone(),
        ..Default::default()
    };
    let node = |world: &World| NodeClient::new(world.channel(&Who::With(agent.clone())));
    let started = node(&one).start_task(start).await.unwrap().into_inner();
    let heard = |world: &World| *world.server.service.ports().feed.size().borrow();
    assert!(heard(&other) < heard(&one), "the other has not heard of any of this");

    let mut watch = node(&other).watch(WatchRequest::default()).await.expect("the agent is known").into_inner();
    let view = first(&mut watch).await;
    drop(watch);
    assert_eq!(view.entries.iter().map(|e| &e.id).collect::<Vec<_>>(), [&made[0]]);
    assert_eq!(
        view.live_task_ids,
        std::slice::from_ref(&started.task_id),
        "its task is not taken for one that is over"
    );
    let renew = || NewTaskX509svidRequest { task_id: started.task_id.clone(), csr: csr.clone() };
    node(&other).new_task_x509svid(renew()).await.expect("the task goes on there");

    // And the end of it, told to the first, is the end everywhere at once.
    let about = format!("token={}", started.subject_token);
    assert_eq!(post_form(&other, "/oauth2/introspect", &about).await.1["active"], json!(true));
    let end = EndTaskRequest { task_id: started.task_id.clone(), reason: "completed".into() };
    node(&one).end_task(end).await.unwrap();
    assert!(heard(&other) < heard(&one), "the other has not heard of the end");
    assert_eq!(post_form(&other, "/oauth2/introspect", &about).await.1["active"], json!(false));
    assert_eq!(node(&other).new_task_x509svid(renew()).await.unwrap_err().code(), Code::FailedPrecondition);

    // Nor is anything issued for an entry that is no more.
    let delete = proto_wire::spire::api::server::entry::v1::BatchDeleteEntryRequest { ids: made.clone() };
    one.entries().batch_delete_entry(delete).await.unwrap();
    assert_eq!(other.x509(&agent, &made[0]).await, Code::NotFound as i32, "although it was still in memory there");
    for world in [one, other] {
        world.server.stop().await;
    }
}

/// F16: one server alone has lost the way to the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_the_database_sends_its_agents_to_another_and_says_nothing_of_tokens() {
    let mut pg = PostgresFixture::start().await;
    let world = World::sharing(&store(&pg, "house").await, "", None).await;
    let agent = world.agent().await;
    let node = || NodeClient::new(world.channel(&Who::With(agent.clone())));
    let mut watch = node().watch(WatchRequest::default()).await.unwrap().into_inner();
    first(&mut watch).await;
    pg.stop();
    let refused = async || post_form(&world, "/oauth2/introspect", "token=x").await.0 == 503;
    becomes("nothing is said of tokens", &world, refused).await;
    let ended = tokio::spawn(async move { watch.message().await });
    becomes("the agent is sent away", &world, async || ended.is_finished()).await;
    assert_eq!(ended.await.unwrap().unwrap_err().code(), Code::Unavailable);
    becomes("nor is it taken again", &world, async || {
        node().watch(WatchRequest::default()).await.is_err_and(|e| e.code() == Code::Unavailable)
    })
    .await;
    pg.resume().await;
    becomes("it is taken when the database is back", &world, async || {
        node().watch(WatchRequest::default()).await.is_ok()
    })
    .await;
    world.server.stop().await;
}

/// A server that was away for long: more happened than it could be told one by one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_missed_more_than_there_is_loads_everything_anew_and_follows_again() {
    let pg = PostgresFixture::start().await;
    let [one, other] = two(&pg, "").await;
    let agent = one.agent().await;
    let node = NodeClient::new(other.channel(&Who::With(agent.clone())));
    let mut watch = node.clone().watch(WatchRequest::default()).await.expect("the agent is known").into_inner();
    assert!(first(&mut watch).await.entries.is_empty());
    deafen(&pg).await;

    let under = |path: &str| Entry { parent_id: Some(agent.id.clone()), ..entry(path) };
    let made = one.create(vec![under("/before")]).await;
    for _ in 0..50 {
        let note = || Record::new(one.clock.now(), "server.started");
        let unit = (1..100).fold(Commit::of(note()), |unit, _| unit.also(note()));
        one.server.service.ports().ledger.commit(unit).await.unwrap();
    }
    let gone = one.create(vec![under("/gone")]).await;
    let delete = proto_wire::spire::api::server::entry::v1::BatchDeleteEntryRequest { ids: gone };
    one.entries().batch_delete_entry(delete).await.unwrap();
    let said = tokio::spawn(async move { (first(&mut watch).await, watch) });
    becomes("the other is told that it missed something", &other, async || said.is_finished()).await;
    let (view, mut watch) = said.await.unwrap();
    assert!(view.reset && view.entries.iter().map(|e| &e.id).eq(&made), "{view:?}");

    // From there on it follows as before: what is new is told by itself.
    let later = one.create(vec![under("/later")]).await;
    let said = tokio::spawn(async move { first(&mut watch).await });
    becomes("the other hears of what came later", &other, async || said.is_finished()).await;
    let view = said.await.unwrap();
    assert!(!view.reset && view.entries.iter().map(|e| &e.id).eq(&later), "{view:?}");
    for world in [one, other] {
        world.server.stop().await;
    }
}
