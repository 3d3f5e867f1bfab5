//! A server that stands still while it ends what is over, and goes on later as if nothing had been: fault F20.

use crate::{
    process::{Dice, REACTS, Server, seeds},
    steps::{REST, all_leases, verdict},
};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use std::{collections::BTreeMap, time::Duration};
use testkit::{poll, postgres::PostgresFixture};
use tests_crash::{
    client::{self, Agent},
    world::{ROLES, World},
};

const PAUSES: usize = 3;
const TASKS: usize = 6;
/// Credentials of each role that each task has.
const EACH: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_paused_server_was_ending_another_ends_and_nothing_is_ended_twice() {
    let pg = PostgresFixture::start_with(&["log_statement=none", "max_connections=100"]).await;
    for seed in seeds(1) {
        let mut dice = Dice::new(seed);
        let one = World::sharing(&pg, None).await;
        let first = Server::start(&one, &[]).await;
        let other = World::sharing(&pg, Some(&one)).await;
        let second = Server::start(&other, &[]).await;
        let told = |what: &str| format!("ERRAND_SEED={seed}: {what}\n{}\n{}", one.log(), other.log());
        let agent = Agent::attest(&first.hello).await.expect("the agent attests");
        for _ in 0..PAUSES {
            let (here, there) = (agent.at(&first.hello), agent.at(&second.hello));
            let mut tasks = Vec::new();
            for n in 0..TASKS {
                let task = here.start(&format!("task {n}")).await.expect("a task starts");
                let roles = ROLES.iter().cycle().take(EACH * ROLES.len());
                let asked = join_all(roles.map(|role| task.exchange(&one, &first.hello, role))).await;
                assert!(asked.iter().all(Result::is_ok), "{}", told(&format!("{asked:?}")));
                tasks.push(task);
            }
            // Both are at it, or about to be, when one of them is stopped.
            let ends = join_all(tasks.iter().map(|task| there.end(&one, &task.id)));
            let early = tokio::time::timeout(Duration::from_millis(dice.roll(40)), ends).await;
            first.signal(Signal::SIGSTOP);
            if early.is_err() {
                // It may have been stopped with the journal's head in its hand, which the database takes from it.
                for task in &tasks {
                    let ended = async || there.end(&one, &task.id).await.is_ok();
                    poll::until("its task is ended", REST, ended).await;
                }
            }
            assert!(all_leases(&one, |l| l.state.is_final()).await, "{}", told("not everything is ended"));

            first.signal(Signal::SIGCONT);
            let ready = async || client::is_ready(first.hello.metrics).await.is_ok();
            poll::until("it goes on", REACTS, ready).await;
            // It has taken part in everything since, and begins nothing with what it knew.
            let task = here.start("after the pause").await.expect("a task starts");
            task.exchange(&one, &first.hello, ROLES[0]).await.expect("a credential is given");
            here.end(&one, &task.id).await.expect("a task is ended");
            assert!(all_leases(&one, |l| l.state.is_final()).await, "{}", told("not everything is ended"));
        }
        for server in [&first, &second] {
            let (evidence, violations) = verdict(&one, &server.hello.admin).await;
            assert!(violations.is_empty(), "{}", told(&violations.to_string()));
            assert!(evidence.roles.is_empty(), "{}", told("something is left in the target"));
            let mut revoked = BTreeMap::new();
            for (_, record) in evidence.records.iter().filter(|(_, r)| r.kind == "lease.revoked") {
                *revoked.entry(record.credential.as_ref().map(|c| c.id.clone())).or_insert(0) += 1;
            }
            assert_eq!(revoked.len(), evidence.leases.len(), "{}", told("ended without a record"));
            assert!(revoked.values().all(|n| *n == 1), "{}", told(&format!("{revoked:?}")));
        }
        first.kill().await;
        second.kill().await;
    }
}
