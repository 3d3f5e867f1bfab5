//! TLS of the server's own listeners: its SVID, and callers' certificates checked against the bundle of this moment.
//!
//! Session resumption is off: a resumed session would skip the chain check after the bundle changed (invariant 13).
//! Decides only that a certificate is a valid X509-SVID of this trust domain (X509-SVID section 5); what its holder may
//! do is asked on every call.

use proto_tls::{Anchors, Expected, HouseTime, SvidVerifier};
use proto_types::{Clock, SpiffeId, TrustDomain, id::parse_spiffe_id};
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, TrustAnchor},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use server_core::ports::Authorities;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509CertificationRequest};

/// The server's own certificate, replaced while it runs.
pub type Identity = Arc<arc_swap::ArcSwapOption<CertifiedKey>>;

/// Whether callers bring a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Never asked for one: browsers and anonymous readers.
    Anonymous,
    /// May bring one: an agent that attests has none yet.
    Optional,
    /// Must.
    Required,
}

#[derive(Debug)]
struct CurrentIdentity(Identity);

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// The published CA certificates, parsed once for each bundle and not for each handshake.
struct BundleAnchors {
    authorities: Arc<dyn Authorities>,
    /// (the bundle's sequence, its anchors).
    parsed: arc_swap::ArcSwap<(u64, Arc<Vec<TrustAnchor<'static>>>)>,
}

impl Anchors for BundleAnchors {
    fn anchors(&self) -> Arc<Vec<TrustAnchor<'static>>> {
        let bundle = self.authorities.bundle();
        let parsed = self.parsed.load();
        if parsed.0 == bundle.sequence && !parsed.1.is_empty() {
            return parsed.1.clone();
        }
        let certs = bundle.x509.iter().map(|der| CertificateDer::from(der.as_slice()));
        let anchors = certs.filter_map(|c| webpki::anchor_from_trusted_cert(&c).ok().map(|a| a.to_owned())).collect();
        let anchors = Arc::new(anchors);
        self.parsed.store(Arc::new((bundle.sequence, Arc::clone(&anchors))));
        anchors
    }
}

/// The configuration of one listener.
pub fn server_config(
    identity: Identity,
    authorities: Arc<dyn Authorities>,
    trust_domain: TrustDomain,
    clients: Clients,
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(HouseTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        Clients::Anonymous => builder.with_no_client_auth(),
        Clients::Optional | Clients::Required => {
            let parsed = arc_swap::ArcSwap::from_pointee((0, Arc::default()));
            let anchors = Arc::new(BundleAnchors { authorities, parsed });
            let expected = Expected::Member(trust_domain);
            let mandatory = clients == Clients::Required;
            builder.with_client_cert_verifier(Arc::new(SvidVerifier::new(anchors, expected, mandatory, provider)))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(CurrentIdentity(identity)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The subject key identifier of a certificate, lowercase hex: the id of the authority it belongs to.
pub fn key_id_of(cert: &[u8]) -> Option<String> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    cert.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(hex::encode(id.0)),
        _ => None,
    })
}

/// The names an operator wrote into a CSR to mint.
#[derive(Debug)]
pub(crate) struct CsrNames {
    pub id: SpiffeId,
    pub dns: Vec<String>,
}

/// Reads the identity an operator asks to mint. Only for operators: an agent's CSR names nothing that counts.
pub(crate) fn csr_names(der: &[u8]) -> Result<CsrNames, String> {
    if der.len() > server_core::issue::MAX_CSR {
        return Err("the CSR is too long".into());
    }
    let (_, csr) = X509CertificationRequest::from_der(der).map_err(|_| "the CSR is not a PKCS#10 request in DER")?;
    let mut ids = Vec::new();
    let mut dns = Vec::new();
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::URI(uri) => ids.push(*uri),
                GeneralName::DNSName(name) => dns.push((*name).to_string()),
                _ => return Err("the CSR names something else than a SPIFFE ID and DNS names".into()),
            }
        }
    }
    match ids[..] {
        [id] => Ok(CsrNames { id: parse_spiffe_id(id).map_err(|e| e.to_string())?, dns }),
        _ => Err("the CSR must name exactly one SPIFFE ID as URI SAN".into()),
    }
}

/// One PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|c| std::str::from_utf8(c).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
