//! Where a world keeps its things, and the configuration files of its daemons.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use testkit::ports;

/// The trust domain of every world.
pub const TRUST_DOMAIN: &str = "acme.test";

/// One world's directory and ports.
pub struct Layout {
    dir: TempDir,
    pub grpc: u16,
    pub http: u16,
    pub mtls: u16,
    pub public: u16,
    pub metrics: u16,
}

impl Layout {
    /// A new directory, 0700, and five ports.
    #[expect(
        clippy::new_without_default,
        reason = "it makes a directory and takes ports; nobody wants that by default"
    )]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("errand-e2e-").tempdir().expect("a temporary directory");
        for name in ["secrets", "home", "server"] {
            DirBuilder::new().mode(0o700).create(dir.path().join(name)).expect("a directory");
        }
        let free = ports::free;
        Self { dir, grpc: free(), http: free(), mtls: free(), public: free(), metrics: free() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
    pub fn admin_socket(&self) -> PathBuf {
        self.dir().join("server.sock")
    }
    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.dir().join("server/errand.db")
    }
    /// PEM of the trust domain's certificate authorities, once the server has started.
    pub fn ca_file(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }
    pub fn issuer(&self) -> String {
        format!("https://localhost:{}", self.public)
    }

    /// A file, 0600; answers its path.
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.dir().join(name);
        let _ = fs::remove_file(&path);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).expect("a new file");
        file.write_all(content.as_bytes()).expect("the file is written");
        path.to_str().expect("temporary paths are UTF-8").into()
    }

    pub fn server_toml(&self) -> String {
        let dir = self.dir().display();
        let at = |port: u16| format!("listen = \"127.0.0.1:{port}\"");
        format!(
            "[server]\ntrust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{dir}/server\"\n\
             [admin]\nsocket = \"{dir}/server.sock\"\noperators = {{ \"{}\" = \"kim\" }}\n\
             [grpc]\n{}\n[http]\n{}\n[http.mtls]\n{}\n[http.public]\n{}\n\
             [telemetry]\nmetrics_listen = \"127.0.0.1:{}\"\n\
             [authority]\nkek_file = \"{dir}/kek\"\n[targets]\nsecrets_dir = \"{dir}/secrets\"\n",
            nix::unistd::geteuid(),
            at(self.grpc),
            at(self.http),
            at(self.mtls),
            at(self.public),
            self.metrics,
        )
    }

    /// An agent that keeps its things in the folder `name`.
    pub fn agent_toml(&self, name: &str, token: &str) -> String {
        let dir = self.dir().display();
        format!(
            "[agent]\ntrust_domain = \"{TRUST_DOMAIN}\"\nserver = [\"127.0.0.1:{}\"]\ndata_dir = \"{dir}/{name}/data\"\n\
             socket = \"{dir}/{name}/agent.sock\"\nlaunch_socket = \"{dir}/{name}/launch.sock\"\n\
             trust_bundle = \"{dir}/ca.pem\"\n[node_attestor]\nkind = \"join_token\"\ntoken = \"{token}\"\n\
             [[workload_attestor]]\nkind = \"unix\"\n",
            self.grpc,
        )
    }
}
