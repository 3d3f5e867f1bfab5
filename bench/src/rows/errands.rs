//! Whole errands, as a process on the node runs them: start a task, get its SVID, shake hands with the token endpoint,
//! exchange for a database user, end. An errand is over when its user is gone from the database.

use crate::{
    client::{
        channel::{Marked, SecurityHeader},
        node::TaskIdentity,
        token::TokenConnection,
    },
    house::{House, PERSON, TRUST_DOMAIN},
    load::{self, Caller, Latencies},
    psql,
    stopwatch::now,
};
use anyhow::{Context, Result, ensure};
use proto_wire::errand::v1::{EndRequest, StartRequest, task_client::TaskClient};
use std::{sync::Arc, time::Duration};
use testkit::{poll, postgres::PostgresFixture};

/// Errands at once: as many as a target has connections.
const AT_ONCE: usize = 8;
/// `psql` processes at once: the best of these counts.
const PSQLS: [usize; 3] = [1, 2, 4];
/// How long the last users may take to go.
const GONE: Duration = Duration::from_secs(30);
pub const TARGET: &str = "orders-db";
const ROLE: &str = "orders-db/readonly";

/// What came of them.
pub struct Errands {
    /// A second, until the last user was gone.
    pub per_second: f64,
    pub latencies: Latencies,
    /// The same statements by `psql` alone.
    pub psql_per_second: f64,
    /// How many statements one errand is.
    pub statements: usize,
}

#[derive(Clone)]
struct Runner {
    tasks: TaskClient<Marked>,
    mtls: u16,
    ca: Arc<[Vec<u8>]>,
}

impl Caller for Runner {
    async fn call(&mut self) -> Result<()> {
        let request = StartRequest {
            intent: "measure".into(),
            grants: vec![ROLE.into()],
            ttl_seconds: 300,
            launch_id: String::new(),
            spiffe_id: format!("spiffe://{TRUST_DOMAIN}{PERSON}"),
        };
        let mut stream = self.tasks.start(request).await?.into_inner();
        let first = stream.message().await?.context("a started task has an identity")?;
        // One certificate: the root is in the bundle, and nothing stands between.
        let chain = vec![first.x509_svid];
        let task = TaskIdentity { chain, key: first.x509_svid_key, subject_token: first.subject_token };
        let mut endpoint = TokenConnection::open(self.mtls, &self.ca, &task, &[("audience", ROLE)]).await?;
        let answer: serde_json::Value = serde_json::from_slice(&endpoint.exchange().await?)?;
        ensure!(answer["access_token"].as_str().is_some_and(|t| !t.is_empty()), "the answer has no password");
        self.tasks.complete(EndRequest { task_id: first.task_id }).await?;
        Ok(())
    }
}

/// Runs `total` errands, then has `psql` do what they did to the database.
pub async fn run(house: &House, postgres: &PostgresFixture, total: usize) -> Result<Errands> {
    let tasks = TaskClient::with_interceptor(house.agent_channel().await?, SecurityHeader);
    let runner = Runner { tasks, mtls: house.mtls, ca: house.ca.clone().into() };
    // The first ones open connections and make what is made once; then one runs alone, and its statements are kept.
    whole(vec![runner.clone(); AT_ONCE], 2, postgres).await?;
    let before = postgres.log().len();
    whole(vec![runner.clone()], 1, postgres).await?;
    let script = psql::Script::of_one_errand(&postgres.log()[before..])?;

    let start = now();
    let latencies = whole(vec![runner; AT_ONCE], total.div_ceil(AT_ONCE), postgres).await?;
    let per_second = latencies.len() as f64 / (now() - start).as_secs_f64();
    let mut psql_per_second = 0f64;
    for processes in PSQLS {
        psql_per_second = psql_per_second.max(script.per_second(postgres, total, processes).await?);
    }
    Ok(Errands { per_second, latencies, psql_per_second, statements: script.len() })
}

/// Errands to their very end.
async fn whole(runners: Vec<Runner>, each: usize, postgres: &PostgresFixture) -> Result<Latencies> {
    let latencies = load::times(runners, each).await?;
    // Five characters of the store's id, then those of the lease; `errand` and `errand_orphans` are neither.
    let users = "SELECT count(*) FROM pg_roles WHERE rolname ~ '^errand_[a-z0-9]{5}_'";
    let gone = poll::holds_within(GONE, async || postgres.ask::<i64>(users).await == 0).await;
    ensure!(gone, "users of errands that are over are still in the database after {GONE:?}");
    Ok(latencies)
}
