//! What is served beside CMD: an SSH agent, and documents on loopback. Opened before anything names them, served while
//! CMD runs, gone at once when dropped.
//!
//! Decides which grants need one. Whom each serves is its own: [`ssh_agent`] members of the task, [`loopback`] whoever
//! has its bearer. Nothing runs by itself: an endpoint answers while [`Endpoints::serve`] is polled and at no other time.

mod loopback;
mod members;
mod ssh_agent;

pub use members::Members;

use super::{
    args::Place,
    placement::{self, Held, PlacementError, Rules, SSH_AGENT},
    texts::Names,
};
use futures_util::future::join_all;
use loopback::Loopback;
use proto_types::{Clock, Entropy, Placement};
use ssh_agent::{Identity, SshAgent};
use std::{io, time::Duration};

/// Connections of one endpoint at the same time. A program asks, is answered, and goes.
const MAX_CONNECTIONS: usize = 64;
/// How long nothing is accepted after a connection could not be: descriptors have run out.
const PAUSE: Duration = Duration::from_millis(50);

/// Why something cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error("cannot listen on {what}: {source}")]
    Listen { what: String, source: io::Error },
}

/// Everything that is served for one task.
#[derive(Default)]
pub struct Endpoints {
    ssh_agent: Option<SshAgent>,
    loopback: Vec<Served>,
}

/// An endpoint on loopback, and whose it is.
struct Served {
    grant: usize,
    variable: String,
    endpoint: Loopback,
}

impl Endpoints {
    /// Opens what `held` needs and notes in it where that is. Nobody is answered yet.
    pub async fn open(held: &mut [Held], rules: Rules<'_>, entropy: &dyn Entropy) -> Result<Self, EndpointError> {
        let mut endpoints = Self::default();
        if rules.place == Place::Static {
            return Ok(endpoints);
        }
        let identities = identities(held)?;
        if !identities.is_empty() {
            let path = rules.names.dir.join(SSH_AGENT);
            let fail = |source| EndpointError::Listen { what: path.display().to_string(), source };
            endpoints.ssh_agent = Some(SshAgent::open(&path, identities).map_err(fail)?);
        }
        for (grant, one) in held.iter_mut().enumerate() {
            let bearer = loopback::bearer(entropy);
            for (variable, document) in documents(one, rules.names)? {
                let fail = |source| EndpointError::Listen { what: "127.0.0.1".into(), source };
                let endpoint = Loopback::open(document, bearer.clone(), entropy).await.map_err(fail)?;
                one.addresses.push(endpoint.address(&variable));
                endpoints.loopback.push(Served { grant, variable, endpoint });
            }
        }
        Ok(endpoints)
    }

    /// Whether somebody must be told from others before [`Self::admit`].
    pub fn has_members(&self) -> bool {
        self.ssh_agent.is_some()
    }

    /// From now on `members` are served.
    pub fn admit(&mut self, members: Members) {
        if let Some(agent) = &mut self.ssh_agent {
            agent.admit(members);
        }
    }

    /// Puts what `held` holds now in the place of what it held before: whoever asks from now on gets all of it.
    pub fn renew(&self, held: &[Held], rules: Rules<'_>) -> Result<(), PlacementError> {
        if rules.place == Place::Static {
            return Ok(());
        }
        let identities = identities(held)?;
        let mut fresh = Vec::new();
        for (grant, one) in held.iter().enumerate() {
            for (variable, document) in documents(one, rules.names)? {
                let served = self.loopback.iter().find(|s| s.grant == grant && s.variable == variable);
                let served = served.ok_or_else(|| PlacementError::Unserved { role: one.role.clone() })?;
                fresh.push((served, document));
            }
        }
        if let Some(agent) = &self.ssh_agent {
            agent.renew(identities);
        }
        for (served, document) in fresh {
            served.endpoint.renew(document);
        }
        Ok(())
    }

    /// Answers whoever asks. Never completes where there is something to serve; to be dropped and called again at will.
    pub async fn serve(&mut self, clock: &dyn Clock) {
        let agent = async {
            match &mut self.ssh_agent {
                Some(agent) => agent.serve(clock).await,
                None => std::future::pending().await,
            }
        };
        let loopback = join_all(self.loopback.iter_mut().map(|served| served.endpoint.serve(clock)));
        tokio::join!(agent, loopback);
    }
}

/// What the agent lists and signs with, in the order of the grants.
fn identities(held: &[Held]) -> Result<Vec<Identity>, PlacementError> {
    let wants_agent = |one: &&Held| one.credential.placement.iter().any(|p| matches!(p, Placement::SshAgent { .. }));
    let identity = |one: &Held| {
        let (key, certificate) = placement::certificate(one)?;
        Ok(Identity::new(one.role.to_string(), key.clone(), certificate))
    };
    held.iter().filter(wants_agent).map(identity).collect()
}

/// The documents of one grant, each by the variable that names its endpoint.
fn documents(held: &Held, names: Names<'_>) -> Result<Vec<(String, proto_types::Secret<String>)>, PlacementError> {
    let served = held.credential.placement.iter().filter_map(|placement| match placement {
        Placement::LoopbackHttp { variable, body, .. } => Some((variable, body)),
        _ => None,
    });
    served.map(|(variable, body)| Ok((variable.clone(), placement::document(held, body, names)?))).collect()
}
