//! What a scan finds in a target: a role that its backup brought again, one that no lease knows, one of somebody else's,
//! one of another target in the same PostgreSQL. The clock is the test's, since scans are a minute apart.

use crate::{
    local::Local,
    steps::{REST, verdict},
};
use proto_types::{Clock as _, LeaseState, SystemClock};
use server_daemon::Decorators;
use sqlx::PgConnection;
use std::{sync::Arc, time::Duration};
use testkit::{fakes::FakeClock, poll, postgres::PostgresFixture};
use tests_crash::{
    check::Rule,
    client::Agent,
    world::{NEIGHBOUR, ROLES, World},
};
use tokio::sync::Mutex;

/// Makes a role as a restored backup would: by a superuser, with comment and grants of the one it replaces.
async fn restore(pg: &PostgresFixture, name: &str) {
    let comment = "errand lease task=restored workload=spiffe://example.org/agents/planner";
    pg.sql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'old'; COMMENT ON ROLE {name} IS '{comment}'")).await;
    if pg.version() >= 160_000 {
        pg.sql(&format!("GRANT {name} TO errand WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")).await;
    }
}

/// Looks over one connection: a password costs more than the question.
async fn exists(admin: &Mutex<PgConnection>, name: &str) -> bool {
    let question = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)").bind(name);
    question.fetch_one(&mut *admin.lock().await).await.expect("the target answers")
}

/// Lets time pass as it does outside, and skips a minute every two seconds, six in each wait: a scan comes soon, a target
/// on a busy machine still has a real answer's time to answer in, and the task that goes on never comes to its own end.
async fn as_time_passes<F: Future<Output = bool>>(clock: &FakeClock, what: &str, condition: impl Fn() -> F) {
    let (mut last, mut skipped, mut skips) = (SystemClock.now(), SystemClock.now(), 0);
    poll::until(what, 6 * REST, || {
        let now = SystemClock.now();
        clock.advance(now.since(last));
        last = now;
        if skips < 6 && now.since(skipped) >= Duration::from_secs(2) {
            (skipped, skips) = (now, skips + 1);
            clock.advance(Duration::from_secs(60));
        }
        condition()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_ends_what_a_backup_brought_back_and_what_no_lease_knows_and_nothing_else() {
    let pg = PostgresFixture::start().await;
    let world = World::new(&pg);
    let clock = FakeClock::at(SystemClock.now());
    let server = Local::at(&world, Decorators::default(), Arc::new(clock.clone())).await;
    let agent = Agent::attest(&server.hello).await.expect("the agent attests");
    let node = agent.at(&server.hello);
    let task = node.start("look at an order").await.expect("the task starts");
    task.exchange(&world, &server.hello, ROLES[0]).await.expect("a credential");
    node.end(&world, &task.id).await.expect("the task ends");
    let other = node.start("count the stock").await.expect("the task starts");
    other.exchange(&world, &server.hello, NEIGHBOUR).await.expect("a credential");
    // By its target: both were made in one millisecond of this clock, and their ids do not tell which was first.
    let ended = || server.leases().into_iter().find(|l| l.role.target() == "orders-db").expect("a lease in orders-db");
    let state = || ended().state;
    as_time_passes(&clock, "revoked", async || state() == LeaseState::Revoked).await;

    let name = ended().name.as_str().to_string();
    let admin = Mutex::new(pg.admin().await);
    let (orphan, foreign) = (format!("{}qqqq", &name[..name.len() - 4]), "errand_zzzzz_aaaaaaaaaaaaaaaa");
    for role in [&name, &orphan, foreign] {
        restore(&pg, role).await;
    }
    let (_, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!((violations.of(Rule::RoleOfDeadLease).count(), violations.of(Rule::RoleWithoutLease).count()), (1, 1));

    as_time_passes(&clock, "both gone", async || !exists(&admin, &name).await && !exists(&admin, &orphan).await).await;
    as_time_passes(&clock, "recorded", async || state() == LeaseState::Revoked).await;
    let (evidence, violations) = verdict(&world, &server.hello.admin).await;
    assert_eq!(violations.to_string(), "");
    let kinds: Vec<&str> = evidence.records.iter().map(|(_, r)| r.kind.as_str()).collect();
    // At least: a scan that read a name just before it was dropped asks for its end once more, which is harmless.
    assert!(kinds.iter().filter(|k| **k == "lease.orphan_found").count() >= 1);
    assert!(kinds.iter().filter(|k| **k == "lease.revoked").count() >= 2);
    assert!(evidence.leases.iter().any(|l| l.role.target() == "stock-db" && l.state == LeaseState::Handed));
    assert!(exists(&admin, foreign).await, "another installation's role is not ours to end");
}
