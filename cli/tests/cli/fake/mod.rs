//! An agent and a server that answer what a test told them to, over the real sockets: Workload API and `errand.v1` on a
//! unix socket, the launch socket beside it, the token endpoint over mutual TLS on loopback.

mod agent;
mod authority;
pub mod endpoint;
mod launch;
pub mod ssh;
mod tasks;
mod workload;

use authority::Authority;
use proto_types::{Clock, SystemClock, Timestamp};
use proto_wire::errand::v1::StartResponse;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::process::{Child, Command};

/// The task every fake agent starts.
pub const TASK: &str = "018f2f0c-8f6b-7c3e-8a52-0123456789ab";
/// The workload every caller is.
pub const WORKLOAD: &str = "spiffe://example.org/dev/kim";
/// How long a test waits for what must come.
pub const SOON: Duration = Duration::from_secs(20);

/// What the agent and the server will answer.
#[derive(Clone)]
pub struct Script {
    pub task_ttl: Duration,
    /// `credential` of the token answer, by role.
    pub credentials: BTreeMap<String, Value>,
    /// Credentials live this long; `None`: as long as the task.
    pub credential_ttl: Option<Duration>,
    /// The format of the key that a role is issued for, by role. A certificate is made for it unless the credential holds
    /// one.
    pub keyed: BTreeMap<String, String>,
    /// OAuth error, description and HTTP status instead of a credential, by role.
    pub refusals: BTreeMap<String, (String, String, u16)>,
    /// Whose certificate the token endpoint shows.
    pub server_id: String,
    /// The token endpoint never answers.
    pub silent: bool,
    pub refuse_root: Option<String>,
    pub refuse_executed: Option<String>,
    pub masks: Value,
    /// The caller is in the task.
    pub inside: bool,
}

/// What the agent and the server were asked.
#[derive(Debug, Default)]
pub struct Seen {
    pub starts: Vec<proto_wire::errand::v1::StartRequest>,
    pub completed: Vec<String>,
    pub revoked: Vec<String>,
    /// Form, idempotency key and the SPIFFE ID of the client's certificate.
    pub exchanges: Vec<(BTreeMap<String, String>, String, String)>,
    /// First bytes of the file that was measured.
    pub measured: Vec<Vec<u8>>,
    pub roots: Vec<i32>,
    /// What `/proc/PID/exe` was at `Executed`.
    pub executed: Vec<Option<PathBuf>>,
}

pub struct Shared {
    pub script: Mutex<Script>,
    pub seen: Mutex<Seen>,
    authority: Authority,
    dir: tempfile::TempDir,
    streams: Mutex<Vec<tasks::Sender>>,
}

/// The running fakes; stopped when dropped.
pub struct Fake {
    shared: Arc<Shared>,
    running: [tokio::task::JoinHandle<()>; 2],
    _launch: launch::Launch,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.running.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Default for Script {
    fn default() -> Self {
        Self {
            task_ttl: Duration::from_secs(600),
            credentials: BTreeMap::from([("orders-db/readonly".to_string(), postgres("orders", "kim_r"))]),
            credential_ttl: None,
            keyed: BTreeMap::new(),
            refusals: BTreeMap::new(),
            server_id: "spiffe://example.org/spire/server".into(),
            silent: false,
            refuse_root: None,
            refuse_executed: None,
            masks: json!([{ "env": ["PGPASSWORD", "DATABASE_URL", "PGHOST"], "set": { "PGSSLKEY": "${DIR}/none" } }]),
            inside: false,
        }
    }
}

/// A database credential as the server describes it.
pub fn postgres(database: &str, user: &str) -> Value {
    let host = format!("{database}.internal");
    let password = format!("secret-of-{user}");
    json!({
        "kind": "postgres", "revocability": "session_kill",
        "host": host, "port": 5432, "database": database, "user": user, "password": password,
        "placement": [
            { "type": "env", "name": "PGHOST", "value": host },
            { "type": "env", "name": "PGPORT", "value": "5432" },
            { "type": "env", "name": "PGDATABASE", "value": database },
            { "type": "env", "name": "PGUSER", "value": user },
            { "type": "env", "name": "PGPASSFILE", "value": "${DIR}/pgpass" },
            { "type": "env", "name": "PGSERVICEFILE", "value": "${DIR}/pg_service.conf" },
            { "type": "env", "name": "DATABASE_URL", "value": format!("postgres://{user}@{host}:5432/{database}") },
            { "type": "file", "path": "pgpass", "append": true, "content": format!("{host}:5432:{database}:{user}:{password}\n") },
            { "type": "file", "path": "pg_service.conf", "append": true,
              "content": format!("[{database}]\nhost={host}\nuser={user}\npassfile=${{DIR}}/pgpass\n") },
        ],
    })
}

impl Fake {
    pub async fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            seen: Mutex::default(),
            authority: Authority::new(),
            dir,
            streams: Mutex::default(),
        });
        let (endpoint, port) = endpoint::serve(shared.clone()).await;
        let running = [endpoint, agent::serve(shared.clone(), port)];
        Self { _launch: launch::serve(shared.clone()), shared, running }
    }

    pub fn dir(&self) -> &Path {
        self.shared.dir.path()
    }
    pub fn socket(&self) -> PathBuf {
        self.shared.socket()
    }
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap()
    }
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().unwrap()
    }

    /// The task ends, and its streams say so.
    pub async fn end_task(&self, reason: &str) {
        let streams: Vec<_> = self.shared.streams.lock().unwrap().drain(..).collect();
        for stream in streams {
            let last = StartResponse { task_id: TASK.into(), end_reason: reason.into(), ..Default::default() };
            let _ = stream.send(Ok(last)).await;
        }
    }

    /// `errand ARGS` with an environment of its own.
    pub fn errand(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_errand"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", self.socket().display()))
            .current_dir(self.dir())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// `errand run --grant orders-db/readonly -- CMD`.
    pub fn run(&self, cmd: &[&str]) -> Command {
        self.errand(&[&["run", "--grant", "orders-db/readonly", "--"], cmd].concat())
    }

    /// The same with a shell for CMD.
    pub fn shell(&self, script: &str) -> Command {
        self.run(&["sh", "-c", script])
    }
}

impl Shared {
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }
    pub fn launch_socket(&self) -> PathBuf {
        self.dir.path().join("launch.sock")
    }
    pub fn now(&self) -> Timestamp {
        SystemClock.now()
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it to its end.
pub async fn finish(mut command: Command) -> Finished {
    let output = tokio::time::timeout(SOON, command.output()).await.expect("the command ends").unwrap();
    Finished {
        status: output.status.code().expect("`errand` exits, it is not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Starts it with a pipe for its output.
pub fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
