//! What holds for any bytes read as a certificate chain: certificates in DER, leaf first, the last one trusted. Shared by
//! the fuzz target and the tests.

use proto_tls::{Expected, Svid, SvidVerifier};
use proto_types::id::parse_trust_domain;
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, TrustAnchor, UnixTime},
    server::danger::ClientCertVerifier as _,
};
use std::{sync::Arc, time::Duration};

/// When the chains of the corpus are valid.
const NOW: u64 = 1_800_000_000;

/// What the verifier takes is read as an SVID of the trust domain that is valid now; it is taken under no other trust
/// domain, without its root, or with a byte behind its leaf. Answers whether it was taken.
pub fn holds(data: &[u8]) -> bool {
    let certs = split(data);
    let Some((leaf, rest)) = certs.split_first() else { return false };
    let svid = Svid::read(leaf);
    if let Ok(svid) = &svid {
        assert!(!svid.id.path().is_empty() && !svid.serial.starts_with("00"));
        assert!(Svid::read(&[leaf, &[0][..]].concat()).is_err());
        assert!(Svid::read(&leaf[..leaf.len() - 1]).is_err());
    }
    let Some((root, behind)) = rest.split_last() else { return false };
    let root = CertificateDer::from(*root);
    let Ok(anchor) = webpki::anchor_from_trusted_cert(&root) else { return false };
    let anchors = vec![anchor.to_owned()];
    if !verified(leaf, behind, anchors.clone(), "example.org") {
        return false;
    }
    let svid = svid.expect("what is verified is an SVID");
    assert_eq!(svid.id.trust_domain().to_string(), "example.org");
    let now = i64::try_from(NOW).expect("it is small");
    assert!((svid.not_before.as_secs()..=svid.not_after.as_secs()).contains(&now));
    assert!(!verified(leaf, behind, Vec::new(), "example.org"));
    assert!(!verified(leaf, behind, anchors.clone(), "other.example.org"));
    assert!(!verified(&[leaf, &[0][..]].concat(), behind, anchors, "example.org"));
    true
}

fn verified(leaf: &[u8], behind: &[&[u8]], anchors: Vec<TrustAnchor<'static>>, td: &str) -> bool {
    let expected = Expected::Member(parse_trust_domain(td).expect("a good name"));
    let verifier = SvidVerifier::new(Arc::new(Arc::new(anchors)), expected, true, Arc::new(default_provider()));
    let behind: Vec<_> = behind.iter().map(|der| CertificateDer::from(*der)).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    verifier.verify_client_cert(&CertificateDer::from(leaf), &behind, now).is_ok()
}

/// Cuts at each outermost SEQUENCE with a length of two bytes; what is not one stays whole.
fn split(mut data: &[u8]) -> Vec<&[u8]> {
    let mut certs = Vec::new();
    while let [0x30, 0x82, high, low, ..] = data {
        let len = 4 + usize::from(u16::from_be_bytes([*high, *low]));
        let (cert, rest) = data.split_at(len.min(data.len()));
        certs.push(cert);
        data = rest;
    }
    certs.extend((!data.is_empty()).then_some(data));
    certs
}
