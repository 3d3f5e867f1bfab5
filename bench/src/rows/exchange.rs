//! Exchange of a task's identity for a task token, on kept mTLS connections, one task each.

use crate::{
    client::{node::Node, token::TokenConnection},
    house::House,
    load::{self, Caller, Latencies, Load},
    stopwatch::Span,
};
use anyhow::Result;

/// Connections, each with a task of its own.
pub const CONNECTIONS: usize = 32;
/// Requests a second while the waiting is measured.
pub const OPEN_RATE: u32 = 1000;

impl Caller for TokenConnection {
    async fn call(&mut self) -> Result<()> {
        self.exchange().await.map(drop)
    }
}

/// What there is of it, and how long one waits at [`OPEN_RATE`].
pub struct Exchanges {
    pub closed: Load,
    pub open: Latencies,
}

pub async fn task_tokens(
    house: &House,
    node: &mut Node,
    entry_id: &str,
    closed: Span,
    open: Span,
) -> Result<Exchanges> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let task = node.start_task(entry_id).await?;
        connections.push(TokenConnection::open(house.mtls, &house.ca, &task, None).await?);
    }
    let (closed, connections) = load::closed(connections, closed).await?;
    let open = load::open(connections, OPEN_RATE, open).await?;
    Ok(Exchanges { closed, open })
}
