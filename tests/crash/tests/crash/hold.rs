//! A hold against what is in flight: whatever commits after it loses, whatever committed before it is ended.

use crate::{local::Local, steps::all_leases};
use proto_types::{Fut, Hold, hold::Scope};
use server_core::ports::{Commit, CommitError, Durable, Ledger};
use server_daemon::Decorators;
use server_service::{MadeHold, Service, ServiceError};
use std::sync::Arc;
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, CallError, Connection},
    point::says,
    world::{ROLES, World},
};
use tokio::sync::watch;

/// Units with a record of one of these kinds wait; how many do.
#[derive(Clone)]
struct Gate {
    closed: watch::Sender<Vec<&'static str>>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    fn open() -> Self {
        Self { closed: watch::Sender::default(), waiting: watch::Sender::default() }
    }
    async fn pass(&self, unit: &Commit) {
        let holds = |kinds: &Vec<&'static str>| kinds.iter().any(|kind| says(unit, kind));
        let mut closed = self.closed.subscribe();
        if holds(&closed.borrow_and_update()) {
            self.waiting.send_modify(|n| *n += 1);
            let _ = closed.wait_for(|kinds| !holds(kinds)).await;
            self.waiting.send_modify(|n| *n -= 1);
        }
    }
    async fn somebody_waits(&self) {
        let _ = self.waiting.subscribe().wait_for(|n| *n > 0).await;
    }
    fn decorators(&self) -> Decorators {
        let gate = self.clone();
        let ledger = Box::new(move |inner| Arc::new(GatedLedger { inner, gate }) as Arc<dyn Ledger>);
        Decorators { ledger: Some(ledger), ..Decorators::default() }
    }
}

struct GatedLedger {
    inner: Arc<dyn Ledger>,
    gate: Gate,
}

impl Ledger for GatedLedger {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            self.gate.pass(&unit).await;
            self.inner.commit(unit).await
        })
    }
}

async fn held(service: &Service) -> Arc<Hold> {
    let stands = async || service.read(|s| s.holds.iter().next().is_some());
    poll::until("the hold stands", std::time::Duration::from_secs(10), stands).await;
    service.read(|s| s.holds.iter().next().cloned()).expect("it stands")
}

/// Lets `work` come to its commit of `kind`, puts everything on hold, and lets the commit go on while no task has been
/// ended yet: only the hold itself can refuse it.
async fn overtake<T: Send + 'static>(
    service: &Service,
    gate: &Gate,
    kind: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> (T, MadeHold) {
    gate.closed.send_replace(vec![kind, "task.ended"]);
    let work = tokio::spawn(work);
    gate.somebody_waits().await;
    let holder = service.clone();
    let making = tokio::spawn(async move { holder.hold_create(Scope::All, "a drill", Some("kim".into())).await });
    let hold = held(service).await;
    gate.closed.send_replace(vec!["task.ended"]);
    let outcome = work.await.expect("the work ends");
    gate.closed.send_replace(vec![]);
    let made = making.await.expect("it ends").expect("the hold is made");
    assert_eq!(made.hold.id, hold.id);
    (outcome, made)
}

fn is_held<T>(outcome: &Result<T, CallError>) -> bool {
    matches!(outcome, Err(CallError::Refused { body, .. }) if body.contains("on hold"))
}

async fn start(node: &Connection) -> Result<tests_crash::client::Task, CallError> {
    node.start("a drill").await
}

/// Invariant 4: the hold is acknowledged, so nothing comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_wins_against_a_start_and_an_exchange_whose_commit_is_under_way() {
    let pg = PostgresFixture::start().await;
    let world = Arc::new(World::new(&pg));
    let gate = Gate::open();
    let server = Arc::new(Local::start(&world, gate.decorators()).await);
    let service = server.running.service.clone();
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let release = async |made: &MadeHold| service.hold_release(made.hold.id, None).await.expect("it is released");

    let starting = node.clone();
    let (started, made) = overtake(&service, &gate, "task.started", async move { start(&starting).await }).await;
    assert!(is_held(&started) && made.ended == 0, "{made:?}");
    release(&made).await;

    for kind in ["lease.intended", "lease.handed"] {
        let task = start(&node).await.expect("nothing is held");
        let exchange = {
            let (task, world, server) = (task.clone(), world.clone(), server.clone());
            async move { task.exchange(&world, &server.hello, ROLES[0]).await }
        };
        let (exchanged, made) = overtake(&service, &gate, kind, exchange).await;
        assert!(is_held(&exchanged), "{kind}: {exchanged:?}");
        assert_eq!((made.ended, made.ending), (1, 0), "{kind}");
        let story = service.task(task.id.parse().expect("an id")).await.expect("it was started");
        assert_eq!(story.end_reason.map(|r| r.as_str()), Some("held"), "{kind}");
        release(&made).await;
        assert!(matches!(service.hold_release(made.hold.id, None).await, Err(ServiceError::NotFound { .. })));
    }
    assert!(all_leases(&world, |lease| lease.state.is_final()).await, "nothing is left in the target");

    let task = start(&node).await.expect("nothing is held");
    task.exchange(&world, &server.hello, ROLES[0]).await.expect("what was released goes on");
    if let Ok(server) = Arc::try_unwrap(server) {
        server.running.stop().await;
    }
}

/// Invariant 4, over a death: what a hold had not ended yet is ended by the server that comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_outlives_the_server_and_ends_what_it_had_not_ended() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let gate = Gate::open();
    let server = Local::start(&world, gate.decorators()).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let task = start(&node).await.expect("nothing is held");
    gate.closed.send_replace(vec!["task.ended"]);
    let service = server.running.service.clone();
    let making = tokio::spawn(async move { service.hold_create(Scope::All, "a drill", None).await.map(drop) });
    gate.somebody_waits().await;
    making.abort();
    let _ = making.await;
    let before = server.running.service.task(task.id.parse().expect("an id")).await.expect("it was started");
    assert!(before.is_live(), "nothing has ended it yet");
    server.running.stop().await;

    let again = Local::start(&world, Decorators::default()).await;
    let service = again.running.service.clone();
    let id = task.id.parse().expect("an id");
    let over = async || service.task(id).await.is_ok_and(|t| !t.is_live());
    poll::until("the held task is over", std::time::Duration::from_secs(10), over).await;
    assert_eq!(service.task(id).await.expect("it is known").end_reason.map(|r| r.as_str()), Some("held"));
    assert!(is_held(&start(&agent.at(&again.hello)).await), "what stands in the store is in force");
    drop(service);
    again.running.stop().await;
}
