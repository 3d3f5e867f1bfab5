//! A store that was put back from a backup: what it has lost is named, and what that had ended is ended again before
//! anybody is answered. Fault F33.

use crate::{
    exports::{get, post},
    world::{SOON, World, entry},
};
use proto_types::{Position, SystemClock};
use proto_wire::spire::api::server::{
    agent::v1::{BanAgentRequest, GetAgentRequest},
    entry::v1::{BatchDeleteEntryRequest, ListEntriesRequest},
};
use serde_json::{Value, json};
use server_core::journal::Ending;
use server_daemon::{
    StorePlace,
    store::{CompareError, Comparison, OpenError, OpenOptions, SqliteStore, backup, compare, restore},
};
use std::{path::Path, sync::Arc};
use testkit::{fakes::SeededEntropy, poll};

const SINK: &str = "[[journal.sink]]\nkind = \"file\"\npath = \"DIR/journal.jsonl\"\n";

async fn ids(world: &World) -> Vec<String> {
    let list = world.entries().list_entries(ListEntriesRequest::default()).await.unwrap().into_inner();
    list.entries.into_iter().map(|e| e.id).collect()
}

async fn hold(world: &World, path: &str) -> Value {
    let scope = json!({ "workload": format!("spiffe://example.org{path}"), "reason": "looks wrong" });
    let (status, made) = post(world, "/v1/holds", &scope).await;
    assert!(status < 300, "{made}");
    made
}

async fn held(dir: &Path, file: &str) -> Result<Comparison, CompareError> {
    let place = StorePlace::Sqlite(dir.join("data/errand.db"));
    compare(&place, &dir.join(file), Arc::new(SystemClock)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_ended_after_a_backup_is_ended_when_it_was_put_back() {
    let world = World::configured(SINK).await;
    let made = world.create(vec![entry("/kept"), entry("/deleted"), entry("/held"), entry("/freed")]).await;
    let (good, bad) = (world.agent().await, world.agent().await);
    let unused = world.token().await;
    let store = world.at("data/errand.db");
    let copy = world.at("monday.db");
    let copied = backup(&store, &copy).unwrap();

    let delete = BatchDeleteEntryRequest { ids: vec![made[1].clone()] };
    world.entries().batch_delete_entry(delete).await.unwrap();
    world.agents().ban_agent(BanAgentRequest { id: Some(bad.id.clone()) }).await.unwrap();
    let stands = hold(&world, "/held").await;
    let freed = hold(&world, "/freed").await;
    let release = format!("/v1/holds/{}/release", freed["id"].as_str().unwrap());
    assert!(post(&world, &release, &json!({})).await.0 < 300);
    let later = world.create(vec![entry("/later")]).await;
    world.attest(unused.as_bytes()).await.expect("the token is used");
    let (size, sink) = (world.records(), world.at("journal.jsonl"));
    let lines = async || std::fs::read_to_string(&sink).is_ok_and(|text| text.lines().count() as u64 >= size);
    poll::until("the sink has everything", SOON, async || {
        world.clock.advance(std::time::Duration::from_millis(50));
        lines().await
    })
    .await;
    std::fs::write(world.at("export.jsonl"), get(&world, "/v1/journal/export").await.1).unwrap();
    let clock = world.clock.clone();
    let dir = world.leave().await;

    for file in ["errand.db", "errand.db-wal", "errand.db-shm"] {
        // The log may have gone with an orderly end.
        let _ = std::fs::remove_file(dir.path().join("data").join(file));
    }
    restore(&copy, &store).unwrap();
    let found = held(dir.path(), "journal.jsonl").await.unwrap();
    assert_eq!((found.size, found.same, found.forked_at), (copied.records, copied.records, None));
    assert_eq!(found.lost.first, Some(Position(copied.records)));
    for kind in ["entry.deleted", "node.banned", "hold.created", "hold.released", "entry.created", "node.attested"] {
        assert!(found.lost.kinds.contains_key(kind), "{kind} in {:?}", found.lost.kinds);
    }
    let holds: Vec<_> = found.lost.endings.iter().filter(|e| matches!(e, Ending::Held(_))).collect();
    assert!(matches!(holds[..], [Ending::Held(h)] if h.id.to_string() == stands["id"]), "{holds:?}");
    assert!(!found.whole, "a sink's file");
    let exported = held(dir.path(), "export.jsonl").await.unwrap();
    assert!(exported.whole && exported.lost.endings == found.lost.endings);
    // The twin: the hash of a lost record changed.
    let text = std::fs::read_to_string(dir.path().join("export.jsonl")).unwrap();
    let last = text.lines().last().unwrap();
    let forged: Value = serde_json::from_str(last).unwrap();
    let forged = last.replace(forged["leaf"].as_str().unwrap(), &"00".repeat(32));
    std::fs::write(dir.path().join("forged.jsonl"), text.replace(last, &forged)).unwrap();
    assert!(matches!(held(dir.path(), "forged.jsonl").await, Err(CompareError::Line { .. })));

    // Nobody goes on from it without saying so, and being compared has not made it good.
    let options = OpenOptions::new("example.org", false, Arc::new(SeededEntropy::new(1)), Arc::new(SystemClock));
    assert!(matches!(SqliteStore::open(&store, options), Err(OpenError::LogMissing { .. })));

    let lost = found.lost.kinds;
    let world = World::gone_back(dir, SINK, clock, found.lost.endings).await;
    assert_eq!(ids(&world).await.len(), 3, "neither the deleted one nor the one that came later");
    assert!(!ids(&world).await.iter().any(|id| *id == made[1] || *id == later[0]));
    let agent = async |id| world.agents().get_agent(GetAgentRequest { id: Some(id), output_mask: None }).await;
    assert!(agent(bad.id.clone()).await.unwrap().into_inner().banned);
    assert!(!agent(good.id.clone()).await.unwrap().into_inner().banned);
    let holds: Value = serde_json::from_str(&get(&world, "/v1/holds").await.1).unwrap();
    let holds: Vec<_> = holds["holds"].as_array().unwrap().iter().map(|h| h["id"].clone()).collect();
    assert_eq!(holds, [stands["id"].clone()]);
    assert!(world.attest(unused.as_bytes()).await.is_err(), "a token that may have been used is good no more");

    // Its sink goes on in the same file, behind what was lost: that is not lost as well.
    world.create((0..size).map(|n| entry(&format!("/since/{n}"))).collect()).await;
    let newest = format!("{{\"position\":{},", world.records() - 1);
    poll::until("the sink has the newest", SOON, async || {
        world.clock.advance(std::time::Duration::from_millis(50));
        std::fs::read_to_string(&sink).is_ok_and(|text| text.contains(&newest))
    })
    .await;
    let dir = world.leave().await;
    let found = held(dir.path(), "journal.jsonl").await.unwrap();
    assert_eq!((found.lost.kinds, found.forked_at), (lost, Some(Position(copied.records))));
}
