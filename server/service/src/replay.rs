//! What records that the store has lost had ended, ended again: before anybody is answered.

use crate::{Service, ServiceError};
use proto_types::{EndReason, Record};
use serde_json::json;
use server_core::{
    hold,
    journal::Ending,
    ports::{Commit, Write},
};

impl Service {
    /// Ends again what was ended; how much of it was still standing. What the store knows nothing of has ended with the
    /// records that made it.
    pub async fn replay(&self, endings: &[Ending], operator: Option<String>) -> Result<usize, ServiceError> {
        let mut ended = 0;
        for ending in endings {
            match self.end_again(ending, operator.clone()).await {
                Ok(stood) => ended += usize::from(stood),
                Err(ServiceError::NotFound { .. } | ServiceError::TaskOver) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }

    async fn end_again(&self, ending: &Ending, operator: Option<String>) -> Result<bool, ServiceError> {
        match ending {
            Ending::Entry(id) => self.entry_delete(id, operator).await?,
            Ending::NodeEvicted(id) => self.node_evict(id, operator).await?,
            Ending::NodeBanned(id) if self.read(|s| s.nodes.get(id).is_some_and(|n| n.banned)) => return Ok(false),
            Ending::NodeBanned(id) => self.node_ban(id, operator).await?,
            Ending::Task(id) => drop(self.task_end(*id, EndReason::Revoked, operator).await?),
            Ending::Held(hold) if self.hold(hold.id).is_ok() => return Ok(false),
            Ending::Held(hold) => {
                let record = hold::record("created", hold, operator, self.now());
                // What it stops is ended by the next look at tasks that are adrift.
                self.commit_and_follow(Commit::of(record).put(Write::Hold((**hold).clone()))).await?;
            }
            Ending::Token(before, until) => {
                let Some(token) = &before.credential else { return Ok(false) };
                let record = Record::new(self.now(), "token.revoked")
                    .credential(&token.kind, &token.id)
                    .operator(operator)
                    .detail(json!({ "not_after": until }));
                let record = Record { task_id: before.task_id, workload: before.workload.clone(), ..record };
                let write = Write::RevokedToken { jti: token.id.clone(), expires_at: *until };
                self.commit_and_follow(Commit::of(record).put(write)).await?;
            }
        }
        Ok(true)
    }
}
