//! Where the servers are: as configured, and where the SRV records of a name say (RFC 2782).
//!
//! DNS is believed about where to call and about nothing else. When it does not answer, its last answer stands.

use crate::config::{ServerAddress, ServerPlace, Servers};
use agent_core::servers::Candidate;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, RecordType, rdata::SRV},
};
use proto_types::{Clock, id::excerpt};
use rustls_pki_types::ServerName;
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

/// How long one question may take, before it is asked once more.
const ANSWERED: Duration = Duration::from_secs(1);
/// How long all questions about one name may take.
const LIMIT: Duration = Duration::from_secs(4);
/// Most servers, and most addresses of each, of one name.
const MAX_FOUND: usize = 64;
const MAX_IPS: usize = 8;

/// A server, and where it is when that was asked of DNS here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub address: ServerAddress,
    pub ip: Option<IpAddr>,
}

pub struct Discovery {
    servers: Servers,
    resolver: OnceLock<TokioResolver>,
    /// The last answer about each name.
    last: Mutex<HashMap<String, Vec<Candidate<Found>>>>,
}

impl Discovery {
    pub fn new(servers: Servers) -> Self {
        Self { servers, resolver: OnceLock::new(), last: Mutex::default() }
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// All that are known now; why there is none otherwise.
    pub async fn find(&self, clock: &dyn Clock) -> Result<Vec<Candidate<Found>>, String> {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for place in &self.servers.places {
            match place {
                ServerPlace::Address(address, weight) => {
                    let at = Found { address: address.clone(), ip: None };
                    found.push(Candidate { at, priority: 0, weight: *weight, failed: false });
                }
                ServerPlace::Service(name) => match self.service(name, clock).await {
                    Ok(servers) => found.extend(servers),
                    Err(why) => problems.push(format!("DNS has no servers for {name}: {why}")),
                },
            }
        }
        if found.is_empty() { Err(problems.join("; ")) } else { Ok(found) }
    }

    async fn service(&self, name: &str, clock: &dyn Clock) -> Result<Vec<Candidate<Found>>, String> {
        let asked = tokio::select! {
            asked = self.ask(name) => asked,
            () = clock.sleep(LIMIT) => Err("it does not answer".into()),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match asked {
            Ok(servers) => {
                last.insert(name.into(), servers.clone());
                Ok(servers)
            }
            Err(why) => match last.get(name) {
                Some(servers) => {
                    tracing::warn!(%name, %why, "DNS names no server now; those it named last are tried");
                    Ok(servers.clone())
                }
                None => Err(why),
            },
        }
    }

    async fn ask(&self, name: &str) -> Result<Vec<Candidate<Found>>, String> {
        let resolver = self.resolver()?;
        // With the final dot it is looked up as it is written, below no domain of the machine's.
        let records =
            resolver.lookup(format!("{name}."), RecordType::SRV).await.map_err(|e| excerpt(&e.to_string()))?;
        let mut found = Vec::new();
        for record in records.answers().iter().take(MAX_FOUND) {
            let RData::SRV(srv) = &record.data else { continue };
            let Some(address) = address(srv) else { continue };
            match resolver.lookup_ip(srv.target.clone()).await {
                Ok(ips) => found.extend(ips.iter().take(MAX_IPS).map(|ip| Candidate {
                    at: Found { address: address.clone(), ip: Some(ip) },
                    priority: srv.priority,
                    weight: srv.weight,
                    failed: false,
                })),
                Err(error) => tracing::warn!(server = %address, %error, "DNS has no address of a server it names"),
            }
        }
        if found.is_empty() { Err("none that it names has an address".into()) } else { Ok(found) }
    }

    fn resolver(&self) -> Result<&TokioResolver, String> {
        if let Some(resolver) = self.resolver.get() {
            return Ok(resolver);
        }
        let made = match &self.servers.dns[..] {
            [] => TokioResolver::builder_tokio(),
            servers => {
                let servers = servers.iter().map(|at| name_server(*at)).collect();
                let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                Ok(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
        };
        let mut made = made.map_err(|e| format!("/etc/resolv.conf cannot be used: {}", excerpt(&e.to_string())))?;
        bound(made.options_mut());
        let made = made.build().map_err(|e| excerpt(&e.to_string()))?;
        Ok(self.resolver.get_or_init(|| made))
    }
}

fn bound(options: &mut ResolverOpts) {
    options.timeout = ANSWERED;
    options.attempts = 1;
    // A server that was replaced is found within a minute, and a name that was not there as soon as it is.
    options.positive_max_ttl = Some(Duration::from_secs(60));
    options.negative_max_ttl = Some(Duration::from_secs(5));
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(at.ip());
    config.connections.iter_mut().for_each(|c: &mut ConnectionConfig| c.port = at.port());
    config
}

/// `None` for the record that says there is no such service (its target is the root), and for what is no host.
fn address(srv: &SRV) -> Option<ServerAddress> {
    let host = srv.target.to_ascii();
    let host = host.strip_suffix('.').unwrap_or(&host);
    ServerName::try_from(host).ok()?;
    (srv.port != 0).then(|| ServerAddress { host: host.into(), port: srv.port })
}
