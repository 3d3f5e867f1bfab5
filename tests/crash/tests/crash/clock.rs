//! A wall clock that is wrong, while a server runs and when it starts: nothing is issued by it, and nothing is lost to it.
//! Fault F11.

use crate::steps::{REST, verdict};
use proto_types::{Clock, Fut, LeaseState, OsEntropy, SystemClock, Timestamp};
use server_core::clock::Doubt;
use server_daemon::{Decorators, Machine, Running, Server, ServerConfig, StartError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{Agent, CallError},
    evidence::Store,
    world::{Hello, ROLES, World, seed},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
const YEARS: i64 = 3652 * DAY;
/// Long enough for a reconciler that wanted to end something.
const A_WHILE: Duration = Duration::from_millis(1500);

/// The machine's clock, so many seconds off. Sleeps are not: they are by another clock.
#[derive(Clone, Default)]
pub struct Off(Arc<AtomicI64>);

impl Off {
    pub fn by(seconds: i64) -> Self {
        let clock = Self::default();
        clock.set(seconds);
        clock
    }
    fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for Off {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + 1000 * self.0.load(Ordering::SeqCst))
    }
    fn sleep(&self, d: Duration) -> Fut<'static, ()> {
        SystemClock.sleep(d)
    }
}

async fn start(config: ServerConfig, clock: &Off) -> Result<(Running, Hello), StartError> {
    let machine = Machine { clock: Arc::new(clock.clone()), entropy: Arc::new(OsEntropy) };
    let running = Server::start_with(config, machine, Decorators::default()).await?;
    let hello = seed(&running.service, &running.addresses).await;
    Ok((running, hello))
}

/// What `/readyz` answers.
async fn ready(server: &Running) -> String {
    let mut stream = TcpStream::connect(server.addresses.metrics).await.expect("it listens");
    stream.write_all(b"GET /readyz HTTP/1.0\r\nhost: localhost\r\n\r\n").await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}

fn leases(world: &World) -> Vec<LeaseState> {
    let leases = Store::open(&world.store()).and_then(|s| s.leases()).expect("the store can be read");
    leases.iter().map(|l| l.state).collect()
}

/// Something that only a server whose clock is good gives away.
async fn gives(server: &Running) -> Result<(), String> {
    let token = server.service.join_token(Duration::from_secs(60), None, None, None).await;
    token.map(drop).map_err(|e| e.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_stops_what_issues_and_ends_nothing_by_itself() {
    let pg = PostgresFixture::start().await;
    let (world, clock) = (World::new(&pg), Off::default());
    let (server, hello) = start(world.config(), &clock).await.expect("the server starts");
    let agent = Agent::attest(&hello).await.expect("the agent attests");
    let node = agent.at(&hello);
    let task = node.start("look at an order").await.expect("the task starts");
    task.exchange(&world, &hello, ROLES[0]).await.expect("a credential");
    let keys = server.service.ports().authorities.bundle();

    for off in [-HOUR, -DAY, -YEARS, 31 * DAY, YEARS] {
        clock.set(off);
        let why = gives(&server).await.expect_err("a join token by a clock in doubt");
        assert!(why.contains("the clock"), "{off}: {why}");
        assert!(ready(&server).await.contains("clock: the clock"), "{off}");
        let asked = task.exchange(&world, &hello, ROLES[1]).await;
        assert!(asked.is_err(), "{off}: a credential by a clock in doubt");
        let lost = poll::holds_within(A_WHILE, async || leases(&world) != [LeaseState::Handed]).await;
        assert!(!lost, "{off}: {:?}", leases(&world));
        clock.set(0);
        gives(&server).await.expect("the clock is right again");
        assert!(ready(&server).await.contains("ready"), "{off}");
    }
    assert_eq!(server.service.ports().authorities.bundle().x509, keys.x509, "no key came or went");
    task.exchange(&world, &hello, ROLES[1]).await.expect("the task goes on");

    // What ends something is not held up by a clock that runs back.
    clock.set(-HOUR / 2);
    node.end(&world, &task.id).await.expect("the task ends");
    let over = async || leases(&world) == [LeaseState::Revoked; 2];
    poll::until("its credentials are gone", REST, over).await;
    clock.set(0);
    let (evidence, violations) = verdict(&world, &hello.admin).await;
    assert_eq!((violations.to_string().as_str(), evidence.roles.len()), ("", 0));
    server.stop().await;
}

/// A leap that a suspended machine makes too is believed; going back from it is the operator's to confirm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_passed_at_once_is_believed_and_its_way_back_takes_an_operator() {
    let pg = PostgresFixture::start().await;
    for off in [HOUR + 60, DAY] {
        let (world, clock) = (World::new(&pg), Off::default());
        let (server, hello) = start(world.config(), &clock).await.expect("the server starts");
        let agent = Agent::attest(&hello).await.expect("the agent attests");
        let node = agent.at(&hello);
        let task = node.start("look at an order").await.expect("the task starts");
        task.exchange(&world, &hello, ROLES[0]).await.expect("a credential");
        clock.set(off);
        gives(&server).await.expect("it may be so late");
        poll::until("what is over is ended", REST, async || leases(&world) == [LeaseState::Revoked]).await;
        clock.set(0);
        let refused = gives(&server).await.expect_err("tokens of the future would live again");
        assert!(refused.contains("--accept-clock"), "{refused}");
        server.stop().await;

        let config = ServerConfig { accept_clock: true, ..world.config() };
        let (server, hello) = start(config, &clock).await.expect("the server starts");
        gives(&server).await.expect("an operator said that the clock is right");
        // The agent's identity was never touched.
        let node = agent.at(&hello);
        let task = node.start("look again").await.expect("the task starts");
        task.exchange(&world, &hello, ROLES[0]).await.expect("a credential");
        node.end(&world, &task.id).await.expect("the task ends");
        let over = async || leases(&world) == [LeaseState::Revoked; 2];
        poll::until("its credential is gone", REST, over).await;
        let (_, violations) = verdict(&world, &hello.admin).await;
        assert!(violations.is_empty(), "{off}: {violations}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_at_a_wrong_time_says_so() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let (server, hello) = start(world.config(), &Off::default()).await.expect("the server starts");
    let agent = Agent::attest(&hello).await.expect("the agent attests");
    let task = agent.at(&hello).start("look at an order").await.expect("the task starts");
    task.exchange(&world, &hello, ROLES[0]).await.expect("a credential");
    let before = server.service.ports().authorities.bundle();
    server.stop().await;

    for ahead in [31 * DAY, YEARS] {
        let refused = start(world.config(), &Off::by(ahead)).await.err();
        assert!(matches!(refused, Some(StartError::Clock(Doubt::Ahead { .. }))), "{ahead}: {refused:?}");
        assert_eq!(leases(&world), [LeaseState::Handed], "{ahead}");
    }
    for back in [-HOUR, -DAY, -YEARS] {
        let (server, hello) =
            start(world.config(), &Off::by(back)).await.expect("it starts, to end what is to be ended");
        assert!(gives(&server).await.is_err(), "{back}");
        assert!(ready(&server).await.starts_with("HTTP/1.0 503"), "{back}");
        let asked = task.exchange(&world, &hello, ROLES[1]).await;
        assert!(matches!(asked, Err(CallError::Broken(_) | CallError::Refused { .. })), "{back}");
        server.stop().await;
    }
    let (server, hello) = start(world.config(), &Off::default()).await.expect("the clock is right again");
    assert_eq!(server.service.ports().authorities.bundle().x509, before.x509, "no key came or went");
    task.exchange(&world, &hello, ROLES[1]).await.expect("the task goes on");
    assert_eq!(leases(&world), [LeaseState::Handed; 2]);
    server.stop().await;

    // Off for a month and a day: told so, it starts, and what was over is ended.
    let config = ServerConfig { accept_clock: true, ..world.config() };
    let (server, _) = start(config, &Off::by(31 * DAY)).await.expect("the server starts");
    gives(&server).await.expect("an operator said that the clock is right");
    poll::until("what is over is ended", REST, async || leases(&world) == [LeaseState::Revoked; 2]).await;
    server.stop().await;
}
