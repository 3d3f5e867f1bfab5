//! TLS of the server's own listeners: its SVID, and callers' certificates checked against the bundle of this moment.
//!
//! Session resumption is off: a resumed session would skip the chain check after the bundle changed (invariant 13).
//! Decides only that a certificate is a valid X509-SVID of this trust domain (X509-SVID section 5); what its holder may
//! do is asked on every call.

use crate::peer::ClientCert;
use proto_types::{Clock, SpiffeId, Timestamp, TrustDomain, id::parse_spiffe_id};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
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

struct SvidVerifier {
    authorities: Arc<dyn Authorities>,
    trust_domain: TrustDomain,
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for SvidVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SvidVerifier({})", self.trust_domain)
    }
}

/// Reads the time from the house's clock, so that tests own expiry too.
struct HouseTime(Arc<dyn Clock>);

impl std::fmt::Debug for HouseTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HouseTime")
    }
}

impl rustls::time_provider::TimeProvider for HouseTime {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().as_secs()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs)))
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
    let algorithms = provider.signature_verification_algorithms;
    let builder = ServerConfig::builder_with_details(provider, Arc::new(HouseTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?;
    let builder = match clients {
        Clients::Anonymous => builder.with_no_client_auth(),
        Clients::Optional | Clients::Required => builder.with_client_cert_verifier(Arc::new(SvidVerifier {
            authorities,
            trust_domain,
            mandatory: clients == Clients::Required,
            algorithms,
        })),
    };
    let mut config = builder.with_cert_resolver(Arc::new(CurrentIdentity(identity)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl ClientCertVerifier for SvidVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let refuse = |e| rustls::Error::InvalidCertificate(e);
        let bad = || refuse(rustls::CertificateError::BadEncoding);
        // Bounded before any arithmetic.
        if intermediates.len() > 4 || leaf.len() > 16 * 1024 {
            return Err(bad());
        }
        let bundle = self.authorities.bundle();
        let roots: Vec<CertificateDer<'_>> = bundle.x509.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let anchors: Vec<_> = roots.iter().filter_map(|r| webpki::anchor_from_trusted_cert(r).ok()).collect();
        let end = webpki::EndEntityCert::try_from(leaf).map_err(|_| bad())?;
        end.verify_for_usage(
            self.algorithms.all,
            &anchors,
            intermediates,
            now,
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|e| match e {
            webpki::Error::CertExpired { .. } => refuse(rustls::CertificateError::Expired),
            webpki::Error::CertNotValidYet { .. } => refuse(rustls::CertificateError::NotValidYet),
            _ => refuse(rustls::CertificateError::UnknownIssuer),
        })?;
        let svid = read_svid(leaf).ok_or_else(bad)?;
        if svid.id.trust_domain() != &self.trust_domain {
            return Err(refuse(rustls::CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Reads a leaf as X509-SVID section 5.2 wants it: exactly one URI SAN, a SPIFFE ID with a path; not a CA; digitalSignature
/// and neither certificate nor CRL signing. Its chain is the verifier's.
pub(crate) fn read_svid(der: &[u8]) -> Option<ClientCert> {
    let (rest, cert) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() || cert.is_ca() {
        return None;
    }
    let usage = cert.key_usage().ok()??;
    if !usage.critical || !usage.value.digital_signature() || usage.value.key_cert_sign() || usage.value.crl_sign() {
        return None;
    }
    let names = cert.subject_alternative_name().ok()??;
    let mut uris = names.value.general_names.iter().filter_map(|n| match n {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let id = parse_spiffe_id(uris.next()?).ok().filter(|id| !id.path().is_empty())?;
    if uris.next().is_some() {
        return None;
    }
    let serial: Vec<u8> = cert.raw_serial().iter().copied().skip_while(|b| *b == 0).collect();
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref());
    Some(ClientCert {
        id,
        serial: hex::encode(serial),
        sha256,
        not_after: Timestamp::from_secs(cert.validity().not_after.timestamp()),
    })
}

/// The SubjectPublicKeyInfo of a certificate, DER.
pub(crate) fn spki_of(cert: &[u8]) -> Option<Vec<u8>> {
    X509Certificate::from_der(cert).ok().map(|(_, c)| c.public_key().raw.to_vec())
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
