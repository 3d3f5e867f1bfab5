//! SSH certificates by exchange, and OpenBao's `ssh/sign` beside them: Ed25519 at both ends, callers' keys and CA, on as
//! many kept connections.

use super::{disturbed, exchange::CONNECTIONS, rated};
use crate::{
    client::{node::Node, token::TokenConnection},
    house::{self, House},
    limits::Crypto,
    load,
    machine::Watch,
    openbao::{self, OpenBao},
    report::{Report, Row, Target, Unit},
    stopwatch::Span,
};
use anyhow::{Context, Result};
use aws_lc_rs::{
    encoding::AsDer,
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::json;
use std::path::Path;

/// The role that SSH certificates are for, and its target. No host is asked, so that none needs to be there.
const ROLE: &str = "bastion/ops";
pub const TARGET: &str = "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"127.0.0.1\"\n\
     [[target.role]]\nname = \"ops\"\nprincipals = [\"ubuntu\"]\n";

/// `dir`: where OpenBao may keep what it keeps; the disk that our store is on.
pub async fn run(house: &House, dir: &Path, crypto: &Crypto, span: Span, report: &mut Report) -> Result<()> {
    let mut node = Node::attest(house).await?;
    let entry_id = house.create_entry(house::SSH_LOAD, Some(&node.id)).await?;
    let connections = connect(house, &mut node, &entry_id).await?;
    let name = format!("exchanges for an SSH certificate, {CONNECTIONS} connections");
    let (before, watch, empty) = (crypto.verify_and_sign()?, house.watch()?, house.server_memory()?.now);
    let (ours, _) = load::closed(connections, span).await?;
    let (used, after) = (watch.end()?, crypto.verify_and_sign()?);
    let row = Row::new(name, Unit::PerSecond, ours.per_second).of("verify + sign", (before + after) / 2.0);
    rated(report, row.target(Target::AtLeast(3000.0)), &ours, used);
    let grown = house.server_memory()?.now - empty;
    report.add(Row::new("server: resident, for the leases of these", Unit::Mebibytes, grown));
    match openbao::program() {
        Ok(program) => beside(&program, &dir.join("openbao"), ours.per_second, span, report).await,
        Err(why) => {
            report.note(format!("OpenBao's ssh/sign: not installed: {why:#}"));
            Ok(())
        }
    }
}

async fn beside(program: &Path, dir: &Path, ours: f64, span: Span, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let bao = OpenBao::start(program, dir).await?;
    let keys = (0..CONNECTIONS).map(|_| public_key()).collect::<Result<_>>()?;
    let signers = bao.signers(keys).await?;
    let watch = Watch::begin(bao.pid(), None)?;
    let (load, _) = load::closed(signers, span).await?;
    let used = watch.end()?;
    let name = "OpenBao: ssh/sign";
    disturbed(report, name, used);
    let row = Row::new(format!("{name}, {CONNECTIONS} connections"), Unit::PerSecond, load.per_second);
    report.add(row.of("our exchanges", ours));
    report.add(Row::new(format!("  {name}, p99"), Unit::Millis, load.latencies.millis(0.99)));
    let each = used.server / load.total.max(1) as f64 * 1e6;
    report.add(Row::new(format!("  {name}, the server's CPU each"), Unit::Micros, each));
    report.note(
        "OpenBao 2.7.2: HTTP, raft storage, file audit device, a token under a policy for each caller; ours: mTLS, a \
         policy decision, a lease and its record synced before the certificate leaves. Both: Ed25519 CA and keys",
    );
    bao.stop().await
}

/// Each connection for a key of its own.
async fn connect(house: &House, node: &mut Node, entry_id: &str) -> Result<Vec<TokenConnection>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let task = node.start_task(entry_id, &[ROLE]).await?;
        let details = json!([{ "type": "urn:errand:key", "public_key": public_key()? }]).to_string();
        let more = [("audience", ROLE), ("authorization_details", &details)];
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
