//! A PostgreSQL server that was declared as a target.

use super::{AT_ONCE, World};
use std::{os::unix::fs::PermissionsExt as _, path::PathBuf};
use testkit::{poll, postgres::PostgresFixture};

/// A database and its name among the targets.
pub struct Database {
    pub target: String,
    pub postgres: PostgresFixture,
}

impl World {
    /// A new PostgreSQL, declared as `orders-db` with the roles `readonly` and `writer`.
    pub async fn has_orders_db(&self) -> Database {
        self.has_database("orders-db").await
    }
    /// A new PostgreSQL, declared as `target`.
    pub async fn has_database(&self, target: &str) -> Database {
        let postgres = PostgresFixture::start().await;
        let theirs = postgres.manager_password_file();
        let ours = self.layout.dir().join("secrets").join(target);
        std::fs::copy(&theirs, &ours).expect("the manager's password is copied");
        std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        let text = postgres.target_toml(target);
        let text = text.replace(theirs.to_str().expect("UTF-8"), ours.to_str().expect("UTF-8"));
        let file = self.layout.write(&format!("{target}.toml"), &text);
        self.operator(["target", "apply", "-f", &file]).await;
        Database { target: target.into(), postgres }
    }
}

impl Database {
    /// The real client, not the wrapper of the distribution.
    pub fn psql(&self) -> PathBuf {
        self.postgres.tool("psql")
    }
    /// Login roles that errand made.
    pub async fn roles(&self) -> i64 {
        self.postgres.ask(r"SELECT count(*) FROM pg_roles WHERE rolname LIKE 'errand\_%'").await
    }
    /// Sessions of such roles.
    pub async fn sessions(&self) -> i64 {
        self.postgres.ask(r"SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'errand\_%'").await
    }
    /// Waits until some role exists; its name.
    pub async fn role(&self) -> String {
        poll::until("errand has made a role", super::SOON, async || self.roles().await > 0).await;
        self.postgres.ask(r"SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'errand\_%' LIMIT 1").await
    }
    /// Within a second no role of errand is left, and no session of one.
    pub async fn is_left_alone(&self) {
        let clean = async || self.roles().await == 0 && self.sessions().await == 0;
        poll::until("no role and no session of errand is left", AT_ONCE, clean).await;
    }
}
