//! What an operator sets about issuing, already checked. Parsing is the daemon's.

use proto_types::TrustDomain;
use server_core::issue::Ttls;
use std::{collections::HashMap, time::Duration};

#[derive(Clone, Debug)]
pub struct Settings {
    pub trust_domain: TrustDomain,
    /// The issuer URL: `iss` of task tokens, audience of subject tokens.
    pub issuer: String,
    pub token_endpoint: String,
    pub mtls_token_endpoint: String,
    /// Default lives of SVIDs.
    pub ttls: Ttls,
    /// Life of an agent's own SVID.
    pub agent_ttl: Duration,
    /// uid → operator's name, for the admin socket.
    pub operators: HashMap<u32, String>,
    /// Other servers may issue from the same store: what is under way in it may be theirs.
    pub shared_store: bool,
    /// JSON of the masks of every kind, handed to agents.
    pub masked_json: String,
}

impl Settings {
    /// The server's own identity, the parent of node aliases.
    pub fn server_id(&self) -> String {
        format!("spiffe://{}/spire/server", self.trust_domain)
    }
}
