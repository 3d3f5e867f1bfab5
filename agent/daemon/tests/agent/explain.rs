//! Why a process gets an identity or none, asked on the agent's socket.

use crate::world::World;
use proto_wire::{errand::v1::ExplainRequest, spire::api::types as wire};
use tonic::Code;

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap()
}

fn selector(text: &str) -> wire::Selector {
    let (kind, value) = text.split_once(':').unwrap();
    wire::Selector { r#type: kind.into(), value: value.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_told_what_it_earns_and_the_one_selector_that_it_lacks() {
    let world = World::new().await;
    world.create(world.entry("earned", "/web")).await;
    let mut near = world.entry("near", "/ops");
    near.selectors.push(selector("unix:user:nobody-else"));
    world.create(near.clone()).await;
    let mut far = near.clone();
    (far.id, far.spiffe_id) = ("far".into(), world.entry("far", "/far").spiffe_id);
    far.selectors.push(selector("unix:group:nobody-else"));
    world.create(far).await;
    let mut others = world.entry("others", "/others");
    others.selectors = vec![selector("unix:uid:4242424242")];
    world.create(others).await;

    let told = world.info().explain(ExplainRequest { pid: own_pid() }).await.unwrap().into_inner();
    let uid = nix::unistd::geteuid().as_raw();
    assert_eq!((told.uid, told.synced, told.task_id.as_str()), (uid, true, ""));
    assert!(told.selectors.contains(&selector(&format!("unix:uid:{uid}"))), "{:?}", told.selectors);
    assert_eq!(told.problems, [] as [String; 0]);
    let said = |e: &proto_wire::errand::v1::ExplainedEntry| {
        (e.entry.clone().unwrap().id, e.missing.clone().map(|s| format!("{}:{}", s.r#type, s.value)))
    };
    let mut wanted =
        vec![("earned".to_string(), None), ("near".to_string(), Some("unix:user:nobody-else".to_string()))];
    if uid == 0 {
        wanted.push(("others".into(), Some("unix:uid:4242424242".into())));
    }
    assert_eq!(told.entries.iter().map(said).collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_process_that_is_gone_and_of_another_user_s_nothing_is_told() {
    let world = World::new().await;
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let gone = i32::try_from(child.id()).unwrap();
    child.wait().unwrap();
    let refused = world.info().explain(ExplainRequest { pid: gone }).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    assert!(world.info().explain(ExplainRequest { pid: -1 }).await.is_err());
    // Without the header nobody is answered, whoever it is.
    let mut bare = proto_wire::errand::v1::agent_client::AgentClient::new(world.channel());
    let refused = bare.explain(ExplainRequest { pid: own_pid() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let first = world.info().explain(ExplainRequest { pid: 1 }).await;
    match nix::unistd::geteuid().is_root() {
        true => assert_eq!(first.unwrap().into_inner().uid, 0),
        false => assert_eq!(first.unwrap_err().code(), Code::PermissionDenied),
    }
}
