//! What an agent remembers of its server's journal, and what it does when that does not go on.

use crate::{
    fake::Journal,
    world::{SOON, World, ids, next, with_header},
};
use agent_daemon::AgentStatus;
use proto_wire::workload::JwtsvidRequest;
use std::time::Duration;
use testkit::poll::holds_within;
use tonic::{Code, Status};

fn journal(leaves: &[u8]) -> Journal {
    Journal { store_id: "k3m9x".into(), epoch: 1, leaves: leaves.iter().map(|n| [*n; 32]).collect() }
}

fn remembered(world: &World) -> String {
    std::fs::read_to_string(world.dir.path().join("data/journal.json")).unwrap_or_default()
}

async fn new_jwt(world: &World) -> Result<(), Status> {
    let request = JwtsvidRequest { audience: vec!["https://new.example.org".into()], spiffe_id: String::new() };
    world.workload().fetch_jwtsvid(with_header(request)).await.map(drop)
}

/// Lets minutes pass until the agent stands so.
async fn becomes(world: &World, wanted: &AgentStatus) {
    let clock = world.clock.clone();
    let stands = holds_within(SOON, || {
        clock.advance(Duration::from_secs(5));
        std::future::ready(*world.agent().status().borrow() == *wanted)
    });
    assert!(stands.await, "not {wanted:?}, but {:?}", *world.agent().status().borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_journal_goes_back_gives_nothing_new_until_an_operator_answers_for_it() {
    let mut world = World::without_agent();
    world.server.state.script().journal = journal(&[1, 2, 3]);
    world.start_agent().await;
    world.create(world.entry("e", "/web")).await;
    let mut stream = world.x509().await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();
    assert!(remembered(&world).contains("\"size\":3"), "{}", remembered(&world));

    // It grows: that is what journals do.
    world.server.state.script().journal = journal(&[1, 2, 3, 4, 5]);
    let clock = world.clock.clone();
    let grown = holds_within(SOON, || {
        clock.advance(Duration::from_secs(5));
        std::future::ready(remembered(&world).contains("\"size\":5"))
    });
    assert!(grown.await, "{}", remembered(&world));
    assert_eq!(*world.agent().status().borrow(), AgentStatus::Ready);

    for (what, shown) in [
        ("fewer records", journal(&[1, 2, 3, 4])),
        ("another past", journal(&[1, 2, 9, 4, 5, 6])),
        ("another record at the end", journal(&[1, 2, 3, 4, 9])),
        ("another store", Journal { store_id: "z9z9z".into(), ..journal(&[1, 2, 3, 4, 5]) }),
        ("an older epoch", Journal { epoch: 0, ..journal(&[1, 2, 3, 4, 5, 6]) }),
        ("an epoch out of reach", Journal { epoch: u64::MAX, ..journal(&[1, 2, 3, 4, 5, 6]) }),
        ("nothing", Journal { leaves: vec![], ..journal(&[]) }),
    ] {
        world.server.state.script().journal = shown;
        becomes(&world, &AgentStatus::Disconnected).await;
        // Invariant 7: closed for what is new, as before for what is held.
        let refused = new_jwt(&world).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{what}");
        assert!(refused.message().contains("nothing new is taken from the server"), "{what}: {}", refused.message());
        assert_eq!(ids(&next(&mut world.x509().await.unwrap()).await.unwrap().unwrap()), ids(&first), "{what}");
        assert!(remembered(&world).contains("\"size\":5"), "{what}: nothing of it is remembered");
        world.server.state.script().journal = journal(&[1, 2, 3, 4, 5]);
        becomes(&world, &AgentStatus::Ready).await;
    }
    new_jwt(&world).await.unwrap();

    // What was seen is known after a restart, too.
    world.server.state.script().journal = journal(&[1, 2]);
    world.stop_agent().await;
    world.start_waiting_agent().await;
    let clock = world.clock.clone();
    let heard = holds_within(Duration::from_millis(300), || {
        clock.advance(Duration::from_secs(5));
        std::future::ready(*world.agent().status().borrow() == AgentStatus::Ready)
    });
    assert!(!heard.await, "a server that forgot is not one to wait for");
    // An operator rolled the store back, and the store says so.
    world.server.state.script().journal = Journal { epoch: 2, ..journal(&[1, 2]) };
    becomes(&world, &AgentStatus::Ready).await;
    assert!(remembered(&world).contains("\"epoch\":2,\"size\":2"), "{}", remembered(&world));
}
