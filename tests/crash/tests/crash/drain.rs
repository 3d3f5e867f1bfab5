//! Many leases that expired while the server was away, in targets that take their time and sometimes fail: while they are
//! ended, everybody else is served. Fault F27, in short; time is the test's: a target answers when it is told to.

use crate::{
    clock::Off,
    local::{Local, invented},
    steps::verdict,
};
use futures_util::future::try_join_all;
use proto_types::{Entropy as _, Fut, Lease, LeaseId, LeaseState, OsEntropy, Revocability, RoleName, Task};
use serde_json::Value;
use server_core::{
    lease::{self, NewLease},
    ports::{Durable, IssueError, IssueRequest, Issued, Missing, RevokeError, Revoked, RoleLimits, Target},
};
use server_daemon::Decorators;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, is_ready},
    world::{NEIGHBOUR, ROLES, World},
};
use tokio::sync::watch;

/// Leases by target: one with many, one with few.
const MANY: usize = 1200;
const FEW: usize = 300;
/// What is promised of one target.
const AT_ONCE: usize = 8;
/// Every so manyth revocation fails the first time.
const FAILS: usize = 100;
/// How far back the first server lives, and how long its leases do.
const AWAY: i64 = 600;
const LIFE: Duration = Duration::from_secs(300);
/// Turns between two new issues.
const BETWEEN: u64 = 10;
/// The longest wait for something that takes milliseconds.
const STUCK: Duration = Duration::from_secs(20);
/// A turn that lets everything through.
const EVERY: u64 = u64::MAX;

/// What one target was asked.
#[derive(Clone, Default)]
struct Asked {
    /// What is being ended, and in which turn it was begun.
    running: HashMap<String, u64>,
    most: usize,
    tried: HashSet<String>,
}

/// Both targets: they make nothing, and end something once the turn after they were asked has come.
#[derive(Clone, Default)]
struct Turns {
    now: watch::Sender<u64>,
    asked: Arc<Mutex<HashMap<String, Asked>>>,
}

impl Turns {
    fn of(&self, target: &str) -> Asked {
        self.asked.lock().expect("nobody panicked").get(target).cloned().unwrap_or_default()
    }
    fn decorators(&self) -> Decorators {
        let turns = self.clone();
        let wrap = move |inner| -> Arc<dyn Target> { Arc::new(Slow { inner, turns: turns.clone() }) };
        Decorators { target: Some(Arc::new(wrap)), ..Decorators::default() }
    }
    async fn revoke(&self, lease: &Lease) -> Result<Revoked, RevokeError> {
        let with = |change: &mut dyn FnMut(&mut Asked)| {
            let mut asked = self.asked.lock().expect("nobody panicked");
            change(asked.entry(lease.role.target().into()).or_default());
        };
        let mut turn = self.now.subscribe();
        let at = *turn.borrow_and_update();
        let mut fails = false;
        with(&mut |asked| {
            asked.running.insert(lease.name.to_string(), at);
            asked.most = asked.most.max(asked.running.len());
            fails = asked.tried.insert(lease.name.to_string()) && asked.tried.len().is_multiple_of(FAILS);
        });
        let _ = turn.wait_for(|now| *now > at || *now == EVERY).await;
        with(&mut |asked| {
            asked.running.remove(lease.name.as_str());
        });
        if fails { Err(RevokeError::Again { why: "not now".into() }) } else { Ok(Revoked::Gone) }
    }
}

struct Slow {
    inner: Arc<dyn Target>,
    turns: Turns,
}

impl Target for Slow {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.inner.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.inner.roles()
    }
    fn issue<'a>(&'a self, _: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(async move { Ok(invented(request)) })
    }
    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        self.inner.mint(request)
    }
    fn audiences(&self) -> Vec<String> {
        self.inner.audiences()
    }
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        Box::pin(self.turns.revoke(lease))
    }
    fn scan<'a>(&'a self, _: &'a str, _: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn check(&self) -> Fut<'_, Vec<Missing>> {
        Box::pin(async { Vec::new() })
    }
}

/// So many leases of this role, as if they had been handed out long ago.
async fn hold(server: &Local, task: &Task, role: &str, count: usize) {
    let now = task.started_at;
    let role: RoleName = role.parse().expect("a role");
    let leases = (0..count).map(|_| NewLease {
        id: LeaseId::new(OsEntropy.uuid_v7(now)),
        task,
        role: role.clone(),
        kind: "postgres",
        store_id: &server.running.service.meta().store_id,
        revocability: Revocability::Instant,
        expires_at: now.plus(LIFE),
        attempt: None,
        now,
    });
    let units = leases.map(|new| lease::mint(new, Value::Null)).map(|moved| moved.commit());
    let ledger = &server.running.service.ports().ledger;
    try_join_all(units.map(|unit| ledger.commit(unit))).await.expect("all are written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_many_expired_leases_are_ended_health_and_new_issues_are_served_and_targets_share_fairly() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let turns = Turns::default();
    let server = Local::at(&world, turns.decorators(), Arc::new(Off::by(-AWAY))).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let old = agent.at(&server.hello).start("look at many orders").await.expect("the task starts");
    let task = server.running.service.task(old.id.parse().expect("an id")).await.expect("it was started");
    tokio::join!(hold(&server, &task, ROLES[0], MANY), hold(&server, &task, NEIGHBOUR, FEW));
    server.running.stop().await;

    let server = Local::start(&world, turns.decorators()).await;
    let node = agent.at(&server.hello);
    let (many, few) = (|| turns.of("orders-db"), || turns.of("stock-db"));
    let all = || (many().tried.len(), few().tried.len());
    let mut issued = Vec::new();
    for turn in 1.. {
        let full = |asked: Asked, total: usize| {
            let of_this_turn = asked.running.values().all(|begun| *begun == *turns.now.borrow());
            of_this_turn && (asked.running.len() == AT_ONCE || asked.tried.len() == total)
        };
        let taken = async || full(many(), MANY) && full(few(), FEW);
        poll::until("every place in both targets is taken", STUCK, taken).await;
        if all() == (MANY, FEW) {
            break;
        }
        // Neither waits for the other: whoever has something left has as many turns.
        let (of_many, of_few) = all();
        assert!(of_few == FEW || of_many.abs_diff(of_few) <= 2 * AT_ONCE, "turn {turn}: {of_many} and {of_few}");
        if turn % BETWEEN == 0 {
            // Nothing ends before the next turn: what is served now is served while all places are taken.
            is_ready(server.hello.metrics).await.expect("it is ready");
            let new = node.start("look at one order").await.expect("the task starts");
            for role in [ROLES[0], NEIGHBOUR] {
                new.exchange(&world, &server.hello, role).await.expect("a credential");
            }
            issued.push(new);
        }
        turns.now.send_replace(turn);
    }
    assert!(issued.len() >= MANY / AT_ONCE / BETWEEN as usize - 1, "{} issued meanwhile", issued.len());

    turns.now.send_replace(EVERY);
    for new in &issued {
        node.end(&world, &new.id).await.expect("the task ends");
    }
    let over = async || server.leases().iter().all(|l| l.state == LeaseState::Revoked);
    poll::until("all are ended, those that failed too", STUCK, over).await;
    assert_eq!((many().most, few().most), (AT_ONCE, AT_ONCE));
    assert_eq!(server.leases().len(), MANY + FEW + 2 * issued.len());
    let (_, violations) = verdict(&world, &server.hello.admin).await;
    assert!(violations.is_empty(), "{violations}");
    server.running.stop().await;
}
