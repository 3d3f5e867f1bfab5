//! The server's own X509-SVID, `spiffe://<trust domain>/spire/server`, with a key made for it and kept in memory.

use crate::{key, keyring::Keyring};
use proto_types::{KeyUse, Secret, Timestamp, id::parse_spiffe_id};
use server_core::{
    issue::{Ttls, x509_template},
    ports::{Authorities, ProvenKey, SignError},
};

/// A certificate chain with its key, as a TLS stack takes them.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Leaf first, DER each.
    pub chain: Vec<Vec<u8>>,
    /// PKCS#8, DER.
    pub key: Secret<Vec<u8>>,
    /// Lowercase hex.
    pub serial: String,
    pub not_after: Timestamp,
}

impl Keyring {
    /// Mints the server's identity on a fresh P-256 key. The first of `dns_names` becomes the common name.
    pub fn server_identity(&self, dns_names: &[String], ttls: &Ttls, now: Timestamp) -> Result<Identity, SignError> {
        let refused = |e: &dyn std::fmt::Display| SignError::Refused(e.to_string());
        let id = format!("spiffe://{}/spire/server", self.realm.trust_domain);
        let id = parse_spiffe_id(&id).map_err(|e| refused(&e))?;
        if self.ca_not_after() <= now {
            return Err(SignError::NoActiveKey("x509"));
        }
        let template = x509_template(&id, dns_names, 0, ttls, now, self.ca_not_after()).map_err(|e| refused(&e))?;
        let unavailable = |e: key::KeyRefused| SignError::Unavailable(e.to_string());
        let pkcs8 = key::generate(KeyUse::X509).map_err(unavailable)?;
        let own = key::PrivateKey::load(KeyUse::X509, &pkcs8).and_then(|k| k.spki()).map_err(unavailable)?;
        let svid = self.sign_x509(&template, &ProvenKey::assertion(own))?;
        Ok(Identity { chain: svid.chain, key: pkcs8, serial: svid.serial, not_after: svid.not_after })
    }
}
