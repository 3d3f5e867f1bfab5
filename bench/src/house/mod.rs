//! A server and an agent of their own, as processes of their own: what they use is theirs, and what the client uses is not.
//!
//! Both are this program, started again as `errand server run` and `errand agent run` would be.

mod config;
mod process;
mod share;

use crate::{
    client::{channel, http::Http, tls},
    machine::{self, Watch},
    stopwatch::now,
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use config::{Ports, policy};
use hyper::body::Bytes;
pub use process::{Memory, Process};
use proto_wire::spire::api::{
    server::{
        agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        entry::v1::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, batch_create_entry_response,
            entry_client::EntryClient,
        },
    },
    types::{Entry, EntryMask, Selector, Spiffeid},
};
pub use share::Share;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use testkit::poll;
use tonic::transport::Channel;

pub const TRUST_DOMAIN: &str = "example.org";
/// The alias of the agent's node: the parent of its entries.
pub const NODE: &str = "/bench/node";
/// Who runs errands.
pub const PERSON: &str = "/bench/person";
/// Who is under load.
pub const LOAD: &str = "/bench/load";
/// The same, once more, for certificates.
pub const SSH_LOAD: &str = "/bench/ssh";

/// How long a server with much in its store may take.
const READY: Duration = Duration::from_secs(60);
const LOGS: [&str; 3] = ["server.log", "agent.log", "openbao.log"];

pub struct House {
    dir: PathBuf,
    pub grpc: u16,
    pub mtls: u16,
    metrics: u16,
    /// CA certificates, DER.
    pub ca: tls::Chain,
    admin: Channel,
    server: Process,
    agent: Option<Process>,
}

pub fn id(path: &str) -> Spiffeid {
    Spiffeid { trust_domain: TRUST_DOMAIN.into(), path: path.into() }
}

impl House {
    /// Starts the server in `dir`. `targets`: `[[target]]` sections of its configuration.
    pub async fn start(dir: &Path, targets: &str) -> Result<Self> {
        let ports = Ports::free()?;
        let config = dir.join("server.toml");
        fs::write(dir.join("bench.cedar"), policy())?;
        fs::write(&config, ports.server_config(dir, targets))?;
        let server = Process::start("server", &config, &dir.join("server.log")).await?;
        let admin = channel::over_unix(dir.join("server.sock")).await?;
        let bundle = BundleClient::new(admin.clone()).get_bundle(GetBundleRequest::default()).await?.into_inner();
        let ca = bundle.x509_authorities.into_iter().map(|c| c.asn1).collect();
        let Ports { grpc, mtls, metrics, .. } = ports;
        Ok(Self { dir: dir.into(), grpc, mtls, metrics, ca, admin, server, agent: None })
    }

    /// One more server on the same store, with the same keys.
    pub async fn beside(&self, dir: &Path, targets: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::copy(self.dir.join("kek"), dir.join("kek"))?;
        Self::start(dir, targets).await
    }

    /// Ends the server, does `meanwhile` to what it left, and starts it again. Answers how long it took to say that it
    /// is ready.
    pub async fn restart(self, meanwhile: impl AsyncFnOnce(&Path) -> Result<()>) -> Result<(Self, Duration)> {
        let Self { dir, grpc, mtls, metrics, ca, admin, server, agent: _ } = self;
        drop(admin);
        server.stop().await?;
        meanwhile(&dir.join("server/errand.db")).await?;
        let begin = now();
        let server = Process::start("server", &dir.join("server.toml"), &dir.join("server.log")).await?;
        let ready = poll::holds_within(READY, async || is_ready(metrics).await.is_ok()).await;
        let took = now() - begin;
        ensure!(ready, "/readyz does not say ready within {READY:?}");
        let admin = channel::over_unix(dir.join("server.sock")).await?;
        Ok((Self { dir, grpc, mtls, metrics, ca, admin, server, agent: None }, took))
    }

    /// Starts the agent, attested by a join token.
    pub async fn start_agent(&mut self) -> Result<()> {
        let token = self.join_token(Some(id(NODE))).await?;
        let bundle: String = self.ca.iter().map(|der| pem(der)).collect();
        fs::write(self.dir.join("bundle.pem"), bundle)?;
        private_dir(&self.dir.join("agent"))?;
        let config = self.dir.join("agent.toml");
        let dir = self.dir.display();
        fs::write(
            &config,
            format!(
                "[agent]\ntrust_domain = \"{TRUST_DOMAIN}\"\nserver = [\"localhost:{}\"]\ndata_dir = \"{dir}/agent\"\n\
                 socket = \"{dir}/agent.sock\"\nlaunch_socket = \"{dir}/launch.sock\"\n\
                 trust_bundle = \"{dir}/bundle.pem\"\n[node_attestor]\nkind = \"join_token\"\ntoken = \"{token}\"\n\
                 [[workload_attestor]]\nkind = \"unix\"\n",
                self.grpc
            ),
        )?;
        self.agent = Some(Process::start("agent", &config, &self.dir.join("agent.log")).await?);
        Ok(())
    }

    /// A connection to the server's `/v1`, as an operator.
    pub async fn operator(&self) -> Result<Http> {
        Http::over_unix(&self.dir.join("server.sock")).await
    }

    /// A connection to the agent's socket.
    pub async fn agent_channel(&self) -> Result<Channel> {
        channel::over_unix(self.dir.join("agent.sock")).await
    }

    pub async fn join_token(&self, alias: Option<Spiffeid>) -> Result<String> {
        let request = CreateJoinTokenRequest { ttl: 600, token: String::new(), agent_id: alias };
        Ok(AgentClient::new(self.admin.clone()).create_join_token(request).await?.into_inner().value)
    }

    /// Registers `path` for this process's user below `parent` (`None`: the agent's node). Answers the entry's id.
    pub async fn create_entry(&self, path: &str, parent: Option<&Spiffeid>) -> Result<String> {
        let selector = format!("uid:{}", nix::unistd::geteuid());
        let ids = self.create_entries(vec![entry(path, parent.cloned().unwrap_or_else(|| id(NODE)), selector)]).await?;
        ids.into_iter().next().context("an answer for the entry")
    }

    /// Registers all of these in one call; their ids.
    pub async fn create_entries(&self, entries: Vec<Entry>) -> Result<Vec<String>> {
        let request = BatchCreateEntryRequest { entries, output_mask: None };
        let answer = EntryClient::new(self.admin.clone()).batch_create_entry(request).await?.into_inner();
        let id = |r: batch_create_entry_response::Result| {
            let refused = format!("an entry was not registered: {:?}", r.status);
            Ok(r.entry.context(refused)?.id)
        };
        answer.results.into_iter().map(id).collect()
    }

    /// Gives the entry another hint.
    pub async fn change_entry(&self, id: &str, hint: String) -> Result<()> {
        let entry = Entry { id: id.into(), hint, ..Entry::default() };
        let mask = EntryMask { hint: true, ..EntryMask::default() };
        let request = BatchUpdateEntryRequest { entries: vec![entry], input_mask: Some(mask), output_mask: None };
        let answer = EntryClient::new(self.admin.clone()).batch_update_entry(request).await?.into_inner();
        let status = answer.results.into_iter().next().and_then(|r| r.status).context("an answer for the entry")?;
        ensure!(status.code == 0, "the entry was not changed: {}", status.message);
        Ok(())
    }

    pub async fn delete_entry(&self, id: String) -> Result<()> {
        let request = BatchDeleteEntryRequest { ids: vec![id] };
        EntryClient::new(self.admin.clone()).batch_delete_entry(request).await?;
        Ok(())
    }

    /// Starts looking at what the processes use of the machine.
    pub fn watch(&self) -> Result<Watch> {
        Watch::begin(self.server.pid(), self.agent.as_ref().map(Process::pid))
    }
    pub fn server_memory(&self) -> Result<Memory> {
        self.server.memory()
    }
    pub fn agent_memory(&self) -> Result<Memory> {
        self.agent.as_ref().context("the agent runs")?.memory()
    }
    /// CPU that the server has used so far, seconds.
    pub fn server_cpu(&self) -> Result<f64> {
        machine::cpu(self.server.pid())
    }
    pub fn agent_cpu(&self) -> Result<f64> {
        machine::cpu(self.agent.as_ref().context("the agent runs")?.pid())
    }

    /// What the processes of the houses in `dir` and right below it said, for when something failed.
    pub fn logs(dir: &Path) -> String {
        let below = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        let houses = std::iter::once(dir.to_path_buf()).chain(below);
        let logs = houses.flat_map(|house| LOGS.map(|name| house.join(name)));
        let tail = |log: PathBuf| {
            let text = fs::read_to_string(&log).ok()?;
            let from = text.len().saturating_sub(4000);
            let from = (from..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or_default();
            Some(format!("--- {}\n{}", log.display(), &text[from..]))
        };
        logs.filter_map(tail).collect::<Vec<_>>().join("\n")
    }

    /// Ends both, the agent first.
    pub async fn stop(self) -> Result<()> {
        drop(self.admin);
        if let Some(agent) = self.agent {
            agent.stop().await?;
        }
        self.server.stop().await
    }
}

/// An entry for processes with `selector` of the attestor `unix`.
pub fn entry(path: &str, parent: Spiffeid, selector: String) -> Entry {
    let selectors = vec![Selector { r#type: "unix".into(), value: selector }];
    Entry { spiffe_id: Some(id(path)), parent_id: Some(parent), selectors, ..Entry::default() }
}

/// Whether `/readyz` says so.
async fn is_ready(port: u16) -> Result<()> {
    Http::over_tcp(port).await?.send(http::Request::get("/readyz"), Bytes::new()).await.map(drop)
}

fn private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    Ok(fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|c| std::str::from_utf8(c).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
