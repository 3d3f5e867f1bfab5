//! One PostgreSQL, one target on it, and the steps tests are told in.

use proto_types::{Clock as _, Fut, Lease, OsEntropy, Secret, SystemClock, Timestamp};
use server_core::ports::{IssueError, IssueRequest, Issued, KindContext, Missing, Target};
use server_targets::{Registry, parse_toml};
use sqlx::{AssertSqlSafe, PgConnection};
use std::sync::Arc;
use testkit::{
    postgres::PostgresFixture,
    signers::TestSigners,
    target_law::{Subject, durable},
};

pub const STORE: &str = "k3m9x";

pub struct World {
    pub pg: PostgresFixture,
    pub target: Arc<dyn Target>,
    pub now: Timestamp,
}

pub fn context() -> KindContext {
    let signers = Arc::new(TestSigners::default());
    KindContext {
        store_id: STORE.into(),
        secrets_dir: None,
        identity: Arc::new(|| None),
        entropy: Arc::new(OsEntropy),
        clock: Arc::new(SystemClock),
        ssh: signers.clone(),
        tokens: signers,
        issuer: "https://errand.example.org".into(),
    }
}

pub fn build(toml: &str) -> Arc<dyn Target> {
    let docs = parse_toml(toml, "config").expect("the document is right");
    Registry::builtin().build(&docs[0], &context()).expect("the target is built")
}

/// A credential in a test's hand.
pub struct Held {
    pub request: IssueRequest,
    pub issued: Issued,
    pub lease: Lease,
}

impl Held {
    pub fn user(&self) -> &str {
        self.request.name.as_str()
    }
    pub fn password(&self) -> &Secret<String> {
        &self.issued.access_token
    }
}

impl World {
    pub async fn new() -> Self {
        let pg = PostgresFixture::start().await;
        let target = build(&pg.target_toml("orders-db"));
        Self { pg, target, now: SystemClock.now() }
    }

    pub fn subject<'a>(&'a self, role: &'a str) -> Subject<'a> {
        Subject { target: &*self.target, name: "orders-db", kind: "postgres", role, store_id: STORE, now: self.now }
    }

    pub async fn issue(&self, role: &str) -> Held {
        self.issue_as(self.subject(role).request()).await.expect("issued")
    }

    pub async fn issue_as(&self, request: IssueRequest) -> Result<Held, IssueError> {
        let issued = self.target.issue(&durable(), &request).await?;
        let role = request.role.clone();
        let lease = self.subject(&role).lease(&request, issued.handle.clone());
        Ok(Held { request, issued, lease })
    }

    pub async fn log_in(&self, held: &Held) -> Result<PgConnection, sqlx::Error> {
        self.pg.connect(held.user(), held.password().expose(), "orders").await
    }

    pub async fn end(&self, held: &Held) {
        self.target.revoke(&held.lease).await.expect("revoked");
        assert_eq!(self.roles_named(held.user()).await, 0);
    }

    pub async fn roles_named(&self, name: &str) -> i64 {
        self.pg.ask(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{name}'")).await
    }

    pub async fn findings(&self) -> Vec<Missing> {
        self.target.check().await
    }
}

/// Runs statements on a connection of a task's own.
pub fn exec<'a>(conn: &'a mut PgConnection, statements: &str) -> Fut<'a, Result<(), sqlx::Error>> {
    let statements = AssertSqlSafe(statements.to_string());
    Box::pin(async move { sqlx::raw_sql(statements).execute(conn).await.map(|_| ()) })
}

/// The SQLSTATE of a statement that must fail.
pub async fn refused(conn: &mut PgConnection, statement: &str) -> String {
    let error = exec(conn, statement).await.expect_err(statement);
    error.as_database_error().and_then(|e| e.code()).map(|c| c.into_owned()).unwrap_or_default()
}
