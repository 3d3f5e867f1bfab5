//! Sinks beside a whole server: what reaches them, what a bad one holds up, and where a restart goes on.

use crate::{
    exports::get,
    world::{SOON, World},
};
use http_body_util::{BodyExt as _, Empty};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proto_types::Record;
use serde_json::Value;
use server_core::ports::Commit;
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinSet};

const FILE: &str = "[[journal.sink]]\nkind = \"file\"\npath = \"DIR/journal.jsonl\"\n";
const TWO: &str = "[[journal.sink]]\nkind = \"file\"\npath = \"DIR/journal.jsonl\"\n\
                   [[journal.sink]]\nkind = \"file\"\nname = \"siem\"\npath = \"DIR/siem.cef\"\nformat = \"cef\"\n";
const HUNG: &str = "[[journal.sink]]\nkind = \"http\"\nurl = \"http://ADDRESS/\"\n\
                    [[journal.sink]]\nkind = \"syslog\"\naddress = \"tcp://ADDRESS\"\n";

/// Every position in a file of JSON lines.
pub fn positions(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let position = |line: &str| serde_json::from_str::<Value>(line).ok()?["position"].as_u64();
    text.lines().filter_map(position).collect()
}

/// Lets time pass until the file holds every record, each once and in order. No faster than it does: a batch that takes
/// longer than its limit is handed over again.
async fn holds_all(world: &World, path: &Path) {
    testkit::poll::until("the file holds the journal", SOON, || {
        world.clock.advance(Duration::from_millis(10));
        let have = positions(path);
        async move { have.iter().copied().eq(0..world.records()) }
    })
    .await;
}

async fn commits(world: &World, intent: &str) {
    let record = Record::new(world.server.service.now(), "decision.made").intent(intent);
    world.server.service.ports().ledger.commit(Commit::of(record)).await.unwrap();
}

async fn sink(world: &World, name: &str) -> Value {
    let (_, body) = get(world, "/v1/server").await;
    let about: Value = serde_json::from_str(&body).unwrap();
    about["sinks"].as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone()
}

#[tokio::test]
async fn a_file_gets_every_record_once_in_order_and_goes_on_there_after_a_restart() {
    let world = World::configured(FILE).await;
    let path = world.at("journal.jsonl");
    commits(&world, "before").await;
    holds_all(&world, &path).await;
    let world = world.again(FILE).await;
    commits(&world, "after").await;
    holds_all(&world, &path).await;
    // While it was not configured it missed nothing.
    let world = world.again("").await;
    commits(&world, "meanwhile").await;
    let world = world.again(FILE).await;
    holds_all(&world, &path).await;
    assert!(std::fs::read_to_string(&path).unwrap().contains("meanwhile"));
    world.server.stop().await;
}

#[tokio::test]
async fn a_sink_that_takes_nothing_holds_up_neither_another_nor_a_commit_and_catches_up() {
    let world = World::configured(TWO).await;
    let (good, bad) = (world.at("journal.jsonl"), world.at("siem.cef"));
    holds_all(&world, &good).await;
    // What is there now is no plain file; a writer that opened it would wait for a reader for ever.
    let _ = std::fs::remove_file(&bad);
    nix::unistd::mkfifo(&bad, nix::sys::stat::Mode::S_IRWXU).unwrap();
    commits(&world, "one").await;
    commits(&world, "two").await;
    holds_all(&world, &good).await;
    testkit::poll::until("the sink is said to fail", SOON, || {
        world.clock.advance(Duration::from_secs(1));
        async { sink(&world, "siem").await["last_error"].as_str().is_some_and(|e| e.contains("FIFO")) }
    })
    .await;
    assert!(sink(&world, "siem").await["behind"].as_u64().unwrap() >= 2);
    assert_eq!(sink(&world, "file").await["last_error"], Value::Null);
    std::fs::remove_file(&bad).unwrap();
    testkit::poll::until("the sink catches up", SOON, || {
        world.clock.advance(Duration::from_secs(60));
        async { sink(&world, "siem").await["behind"] == 0 }
    })
    .await;
    let text = std::fs::read_to_string(&bad).unwrap();
    assert!(text.contains("cs2=one") && text.contains("cs2=two"), "{text}");
    assert_eq!(sink(&world, "siem").await["failing_since"], Value::Null);
    world.server.stop().await;
}

#[tokio::test]
async fn a_rotated_file_is_let_go_and_a_new_one_begun() {
    let world = World::configured(FILE).await;
    let (path, old) = (world.at("journal.jsonl"), world.at("journal.jsonl.1"));
    holds_all(&world, &path).await;
    std::fs::rename(&path, &old).unwrap();
    commits(&world, "after the rotation").await;
    let total = world.records();
    testkit::poll::until("both files hold it all", SOON, || {
        world.clock.advance(Duration::from_secs(1));
        let all = [positions(&old), positions(&path)].concat();
        async move { all.into_iter().eq(0..total) }
    })
    .await;
    assert!(std::fs::read_to_string(&path).unwrap().contains("after the rotation"));
    world.server.stop().await;
}

/// A collector on loopback that answers every batch, and keeps the positions it was given.
struct Collector {
    at: SocketAddr,
    positions: Arc<Mutex<Vec<u64>>>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, positions) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u64>>>::default());
        let (mut serving, kept) = (JoinSet::new(), positions.clone());
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let kept = kept.clone();
                    async move {
                        let body = request.into_body().collect().await?.to_bytes();
                        let records: Vec<Value> = serde_json::from_slice(&body).unwrap();
                        kept.lock().unwrap().extend(records.iter().map(|r| r["position"].as_u64().unwrap()));
                        Ok::<_, hyper::Error>(hyper::Response::new(Empty::<hyper::body::Bytes>::new()))
                    }
                });
                // Who hangs up is tried again by who wants it.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { at, positions, _serving: serving }
    }

    async fn holds_all(&self, world: &World) {
        testkit::poll::until("the collector has the journal", SOON, || {
            let have = self.positions.lock().unwrap().clone();
            async move { have.into_iter().eq(0..world.records()) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_collector_gets_every_record_once_in_order_also_across_a_restart() {
    let collector = Collector::start().await;
    let more = format!("[[journal.sink]]\nkind = \"http\"\nurl = \"http://{}/\"\nbody = \"array\"\n", collector.at);
    let world = World::configured(&more).await;
    collector.holds_all(&world).await;
    let world = world.again("").await;
    commits(&world, "meanwhile").await;
    let world = world.again(&more).await;
    commits(&world, "after").await;
    collector.holds_all(&world).await;
    world.server.stop().await;
}

/// F7: the kernel accepts for these, and nobody reads or answers.
#[tokio::test]
async fn sinks_that_hang_hold_up_neither_an_issue_nor_another_sink_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let hung = HUNG.replace("ADDRESS", &at.to_string());
    let world = World::configured(&(hung + FILE + "timeout = \"5m\"\n")).await;
    let names: Vec<_> = world.server.service.sink_views().into_iter().map(|s| s.name).collect();
    // Nobody accepts: every batch of these waits.
    for _ in 0..3 {
        world.workload("/reports").await;
    }
    holds_all(&world, &world.at("journal.jsonl")).await;
    testkit::poll::until("they are said to fail", SOON, || {
        world.clock.advance(Duration::from_secs(11));
        let views = world.server.service.sink_views();
        async move {
            let late =
                |s: &server_service::SinkView| s.last_error.as_deref().is_some_and(|e| e.contains("no answer within"));
            views.iter().all(|s| s.name == "file" || late(s))
        }
    })
    .await;
    for name in names.iter().filter(|name| *name != "file") {
        let hung = sink(&world, name).await;
        assert!(hung["next"] == 0 && hung["behind"].as_u64().unwrap() >= 3, "{name}: {hung}");
    }
    world.workload("/reports").await;
    holds_all(&world, &world.at("journal.jsonl")).await;
    assert_eq!(sink(&world, "file").await["last_error"], Value::Null);
    world.server.stop().await;
}

/// A log daemon that closes each stream when it has read it, and keeps the positions in it.
struct LogDaemon {
    at: SocketAddr,
    positions: Arc<Mutex<Vec<u64>>>,
    _serving: JoinSet<()>,
}

impl LogDaemon {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, positions) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u64>>>::default());
        let (mut serving, kept) = (JoinSet::new(), positions.clone());
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                // Each message ends where the count at its beginning says.
                let mut rest = text.as_str();
                while let Some((count, after)) = rest.split_once(' ') {
                    let (message, after) = after.split_at(count.parse().unwrap());
                    let record: Value = serde_json::from_str(&message[message.find('{').unwrap()..]).unwrap();
                    kept.lock().unwrap().push(record["position"].as_u64().unwrap());
                    rest = after;
                }
            }
        });
        Self { at, positions, _serving: serving }
    }

    async fn holds_all(&self, world: &World) {
        testkit::poll::until("the log has the journal", SOON, || {
            let have = self.positions.lock().unwrap().clone();
            async move { have.into_iter().eq(0..world.records()) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_log_gets_every_record_once_in_order_also_across_a_restart() {
    let log = LogDaemon::start().await;
    let more = format!("[[journal.sink]]\nkind = \"syslog\"\naddress = \"tcp://{}\"\n", log.at);
    let world = World::configured(&more).await;
    log.holds_all(&world).await;
    let world = world.again("").await;
    commits(&world, "meanwhile").await;
    let world = world.again(&more).await;
    commits(&world, "after").await;
    log.holds_all(&world).await;
    world.server.stop().await;
}
