//! The server's transports: who calls, what they send, and what an error looks like to them. Nothing is decided here.
//!
//! One file per gRPC service, one per HTTP concern; one exhaustive match from [`server_service::ServiceError`] to gRPC
//! status (`status.rs`) and one to HTTP problem documents (`problem.rs`).

mod grpc;
mod http;
pub mod listen;
pub mod metrics;
mod peer;
mod problem;
mod status;
pub mod tls;

pub(crate) use grpc::Limits as GrpcLimits;
pub use peer::Peer;

use axum::Router;
use proto_attest::Verifier;
use proto_types::KeyUse;
use server_core::journal::{SignedNote, VerifierKey};
use server_service::Service;
use std::sync::Arc;

/// What the transports share.
#[derive(Clone)]
pub struct Api {
    pub service: Service,
    /// Node attestation methods, by name.
    pub verifiers: Arc<[Arc<dyn Verifier>]>,
    pub admin: Arc<dyn Admin>,
    pub metrics: Arc<metrics::Metrics>,
    /// When this server began.
    started_at: proto_types::Timestamp,
    limits: Arc<GrpcLimits>,
    before_reply: Option<Hook>,
}

/// A step that is watched from outside. None in production.
type Hook = Arc<dyn Fn() + Send + Sync>;

/// What an operator asks of the composition itself (keys, targets' own texts): implemented by the daemon, which alone
/// knows the adapters.
pub trait Admin: Send + Sync {
    /// Statements for the target's side: (set-up, by-hand removal). `None`: the kind has none.
    fn target_texts(&self, name: &str) -> Option<(Option<String>, Option<String>)>;
    /// The key that signs checkpoints now.
    fn journal_key(&self) -> Option<VerifierKey>;
    /// That key, and those before it whose signatures still count.
    fn journal_keys(&self) -> Vec<VerifierKey>;
    /// Keeps the signatures of witnesses; the checkpoint with all of them. `None`: it was never signed here.
    fn keep_cosignatures(
        &self,
        note: SignedNote,
    ) -> proto_types::Fut<'_, Result<Option<SignedNote>, server_service::ServiceError>>;
    /// Writes the journal's root over everything there is and signs it, so that an export ends where the journal does.
    fn write_root(&self) -> proto_types::Fut<'_, Result<(), server_service::ServiceError>>;
    /// What the store takes and what its volume has left, bytes; `None` when the volume does not say.
    fn space(&self) -> Option<(u64, u64)>;
    /// The server's own certificate and what stands above it, DER; none before the first is made.
    fn chain(&self) -> Vec<Vec<u8>>;
    /// Signing keys of one use, or of all.
    fn authorities(&self, key_use: Option<KeyUse>) -> Vec<AuthorityView>;
    /// Makes the next key of this use and publishes it.
    fn prepare(
        &self,
        key_use: KeyUse,
        operator: Option<String>,
    ) -> proto_types::Fut<'_, Result<AuthorityView, server_service::ServiceError>>;
    /// Signs with the prepared key from now on.
    fn activate(
        &self,
        id: &str,
        operator: Option<String>,
    ) -> proto_types::Fut<'_, Result<AuthorityView, server_service::ServiceError>>;
}

/// A signing key as people see it; never the private half.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AuthorityView {
    pub id: String,
    #[serde(rename = "use")]
    pub key_use: KeyUse,
    pub state: server_core::ports::AuthorityState,
    pub created_at: proto_types::Timestamp,
    pub not_after: proto_types::Timestamp,
    /// Certificate (`x509`) or public key, PEM.
    pub public: String,
}

impl Api {
    pub fn new(
        service: Service,
        verifiers: Vec<Arc<dyn Verifier>>,
        admin: Arc<dyn Admin>,
        metrics: Arc<metrics::Metrics>,
    ) -> Self {
        let started_at = service.now();
        let (verifiers, limits) = (verifiers.into(), Arc::default());
        Self { service, verifiers, admin, metrics, started_at, limits, before_reply: None }
    }

    /// Calls `hook` each time the token endpoint is about to answer with a credential.
    pub fn before_reply(self, hook: Option<Arc<dyn Fn() + Send + Sync>>) -> Self {
        Self { before_reply: hook, ..self }
    }

    /// The admin socket: the registration and node APIs, `/v1` for everything else, and the public documents, to be
    /// published where the server itself is not reached.
    pub fn admin_router(&self) -> Router {
        let http = http::v1::router(self.clone()).merge(http::tokens::router(self.clone()));
        grpc::admin(self).merge(http).merge(http::discovery::router(self.clone()))
    }
    /// The gRPC port: agents, and administrators by mTLS.
    pub fn node_router(&self) -> Router {
        grpc::node(self)
    }
    /// HTTPS that demands a client certificate: the token endpoint, introspection and revocation.
    pub fn mtls_router(&self) -> Router {
        http::token::router(self.clone()).merge(http::tokens::router(self.clone()))
    }
    /// HTTPS: the same for callers without a certificate, who need an assertion; discovery besides.
    pub fn https_router(&self) -> Router {
        self.mtls_router().merge(http::discovery::router(self.clone()))
    }
    /// Discovery and keys only: may face the internet.
    pub fn public_router(&self) -> Router {
        http::discovery::router(self.clone())
    }
    /// Health and metrics, on loopback.
    pub fn metrics_router(&self) -> Router {
        http::health::router(self.clone())
    }
}
