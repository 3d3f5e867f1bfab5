//! Who may call what: every method of every service in the .proto files, by every class of caller. The table is a file, so
//! that a change of it is seen (`ERRAND_BLESS=1` writes it anew).

use crate::{
    wire::framed,
    world::{Who, World, entry, id},
};
use proto_wire::{
    errand::v1::{StartTaskRequest, node_client::NodeClient},
    spire::api::types::Entry,
};
use std::{fmt::Write as _, path::Path};
use testkit::poll;
use tonic::Code;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/who_may_call.txt");

/// `package.Service/Method` of every RPC that the house has a .proto file for.
fn methods() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/wire/proto");
    let mut found = Vec::new();
    for part in ["errand", "grpc", "spire"] {
        for file in std::fs::read_dir(folder.join(part)).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let (mut package, mut service) = (String::new(), String::new());
            for line in text.lines().map(str::trim) {
                let word = |after: &str| line.strip_prefix(after).and_then(|l| l.split([' ', ';', '(']).next());
                match (word("package "), word("service "), word("rpc ")) {
                    (Some(name), ..) => package = name.into(),
                    (_, Some(name), _) => service = name.into(),
                    (.., Some(name)) => found.push(format!("{package}.{service}/{name}")),
                    _ => {}
                }
            }
        }
    }
    found.sort();
    found
}

/// What an empty message gets: whether the caller may, not what would come of it.
fn verdict(code: Code) -> &'static str {
    match code {
        Code::PermissionDenied => "denied",
        Code::Unauthenticated => "unknown",
        Code::Unimplemented => "-",
        _ => "may",
    }
}

/// A task of the agent's, and the SVID it runs with.
async fn task(world: &World, agent: &crate::world::Identity) -> Who {
    let entries = vec![Entry { parent_id: Some(agent.id.clone()), id: "planner".into(), ..entry("/planner") }];
    world.create(entries).await;
    let anything = "permit (principal, action, resource);";
    world.server.service.policy_apply("all", anything, None).await.unwrap();
    let (key, csr) = crate::world::csr(None);
    let request = StartTaskRequest { entry_id: "planner".into(), intent: "look".into(), csr, ..Default::default() };
    let mut node = NodeClient::new(world.channel(&Who::With(agent.clone())));
    let started = node.start_task(request).await.unwrap().into_inner();
    Who::With(crate::world::Identity::new(started.svid.unwrap(), &key))
}

/// F12, F13, F35.
#[tokio::test]
async fn every_method_refuses_every_caller_that_it_is_not_for() {
    let world = World::start().await;
    let elsewhere = World::with_operator(nix::unistd::geteuid().as_raw() + 1).await;
    let agent = world.agent().await;
    let banned = world.agent().await;
    let request = proto_wire::spire::api::server::agent::v1::BanAgentRequest { id: Some(banned.id.clone()) };
    world.agents().ban_agent(request).await.unwrap();
    let entries = vec![Entry { admin: true, ..entry("/admin") }, Entry { downstream: true, ..entry("/downstream") }];
    world.create(entries).await;
    let callers = [
        ("nobody", &world, Who::Nobody),
        ("workload", &world, Who::With(world.workload("/w").await)),
        ("task", &world, task(&world, &agent).await),
        ("agent", &world, Who::With(agent)),
        ("banned", &world, Who::With(banned)),
        ("downstream", &world, Who::With(world.workload("/downstream").await)),
        ("admin", &world, Who::With(world.workload("/admin").await)),
        ("operator", &world, Who::Local),
        ("other-uid", &elsewhere, Who::Local),
    ];
    let mut wires = Vec::new();
    for (name, world, who) in &callers {
        wires.push((*name, world.wire(who).await));
    }
    let mut table = String::from(
        "# Who may call what. `-`: not served to them, whoever they are. `unknown`: refused before a message is read.\n",
    );
    let names: String = callers.iter().map(|(name, ..)| format!(" {name:<10}")).collect();
    writeln!(table, "{:<72}{}", "#", names.trim_end()).unwrap();
    for method in methods() {
        let mut row = Vec::new();
        for (_, wire) in &mut wires {
            row.push(verdict(wire.call(&method, framed(&[])).await));
        }
        if row.iter().any(|v| !["-", "unknown"].contains(v)) {
            let cells: String = row.iter().map(|v| format!(" {v:<10}")).collect();
            writeln!(table, "{method:<72}{}", cells.trim_end()).unwrap();
        }
    }
    if std::env::var_os("ERRAND_BLESS").is_some() {
        std::fs::write(TABLE, &table).unwrap();
    }
    let known = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(table == known, "who may call what has changed; look, then run this with ERRAND_BLESS=1:\n{table}");
}

/// An entry is what makes an administrator, and only while it says so. F35, F38.
#[tokio::test]
async fn an_administrator_is_one_as_long_as_its_entry_says_so_and_each_refusal_is_recorded() {
    let world = World::start().await;
    let ids = world.create(vec![Entry { id: "boss".into(), admin: true, ..entry("/boss") }]).await;
    let boss = Who::With(world.workload("/boss").await);
    let mut wire = world.wire(&boss).await;
    let count = "spire.api.server.entry.v1.Entry/CountEntries";
    assert_eq!(wire.call(count, framed(&[])).await, Code::Ok);

    // The same id again, for another identity: nothing of what it was is left.
    let request = proto_wire::spire::api::server::entry::v1::BatchDeleteEntryRequest { ids: ids.clone() };
    world.entries().batch_delete_entry(request).await.unwrap();
    world.create(vec![Entry { id: "boss".into(), ..entry("/other") }]).await;
    let before = world.records();
    assert_eq!(wire.call(count, framed(&[])).await, Code::PermissionDenied);
    poll::until("the refusal is recorded", crate::world::SOON, async || world.records() == before + 1).await;
    let other = Who::With(world.workload("/other").await);
    assert_eq!(world.wire(&other).await.call(count, framed(&[])).await, Code::PermissionDenied);

    let filter = server_core::ports::Filter { kind: Some("access.denied".into()), ..Default::default() };
    let denied = async || world.server.service.ports().archive.search(&filter, None, 10).await.unwrap();
    poll::until("both are recorded", crate::world::SOON, async || denied().await.len() == 2).await;
    let (_, record) = &denied().await[1];
    let who = format!("spiffe://{}{}", id("").trust_domain, "/boss");
    assert_eq!((record.workload.as_deref(), record.outcome.as_str()), (Some(who.as_str()), "denied"));
    assert_eq!(record.detail["path"], format!("/{count}"));
}
