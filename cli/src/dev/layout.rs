//! Where `errand dev` keeps its things, and the ports it chose once.

use crate::error::{CliError, Result};
use agent_daemon::AgentConfig;
use proto_types::{Secret, TrustDomain, id::parse_trust_domain};
use serde::{Deserialize, Serialize};
use server_authority::{AuthorityConfig, KekPlace};
use server_daemon::{Listen, Running, ServerConfig, StorePlace};
use std::{
    collections::HashMap,
    fs::{DirBuilder, File},
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// The trust domain of every `errand dev`: nothing of it is to be trusted elsewhere.
const TRUST_DOMAIN: &str = "dev.internal";

/// Ports chosen at the first start and kept, so that what others wrote down stays true.
#[derive(Serialize, Deserialize, Clone, Copy)]
struct Ports {
    grpc: u16,
    http: u16,
    mtls: u16,
    public: u16,
    metrics: u16,
}

pub(super) struct Layout {
    pub dir: PathBuf,
    pub trust_domain: TrustDomain,
    pub uid: u32,
    pub user: String,
    http: SocketAddr,
    ports: Ports,
    kek_file: PathBuf,
}

impl Layout {
    pub fn prepare(dir: Option<PathBuf>, http: SocketAddr) -> Result<Self> {
        let around = crate::admin_client::Surroundings::of_process();
        let dir = dir.or_else(|| around.dev_dir()).ok_or_else(|| {
            CliError::usage("neither XDG_DATA_HOME nor HOME names a directory").hint("name one with --data-dir DIR")
        })?;
        private_dir(&dir)?;
        let dir = dir.canonicalize().map_err(|e| CliError::failed(e).at(dir.display()))?;
        let uid = nix::unistd::geteuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
        let trust_domain = parse_trust_domain(TRUST_DOMAIN).map_err(CliError::failed)?;
        let kek_file = kek_file(&dir)?;
        let ports = ports(&dir, http)?;
        Ok(Self { http, ports, kek_file, trust_domain, uid: uid.as_raw(), user, dir })
    }

    pub fn agent_socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    pub fn server_config(&self) -> Result<ServerConfig> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = self.dir.join("server");
        private_dir(&server)?;
        Ok(ServerConfig {
            keep: None,
            sinks: Vec::new(),
            fixed: toml::Table::new(),
            trust_domain: self.trust_domain.clone(),
            store: StorePlace::Sqlite(server.join("errand.db")),
            data_dir: server,
            dev: true,
            accept_rollback: false,
            replay: Vec::new(),
            // A machine that is used now and then is off for months; what is issued here is trusted nowhere else.
            accept_clock: true,
            listen: Listen {
                admin_socket: self.dir.join("server.sock"),
                grpc: at(self.ports.grpc),
                http: SocketAddr::new(self.http.ip(), self.ports.http),
                mtls: at(self.ports.mtls),
                public: at(self.ports.public),
                metrics: at(self.ports.metrics),
            },
            issuer: None,
            dns_names: Vec::new(),
            operators: HashMap::from([(self.uid, self.user.clone()), (0, "root".to_string())]),
            authority: AuthorityConfig::default(),
            kek: KekPlace::File(self.kek_file.clone()),
            agent_ttl: Duration::from_secs(24 * 3600),
            node_attestors: vec![("join_token".into(), toml::Table::new())],
            targets: Vec::new(),
            policies: Vec::new(),
            secrets_dir: None,
        })
    }

    /// The agent's configuration, as its own file would say it.
    pub fn agent_config(&self, server: &Running, token: &Secret<String>) -> Result<AgentConfig> {
        let data = self.dir.join("agent");
        private_dir(&data)?;
        let bundle = data.join("bootstrap.pem");
        std::fs::write(&bundle, server.ca_pem()).map_err(|e| CliError::failed(e).at(bundle.display()))?;
        let text = format!(
            "[agent]\ntrust_domain = {:?}\nserver = [\"localhost:{}\"]\ndata_dir = {:?}\nsocket = {:?}\n\
             launch_socket = {:?}\ntrust_bundle = {:?}\n[node_attestor]\nkind = \"join_token\"\ntoken = {:?}\n\
             [[workload_attestor]]\nkind = \"unix\"\n",
            self.trust_domain.to_string(),
            server.addresses.grpc.port(),
            data.display().to_string(),
            self.agent_socket().display().to_string(),
            self.dir.join("launch.sock").display().to_string(),
            bundle.display().to_string(),
            token.expose(),
        );
        AgentConfig::parse(&text).map_err(|problems| {
            let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
            CliError::config(all.join("\n"))
        })
    }

    /// What others find us by goes when we go.
    pub fn leave(&self) {
        let _ = std::fs::remove_file(self.dir.join("dev.env"));
    }
}

fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| CliError::failed(e).at(dir.display()))
}

/// Outside the data directory: a copy of the store is not a copy of its key. One for each data directory.
fn kek_file(dir: &Path) -> Result<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let state =
        state.ok_or_else(|| CliError::usage("neither XDG_STATE_HOME nor HOME names a directory"))?.join("errand");
    private_dir(&state)?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, dir.as_os_str().as_encoded_bytes());
    Ok(state.join(format!("dev-{}.kek", hex::encode(&digest.as_ref()[..8]))))
}

fn ports(dir: &Path, http: SocketAddr) -> Result<Ports> {
    let path = dir.join("ports.json");
    let kept: Option<Ports> = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let free = || -> Result<u16> {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr());
        bound.map(|a| a.port()).map_err(|e| CliError::failed(e).at("127.0.0.1"))
    };
    let mut ports = match kept {
        Some(kept) => kept,
        None => Ports { grpc: free()?, http: free()?, mtls: free()?, public: free()?, metrics: free()? },
    };
    // A port that was named wins over the one kept; port 0 keeps what was taken before.
    if http.port() != 0 {
        ports.http = http.port();
    }
    let text = serde_json::to_vec(&ports).map_err(CliError::failed)?;
    write_private(&path, &text)?;
    Ok(ports)
}

/// Writes a whole file, 0600, so that a reader sees the old one or the new one.
pub(super) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let fail = |e: std::io::Error| CliError::failed(e).at(path.display());
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new).map_err(fail)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(fail)?;
    std::fs::rename(&new, path).map_err(fail)
}
