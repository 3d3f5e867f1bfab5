//! Two servers on one database, asked at random for ten thousand things of every kind, while one or the other is killed:
//! fault F19. What one begins the other goes on with.

use crate::{
    process::{Dice, Server, seeds},
    steps::verdict,
};
use futures_util::future::join_all;
use proto_types::Lease;
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{self, Agent, CallError, Connection, Task},
    world::{Hello, ROLES, World},
};

/// Operations in all; behind each so many one of the servers is killed.
const OPERATIONS: usize = 10_000;
const KILL_EVERY: usize = 2_000;
const CLIENTS: usize = 12;
/// Tasks that one client has at a time.
const ABREAST: usize = 3;

/// What a dead server was about to create, another one gives up for it when that cannot be on its way any more: a minute.
const OVER: Duration = Duration::from_secs(100);

/// A server that answers, as its clients have it.
#[derive(Clone)]
struct Live {
    hello: Hello,
    node: Connection,
}

/// Where the servers are, and what was done so far.
struct Stage {
    /// Clients write down what they saw here.
    world: World,
    live: [RwLock<Option<Live>>; 2],
    done: AtomicUsize,
    /// What nobody may be refused.
    wrong: Mutex<Vec<String>>,
    edits: Mutex<Edits>,
}

#[derive(Default)]
struct Edits {
    revisions: Vec<i64>,
    unknown: usize,
}

impl Stage {
    /// One of the servers, as the dice say; the other where that one is being started.
    fn any(&self, dice: &mut Dice) -> Live {
        let first = side(dice);
        let live = |n: usize| self.live[n].read().unwrap_or_else(PoisonError::into_inner).clone();
        live(first).or_else(|| live(1 - first)).expect("one of them runs")
    }

    fn put(&self, n: usize, live: Option<Live>) {
        *self.live[n].write().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// A refusal where nothing was wrong. No answer is none: the server may have died.
    fn judge<T>(&self, what: &str, outcome: Result<T, CallError>) -> Option<T> {
        match outcome {
            Ok(done) => Some(done),
            Err(CallError::Broken(_) | CallError::Refused { status: 503, .. }) => None,
            Err(refused) => {
                self.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what}: {refused}"));
                None
            }
        }
    }
}

async fn live(server: &Server, agent: &Agent) -> Live {
    Live { hello: server.hello.clone(), node: agent.at(&server.hello) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_keep_every_promise_through_ten_thousand_mixed_operations() {
    let pg = PostgresFixture::start_with(&["log_statement=none", "max_connections=100"]).await;
    for seed in seeds(1) {
        let one = World::sharing(&pg, None).await;
        let first = Server::start(&one, &[]).await;
        let agent = Agent::attest(&first.hello).await.expect("the agent attests");
        let other = World::sharing(&pg, Some(&one)).await;
        let second = Server::start(&other, &[]).await;
        let stage = Arc::new(Stage {
            live: [live(&first, &agent).await, live(&second, &agent).await].map(|l| RwLock::new(Some(l))),
            world: one,
            done: AtomicUsize::new(0),
            wrong: Mutex::default(),
            edits: Mutex::default(),
        });

        let clients = join_all((0..CLIENTS).map(|n| client(&stage, Dice::new(seed << 8 | n as u64))));
        let kills = async {
            let (mut dice, mut servers) = (Dice::new(seed), [Some(first), Some(second)]);
            for round in 1..OPERATIONS / KILL_EVERY {
                let due = || std::future::ready(stage.done.load(Ordering::SeqCst) >= round * KILL_EVERY);
                poll::until("operations go on", Duration::from_secs(300), due).await;
                let n = side(&mut dice);
                // While it is down the other carries on alone; what it was asked when it died has no answer.
                stage.put(n, None);
                servers[n].take().expect("it runs").kill().await;
                let again = Server::start([&stage.world, &other][n], &[]).await;
                stage.put(n, Some(live(&again, &agent).await));
                servers[n] = Some(again);
            }
            servers
        };
        let (left, servers) = tokio::join!(clients, kills);

        let told = format!("ERRAND_SEED={seed}");
        let log = || format!("{}\n{}", stage.world.log(), other.log());
        let wrong = stage.wrong.lock().unwrap().clone();
        assert!(wrong.is_empty(), "{told}: {} refusals\n{:#?}\n{}", wrong.len(), &wrong[..wrong.len().min(10)], log());
        let mut dice = Dice::new(seed);
        for task in left.into_iter().flatten() {
            stage.any(&mut dice).node.end(&stage.world, &task.id).await.expect("a task is ended");
        }
        let over =
            async || stage.world.sources().leases().await.is_ok_and(|all| all.iter().all(|l| l.state.is_final()));
        if !poll::holds_within(OVER, over).await {
            let left = stage.world.sources().leases().await.expect("the leases can be read");
            let left: Vec<_> = left.iter().filter(|l| !l.state.is_final()).collect();
            panic!("{told}: {} leases are left, such as {:?}\n{}", left.len(), left.first(), log());
        }
        let [Some(first), Some(second)] = servers else { panic!("both run") };
        for server in [&first, &second] {
            let (evidence, violations) = verdict(&stage.world, &server.hello.admin).await;
            assert!(violations.is_empty(), "{told}\n{violations}\n{}", log());
            assert!(evidence.roles.is_empty() && evidence.sessions.is_empty(), "{told}: left in the target");
            assert!(evidence.seen.len() > OPERATIONS / 2, "{told}: {} things were seen", evidence.seen.len());
            assert_answered_once(&evidence.leases, &told);
        }
        first.kill().await;
        second.kill().await;
        // Each edit made the next revision, however many edited at once.
        let edits = stage.edits.lock().unwrap();
        let mut revisions = edits.revisions.clone();
        revisions.sort_unstable();
        revisions.dedup();
        assert_eq!(revisions.len(), edits.revisions.len(), "{told}: two edits came to one revision");
        let newest = usize::try_from(revisions.last().copied().unwrap_or_default()).unwrap();
        assert!(
            newest < revisions.len() + edits.unknown + 2,
            "{told}: {newest} revisions of {} edits",
            revisions.len()
        );
    }
}

fn index(dice: &mut Dice, of: usize) -> usize {
    usize::try_from(dice.roll(of as u64)).expect("a small number") - 1
}

/// One of the two.
fn side(dice: &mut Dice) -> usize {
    index(dice, 2)
}

/// Does what the dice say, at whichever server, until enough was done by all; the tasks it has left.
async fn client(stage: &Stage, mut dice: Dice) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    while stage.done.fetch_add(1, Ordering::SeqCst) < OPERATIONS {
        let Live { hello, node } = stage.any(&mut dice);
        if tasks.len() < ABREAST {
            tasks.extend(stage.judge("start", node.start("one of many").await));
            continue;
        }
        let at = index(&mut dice, ABREAST);
        let task = &tasks[at];
        match dice.roll(100) {
            1..=30 => drop(stage.judge("x509", node.x509(&stage.world, &task.id).await)),
            31..=60 => drop(stage.judge("jwt", node.jwt(&stage.world, &task.id).await)),
            61..=80 => drop(stage.judge("token", task.token(&stage.world, &hello).await)),
            81..=84 => exchange(stage, task, &mut dice).await,
            85..=87 => edit(stage, &hello, &mut dice).await,
            88 => race(stage, &mut dice).await,
            _ => {
                // Ended for the client whatever became of the call: it asks nothing more of it.
                let task = tasks.swap_remove(at);
                if stage.judge("end", node.end(&stage.world, &task.id).await).is_none() {
                    tasks.extend(again(stage, task, &mut dice).await);
                }
            }
        }
    }
    tasks
}

/// An end that was not answered is asked for again, elsewhere.
async fn again(stage: &Stage, task: Task, dice: &mut Dice) -> Option<Task> {
    for _ in 0..3 {
        if stage.any(dice).node.end(&stage.world, &task.id).await.is_ok() {
            return None;
        }
    }
    Some(task)
}

/// One credential. A request that was not answered is sent again, wherever the dice say.
async fn exchange(stage: &Stage, task: &Task, dice: &mut Dice) {
    let (role, key) = (ROLES[side(dice)], format!("{:x}", dice.roll(u64::MAX)));
    for _ in 0..3 {
        let hello = stage.any(dice).hello;
        if stage.judge("exchange", task.exchange_as(&stage.world, &hello, role, &key).await).is_some() {
            // Now and then an answer was lost on its way.
            if dice.roll(4) > 1 {
                return;
            }
        }
    }
}

/// No answer was given by two servers: of each request every attempt stands once.
fn assert_answered_once(leases: &[Lease], told: &str) {
    let attempts = leases.iter().filter_map(|l| l.attempt.as_ref());
    let mut seen = BTreeSet::new();
    for attempt in attempts {
        assert!(seen.insert((attempt.key.clone(), attempt.number)), "{told}: {attempt:?} stands twice");
    }
    assert!(seen.iter().any(|(_, number)| *number > 0), "{told}: nothing was asked for again");
}

/// Edits the one entry that everybody edits. Who was not quick enough is told so.
async fn edit(stage: &Stage, hello: &Hello, dice: &mut Dice) {
    let edited = client::edit(&hello.admin, 600 + i32::try_from(index(dice, 1000)).expect("a small number")).await;
    let mut edits = stage.edits.lock().unwrap_or_else(PoisonError::into_inner);
    match edited {
        Ok(revision) => edits.revisions.push(revision),
        Err(CallError::Refused { .. }) => {}
        Err(CallError::Broken(_)) => edits.unknown += 1,
    }
}

/// One join token, shown to both servers in one moment.
async fn race(stage: &Stage, dice: &mut Dice) {
    let (one, other) = (stage.any(dice).hello, stage.any(dice).hello);
    let Some(token) = stage.judge("join token", client::join_token(&one.admin).await) else { return };
    let with = |hello: Hello| Hello { join_token: Some(token.clone()), ..hello };
    let (one, other) = (with(one), with(other));
    let (a, b) = tokio::join!(Agent::attest(&one), Agent::attest(&other));
    if a.is_ok() && b.is_ok() {
        stage.wrong.lock().unwrap_or_else(PoisonError::into_inner).push(format!("the token {token} was good twice"));
    }
}
