//! The server's end: the chain first, then one nonce for this conversation alone, then the signature over both nonces.

use super::{
    NAME, NONCE,
    chain::{self, Authorities, VerifiedLeaf},
    message::{Bytes, Chain, Challenge, Nonce, Response},
};
use crate::{
    channel::VerifierChannel,
    method::{Attested, Evidence, Section, SectionProblem, Verifier, VerifierPorts, VerifyError},
};
use proto_types::{Entropy, Fut, id::parse_spiffe_id};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use std::{io::Read as _, path::Path, sync::Arc};

/// Longest bundle, bytes, and most certificates in it.
const MAX_BUNDLE: u64 = 1024 * 1024;
const MAX_AUTHORITIES: usize = 100;

/// Verifies possession of a certificate's key.
pub struct X509PopVerifier {
    roots: Authorities,
    entropy: Arc<dyn Entropy>,
}

impl X509PopVerifier {
    /// From the authorities that sign nodes' certificates; `None` when one is no authority.
    pub fn new(authorities: &[CertificateDer<'static>], entropy: Arc<dyn Entropy>) -> Option<Self> {
        Some(Self { roots: Authorities::new(authorities)?, entropy })
    }

    async fn converse(
        &self,
        evidence: Evidence<'_>,
        channel: &mut dyn VerifierChannel,
    ) -> Result<Attested, VerifyError> {
        let chain: Chain = serde_json::from_slice(evidence.payload)
            .map_err(|_| malformed("the payload is a JSON object with `certificates`, base64 DER each"))?;
        let leaf = chain::verify(&chain.certificates, &self.roots, evidence.now).map_err(refused)?;
        let mut nonce = [0; NONCE];
        self.entropy.fill(&mut nonce);
        let answer = channel.challenge(challenge(&leaf, &nonce)?).await?;
        let answer: Response =
            serde_json::from_slice(&answer).map_err(|_| malformed("the answer is no JSON object of this method"))?;
        possession(&leaf, &nonce, &answer)?;
        let id = format!("spiffe://{}/spire/agent/{NAME}/{}", evidence.trust_domain, leaf.fingerprint);
        let agent = parse_spiffe_id(&id)
            .map_err(|_| VerifyError::Unavailable { method: NAME, why: "the agent has no valid ID".into() })?;
        Ok(Attested::assertion(agent, true).with_selectors(leaf.selectors))
    }
}

fn malformed(what: &'static str) -> VerifyError {
    VerifyError::Malformed { method: NAME, what }
}

fn refused(why: &'static str) -> VerifyError {
    VerifyError::Refused { method: NAME, why }
}

fn challenge(leaf: &VerifiedLeaf, nonce: &[u8]) -> Result<Vec<u8>, VerifyError> {
    let nonce = Some(Nonce { nonce: Bytes(nonce.to_vec()) });
    let challenge = if leaf.key.is_rsa() {
        Challenge { rsa_signature: nonce, ecdsa_signature: None }
    } else {
        Challenge { rsa_signature: None, ecdsa_signature: nonce }
    };
    serde_json::to_vec(&challenge)
        .map_err(|_| VerifyError::Unavailable { method: NAME, why: "the challenge cannot be written".into() })
}

/// The node's nonce keeps the server from choosing what the node signs; the server's keeps an old answer from being new.
fn possession(leaf: &VerifiedLeaf, nonce: &[u8; NONCE], answer: &Response) -> Result<(), VerifyError> {
    let both = |theirs: &Bytes| {
        let long = theirs.0.len() == NONCE;
        long.then(|| [nonce.as_slice(), &theirs.0].concat()).ok_or_else(|| malformed("a nonce has 32 bytes"))
    };
    let proven = match (&answer.rsa_signature, &answer.ecdsa_signature) {
        (Some(rsa), None) => leaf.key.verifies_rsa(&both(&rsa.nonce)?, &rsa.signature.0),
        (None, Some(ecdsa)) => leaf.key.verifies_ecdsa(&both(&ecdsa.nonce)?, &ecdsa.r.0, &ecdsa.s.0),
        _ => return Err(malformed("the answer holds one signature, of the leaf's kind")),
    };
    if proven { Ok(()) } else { Err(refused("the answer is not signed by the certificate's key")) }
}

impl Verifier for X509PopVerifier {
    fn method(&self) -> &'static str {
        NAME
    }
    fn verify<'a>(
        &'a self,
        evidence: Evidence<'a>,
        channel: &'a mut dyn VerifierChannel,
    ) -> Fut<'a, Result<Attested, VerifyError>> {
        Box::pin(self.converse(evidence, channel))
    }
}

/// `ca_bundle_path`: PEM, read once.
pub(super) fn make(section: &Section, ports: &VerifierPorts) -> Result<Arc<dyn Verifier>, Vec<SectionProblem>> {
    let mut problems = Vec::new();
    for key in section.keys().filter(|k| *k != "ca_bundle_path") {
        let what = format!("`{}` is not known here; known is `ca_bundle_path`", proto_types::id::excerpt(key));
        problems.push(SectionProblem { key: "", what });
    }
    let made = bundle(section)
        .and_then(|roots| {
            X509PopVerifier::new(&roots, ports.entropy.clone()).ok_or("it holds a certificate that is no authority's")
        })
        .map_err(|what| problems.push(SectionProblem { key: "ca_bundle_path", what: what.into() }));
    match made {
        Ok(verifier) if problems.is_empty() => Ok(Arc::new(verifier)),
        _ => Err(problems),
    }
}

fn bundle(section: &Section) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let path = section.get("ca_bundle_path").ok_or("is missing: name a PEM file of the authorities")?;
    let path = path.as_str().map(Path::new).filter(|p| p.is_absolute()).ok_or("write an absolute path")?;
    let meta = std::fs::metadata(path).map_err(|_| "the file cannot be read")?;
    if !meta.is_file() || meta.len() > MAX_BUNDLE {
        return Err("name a regular file of at most 1 MiB");
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(|_| "the file cannot be read")?;
    file.take(MAX_BUNDLE).read_to_end(&mut text).map_err(|_| "the file cannot be read")?;
    let roots = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let roots = roots.map_err(|_| "the file is not PEM")?;
    if (1..=MAX_AUTHORITIES).contains(&roots.len()) { Ok(roots) } else { Err("the file holds 1 to 100 certificates") }
}
