//! AWS: sessions of IAM roles by AssumeRoleWithWebIdentity, for a token of ours that the STS verifies by discovery. AWS
//! itself, or anything that speaks its STS.
//!
//! Decides what the token says, how a session is asked for, and which one may leave. Nobody can end a session, so the
//! kind is `ttl_only`: none outlives what was granted, and each names its task to who reads the target's log.

mod answer;
mod arn;
mod check;
mod claims;
mod config;
mod endpoint;
mod failure;
mod http;
mod issue;
mod placement;
mod setup;
mod subject;
mod xml;

use config::Config;
use http::Client;
use proto_types::{CredentialName, Fut, Lease, Revocability, TargetDoc};
use server_core::ports::{
    Durable, IssueError, IssueRequest, Issued, KindContext, Making, Mask, Missing, RevokeError, Revoked, RoleLimits,
    Target, TargetKind, TargetProblem,
};
use std::{sync::Arc, time::Duration};

/// A session is counted from when the STS makes it: a commit and a call later than it was granted. Without this much
/// more, a role with the shortest of sessions would never have one.
const LATITUDE: Duration = Duration::from_secs(30);

/// The kind.
pub(crate) struct Aws;

impl TargetKind for Aws {
    fn name(&self) -> &'static str {
        "aws"
    }

    fn mask(&self) -> Mask {
        crate::masks::mask_of("aws").expect("aws is a known kind")
    }

    fn build(&self, doc: &TargetDoc, context: &KindContext) -> Result<Arc<dyn Target>, Vec<TargetProblem>> {
        let config = Config::read(doc, context)?;
        let client = Client::new(
            config.endpoint.clone(),
            config.ca_file.clone(),
            config.secrets_dir.clone(),
            context.clock.clone(),
        );
        let client = client.map_err(|problem| vec![TargetProblem { target: doc.name.clone(), problem }])?;
        Ok(Arc::new(AwsTarget { config, client, context: context.clone() }))
    }

    fn setup(&self, doc: &TargetDoc) -> Option<String> {
        setup::setup(doc)
    }

    fn by_hand(&self, doc: &TargetDoc, store_id: &str) -> Option<String> {
        setup::by_hand(doc, store_id)
    }
}

struct AwsTarget {
    config: Config,
    client: Client,
    context: KindContext,
}

impl Target for AwsTarget {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        let role = self.config.roles.get(role)?;
        Some(RoleLimits {
            making: Making::Created,
            key: None,
            max_ttl: role.session_duration + LATITUDE,
            revocability: Revocability::TtlOnly,
            token_type: issue::TOKEN_TYPE,
        })
    }

    fn roles(&self) -> Vec<String> {
        self.config.roles.keys().cloned().collect()
    }

    fn audiences(&self) -> Vec<String> {
        vec![self.config.audience.clone()]
    }

    fn issue<'a>(&'a self, _: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(issue::issue(self, request))
    }

    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        let ours = CredentialName::recognise(&self.context.store_id, lease.name.as_str()).is_some();
        Box::pin(async move {
            if ours {
                Ok(Revoked::Lingers { until: lease.expires_at })
            } else {
                Err(RevokeError::NeedsHuman { why: format!("{} is not of this store", lease.name) })
            }
        })
    }

    /// A session leaves nothing in its target that could be found.
    fn scan<'a>(&'a self, _: &'a str, _: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn check(&self) -> Fut<'_, Vec<Missing>> {
        Box::pin(check::check(self))
    }
}
