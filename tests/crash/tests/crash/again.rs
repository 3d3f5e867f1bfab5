//! A request that is sent again, with its `Idempotency-Key`, to a server that did not answer it: another one on the same
//! database, or the next one on the same file. Never two credentials alive for it. Invariants 2 and 5.

use crate::{
    process::Server,
    steps::{all_leases, at_rest, verdict},
};
use futures_util::future::join_all;
use proto_types::{CredentialInfo, Lease, LeaseState};
use testkit::postgres::PostgresFixture;
use tests_crash::{
    check::{Rule, check},
    client::{self, Agent, CallError, Task},
    world::{ROLES, World},
};

const KEY: &str = "7c1f";

async fn opens(pg: &PostgresFixture, credential: &CredentialInfo) -> bool {
    let field = |name: &str| credential.fields.get(name).and_then(|v| v.as_str()).expect("a login").to_string();
    pg.connect(&field("user"), &field("password"), pg.database()).await.is_ok()
}

fn is_refused<T: std::fmt::Debug>(outcome: Result<T, CallError>, why: &str) {
    let refused = matches!(&outcome, Err(CallError::Refused { body, .. }) if body.contains(why));
    assert!(refused, "{why:?} is not in {outcome:?}");
}

/// Leases that answer a request with a key, the first answer first.
async fn answers(world: &World) -> Vec<Lease> {
    let mut leases = world.sources().leases().await.expect("the leases can be read");
    leases.retain(|l| l.attempt.is_some());
    leases.sort_by_key(|l| l.attempt.as_ref().map(|a| a.number));
    leases
}

async fn task(server: &Server) -> Task {
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    agent.at(&server.hello).start("sent again").await.expect("the task starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_gave_is_ended_before_another_gives_it_again() {
    let pg = PostgresFixture::start_with(&["log_statement=none", "max_connections=100"]).await;
    let one = World::sharing(&pg, None).await;
    let first = Server::start(&one, &[]).await;
    let other = World::sharing(&pg, Some(&one)).await;
    let second = Server::start(&other, &[]).await;
    let task = task(&first).await;
    let ask = async |server: &Server, role: &str| task.exchange_as(&one, &server.hello, role, KEY).await;

    let lost = ask(&first, ROLES[0]).await.expect("the first answer");
    assert!(opens(&pg, &lost).await);
    is_refused(ask(&second, ROLES[1]).await, "was used for another request");
    assert!(opens(&pg, &lost).await, "a refusal ends nothing");

    let again = ask(&second, ROLES[0]).await.expect("the second answer");
    assert!(again.id != lost.id && opens(&pg, &again).await);
    assert!(!opens(&pg, &lost).await, "what was given before is gone when this one is there");
    assert_eq!(ask(&second, ROLES[0]).await.expect("the answer is kept").id, again.id);

    // The first server has an answer still, and does not give what is dead.
    let third = ask(&first, ROLES[0]).await.expect("the third answer");
    assert!(third.id != lost.id && third.id != again.id && opens(&pg, &third).await);
    assert!(!opens(&pg, &again).await);
    let made = answers(&one).await;
    let ids: Vec<_> = made.iter().map(|l| l.id.to_string()).collect();
    assert_eq!(ids, [lost.id, again.id, third.id], "each answer comes after the one before");
    assert_eq!(made[2].state, LeaseState::Handed);
    first.kill().await;
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_requests_with_one_key_at_two_servers_in_one_moment_one_credential_is_left() {
    let pg = PostgresFixture::start_with(&["log_statement=none", "max_connections=100"]).await;
    let one = World::sharing(&pg, None).await;
    let first = Server::start(&one, &[]).await;
    let other = World::sharing(&pg, Some(&one)).await;
    let second = Server::start(&other, &[]).await;
    let task = task(&first).await;
    for round in 0..8 {
        let key = format!("round-{round}");
        let servers = [&first, &second, &first, &second];
        let asked = servers.map(|server| task.exchange_as(&one, &server.hello, ROLES[0], &key));
        let (given, refused): (Vec<_>, Vec<_>) = join_all(asked).await.into_iter().partition(Result::is_ok);
        for refused in refused {
            assert!(matches!(refused, Err(CallError::Refused { status: 503, .. })), "{refused:?}");
        }
        let mut open = 0;
        for given in given.into_iter().flatten() {
            open += usize::from(opens(&pg, &given).await);
        }
        let all = answers(&one).await;
        let alive = all.iter().filter(|l| l.state == LeaseState::Handed).count();
        assert!(alive <= round + 1 && open <= 2, "{alive} leases after round {round}");
        let last = task.exchange_as(&one, &second.hello, ROLES[0], &key).await.expect("who came too early asks again");
        assert!(opens(&pg, &last).await);
    }
    let alive = answers(&one).await.iter().filter(|l| l.state == LeaseState::Handed).count();
    assert_eq!(alive, 8, "one for each key");
    first.kill().await;
    second.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_ends_what_it_gave_before_it_gives_it_again() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let server = Server::start(&world, &[]).await;
    let task = task(&server).await;
    let lost = task.exchange_as(&world, &server.hello, ROLES[0], KEY).await.expect("the first answer");
    server.kill().await;
    let server = Server::start(&world, &[]).await;
    is_refused(task.exchange_as(&world, &server.hello, ROLES[1], KEY).await, "was used for another request");
    let again = task.exchange_as(&world, &server.hello, ROLES[0], KEY).await.expect("the second answer");
    assert!(opens(&pg, &again).await && !opens(&pg, &lost).await && again.id != lost.id);

    // An answer that is over counts as one that was given, and its claim is not taken twice.
    let other = task.exchange_as(&world, &server.hello, ROLES[1], "other").await.expect("another request");
    client::revoke(&server.hello.admin, &other.id).await.expect("it is revoked");
    assert!(all_leases(&world, |l| l.id.to_string() != other.id || l.state.is_final()).await, "it is over");
    server.kill().await;
    let server = Server::start(&world, &[]).await;
    is_refused(task.exchange_as(&world, &server.hello, ROLES[0], "other").await, "was used for another request");
    let more = task.exchange_as(&world, &server.hello, ROLES[1], "other").await.expect("it is answered again");
    assert!(more.id != other.id && opens(&pg, &more).await);

    assert!(all_leases(&world, at_rest).await);
    let (mut evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert!(violations.is_empty(), "{violations}");
    let (last, handed) = evidence.records.iter().rev().find(|(_, r)| r.kind == "lease.handed").cloned().unwrap();
    let mut twin = handed;
    twin.detail["lease"]["id"] = "0192f4c1-7d1e-7a30-9c55-7be1d0f3a2b4".into();
    evidence.records.push((last + 1, twin));
    assert_eq!(check(&evidence).of(Rule::AnsweredTwice).count(), 1, "a second credential would be found");
    server.kill().await;
}
