//! The agent's configuration: TOML in, a checked [`AgentConfig`] out, or every problem at once.
//!
//! Reads no file and no environment. Sections of attestors are handed to the method that owns them.

mod attestors;
mod reader;
mod server;

pub use attestors::{AttestorPorts, BuildAttestor};
pub use server::{ServerAddress, ServerPlace, Servers};

use proto_attest::Prover;
use proto_types::{TrustDomain, id::excerpt, id::parse_trust_domain};
use reader::Reader;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Longest path of a unix socket, bytes (`sun_path` without its final NUL).
pub const MAX_SOCKET_PATH: usize = 107;
/// Largest configuration file, bytes.
const MAX_TEXT: usize = 1024 * 1024;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key: `agent.server`, `workload_attestor[0].kind`, or `line 7`.
    pub at: String,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// What verifies the server before the first bundle came from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// The CA certificates in this PEM file.
    Bundle(PathBuf),
    /// Whoever answers first. Its bundle is kept and everything after is verified with it.
    Insecure,
}

/// A checked configuration.
#[derive(Clone)]
pub struct AgentConfig {
    pub trust_domain: TrustDomain,
    pub servers: Servers,
    pub data_dir: PathBuf,
    pub socket: PathBuf,
    pub launch_socket: PathBuf,
    pub bootstrap: Bootstrap,
    pub prover: Arc<dyn Prover>,
    /// Each is built at start, when there is a clock.
    pub attestors: Vec<BuildAttestor>,
}

impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentConfig")
            .field("trust_domain", &self.trust_domain)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

impl AgentConfig {
    /// Reads a configuration. Every problem is reported, not only the first.
    pub fn parse(text: &str) -> Result<Self, Vec<ConfigProblem>> {
        let mut root = read_toml(text).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let agent = section(&mut root, "agent", &mut problems);
        let core = Core::read(agent, &mut problems);
        let prover = attestors::node(root.remove("node_attestor"), &mut problems);
        let workload = attestors::workload(root.remove("workload_attestor"), &mut problems);
        for (key, _) in root {
            problems.push(ConfigProblem { at: excerpt(&key), what: "is not known here; is it misspelled?".into() });
        }
        match (core, prover) {
            (Some(core), Some(prover)) if problems.is_empty() => Ok(Self {
                trust_domain: core.trust_domain,
                servers: core.servers,
                data_dir: core.data_dir,
                socket: core.socket,
                launch_socket: core.launch_socket,
                bootstrap: core.bootstrap,
                prover,
                attestors: workload,
            }),
            _ => Err(problems),
        }
    }
}

fn read_toml(text: &str) -> Result<toml::Table, ConfigProblem> {
    let fail = |at: &str, what: String| ConfigProblem { at: at.into(), what };
    if text.len() > MAX_TEXT {
        return Err(fail("file", "has more than 1 MiB".into()));
    }
    text.parse::<toml::Table>().map_err(|e| {
        // The library's full text quotes the line, which may hold a join token.
        let line = e.span().map_or(1, |s| 1 + text.as_bytes().iter().take(s.start).filter(|b| **b == b'\n').count());
        fail(&format!("line {line}"), excerpt(e.message()))
    })
}

fn section(root: &mut toml::Table, name: &str, problems: &mut Vec<ConfigProblem>) -> toml::Table {
    let what = match root.remove(name) {
        Some(toml::Value::Table(table)) => return table,
        Some(_) => format!("write a section: [{name}]"),
        None => format!("the section [{name}] is missing"),
    };
    problems.push(ConfigProblem { at: name.into(), what });
    toml::Table::new()
}

/// The `[agent]` section.
struct Core {
    trust_domain: TrustDomain,
    servers: Servers,
    data_dir: PathBuf,
    socket: PathBuf,
    launch_socket: PathBuf,
    bootstrap: Bootstrap,
}

impl Core {
    fn read(table: toml::Table, problems: &mut Vec<ConfigProblem>) -> Option<Self> {
        if table.is_empty() && !problems.is_empty() {
            // The missing section has been reported; each of its keys would be the same problem again.
            return None;
        }
        let mut r = Reader::new("agent", table, problems);
        let trust_domain = r
            .required("trust_domain", "example.org")
            .and_then(|t| parse_trust_domain(&t).map_err(|e| r.problem("trust_domain", e.to_string())).ok());
        let servers = server::read(&mut r);
        let data_dir = absolute(&mut r, "data_dir", "/var/lib/errand/agent");
        let socket = socket_path(&mut r, "socket", Path::new("/run/errand/agent.sock"));
        let beside = socket.as_deref().and_then(Path::parent).unwrap_or(Path::new("/run/errand")).join("launch.sock");
        let launch_socket = socket_path(&mut r, "launch_socket", &beside);
        if socket.is_some() && socket == launch_socket {
            r.problem("launch_socket", "is the same path as `socket`; choose another");
        }
        let bootstrap = bootstrap(&mut r);
        r.finish();
        Some(Self {
            trust_domain: trust_domain?,
            servers,
            data_dir: data_dir?,
            socket: socket?,
            launch_socket: launch_socket?,
            bootstrap: bootstrap?,
        })
    }
}

fn bootstrap(r: &mut Reader<'_>) -> Option<Bootstrap> {
    let file = absolute_if_given(r, "trust_bundle");
    match (file, r.flag("danger_insecure_bootstrap")) {
        (Some(path), false) => path.map(Bootstrap::Bundle),
        (None, true) => Some(Bootstrap::Insecure),
        (Some(_), true) => {
            r.problem("danger_insecure_bootstrap", "`trust_bundle` is written too; remove one of them");
            None
        }
        (None, false) => {
            let what = "is missing: the PEM file of the server's CA (`errand bundle show` prints it)";
            r.problem("trust_bundle", what);
            None
        }
    }
}

fn absolute(r: &mut Reader<'_>, key: &'static str, default: &str) -> Option<PathBuf> {
    absolute_if_given(r, key).unwrap_or_else(|| Some(default.into()))
}

/// Outer `None`: not given. Inner `None`: given, and a problem.
fn absolute_if_given(r: &mut Reader<'_>, key: &'static str) -> Option<Option<PathBuf>> {
    let text = r.string(key)?;
    if text.starts_with('/') && !text.contains('\0') {
        return Some(Some(text.into()));
    }
    r.problem(key, "write an absolute path");
    Some(None)
}

fn socket_path(r: &mut Reader<'_>, key: &'static str, default: &Path) -> Option<PathBuf> {
    let path = absolute_if_given(r, key).unwrap_or_else(|| Some(default.into()))?;
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        r.problem(key, format!("a socket's path has at most {MAX_SOCKET_PATH} bytes"));
        return None;
    }
    Some(path)
}
