//! Exchange of a task's identity for a task token, on kept mTLS connections, one task each.

use crate::{
    client::{node::Node, token::TokenConnection},
    house::House,
    load::Caller,
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

pub async fn connect(house: &House, node: &mut Node, entry_id: &str) -> Result<Vec<TokenConnection>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let task = node.start_task(entry_id, &[]).await?;
        connections.push(TokenConnection::open(house.mtls, &house.ca, &task, &[]).await?);
    }
    Ok(connections)
}
