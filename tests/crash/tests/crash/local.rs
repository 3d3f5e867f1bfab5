//! A server inside the test's own process, where decorators and the clock are in reach.

use proto_types::{Clock, Lease, OsEntropy, Secret, SystemClock};
use server_core::ports::{IssueRequest, Issued};
use server_daemon::{Decorators, Machine, Running, Server};
use std::sync::Arc;
use tests_crash::{
    evidence::Store,
    world::{Hello, World, seed},
};

/// A credential that no target made, for stand-ins whose ends are what is tried.
pub fn invented(request: &IssueRequest) -> Issued {
    Issued {
        fields: Secret::new(serde_json::json!({ "user": request.name }).to_string()),
        access_token: Secret::new("none".into()),
        token_type: "urn:errand:token-type:database-credential",
        placement: Vec::new(),
        handle: serde_json::Value::Null,
        not_after: request.not_after,
    }
}

pub struct Local {
    pub hello: Hello,
    pub running: Running,
    store: std::path::PathBuf,
}

impl Local {
    pub async fn start(world: &World, decorators: Decorators) -> Self {
        Self::at(world, decorators, Arc::new(SystemClock)).await
    }

    /// At a time of the test's own.
    pub async fn at(world: &World, decorators: Decorators, clock: Arc<dyn Clock>) -> Self {
        let machine = Machine { clock, entropy: Arc::new(OsEntropy) };
        let running = Server::start_with(world.config(), machine, decorators).await.expect("the server starts");
        let hello = seed(&running.service, &running.addresses).await;
        Self { hello, running, store: world.store() }
    }

    /// Every lease, as the store holds it.
    pub fn leases(&self) -> Vec<Lease> {
        Store::open(&self.store).and_then(|s| s.leases()).expect("the store can be read")
    }
}
