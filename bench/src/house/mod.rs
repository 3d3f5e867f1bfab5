//! A server and an agent of their own, as processes of their own: what they use is theirs, and what the client uses is not.
//!
//! Both are this program, started again as `errand server run` and `errand agent run` would be.

mod process;

use crate::{
    client::{channel, tls},
    machine::Watch,
};
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
pub use process::Memory;
use process::Process;
use proto_wire::spire::api::{
    server::{
        agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        entry::v1::{BatchCreateEntryRequest, BatchDeleteEntryRequest, entry_client::EntryClient},
    },
    types::{Entry, Selector, Spiffeid},
};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};
use tonic::transport::Channel;

pub const TRUST_DOMAIN: &str = "example.org";
/// The alias of the agent's node: the parent of its entries.
const NODE: &str = "/bench/node";
/// Who runs errands.
pub const PERSON: &str = "/bench/person";
/// Who is under load.
pub const LOAD: &str = "/bench/load";
/// The same, once more, for certificates.
pub const SSH_LOAD: &str = "/bench/ssh";

pub struct House {
    dir: PathBuf,
    pub grpc: u16,
    pub mtls: u16,
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
        Ok(Self { dir: dir.into(), grpc: ports.grpc, mtls: ports.mtls, ca, admin, server, agent: None })
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
        let uid = nix::unistd::geteuid();
        let entry = Entry {
            spiffe_id: Some(id(path)),
            parent_id: Some(parent.cloned().unwrap_or_else(|| id(NODE))),
            selectors: vec![Selector { r#type: "unix".into(), value: format!("uid:{uid}") }],
            ..Entry::default()
        };
        let request = BatchCreateEntryRequest { entries: vec![entry], output_mask: None };
        let answer = EntryClient::new(self.admin.clone()).batch_create_entry(request).await?.into_inner();
        let result = answer.results.into_iter().next().context("an answer for the entry")?;
        let refused = format!("{path} was not registered: {:?}", result.status);
        Ok(result.entry.context(refused)?.id)
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

    /// What the processes said, for when something failed.
    pub fn logs(dir: &Path) -> String {
        let tail = |name: &str| {
            let text = fs::read_to_string(dir.join(name)).unwrap_or_default();
            let from = text.len().saturating_sub(4000);
            let from = (from..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or_default();
            format!("--- {name}\n{}", &text[from..])
        };
        [tail("server.log"), tail("agent.log")].join("\n")
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

fn policy() -> String {
    let permit = |path: &str| {
        format!(
            "@id(\"bench{}\")\npermit (principal == Workload::\"spiffe://{TRUST_DOMAIN}{path}\", action, resource);\n",
            path.replace('/', "-")
        )
    };
    permit(PERSON) + &permit(LOAD) + &permit(SSH_LOAD)
}

struct Ports {
    grpc: u16,
    http: u16,
    mtls: u16,
    public: u16,
    metrics: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        // All are held until all are known, so that no two are the same.
        let held = (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let ports = held.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
        let [grpc, http, mtls, public, metrics] = ports[..] else { anyhow::bail!("five ports") };
        Ok(Self { grpc, http, mtls, public, metrics })
    }

    fn server_config(&self, dir: &Path, targets: &str) -> String {
        let (dir, uid) = (dir.display(), nix::unistd::geteuid());
        let Self { grpc, http, mtls, public, metrics } = self;
        format!(
            "[server]\ntrust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{dir}/server\"\n\
             [admin]\nsocket = \"{dir}/server.sock\"\noperators = {{ \"{uid}\" = \"bench\" }}\n\
             [authority]\nkek_file = \"{dir}/kek\"\n[grpc]\nlisten = \"127.0.0.1:{grpc}\"\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[http.mtls]\nlisten = \"127.0.0.1:{mtls}\"\n\
             [http.public]\nlisten = \"127.0.0.1:{public}\"\n[telemetry]\nmetrics_listen = \"127.0.0.1:{metrics}\"\n\
             [policy]\nfiles = [\"{dir}/bench.cedar\"]\n{targets}"
        )
    }
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
