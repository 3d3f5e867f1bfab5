//! A target that is down while something is to be ended in it, or that dies while it creates.

use crate::{
    local::Local,
    process::{Dice, Server, seeds},
    steps::{REST, all_leases, at_rest, verdict},
};
use futures_util::future::join_all;
use proto_types::{Fut, Lease};
use serde_json::Value;
use server_core::ports::{
    Durable, IssueError, IssueRequest, Issued, Missing, RevokeError, Revoked, RoleLimits, Target,
};
use server_daemon::Decorators;
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, Task, admin},
    world::{ROLES, World},
};
use tokio::sync::Notify;

/// What an operator is shown of a lease.
async fn shown(socket: &Path, lease: &str) -> Value {
    let body = admin(socket, &format!("/v1/leases/{lease}")).await.expect("the lease is shown");
    serde_json::from_slice(&body).expect("JSON")
}

async fn is_tried_in_vain(socket: &Path, lease: &str) -> bool {
    let shown = shown(socket, lease).await;
    shown["state"] == "revoking" && shown["tries"].as_u64() > Some(1) && shown["last_error"].is_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_down_is_asked_until_it_is_back_also_by_the_next_server() {
    let mut pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Server::start(&world, &[]).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let task = node.start("look at an order").await.expect("the task starts");
    let credential = task.exchange(&world, &server.hello, ROLES[0]).await.expect("a credential");

    pg.stop();
    node.end(&world, &task.id).await.expect("the end of a task does not wait for targets");
    let lease = credential.id.as_str();
    let socket = server.hello.admin.clone();
    poll::until("tried in vain, visible as revoking", REST, async || is_tried_in_vain(&socket, lease).await).await;
    server.kill().await;

    let server = Server::start(&world, &[]).await;
    let socket = server.hello.admin.clone();
    poll::until("tried in vain after a restart too", REST, async || is_tried_in_vain(&socket, lease).await).await;

    pg.resume().await;
    assert!(all_leases(&world, |l| l.state.is_final()).await, "not revoked after the target was back");
    assert_eq!(shown(&socket, lease).await["state"], "revoked");
    let (evidence, violations) = verdict(&world, &socket).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0));
    server.kill().await;
}

/// Says when the target is asked for the `nth` time.
struct Tell {
    inner: Arc<dyn Target>,
    asked: Arc<AtomicU64>,
    nth: u64,
    now: Arc<Notify>,
}

impl Target for Tell {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.inner.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.inner.roles()
    }
    fn issue<'a>(&'a self, intended: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        if self.asked.fetch_add(1, Ordering::SeqCst) + 1 == self.nth {
            self.now.notify_one();
        }
        self.inner.issue(intended, request)
    }
    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        self.inner.mint(request)
    }
    fn audiences(&self) -> Vec<String> {
        self.inner.audiences()
    }
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        self.inner.revoke(lease)
    }
    fn scan<'a>(&'a self, prefix: &'a str, after: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        self.inner.scan(prefix, after)
    }
    fn check(&self) -> Fut<'_, Vec<Missing>> {
        self.inner.check()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_while_it_creates_keeps_nothing_that_nobody_knows_of() {
    let mut pg = PostgresFixture::start().await;
    for seed in seeds(5) {
        if let Err(why) = target_dies(&mut pg, seed).await {
            panic!("ERRAND_SEED={seed}:\n{why}");
        }
    }
}

async fn target_dies(pg: &mut PostgresFixture, seed: u64) -> Result<(), String> {
    let world = World::new(pg);
    let (asked, now) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (told, nth) = (now.clone(), Dice::new(seed).roll(12));
    let wrap =
        move |inner| -> Arc<dyn Target> { Arc::new(Tell { inner, asked: asked.clone(), nth, now: told.clone() }) };
    let server = Local::start(&world, Decorators { target: Some(Arc::new(wrap)), ..Decorators::default() }).await;
    let agent = Agent::attest(&server.hello).await.map_err(|e| e.to_string())?;
    let node = agent.at(&server.hello);
    let started = join_all((0..6).map(|_| node.start("write an order"))).await;
    let tasks: Vec<Task> = started.into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())?;

    let asks = join_all(tasks.iter().flat_map(|t| ROLES.map(|role| t.exchange(&world, &server.hello, role))));
    let dies = async {
        now.notified().await;
        pg.stop();
        pg.resume().await;
    };
    tokio::join!(asks, dies);
    if !all_leases(&world, at_rest).await {
        return Err("some leases did not come to rest after the target was back".into());
    }
    let (_, violations) = verdict(&world, &server.hello.admin).await;
    if !violations.is_empty() {
        return Err(violations.to_string());
    }
    for ended in join_all(tasks.iter().map(|t| node.end(&world, &t.id))).await {
        ended.map_err(|e| e.to_string())?;
    }
    let over = all_leases(&world, |l| l.state.is_final()).await;
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    server.running.stop().await;
    match over && violations.is_empty() && evidence.roles.is_empty() {
        true => Ok(()),
        false => Err(format!("{violations}left in the target: {:?}", evidence.roles)),
    }
}
