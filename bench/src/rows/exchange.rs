//! Exchange of a task's identity for a task token or an SSH certificate, on kept mTLS connections, one task each.

use crate::{
    client::{node::Node, token::TokenConnection},
    house::House,
    load::Caller,
};
use anyhow::{Context, Result};
use aws_lc_rs::{
    encoding::AsDer,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::json;

/// Connections, each with a task of its own.
pub const CONNECTIONS: usize = 32;
/// The role that SSH certificates are for, and its target. No host is asked, so that none needs to be there.
const SSH_ROLE: &str = "bastion/ops";
pub const SSH_TARGET: &str = "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"127.0.0.1\"\n\
     [[target.role]]\nname = \"ops\"\nprincipals = [\"ubuntu\"]\n";
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

/// The same for SSH certificates, each connection for a key of its own.
pub async fn connect_ssh(house: &House, node: &mut Node, entry_id: &str) -> Result<Vec<TokenConnection>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let task = node.start_task(entry_id, &[SSH_ROLE]).await?;
        let details = json!([{ "type": "urn:errand:key", "public_key": public_key()? }]).to_string();
        let more = [("audience", SSH_ROLE), ("authorization_details", &details)];
        connections.push(TokenConnection::open(house.mtls, &house.ca, &task, &more).await?);
    }
    Ok(connections)
}

/// One line of OpenSSH; nobody keeps the private half.
fn public_key() -> Result<String> {
    let pair = Ed25519KeyPair::generate().ok().context("a key")?;
    let spki = pair.public_key().as_der().ok().context("a public key")?;
    server_authority::openssh_line(spki.as_ref()).context("a line of OpenSSH")
}
