//! Whom a connection trusts: the operator's authorities in `ca_file`, or those of this machine.

use proto_tls::HouseTime;
use proto_types::{Clock, Secret, file::read_regular, id::excerpt};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where Debian, Red Hat and Alpine keep the authorities that the system trusts.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Largest file of certificates, or token, bytes.
const MAX_FILE: usize = 256 * 1024;

/// Who vouches for the other side.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Plain http.
    Nobody,
    System,
    /// Read at each connection: an authority renews while the server runs.
    File(PathBuf),
}

impl Trust {
    /// How a connection made now verifies; `None` without TLS.
    pub(crate) fn config(&self, clock: Arc<dyn Clock>) -> Result<Option<Arc<ClientConfig>>, String> {
        let roots = match self {
            Self::Nobody => return Ok(None),
            Self::System => system()?,
            Self::File(path) => private(path).map_err(|why| format!("`ca_file`: {why}"))?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(HouseTime(clock)))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }

    /// Whether there is anybody to trust.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Nobody => Ok(()),
            Self::System => system().map(drop),
            Self::File(path) => private(path).map(drop).map_err(|why| format!("`ca_file`: {why}")),
        }
    }
}

fn system() -> Result<RootCertStore, String> {
    let none = || "`ca_file` is missing, and this machine has no authorities of its own".to_string();
    let path = SYSTEM_ROOTS.iter().map(Path::new).find(|p| p.is_file()).ok_or_else(none)?;
    let mut roots = RootCertStore::empty();
    let all = CertificateDer::pem_file_iter(path).map_err(|_| none())?.filter_map(Result::ok);
    // One that rustls does not read vouches for nobody.
    let (added, _) = roots.add_parsable_certificates(all);
    if added == 0 { Err(none()) } else { Ok(roots) }
}

/// The operator's own: each is one, or the file is refused.
fn private(path: &Path) -> Result<RootCertStore, String> {
    let pem = contents(path)?;
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.expose()) {
        let added = der.map_err(|e| e.to_string()).and_then(|der| roots.add(der).map_err(|e| e.to_string()));
        added.map_err(|e| format!("it holds something that is no certificate: {}", excerpt(&e)))?;
    }
    if roots.is_empty() { Err("it holds no certificate: PEM is read".into()) } else { Ok(roots) }
}

/// The bearer token in a file: one line of visible characters, so that it cannot end a header.
pub fn token(path: &Path) -> Result<Secret<String>, String> {
    let bytes = contents(path)?;
    let text = std::str::from_utf8(bytes.expose()).unwrap_or_default().trim_end_matches(['\n', '\r']);
    match (1..=8192).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(Secret::new(text.to_string())),
        false => Err("it holds no token: one line of visible ASCII characters, at most 8192".into()),
    }
}

fn contents(path: &Path) -> Result<Secret<Vec<u8>>, String> {
    read_regular(path, MAX_FILE).map(Secret::new).map_err(|e| format!("it {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_token_is_one_line_of_visible_characters_in_a_plain_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        for good in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            fs::write(&path, good).unwrap();
            assert_eq!(token(&path).unwrap().expose(), "s3cret");
        }
        for bad in ["", "\n", "two words", "one\ntwo", "one\r\nx-evil: yes", "t\u{f6}ken", &"x".repeat(8193)] {
            fs::write(&path, bad).unwrap();
            assert!(token(&path).is_err(), "{bad:.20}");
        }
        assert!(token(home.path()).is_err());
        assert!(token(&home.path().join("absent")).is_err());
        let fifo = home.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(token(&fifo).is_err());
    }

    #[test]
    fn a_file_with_certificates_is_trust_and_anything_else_in_it_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("ca.pem");
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        fs::write(&path, &pem).unwrap();
        Trust::File(path.clone()).check().unwrap();
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for bad in [String::new(), junk.into(), "no pem".into(), pem + junk] {
            fs::write(&path, &bad).unwrap();
            let why = Trust::File(path.clone()).check().unwrap_err();
            assert!(why.starts_with("`ca_file`"), "{why}");
        }
        assert!(Trust::File(home.path().into()).check().is_err());
    }
}
