//! A node of a world: one agent, in this process or as one of its own, and what this process sees on its socket.

use super::{Daemon, Layout, SOON, Where, workload};
use agent_daemon::{Agent, AgentConfig, Ports, Running};
use cli::agent_client::AgentClient;
use spiffe::X509Svid;
use std::path::{Path, PathBuf};
use testkit::poll;
use tonic::Status;

/// An agent, running or killed.
pub struct Node {
    socket: PathBuf,
    inner: Inner,
}

enum Inner {
    Here(Box<Running>),
    Process(Daemon),
}

impl Node {
    /// Starts an agent that keeps its things in the folder `name`, and waits until it knows its entries.
    pub async fn start(layout: &Layout, name: &str, token: &str, place: Where) -> Self {
        let node = Self::begin(layout, name, token, place).await;
        match node {
            Self { inner: Inner::Here(running), socket } => {
                running.ready().await.expect("the agent is attested");
                Self { inner: Inner::Here(running), socket }
            }
            Self { inner: Inner::Process(mut daemon), socket } => {
                daemon.ready().await;
                Self { inner: Inner::Process(daemon), socket }
            }
        }
    }

    /// The same without waiting for the server's word.
    pub async fn begin(layout: &Layout, name: &str, token: &str, place: Where) -> Self {
        let socket = layout.dir().join(name).join("agent.sock");
        let text = layout.agent_toml(name, token);
        let inner = match place {
            Where::Here | Where::Behind(_) => {
                let config = AgentConfig::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}"));
                let running = Agent::start(config, Ports { clock: super::clock(place), ..Ports::system() })
                    .await
                    .expect("the agent starts");
                Inner::Here(Box::new(running))
            }
            Where::Processes => {
                let config = layout.write(&format!("{name}.toml"), &text);
                let (home, log) = (layout.dir().join("home"), layout.dir().join(format!("{name}.log")));
                Inner::Process(Daemon::start(&["agent", "run", "--config", &config], &home, log))
            }
        };
        Self { socket, inner }
    }

    /// Where the Workload API is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
    /// As `SPIFFE_ENDPOINT_SOCKET` says it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
    /// The agent in this process.
    pub fn here(&self) -> &Running {
        match &self.inner {
            Inner::Here(running) => running,
            Inner::Process(_) => panic!("the agent does not run in this process"),
        }
    }
    /// The agent's process.
    pub fn process(&self) -> &Daemon {
        match &self.inner {
            Inner::Process(daemon) => daemon,
            Inner::Here(_) => panic!("the agent is not a process of its own"),
        }
    }
    /// The same, to be crashed.
    pub fn process_mut(&mut self) -> &mut Daemon {
        match &mut self.inner {
            Inner::Process(daemon) => daemon,
            Inner::Here(_) => panic!("the agent is not a process of its own"),
        }
    }

    /// A connection that speaks for this process.
    pub async fn connect(&self) -> AgentClient {
        AgentClient::connect(&self.socket).await.unwrap_or_else(|e| panic!("{}: {e:?}", self.socket.display()))
    }
    /// What this process is, by the agent's word now; a task's identities first.
    pub async fn svids(&self) -> Result<Vec<X509Svid>, Status> {
        workload::first_svids(&self.connect().await).await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        match &mut self.inner {
            Inner::Process(daemon) => daemon.kill(),
            Inner::Here(_) => panic!("only an agent of its own process can be killed"),
        }
    }
    /// Starts the killed agent again on the same data; its socket answers when this returns.
    pub async fn start_again(&mut self) {
        match &mut self.inner {
            Inner::Process(daemon) => daemon.start_again(),
            Inner::Here(_) => panic!("only an agent that was killed is started again"),
        }
        let answers = async || AgentClient::connect(&self.socket).await.is_ok();
        poll::until("the agent's socket answers", SOON, answers).await;
    }

    pub async fn stop(self) {
        match self.inner {
            Inner::Here(running) => running.stop().await,
            Inner::Process(mut daemon) => daemon.stop().await,
        }
    }
}

/// Logs of components in this process, as `ERRAND_LOG` says; shown with a test that fails.
pub(super) fn say_why() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ERRAND_LOG");
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
