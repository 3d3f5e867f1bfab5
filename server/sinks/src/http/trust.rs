//! Whom a connection to a sink trusts: the CA certificates of `ca_file`, or those the system trusts.

use rustls::{RootCertStore, pki_types::CertificateDer};
use rustls_pki_types::pem::PemObject;
use std::{fmt, io::Read, path::Path, sync::Arc};

/// Largest file of CA certificates, bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Where distributions keep the certificates the system trusts.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

#[derive(Clone)]
pub struct Trust(pub Arc<RootCertStore>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} roots)", self.0.len())
    }
}

impl Trust {
    /// The error says which key of the section is wrong.
    pub fn read(ca_file: Option<&Path>, tls: bool) -> Result<Self, String> {
        if !tls {
            return Ok(Self(Arc::new(RootCertStore::empty())));
        }
        let named = ca_file.map(|path| roots(path).map_err(|why| format!("`ca_file`: {why}")));
        named.unwrap_or_else(system).map(|roots| Self(Arc::new(roots)))
    }
}

fn system() -> Result<RootCertStore, String> {
    let found = SYSTEM.iter().find_map(|path| roots(Path::new(path)).ok());
    found.ok_or_else(|| "`ca_file` is needed: this system has no CA certificates (ca-certificates)".into())
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let meta = std::fs::metadata(path).map_err(|e| e.kind().to_string())?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err("is no regular file of at most 4 MiB".into());
    }
    let mut pem = Vec::new();
    std::fs::File::open(path).and_then(|f| f.take(MAX_FILE).read_to_end(&mut pem)).map_err(|e| e.kind().to_string())?;
    let mut roots = RootCertStore::empty();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    roots.add_parsable_certificates(certificates.map_err(|_| "is not PEM".to_string())?);
    if roots.is_empty() { Err("holds no CA certificate".into()) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_certificate_is_trust_and_one_without_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        assert_eq!(Trust::read(Some(&path), true).unwrap().0.len(), 1);
        for bad in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no pem"] {
            std::fs::write(&path, bad).unwrap();
            assert!(Trust::read(Some(&path), true).is_err(), "{bad}");
        }
        assert!(Trust::read(Some(home.path()), true).is_err());
    }
}
