//! An agent process that is told to stop, and one that has no descriptor left. Faults F37 and F38.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use proto_types::{Clock as _, SystemClock};
use std::{os::fd::AsRawFd as _, time::Duration};
use testkit::{
    poll,
    process::{computed, limit},
};
use tests::world::{Layout, Node, SOON, Where, World, svid_stream, svids_of};

/// Long enough for a loop that does not wait.
const A_WHILE: Duration = Duration::from_millis(1500);
/// Between two attempts of one socket, at least.
const PAUSE_MS: u64 = 100;

#[tokio::test]
async fn an_agent_told_to_stop_tells_its_streams_and_leaves_no_socket() {
    let world = World::of_processes().await;
    let agent = world.node.connect().await;
    let mut stream = svid_stream(&agent).await.unwrap();
    stream.message().await.unwrap().expect("an answer");
    let mut waiting = svid_stream(&agent).await.unwrap();
    let World { layout, node, server } = world;
    let sockets = ["agent.sock", "launch.sock"].map(|name| layout.dir().join("node").join(name));
    assert!(sockets.iter().all(|path| path.exists()));
    node.stop().await;
    assert!(!sockets.iter().any(|path| path.exists()));
    let ended = tokio::time::timeout(SOON, stream.message()).await.expect("the stream has an end");
    let told = ended.expect_err("a stream that was not finished says so");
    assert_eq!(told.code(), tonic::Code::Unavailable, "{told}");
    let last = async { while waiting.message().await.is_ok_and(|m| m.is_some()) {} };
    tokio::time::timeout(SOON, last).await.expect("one that was not read has an end too");
    server.stop().await;
}

#[tokio::test]
async fn an_agent_whose_server_was_never_there_stops_when_it_is_told() {
    let layout = Layout::new();
    layout.write("ca.pem", &some_authority());
    let node = Node::begin(&layout, "node", "4b0b2f9e-0000-4000-8000-000000000000", Where::Processes).await;
    poll::until("its socket is there", SOON, async || node.socket().exists()).await;
    node.stop().await;
}

/// Some authority: nobody is there whose certificate it could have signed.
fn some_authority() -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

#[tokio::test]
async fn an_agent_without_descriptors_waits_for_some_and_then_answers_whoever_waited() {
    let world = World::of_processes().await;
    world.permits_everything().await;
    let agent = world.node.connect().await;
    let mut before = svid_stream(&agent).await.unwrap();
    before.message().await.unwrap().expect("an answer");
    let pid = world.node.process().pid();
    let failed = |at: &str| {
        let said = format!("at=\"{at}\"");
        let log = world.node.process().log();
        log.lines().filter(|l| l.contains("cannot be accepted") && l.contains(&said)).count() as u64
    };
    let everywhere = ["the agent's socket", "the launch socket"];

    // All that is open stays open; there is no number for anything new.
    limit(pid, "nofile", 3);
    let launcher = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let path = world.layout.dir().join("node/launch.sock");
    connect(launcher.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    let watching = async {
        poll::until("both sockets found that out", SOON, async || everywhere.iter().all(|at| failed(at) > 0)).await;
        let (since, cpu, tries) = (SystemClock.now(), computed(pid), everywhere.map(failed));
        SystemClock.sleep(A_WHILE).await;
        let tries = [failed(everywhere[0]) - tries[0], failed(everywhere[1]) - tries[1]];
        let (cpu, passed) = (computed(pid) - cpu, SystemClock.now().since(since).as_millis() as u64);
        assert!(tries.iter().all(|n| *n <= passed / PAUSE_MS + 2), "{tries:?} attempts within {passed} ms");
        assert!(cpu < passed / 2, "{cpu} of {passed} ms computed");
        limit(pid, "nofile", 1024);
    };
    let (answered, ()) = tokio::join!(tokio::time::timeout(SOON, world.node.svids()), watching);
    assert_eq!(answered.expect("who waited is answered").unwrap().len(), 1);
    drop(launcher);
    world.run(["--intent", "go on", "--", "true"]).to_end().await.exited(0);
    world.register("second", &world.this_user()).await;
    let told = async { while svids_of(&before.message().await.unwrap().unwrap()).len() < 2 {} };
    tokio::time::timeout(SOON, told).await.expect("a stream from before goes on");
    world.ends_well().await;
}
