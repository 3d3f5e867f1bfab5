//! Obtaining the credentials of a task, with a key of the task's own where a role is issued for one.
//!
//! Which roles those are, the server says when it is asked without one; the key is made then, and kept for as long as the
//! task lasts. Its private half stays in this process.

use super::{Ports, placement::Held};
use crate::{
    agent_client::token::{Answer, TokenClient, TokenError, Wanted},
    error::CliError,
    ssh::SshKey,
};
use futures_util::future::try_join_all;
use proto_types::RoleName;
use std::sync::Arc;

/// The format of the keys that are made here, as the server names it.
const OPENSSH: &str = "openssh";

/// One answer, and the key it was issued for.
pub struct Obtained {
    pub answer: Answer,
    pub key: Option<Arc<SshKey>>,
}

/// Every credential, at the same time. The first failure is the answer; ending the task takes back the others.
pub async fn all(client: &TokenClient, roles: &[RoleName], ports: Ports<'_>) -> Result<Vec<Held>, CliError> {
    let each = roles.iter().map(|role| async move {
        let Obtained { answer, key } = one(client, role, None, ports).await.map_err(|e| e.of(role))?;
        Ok(Held { role: role.clone(), credential: answer.credential, key, addresses: Vec::new() })
    });
    try_join_all(each).await
}

/// One credential, for `key` where there is one already.
pub async fn one(
    client: &TokenClient,
    role: &RoleName,
    key: Option<Arc<SshKey>>,
    ports: Ports<'_>,
) -> Result<Obtained, TokenError> {
    match exchange(client, role, key.clone(), ports).await {
        Err(TokenError::KeyWanted { format, .. }) if key.is_none() && format == OPENSSH => {
            let key = SshKey::generate(ports.entropy).map_err(TokenError::Key)?;
            exchange(client, role, Some(Arc::new(key)), ports).await
        }
        Err(TokenError::KeyWanted { format, .. }) if key.is_none() => Err(TokenError::KeyFormat(format)),
        outcome => outcome,
    }
}

async fn exchange(
    client: &TokenClient,
    role: &RoleName,
    key: Option<Arc<SshKey>>,
    ports: Ports<'_>,
) -> Result<Obtained, TokenError> {
    let idempotency_key = ports.entropy.uuid_v7(ports.clock.now()).to_string();
    let public_key = key.as_ref().map(|key| key.public_line());
    let wanted = Wanted { role, public_key: public_key.as_deref(), idempotency_key: &idempotency_key };
    let answer = client.exchange(wanted, ports.clock).await?;
    Ok(Obtained { answer, key })
}
