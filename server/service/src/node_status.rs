//! What an agent says of itself: its version. Believed as far as it is shown; nothing is decided by it.

use crate::{
    AgentCaller, Service, ServiceError,
    attest::{as_read, node_record},
};
use proto_types::{Node, Position};
use server_core::ports::{Commit, Write};

/// Longest version kept, bytes.
const MAX_VERSION: usize = 255;
/// How often the node may change under our hands before the agent is asked to say it again.
const TRIES: usize = 3;

impl Service {
    /// Keeps the version. It is recorded when it changes, not each time it is said.
    pub async fn agent_status(&self, caller: &AgentCaller, version: &str) -> Result<(), ServiceError> {
        if version.len() > MAX_VERSION || version.chars().any(char::is_control) {
            return Err(ServiceError::Invalid("an agent's version is text of at most 255 bytes".into()));
        }
        if version.is_empty() {
            return Ok(());
        }
        for _ in 0..TRIES {
            let node = self.read(|s| s.nodes.get(caller.id()).cloned()).ok_or(ServiceError::AgentUnknown)?;
            if node.version == version {
                return Ok(());
            }
            let mut new = Node { version: version.into(), ..(*node).clone() };
            // Said with the renewed SVID: this write adopts it, and the adoption under way finds that done.
            if new.next_serial.as_deref() == Some(caller.serial()) {
                (new.serial, new.next_serial) = (caller.serial().into(), None);
            }
            let unit = Commit::of(node_record(&new, "node.updated", self.now()))
                .when(caller.guard())
                .when(as_read(&node))
                .put(Write::Node(new));
            match self.commit_and_follow(unit).await {
                // A renewal was faster: look at what it left.
                Err(ServiceError::Conflict(_)) => self.follow_all().await,
                done => return done.map(drop),
            }
        }
        Err(ServiceError::Conflict("the node is being changed; say it again in a moment".into()))
    }

    /// Waits until memory has passed everything that is committed now.
    pub(crate) async fn follow_all(&self) {
        let size = *self.inner.ports.feed.size().borrow();
        if let Some(last) = size.checked_sub(1) {
            self.follow_to(Position(last)).await;
        }
    }
}
