//! Tasks from their start to each of their ends.

use crate::{
    helper::{LaunchClient, Launcher, Waiting, in_role, patient},
    world::{SOON, World, next},
};
use proto_types::launch::{LaunchReply, LaunchRequest};
use proto_wire::errand::v1::{EndRequest, StartRequest, StartResponse, WatchTaskRequest};
use std::{path::PathBuf, time::Duration};
use testkit::poll::until;
use tonic::{Code, Streaming};

fn other_program() -> PathBuf {
    std::fs::canonicalize("/usr/bin/tee").unwrap()
}

async fn with_entry() -> World {
    let world = World::new().await;
    world.create(world.entry("e", "/web")).await;
    until("its SVID is here", SOON, || std::future::ready(world.agent().sizes().1 == 1)).await;
    world
}

fn launch_socket(world: &World) -> LaunchClient {
    LaunchClient::connect(&world.agent().launch_socket)
}

async fn start(world: &World, launch_id: String) -> (StartResponse, Streaming<StartResponse>) {
    let request = StartRequest { intent: "tidy up".into(), launch_id, ttl_seconds: 600, ..Default::default() };
    let mut stream = world.tasks().start(request).await.unwrap().into_inner();
    (next(&mut stream).await.unwrap().unwrap(), stream)
}

fn root(task: &StartResponse, child: &Waiting) -> LaunchRequest {
    LaunchRequest::Root { task_id: task.task_id.parse().unwrap(), pid: child.pid() }
}

async fn ended(world: &World, task: &str, reason: &str) {
    let state = world.server.state.clone();
    let expected = (task.to_string(), reason.to_string());
    until("the server hears of the end", SOON, || std::future::ready(state.script().ended.contains(&expected))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_task_has_its_own_svid_and_ends_when_it_is_complete() {
    let world = with_entry().await;
    let (task, mut stream) = start(&world, String::new()).await;
    assert_eq!(task.spiffe_id, format!("spiffe://example.org/web/task/{}", task.task_id));
    assert!(!task.x509_svid.is_empty() && !task.x509_svid_key.is_empty() && !task.subject_token.is_empty());
    assert!(world.server.state.script().started[0].handle);
    let request = EndRequest { task_id: task.task_id.clone() };
    let done = world.tasks().complete(request.clone()).await.unwrap().into_inner();
    assert_eq!(done.open_leases, 2);
    assert_eq!(next(&mut stream).await.unwrap().unwrap().end_reason, "completed");
    assert_eq!(next(&mut stream).await.unwrap(), None);
    ended(&world, &task.task_id, "completed").await;
    assert!(world.tasks().complete(request).await.is_err(), "only once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handle_task_outlives_its_stream_and_dies_by_its_deadline() {
    let world = with_entry().await;
    let (task, stream) = start(&world, String::new()).await;
    drop(stream);
    let known = EndRequest { task_id: String::new() };
    assert!(world.tasks().start(StartRequest { launch_id: "no such".into(), ..Default::default() }).await.is_err());
    world.clock.advance(Duration::from_secs(601));
    until("it is over", SOON, || {
        let (mut tasks, known) = (world.tasks(), known.clone());
        async move { tasks.complete(known).await.unwrap_err().code() == Code::NotFound }
    })
    .await;
    assert!(world.server.state.script().ended.is_empty(), "{}: the server keeps deadlines itself", task.task_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tasks_svid_is_renewed_at_half_life_on_its_stream() {
    let world = with_entry().await;
    let (task, mut stream) = start(&world, String::new()).await;
    world.clock.advance(Duration::from_secs(170));
    let renewed = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(renewed.spiffe_id, task.spiffe_id);
    assert_ne!(renewed.x509_svid, task.x509_svid);
    assert_ne!(renewed.subject_token, task.subject_token);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_served_its_tasks_svid_first_and_loses_it_with_the_task() {
    let world = with_entry().await;
    let (program, args, envs) = in_role("member", &world.socket());
    let program = std::fs::canonicalize(program).unwrap();
    let launch = launch_socket(&world);
    let (task, mut stream) = start(&world, launch.measure(&program)).await;
    let started = world.server.state.script().started[0].clone();
    let selectors: Vec<_> = started.selectors.iter().map(|s| format!("{}:{}", s.r#type, s.value)).collect();
    assert!(selectors.contains(&format!("cmd:path:{}", program.display())), "{selectors:?}");
    assert!(!started.handle && started.parent_task_id.is_empty());
    let envs: Vec<_> = envs.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let mut child = Waiting::to_run(&program, &args, &envs);
    assert_eq!(launch.ask(&root(&task, &child), None), LaunchReply::Accepted);
    child.go();
    assert_eq!(launch.ask(&LaunchRequest::Executed, None), LaunchReply::Accepted);
    assert_eq!(child.line(), format!("task {}", task.task_id));
    let own = "spiffe://example.org/web#";
    assert_eq!(child.line(), format!("{}#task {own}", task.spiffe_id));
    world.server.state.end_task(&task.task_id, "held");
    assert_eq!(child.line(), own, "its own identity remains");
    assert_eq!(next(&mut stream).await.unwrap().unwrap().end_reason, "held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_starts_is_a_child_of_its_task_and_ends_with_it() {
    let world = with_entry().await;
    let (program, args, envs) = in_role("starter", &world.socket());
    let launch = launch_socket(&world);
    let (task, _stream) = start(&world, launch.measure(&program)).await;
    let envs: Vec<_> = envs.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let mut child = Waiting::to_run(&program, &args, &envs);
    assert_eq!(launch.ask(&root(&task, &child), None), LaunchReply::Accepted);
    child.go();
    assert_eq!(launch.ask(&LaunchRequest::Executed, None), LaunchReply::Accepted);
    let inner = child.line();
    assert_eq!(world.server.state.script().started[1].parent_task_id, task.task_id);
    world.tasks().complete(EndRequest { task_id: task.task_id.clone() }).await.unwrap();
    assert_eq!(child.line(), format!("{inner}parent_ended"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_runs_another_file_ends_the_task() {
    let world = with_entry().await;
    let launch = launch_socket(&world);
    let (task, mut stream) = start(&world, launch.measure(&patient())).await;
    let mut child = Waiting::to_run(&other_program(), &[], &[]);
    assert_eq!(launch.ask(&root(&task, &child), None), LaunchReply::Accepted);
    child.go();
    assert!(matches!(launch.ask(&LaunchRequest::Executed, None), LaunchReply::Refused { .. }));
    assert_eq!(next(&mut stream).await.unwrap().unwrap().end_reason, "revoked");
    ended(&world, &task.task_id, "revoked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_that_hangs_up_before_the_comparison_does_not_avoid_it() {
    let world = with_entry().await;
    let launch = launch_socket(&world);
    let (task, _stream) = start(&world, launch.measure(&patient())).await;
    let child = Waiting::to_run(&other_program(), &[], &[]);
    assert_eq!(launch.ask(&root(&task, &child), None), LaunchReply::Accepted);
    drop(launch);
    ended(&world, &task.task_id, "revoked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roots_end_is_the_tasks_after_a_moment_for_the_launcher_to_speak() {
    let world = with_entry().await;
    let launch = launch_socket(&world);
    let (task, mut stream) = start(&world, launch.measure(&patient())).await;
    let mut child = Waiting::to_run(&patient(), &[], &[]);
    assert_eq!(launch.ask(&root(&task, &child), None), LaunchReply::Accepted);
    child.go();
    assert_eq!(launch.ask(&LaunchRequest::Executed, None), LaunchReply::Accepted);
    child.child.kill().unwrap();
    let state = world.server.state.clone();
    world.while_time_passes("it ends", Duration::from_millis(200), || !state.script().ended.is_empty()).await;
    assert_eq!(next(&mut stream).await.unwrap().unwrap().end_reason, "process_gone");
    ended(&world, &task.task_id, "process_gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_launcher_ends_its_task_at_once() {
    let world = with_entry().await;
    let mut launcher = Launcher::start(&world.socket());
    let task = launcher.line();
    assert!(world.server.state.script().tasks.contains_key(&task));
    launcher.kill();
    ended(&world, &task, "process_gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_finds_the_task_again_and_ends_it_with_its_launcher() {
    let mut world = with_entry().await;
    let mut launcher = Launcher::start(&world.socket());
    let task = launcher.line();
    world.stop_agent().await;
    world.start_agent().await;
    assert!(world.server.state.script().ended.is_empty(), "it lives");
    launcher.kill();
    ended(&world, &task, "process_gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launcher_that_went_while_the_agent_was_away_is_noticed_at_its_start() {
    let mut world = with_entry().await;
    let mut launcher = Launcher::start(&world.socket());
    let task = launcher.line();
    world.stop_agent().await;
    launcher.kill();
    world.start_agent().await;
    ended(&world, &task, "process_gone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_the_server_did_not_hear_is_told_until_it_does_even_by_the_next_agent() {
    let mut world = with_entry().await;
    let mut launcher = Launcher::start(&world.socket());
    let task = launcher.line();
    world.server.go_away();
    launcher.kill();
    let kept = world.dir.path().join("data/tasks.json");
    until("the end is written down", SOON, || {
        let text = std::fs::read_to_string(&kept).unwrap();
        std::future::ready(text.contains("process_gone"))
    })
    .await;
    world.stop_agent().await;
    world.server.come_back();
    world.start_agent().await;
    ended(&world, &task, "process_gone").await;
    until("nothing is left to tell", SOON, || {
        let text = std::fs::read_to_string(&kept).unwrap();
        std::future::ready(!text.contains("process_gone"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_id_is_good_once_for_a_minute() {
    let world = with_entry().await;
    let launch = launch_socket(&world);
    let used = launch.measure(&patient());
    let _first = start(&world, used.clone()).await;
    let late = launch_socket(&world).measure(&patient());
    world.clock.advance(Duration::from_secs(61));
    for id in [used, late] {
        let refused = world.tasks().start(StartRequest { launch_id: id, ..Default::default() }).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_launchers_own_child_becomes_a_root() {
    let world = with_entry().await;
    for stranger in [1, std::process::id() as i32, -1] {
        let launch = launch_socket(&world);
        let (task, _stream) = start(&world, launch.measure(&patient())).await;
        let request = LaunchRequest::Root { task_id: task.task_id.parse().unwrap(), pid: stranger };
        assert!(matches!(launch.ask(&request, None), LaunchReply::Refused { .. }), "{stranger}");
        ended(&world, &task.task_id, "revoked").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_launch_socket_refuses_what_is_out_of_order_or_no_message() {
    let world = with_entry().await;
    let refused = |reply| matches!(reply, LaunchReply::Refused { .. });
    assert!(refused(launch_socket(&world).ask(&LaunchRequest::Executed, None)));
    assert!(refused(launch_socket(&world).ask(&LaunchRequest::Measure, None)), "no descriptor");
    assert!(refused(launch_socket(&world).ask_raw(b"{", None)));
    assert!(refused(launch_socket(&world).ask_raw(&vec![b' '; 5000], None)));
    let directory = std::fs::File::open("/tmp").unwrap();
    assert!(refused(launch_socket(&world).ask(&LaunchRequest::Measure, Some(&directory))));
    let twice = launch_socket(&world);
    twice.measure(&patient());
    let file = std::fs::File::open(patient()).unwrap();
    assert!(refused(twice.ask(&LaunchRequest::Measure, Some(&file))));
    assert_eq!(launch_socket(&world).measure(&patient()).len(), 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_a_task_or_without_an_identity_is_refused() {
    let world = World::new().await;
    let refused = world.tasks().start(StartRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(world.tasks().watch(WatchTaskRequest {}).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(world.tasks().complete(EndRequest::default()).await.unwrap_err().code(), Code::NotFound);
    let id = "018f2f0c-8f6b-7c3e-8a52-0123456789ab".to_string();
    assert_eq!(world.tasks().revoke(EndRequest { task_id: id }).await.unwrap_err().code(), Code::PermissionDenied);
    let bad = StartRequest { grants: vec!["no-role".into()], ..Default::default() };
    assert_eq!(world.tasks().start(bad).await.unwrap_err().code(), Code::InvalidArgument);
}
