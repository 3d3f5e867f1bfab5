//! PostgreSQL: one role per lease, a member of what the target's role names and nothing more, dropped when the task ends.
//!
//! Decides how a role is made, ended, found and checked. `VALID UNTIL` stops new logins only, so ending a role closes
//! its sessions as well: the kind is `session_kill`.

mod address;
mod check;
mod config;
mod connect;
mod failure;
mod issue;
mod placement;
mod probe;
mod quote;
mod revoke;
mod scan;
mod scram;
mod setup;
mod sweep;

use config::Config;
use connect::Connector;
use proto_types::{Fut, Lease, Revocability, TargetDoc};
use server_core::ports::{
    Durable, IssueError, IssueRequest, Issued, KindContext, Making, Mask, Missing, RevokeError, Revoked, RoleLimits,
    Target, TargetKind, TargetProblem,
};
use std::sync::Arc;

/// NOLOGIN and a member of nothing: what revoked roles leave behind is given to it, so that nothing planted gains
/// anything.
const ORPHANS: &str = "errand_orphans";

/// The kind.
pub(crate) struct Postgres;

impl TargetKind for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn mask(&self) -> Mask {
        crate::masks::mask_of("postgres").expect("postgres is a known kind")
    }

    fn build(&self, doc: &TargetDoc, context: &KindContext) -> Result<Arc<dyn Target>, Vec<TargetProblem>> {
        let config = Arc::new(Config::read(doc, context)?);
        let connector = Connector::new(config, context.clone());
        Ok(Arc::new(PostgresTarget { connector, context: context.clone() }))
    }

    fn setup(&self, doc: &TargetDoc) -> Option<String> {
        setup::setup(doc)
    }

    fn by_hand(&self, _: &TargetDoc, store_id: &str) -> Option<String> {
        Some(setup::by_hand(store_id))
    }
}

struct PostgresTarget {
    connector: Connector,
    context: KindContext,
}

impl Target for PostgresTarget {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        let role = self.connector.config.roles.get(role)?;
        Some(RoleLimits {
            making: Making::Created,
            key: None,
            max_ttl: role.max_ttl,
            revocability: Revocability::SessionKill,
            token_type: issue::TOKEN_TYPE,
        })
    }

    fn roles(&self) -> Vec<String> {
        self.connector.config.roles.keys().cloned().collect()
    }

    fn issue<'a>(&'a self, _: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(issue::issue(&self.connector, &*self.context.entropy, &self.context.store_id, request))
    }

    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        Box::pin(revoke::revoke(&self.connector, &self.context.store_id, lease))
    }

    fn scan<'a>(&'a self, prefix: &'a str, after: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        Box::pin(scan::scan(&self.connector, prefix, after))
    }

    fn check(&self) -> Fut<'_, Vec<Missing>> {
        Box::pin(check::check(&self.connector, &self.context.store_id))
    }
}
