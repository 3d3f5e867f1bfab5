//! A server's surroundings on disk, kept over its deaths: configuration, store, key, policy, and what clients saw.

use crate::{evidence::Sources, seen::SeenLog};
use proto_types::{Entry, EntryId, Selector, SpiffeId, Timestamp, id::parse_spiffe_id};
use serde::{Deserialize, Serialize};
use server_daemon::{Addresses, ServerConfig};
use server_service::Service;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use testkit::postgres::PostgresFixture;

/// No host is asked when a certificate is made, so that none needs to be there.
const BASTION: &str = "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"127.0.0.1\"\n\
     [[target.role]]\nname = \"ops\"\nprincipals = [\"ubuntu\"]\n";

/// The entry of the one workload.
pub const ENTRY: &str = "planner";
/// The roles of `orders-db`.
pub const ROLES: [&str; 2] = ["orders-db/readonly", "orders-db/writer"];
/// A role of which nothing exists before its release.
pub const MINTED: &str = "bastion/ops";
/// A role of `stock-db`: another target in the same PostgreSQL, so that both see each other's roles.
pub const NEIGHBOUR: &str = "stock-db/readonly";

/// Where a started server answers, and how the one agent attests while it has not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub mtls: SocketAddr,
    pub public: SocketAddr,
    pub metrics: SocketAddr,
    pub admin: PathBuf,
    pub join_token: Option<String>,
}

/// One installation.
pub struct World {
    dir: TempDir,
    target_url: String,
    /// The URL of the database in which the store lies, when it does.
    database: Option<String>,
    pub seen: SeenLog,
}

impl World {
    /// One server of several, with its store in the database `house` of this PostgreSQL, and the keys of `another`.
    pub async fn sharing(pg: &PostgresFixture, another: Option<&Self>) -> Self {
        let mut world = Self::new(pg);
        let (url, password) = (pg.store_url("house").await, pg.manager_password_file());
        let store = format!("[store]\nurl = {url:?}\npassword_file = {:?}\n", password.display().to_string());
        let text = fs::read_to_string(world.config_file()).expect("it was written");
        fs::write(world.config_file(), format!("{store}{text}")).expect("write");
        if let Some(another) = another {
            fs::copy(another.dir().join("kek"), world.dir().join("kek")).expect("the other has run");
        }
        world.database = Some(pg.superuser_url("house"));
        world
    }

    /// A new one, with `orders-db` and `stock-db` in this PostgreSQL.
    pub fn new(pg: &PostgresFixture) -> Self {
        let dir = tempfile::Builder::new().prefix("errand-crash-").tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "[server]\ntrust_domain = \"example.org\"\ndata_dir = {:?}\n[admin]\nsocket = {:?}\n\
             operators = {{ \"{}\" = \"kim\" }}\n[authority]\nkek_file = {:?}\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\n[http]\nissuer = \"https://errand.example.org\"\nlisten = \"127.0.0.1:0\"\n\
             [http.mtls]\nlisten = \"127.0.0.1:0\"\n[http.public]\nlisten = \"127.0.0.1:0\"\n\
             [telemetry]\nmetrics_listen = \"127.0.0.1:0\"\n[policy]\nfiles = [{:?}]\n{}{}{BASTION}",
            at("data"),
            at("server.sock"),
            nix::unistd::geteuid(),
            at("kek"),
            at("crash.cedar"),
            pg.target_toml("orders-db"),
            pg.target_toml("stock-db"),
        );
        let policy = "@id(\"crash\")\npermit (principal == Workload::\"spiffe://example.org/agents/planner\", action, resource);\n";
        fs::write(dir.path().join("crash.cedar"), policy).expect("write");
        fs::write(dir.path().join("server.toml"), text).expect("write");
        let seen = SeenLog::open(&dir.path().join("seen.jsonl")).expect("the log opens");
        Self { target_url: pg.superuser_url(pg.database()), dir, database: None, seen }
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("server.toml")
    }
    pub fn config(&self) -> ServerConfig {
        ServerConfig::load(&self.config_file()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }
    /// The one policy, which permits the workload everything.
    pub fn policy_file(&self) -> PathBuf {
        self.dir.path().join("crash.cedar")
    }
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }
    /// What the server said; for a test that failed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("data/errand.db")
    }
    /// Where the checker looks. The journal is there once it was [exported](crate::client::export).
    pub fn sources(&self) -> Sources {
        let at = |name: &str| self.dir.path().join(name);
        let target_url = self.target_url.clone();
        let store = self.database.clone().unwrap_or_else(|| self.store().display().to_string());
        Sources { seen: at("seen.jsonl"), journal: at("export.jsonl"), store, target_url }
    }
    /// Leaves everything where it is, for a look at what went wrong.
    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// What the server needs once: the workload's entry, and a token while no agent has attested.
pub async fn seed(service: &Service, addresses: &Addresses) -> Hello {
    let id = |path: &str| parse_spiffe_id(&format!("spiffe://example.org{path}")).expect("a SPIFFE ID");
    let mut join_token = None;
    if service.read(|s| s.nodes.is_empty()) {
        let entry = entry(id("/agents/planner"), id("/node"));
        service.entry_create(entry, None).await.expect("the entry is created");
        let token = service.join_token(Duration::from_secs(600), None, Some(id("/node")), None).await;
        join_token = Some(token.expect("a join token is made").0.expose().clone());
    }
    let Addresses { admin_socket, grpc, http, mtls, public, metrics, .. } = addresses.clone();
    Hello { grpc, http, mtls, public, metrics, admin: admin_socket, join_token }
}

fn entry(spiffe_id: SpiffeId, parent_id: SpiffeId) -> Entry {
    Entry {
        id: EntryId::new(ENTRY).expect("an id"),
        spiffe_id,
        parent_id,
        selectors: vec![Selector::new("unix", "uid:1000").expect("a selector")],
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        dns_names: Vec::new(),
        hint: String::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: 0,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision: 0,
        created_at: Timestamp::default(),
    }
}
