//! The fields of an entry that `create` and `update` have in common.

use crate::verbs::args;
use proto_types::{Selector, SpiffeId};
use proto_wire::{
    convert::{selector_out, spiffe_id_out},
    spire::api::types::Entry,
};
use std::time::Duration;

#[derive(Debug, clap::Args)]
pub struct Fields {
    /// The identity that matching processes get
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    pub spiffe_id: Option<SpiffeId>,
    /// What must be attested of a process, such as unix:uid:1000; repeat it, all must match
    #[arg(long, value_name = "TYPE:VALUE", value_parser = args::selector)]
    pub selector: Vec<Selector>,
    /// The agent or node alias that may serve it
    #[arg(long, value_name = "ID", value_parser = args::spiffe_id)]
    pub parent_id: Option<SpiffeId>,
    /// How long an X.509-SVID lives
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    pub x509_svid_ttl: Option<Duration>,
    /// How long a JWT-SVID lives
    #[arg(long, value_name = "DURATION", value_parser = args::duration)]
    pub jwt_svid_ttl: Option<Duration>,
    /// A DNS name for the certificate; repeat it for several
    #[arg(long, value_name = "NAME", value_parser = args::dns_name)]
    pub dns: Vec<String>,
    /// A trust domain whose bundle the workload gets too; repeat it for several
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = args::trust_domain)]
    pub federates_with: Vec<String>,
    /// A word by which the workload tells several identities apart
    #[arg(long, value_name = "TEXT")]
    pub hint: Option<String>,
}

impl Fields {
    /// An entry with what was given; everything else at its default.
    pub fn entry(&self, id: String) -> Entry {
        Entry {
            id,
            spiffe_id: self.spiffe_id.as_ref().map(spiffe_id_out),
            parent_id: self.parent_id.as_ref().map(spiffe_id_out),
            selectors: self.selector.iter().map(selector_out).collect(),
            x509_svid_ttl: self.x509_svid_ttl.map(args::seconds).unwrap_or_default(),
            jwt_svid_ttl: self.jwt_svid_ttl.map(args::seconds).unwrap_or_default(),
            dns_names: self.dns.clone(),
            federates_with: self.federates_with.clone(),
            hint: self.hint.clone().unwrap_or_default(),
            ..Default::default()
        }
    }
}
