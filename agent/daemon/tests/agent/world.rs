//! One node: a scripted server, an agent on a directory of its own, and a workload that talks to it.

use crate::fake::{FakeServer, TOKEN};
use agent_daemon::{Agent, AgentConfig, Ports, Running};
use hyper_util::rt::TokioIo;
use proto_types::{Clock, SystemClock};
use proto_wire::{
    errand::v1::{GetInfoRequest, agent_client::AgentClient, task_client::TaskClient},
    spire::api::types as wire,
    workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use testkit::{
    fakes::{FakeClock, SeededEntropy},
    poll::until,
};
use tokio::net::UnixStream;
use tonic::{
    Request, Status, Streaming,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};

/// Nothing here takes longer unless it hangs.
pub const SOON: Duration = Duration::from_secs(20);

pub struct World {
    pub clock: FakeClock,
    pub server: FakeServer,
    pub dir: TempDir,
    agent: Option<Running>,
}

impl World {
    /// A server, and an agent that is ready.
    pub async fn new() -> Self {
        let mut world = Self::without_agent();
        world.start_agent().await;
        world
    }

    pub fn without_agent() -> Self {
        // The files on disk are of now, and what is measured by their age is measured by this clock.
        let clock = FakeClock::at(SystemClock.now());
        let server = FakeServer::start(&clock);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), &server.state.ca.pem).unwrap();
        Self { clock, server, dir, agent: None }
    }

    pub fn config_text(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "[agent]\ntrust_domain = \"example.org\"\nserver = [\"{}\"]\ndata_dir = \"{dir}/data\"\n\
             socket = \"{dir}/agent.sock\"\ntrust_bundle = \"{dir}/ca.pem\"\n\
             [node_attestor]\nkind = \"join_token\"\ntoken = \"{TOKEN}\"\n",
            self.server.addr
        )
    }

    pub fn config(&self) -> AgentConfig {
        AgentConfig::parse(&self.config_text()).unwrap()
    }

    pub async fn launch(&self, config: AgentConfig) -> Running {
        self.launch_by(config, &self.clock).await
    }

    /// The same by another clock.
    pub async fn launch_by(&self, config: AgentConfig, clock: &FakeClock) -> Running {
        let ports = Ports { clock: Arc::new(clock.clone()), entropy: Arc::new(SeededEntropy::new(7)) };
        Agent::start(config, ports).await.unwrap()
    }

    pub async fn start_agent(&mut self) {
        let agent = self.launch(self.config()).await;
        tokio::time::timeout(SOON, agent.ready()).await.unwrap().unwrap();
        self.agent = Some(agent);
    }

    /// Starts an agent that may have to wait for its server.
    pub async fn start_waiting_agent(&mut self) {
        self.agent = Some(self.launch(self.config()).await);
    }

    pub fn agent(&self) -> &Running {
        self.agent.as_ref().unwrap()
    }

    pub async fn stop_agent(&mut self) {
        let agent = self.agent.take().unwrap();
        tokio::time::timeout(SOON, agent.stop()).await.unwrap();
    }

    /// Waits while time passes in steps, so that back-offs of unknown length come to their end.
    pub async fn while_time_passes(&self, what: &str, step: Duration, mut holds: impl FnMut() -> bool) {
        until(what, SOON, || {
            let done = holds();
            if !done {
                self.clock.advance(step);
            }
            std::future::ready(done)
        })
        .await;
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    /// A connection of this process.
    pub fn channel(&self) -> Channel {
        channel(&self.socket())
    }
    pub fn workload(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel())
    }
    pub fn tasks(&self) -> TaskClient<Headed> {
        TaskClient::new(headed(self.channel()))
    }
    pub fn info(&self) -> AgentClient<Headed> {
        AgentClient::new(headed(self.channel()))
    }

    pub async fn x509(&self) -> Result<Streaming<X509svidResponse>, Status> {
        Ok(self.workload().fetch_x509svid(with_header(X509svidRequest {})).await?.into_inner())
    }

    /// Registers an entry and waits until the agent knows it.
    pub async fn create(&self, entry: wire::Entry) {
        let before = self.agent().sizes().0;
        self.server.state.create(entry);
        until("the entry is here", SOON, || std::future::ready(self.agent().sizes().0 > before)).await;
    }

    /// An entry for this process's uid.
    pub fn entry(&self, id: &str, path: &str) -> wire::Entry {
        let uid = nix::unistd::geteuid();
        wire::Entry {
            id: id.into(),
            spiffe_id: Some(wire::Spiffeid { trust_domain: "example.org".into(), path: path.into() }),
            parent_id: Some(wire::Spiffeid {
                trust_domain: "example.org".into(),
                path: "/spire/agent/join_token/one".into(),
            }),
            selectors: vec![wire::Selector { r#type: "unix".into(), value: format!("uid:{uid}") }],
            ..Default::default()
        }
    }
}

/// What the agent says is wrong, as `errand agent healthcheck` asks for it.
pub async fn problem(world: &World) -> String {
    world.info().get_info(GetInfoRequest {}).await.unwrap().into_inner().problem
}

pub fn channel(socket: &Path) -> Channel {
    let socket = socket.to_path_buf();
    Endpoint::from_static("http://agent").connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}

/// A channel whose every request has the security header.
pub type Headed = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

pub fn headed(channel: Channel) -> Headed {
    InterceptedService::new(channel, |_| Ok(with_header(())))
}

pub fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// The next message, within a deadline.
pub async fn next<T>(stream: &mut Streaming<T>) -> Result<Option<T>, Status> {
    tokio::time::timeout(SOON, stream.message()).await.expect("the stream says nothing")
}

pub fn ids(answer: &X509svidResponse) -> Vec<&str> {
    answer.svids.iter().map(|s| s.spiffe_id.as_str()).collect()
}
