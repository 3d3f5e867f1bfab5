//! Other people's SPIFFE clients, unmodified, on the agent's socket: rust-spiffe, and py-spiffe, whose C-core gRPC sends
//! an `:authority` that most HTTP/2 servers refuse (architecture, section 6).

use std::path::Path;
use tests::world::{World, cargo_build, peers, venv, written};

/// Follows with `program ARGS FILE`, and registers a second identity as soon as it does.
async fn follows_an_update(world: &World, program: &Path, args: &[&str]) -> String {
    let file = world.layout.dir().join("following");
    let run = world.program(program).args(args.iter().copied()).args([file.to_str().unwrap()]).start();
    written(&file).await;
    world.register("second", &world.this_user()).await;
    run.finish().await.exited(0).stdout
}

#[tokio::test]
async fn rust_spiffe_fetches_validates_and_follows_an_update() {
    let peer = cargo_build("tests-peers-rust");
    let world = World::start().await;
    let said = follows_an_update(&world, &peer, &[]).await;
    for held in [world.workload("planner").as_str(), "for no other", "X509Source", "2 identities"] {
        assert!(said.contains(held), "`{held}` is not in:\n{said}");
    }
    world.ends_well().await;
}

#[tokio::test]
async fn py_spiffe_fetches_validates_and_follows_an_update() {
    let python = venv("python").join("bin/python");
    let world = World::start().await;
    let script = |name: &str| peers("python").join(name).to_str().unwrap().to_string();
    let said = world.program(&python).args([script("peer.py").as_str()]).to_end().await.exited(0).stdout;
    for held in [world.workload("planner").as_str(), "for no other"] {
        assert!(said.contains(held), "`{held}` is not in:\n{said}");
    }
    let said = follows_an_update(&world, &python, &[&script("watch.py")]).await;
    assert!(said.contains("2 identities"), "{said}");
    world.ends_well().await;
}
