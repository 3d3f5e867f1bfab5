//! `ssh`: user certificates for the caller's key, that hosts accept because they list our authority (OpenSSH
//! PROTOCOL.certkeys). Minted: nothing is asked of any host.
//!
//! Decides what a certificate says. Does not decide who gets one, nor reach the host: a certificate is refused by it at its
//! `valid_before` and not earlier, so roles live at most five minutes and the kind says `ttl_only`.

mod certificate;
mod check;
mod config;
mod key;
mod mint;
mod setup;

use config::Config;
use proto_types::{CredentialName, Fut, Lease, Revocability, TargetDoc};
use server_core::ports::{
    Durable, IssueError, IssueRequest, Issued, KeyFormat, KindContext, Making, Mask, Missing, RevokeError, Revoked,
    RoleLimits, Target, TargetKind, TargetProblem,
};
use std::sync::Arc;

const TOKEN_TYPE: &str = "urn:errand:token-type:ssh-certificate";

/// The kind.
pub(crate) struct Ssh;

impl TargetKind for Ssh {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn mask(&self) -> Mask {
        crate::masks::mask_of("ssh").expect("ssh is a known kind")
    }

    fn build(&self, doc: &TargetDoc, context: &KindContext) -> Result<Arc<dyn Target>, Vec<TargetProblem>> {
        Ok(Arc::new(SshTarget { config: Config::read(doc)?, context: context.clone() }))
    }

    fn setup(&self, doc: &TargetDoc) -> Option<String> {
        Some(setup::setup(doc))
    }

    fn by_hand(&self, _: &TargetDoc, store_id: &str) -> Option<String> {
        Some(setup::by_hand(store_id))
    }
}

struct SshTarget {
    config: Config,
    context: KindContext,
}

impl Target for SshTarget {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        let role = self.config.roles.get(role)?;
        Some(RoleLimits {
            max_ttl: role.max_ttl,
            revocability: Revocability::TtlOnly,
            token_type: TOKEN_TYPE,
            making: Making::Minted,
            key: Some(KeyFormat::OpenSsh),
        })
    }

    fn roles(&self) -> Vec<String> {
        self.config.roles.keys().cloned().collect()
    }

    fn issue<'a>(&'a self, _: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        let why = format!("role `{}` is minted, nothing is created on its host", request.role);
        Box::pin(async { Err(IssueError::Refused { why }) })
    }

    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(mint::mint(&self.config, &self.context, request))
    }

    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        let ours = CredentialName::recognise(&self.context.store_id, lease.name.as_str()).is_some();
        Box::pin(async move {
            if ours {
                Ok(Revoked::Lingers { until: lease.expires_at })
            } else {
                Err(RevokeError::NeedsHuman { why: format!("{} was made by another installation", lease.name) })
            }
        })
    }

    /// A certificate leaves no name on any host.
    fn scan<'a>(&'a self, _: &'a str, _: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn check(&self) -> Fut<'_, Vec<Missing>> {
        Box::pin(check::check(&self.config, &self.context))
    }
}
