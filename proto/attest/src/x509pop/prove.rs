//! The agent's end: its certificate from files, read at each attestation so that a renewed one is used; the answer to one
//! challenge.

use super::{
    MAX_CHAIN, NAME, NONCE,
    message::{Bytes, Chain, Challenge, EcdsaResponse, Response, RsaResponse},
    signature::PrivateKey,
};
use crate::{
    channel::ProverChannel,
    method::{ProveError, Prover, Section, SectionProblem},
};
use proto_types::{Entropy, Fut, OsEntropy, Secret};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest file, bytes.
const MAX_FILE: u64 = 64 * 1024;
const KEYS: [&str; 3] = ["private_key_path", "certificate_path", "intermediates_path"];

/// Proves a node by the key of its certificate.
pub struct X509PopProver {
    key: PathBuf,
    /// The leaf, and intermediates behind it if it pleases.
    certificate: PathBuf,
    intermediates: Option<PathBuf>,
    entropy: Arc<dyn Entropy>,
}

impl X509PopProver {
    pub fn new(key: PathBuf, certificate: PathBuf, intermediates: Option<PathBuf>, entropy: Arc<dyn Entropy>) -> Self {
        Self { key, certificate, intermediates, entropy }
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, ProveError> {
        let mut chain = certificates(&self.certificate, "the file of `certificate_path`")?;
        if let Some(more) = &self.intermediates {
            chain.extend(certificates(more, "the file of `intermediates_path`")?);
        }
        if (1..=MAX_CHAIN).contains(&chain.len()) {
            return Ok(chain);
        }
        Err(bad("the certificate chain", "it has 1 to 5 certificates, the node's own first"))
    }

    fn key(&self) -> Result<PrivateKey, ProveError> {
        let what = "the file of `private_key_path`";
        let pem = read(&self.key, what, true)?;
        let der =
            PrivateKeyDer::from_pem_slice(pem.expose()).map_err(|_| bad(what, "it is no PEM of a private key"))?;
        let PrivateKeyDer::Pkcs8(der) = der else {
            return Err(bad(what, "write it as PKCS#8: `openssl pkcs8 -topk8 -nocrypt`"));
        };
        let der = Secret::new(der.secret_pkcs8_der().to_vec());
        PrivateKey::read(&der).ok_or_else(|| bad(what, "a node's key is P-256, or RSA of 2048 to 4096 bits"))
    }

    async fn converse(&self, channel: &mut dyn ProverChannel) -> Result<(), ProveError> {
        let (chain, key) = (self.chain()?, self.key()?);
        belongs(&chain[0], &key)?;
        let certificates = chain.iter().map(|der| Bytes(der.to_vec())).collect();
        let opening = written(&Chain { certificates })?;
        let Some(challenge) = channel.send(opening).await? else { return Ok(()) };
        let answer = self.answer(&key, &challenge)?;
        match channel.send(answer).await? {
            None => Ok(()),
            Some(_) => Err(bad("the server's second challenge", "this method has one")),
        }
    }

    fn answer(&self, key: &PrivateKey, challenge: &[u8]) -> Result<Secret<Vec<u8>>, ProveError> {
        let what = "the server's challenge";
        let challenge: Challenge =
            serde_json::from_slice(challenge).map_err(|_| bad(what, "it is not this method's"))?;
        let mut own = vec![0; NONCE];
        self.entropy.fill(&mut own);
        let both = |theirs: &Bytes| {
            let long = theirs.0.len() == NONCE;
            long.then(|| [theirs.0.as_slice(), &own].concat()).ok_or_else(|| bad(what, "a nonce has 32 bytes"))
        };
        let other = || bad(what, "it asks for another kind of key than the certificate's");
        let response = match (challenge.rsa_signature, challenge.ecdsa_signature) {
            (Some(rsa), None) => {
                let signature = key.sign_rsa(&both(&rsa.nonce)?).map(Bytes).ok_or_else(other)?;
                Response { rsa_signature: Some(RsaResponse { nonce: Bytes(own), signature }), ecdsa_signature: None }
            }
            (None, Some(ecdsa)) => {
                let (r, s) = key.sign_ecdsa(&both(&ecdsa.nonce)?).ok_or_else(other)?;
                let ecdsa = EcdsaResponse { nonce: Bytes(own), r: Bytes(r), s: Bytes(s) };
                Response { rsa_signature: None, ecdsa_signature: Some(ecdsa) }
            }
            _ => return Err(other()),
        };
        written(&response)
    }
}

fn bad(what: &'static str, why: &'static str) -> ProveError {
    ProveError::Malformed { method: NAME, what, why }
}

fn written(message: &impl serde::Serialize) -> Result<Secret<Vec<u8>>, ProveError> {
    serde_json::to_vec(message).map(Secret::new).map_err(|_| bad("the evidence", "it cannot be written as JSON"))
}

/// Found before the server is asked: a key beside another certificate is a mistake of whoever placed the files.
fn belongs(leaf: &CertificateDer<'_>, key: &PrivateKey) -> Result<(), ProveError> {
    let what = "the file of `certificate_path`";
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| bad(what, "its certificate is not DER inside"))?;
    if *parsed.public_key().subject_public_key.data == *key.public() {
        Ok(())
    } else {
        Err(bad(what, "its first certificate is not that of the key in `private_key_path`"))
    }
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, ProveError> {
    let text = read(path, what, false)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.expose()).collect();
    found.map_err(|_| bad(what, "it is not PEM"))
}

/// Reads a regular file of at most 64 KiB; a private one is its owner's alone.
fn read(path: &Path, what: &'static str, private: bool) -> Result<Secret<Vec<u8>>, ProveError> {
    let unreadable = |e: std::io::Error| ProveError::Unreadable { method: NAME, what, why: e.kind().to_string() };
    // A FIFO would make the open itself wait.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(bad(what, "it is not a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() || meta.len() > MAX_FILE {
        return Err(bad(what, "it is not a regular file of at most 64 KiB"));
    }
    let uid = nix::unistd::geteuid().as_raw();
    if private && (meta.permissions().mode() & 0o077 != 0 || (meta.uid() != uid && meta.uid() != 0)) {
        return Err(bad(what, "others may read it: chmod 600, and give it to the agent's user or root"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).map_err(unreadable)?;
    Ok(Secret::new(text))
}

impl Prover for X509PopProver {
    fn method(&self) -> &'static str {
        NAME
    }
    fn can_reattest(&self) -> bool {
        true
    }
    fn prove<'a>(&'a self, channel: &'a mut dyn ProverChannel) -> Fut<'a, Result<(), ProveError>> {
        Box::pin(self.converse(channel))
    }
}

/// `private_key_path`, `certificate_path` and, if it stands apart, `intermediates_path`.
pub(super) fn make(section: &Section) -> Result<Arc<dyn Prover>, Vec<SectionProblem>> {
    let mut problems = Vec::new();
    for key in section.keys().filter(|k| !KEYS.contains(&k.as_str())) {
        let what = format!("`{}` is not known here; known are {}", proto_types::id::excerpt(key), KEYS.join(", "));
        problems.push(SectionProblem { key: "", what });
    }
    let [key, certificate, intermediates] = KEYS.map(|key| {
        let path = section.get(key).map(|v| v.as_str().map(PathBuf::from).filter(|p| p.is_absolute()));
        match path {
            Some(Some(path)) => Some(path),
            Some(None) => {
                problems.push(SectionProblem { key, what: "write an absolute path".into() });
                None
            }
            None => {
                if key != "intermediates_path" {
                    problems.push(SectionProblem { key, what: "is missing: name a PEM file".into() });
                }
                None
            }
        }
    });
    match (key, certificate) {
        (Some(key), Some(certificate)) if problems.is_empty() => {
            Ok(Arc::new(X509PopProver::new(key, certificate, intermediates, Arc::new(OsEntropy))))
        }
        _ => Err(problems),
    }
}
