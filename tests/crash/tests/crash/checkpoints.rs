//! Checkpoints that somebody has seen, over deaths at any moment, also between a commit and the checkpoint over it: of one
//! server on its file, and of two that write one journal. Fault F30.

use crate::process::{Dice, Server, seeds};
use futures_util::future::join;
use serde_json::Value;
use server_core::{
    journal::{SignedNote, Verdict, Verifier, VerifierKey, parse_line},
    ports::TreeRoot,
};
use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use testkit::postgres::PostgresFixture;
use tests_crash::{
    client::{self, Agent},
    world::{Hello, World},
};

const DEATHS: usize = 10;

/// The newest checkpoint, as the server signed it. `None` when it does not answer.
async fn shown(hello: &Hello) -> Option<TreeRoot> {
    let body = client::admin(&hello.admin, "/v1/journal/checkpoint").await.ok()?;
    let body: Value = serde_json::from_slice(&body).expect("an object");
    let text = |name: &str| body[name].as_str().expect("a text").to_string();
    let note: SignedNote = text("checkpoint").parse().expect("a note");
    let key: VerifierKey = text("key").parse().expect("a key");
    let verified = note.verify(&key).expect("the journal's key signed it");
    Some(TreeRoot { size: verified.checkpoint().size, root: verified.checkpoint().root })
}

/// Looks at one server after the other, while they last. What is seen never goes back.
async fn look(servers: &[Server], seen: &Mutex<Vec<TreeRoot>>) {
    for server in servers.iter().cycle() {
        let Some(root) = shown(&server.hello).await else { return };
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.last().map_or(0, |r| r.size);
        assert!(root.size >= before, "a checkpoint over {} records after one over {before}", root.size);
        seen.push(root);
    }
}

/// Writes records at one server after the other, while they last.
async fn write(servers: &[Server], agent: &Agent, world: &World) {
    for server in servers.iter().cycle() {
        let node = agent.at(&server.hello);
        let Ok(task) = node.start("to be recorded").await else { return };
        let _ = node.end(world, &task.id).await;
    }
}

/// Kills servers, in turn, while they write and are looked at; then holds all that was seen against the journal.
async fn die(pg: &PostgresFixture, count: usize, seed: u64) {
    let (told, mut dice) = (format!("ERRAND_SEED={seed}, {count} servers"), Dice::new(seed));
    let first = if count == 1 { World::new(pg) } else { World::sharing(pg, None).await };
    let mut servers = vec![Server::start(&first, &[]).await];
    let mut worlds = vec![first];
    while worlds.len() < count {
        let next = World::sharing(pg, Some(&worlds[0])).await;
        servers.push(Server::start(&next, &[]).await);
        worlds.push(next);
    }
    let agent = Agent::attest(&servers[0].hello).await.expect("the agent attests");
    let seen = Mutex::default();
    for death in 0..DEATHS {
        let life = Duration::from_millis(50 + dice.roll(300));
        let work = join(look(&servers, &seen), write(&servers, &agent, &worlds[0]));
        let _ = tokio::time::timeout(life, work).await;
        let n = death % count;
        servers.remove(n).kill().await;
        servers.insert(n, Server::start(&worlds[n], &[]).await);
    }
    let last = shown(&servers[0].hello).await.expect("it answers");
    let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(seen.len() > DEATHS && last.size > seen[0].size, "{told}: {} were seen", seen.len());
    seen.push(last);

    client::export(&worlds[0], &servers[0].hello.admin).await.expect("the journal is exported");
    let export = fs::read_to_string(worlds[0].sources().journal).expect("it can be read");
    let read = |line: &str| parse_line(line).expect("a record").0;
    let records: Vec<_> = export.lines().skip(1).map(read).collect();
    let verdict = |roots: Vec<TreeRoot>| {
        let mut verifier = Verifier::new(roots);
        verifier.feed_all(&records);
        verifier.finish()
    };
    let found = verdict(seen.clone());
    assert!(matches!(found, Verdict::Ok { size, .. } if size >= last.size), "{told}: {found:?}");
    // One that was never shown would be found.
    seen[0].root[0] ^= 1;
    assert!(!matches!(verdict(seen), Verdict::Ok { .. }), "{told}");
    for server in servers {
        server.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_checkpoint_that_was_shown_is_continued_whoever_dies_after_it() {
    let pg = PostgresFixture::start_with(&["log_statement=none", "max_connections=100"]).await;
    for seed in seeds(1) {
        die(&pg, 1, seed).await;
        die(&pg, 2, seed).await;
    }
}
