//! A PostgreSQL server that was declared as a target. Most worlds share one: an installation looks after its own names
//! only, so that several on one database never touch each other's.

use super::{AT_ONCE, SOON, World};
use cli::admin_client::{AdminClient, Query};
use proto_types::{CredentialName, SystemClock};
use std::{
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Weak},
};
use testkit::{poll, postgres::PostgresFixture};
use tokio::sync::Mutex;

/// The one that is running, as long as some test uses it.
static SHARED: Mutex<Weak<PostgresFixture>> = Mutex::const_new(Weak::new());

/// A database and its name among the targets.
pub struct Database {
    pub target: String,
    pub postgres: Arc<PostgresFixture>,
    /// What every role of this world's server begins with, as a LIKE pattern.
    ours: String,
}

impl World {
    /// A PostgreSQL with a table of two orders, declared as `orders-db` with the roles `readonly` and `writer`.
    pub async fn has_orders_db(&self) -> Database {
        let mut shared = SHARED.lock().await;
        let postgres = match shared.upgrade() {
            Some(running) => running,
            None => Arc::new(PostgresFixture::start().await),
        };
        *shared = Arc::downgrade(&postgres);
        drop(shared);
        self.declares("orders-db", postgres).await
    }
    /// The same as a server of its own, to be stopped and changed.
    pub async fn has_its_own_orders_db(&self) -> Database {
        self.declares("orders-db", Arc::new(PostgresFixture::start().await)).await
    }

    /// Declares `postgres` as `target`.
    pub async fn declares(&self, target: &str, postgres: Arc<PostgresFixture>) -> Database {
        let theirs = postgres.manager_password_file();
        let ours = self.layout.dir().join("secrets").join(target);
        std::fs::copy(&theirs, &ours).expect("the manager's password is copied");
        std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let text = postgres.target_toml(target);
        let text = text.replace(theirs.to_str().expect("UTF-8"), ours.to_str().expect("UTF-8"));
        let file = self.layout.write(&format!("{target}.toml"), &text);
        self.operator(["target", "apply", "-f", &file]).await;
        let server = AdminClient::at(self.layout.admin_socket(), Arc::new(SystemClock));
        let server = server.get("/v1/server", &Query::default()).await.unwrap_or_else(|e| panic!("{e:?}"));
        let prefix = CredentialName::prefix(server["store_id"].as_str().expect("a server has a store id"));
        Database { target: target.into(), postgres, ours: prefix.replace('_', r"\_") + "%" }
    }
}

impl Database {
    /// Takes the server down at once. Only one that nobody shares.
    pub fn stop(&mut self) {
        Arc::get_mut(&mut self.postgres).expect("a database of its own").stop();
    }
    /// Starts it again.
    pub async fn resume(&mut self) {
        Arc::get_mut(&mut self.postgres).expect("a database of its own").resume().await;
    }
    /// The real client, not the wrapper of the distribution.
    pub fn psql(&self) -> PathBuf {
        self.postgres.tool("psql")
    }
    /// Login roles that this world's server made.
    pub async fn roles(&self) -> i64 {
        self.postgres.ask(&format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE '{}'", self.ours)).await
    }
    /// Sessions of such roles.
    pub async fn sessions(&self) -> i64 {
        self.postgres.ask(&format!("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE '{}'", self.ours)).await
    }
    /// Waits until some role exists; its name.
    pub async fn role(&self) -> String {
        poll::until("errand has made a role", SOON, async || self.roles().await > 0).await;
        let any = format!("SELECT rolname::text FROM pg_roles WHERE rolname LIKE '{}' LIMIT 1", self.ours);
        self.postgres.ask(&any).await
    }
    /// Within a second no role of this world is left, and no session of one.
    pub async fn is_left_alone(&self) {
        let clean = async || self.roles().await == 0 && self.sessions().await == 0;
        poll::until("no role and no session of errand is left", AT_ONCE, clean).await;
    }
}
