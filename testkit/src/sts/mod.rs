//! A stand-in for AWS STS that verifies: AssumeRoleWithWebIdentity as its documentation has it, limits and all. What real
//! servers that speak STS are laxer in (session tags, the source identity, packed sizes), this one refuses.
//!
//! It is told to misbehave too: what a target does with an answer that no STS should give is tested with it.

mod serve;
mod verify;

pub use verify::{Fault, RoleTrust, Trust};

use serve::Behaviour;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// What one call sent, field by field.
pub type Call = BTreeMap<String, String>;

/// The stand-in, on a free port of 127.0.0.1.
pub struct StandInSts {
    address: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    trust: Mutex<Trust>,
    behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Call>>,
}

impl StandInSts {
    pub async fn start(trust: Trust) -> Self {
        Self::start_with(trust, None).await
    }

    /// The same behind TLS.
    pub async fn start_tls(trust: Trust, config: Arc<ServerConfig>) -> Self {
        Self::start_with(trust, Some(config)).await
    }

    async fn start_with(trust: Trust, config: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            trust: Mutex::new(trust),
            behaviour: Mutex::new(Behaviour::Verify),
            calls: Mutex::default(),
        });
        let tls = config.is_some();
        let server = tokio::spawn(serve::serve(listener, config.map(TlsAcceptor::from), shared.clone()));
        Self { address, tls, shared, server }
    }

    /// What a target names as `sts_endpoint`. Behind TLS it is called `localhost`.
    pub fn url(&self) -> String {
        if self.tls { format!("https://localhost:{}", self.address.port()) } else { format!("http://{}", self.address) }
    }

    /// What was sent so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Trusts otherwise from now on.
    pub fn trusts(&self, change: impl FnOnce(&mut Trust)) {
        change(&mut self.shared.trust.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Verifies, as at the beginning.
    pub fn verifies(&self) {
        self.behaves(Behaviour::Verify);
    }
    /// Answers every call with these bytes, head and all.
    pub fn answers(&self, bytes: impl Into<Vec<u8>>) {
        self.behaves(Behaviour::Raw(bytes.into()));
    }
    /// Answers every call with this status and XML.
    pub fn answers_xml(&self, status: u16, body: &str) {
        self.answers(serve::response(status, body));
    }
    /// Verifies, and answers with this text in the place of that one.
    pub fn answers_changed(&self, from: &str, to: &str) {
        self.behaves(Behaviour::Changed(from.into(), to.into()));
    }
    /// Reads calls and never answers.
    pub fn hangs(&self) {
        self.behaves(Behaviour::Hang);
    }
    /// Reads calls and closes.
    pub fn closes(&self) {
        self.behaves(Behaviour::Close);
    }

    fn behaves(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }
}

impl Drop for StandInSts {
    fn drop(&mut self) {
        self.server.abort();
    }
}
