//! What a stranger's chain may cost: signatures are counted, not timed. C10 to C12 of the bad inputs.

use crate::house::{Authority, Cert, NOW, authority, leaf, root};
use proto_tls::{Expected, SvidVerifier};
use proto_types::id::parse_trust_domain;
use rustls::{
    Error,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{
        AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
    },
    server::danger::ClientCertVerifier as _,
};
use std::{cell::Cell, sync::Arc, time::Duration};

/// The most signatures that one chain may make us check, whatever it is.
const MOST: usize = 100;

thread_local! {
    static CHECKED: Cell<usize> = const { Cell::new(0) };
}

/// ECDSA over P-256, counted.
#[derive(Debug)]
struct Counted;

impl SignatureVerificationAlgorithm for Counted {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        CHECKED.set(CHECKED.get() + 1);
        webpki::aws_lc_rs::ECDSA_P256_SHA256.verify_signature(key, message, signature)
    }
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        webpki::aws_lc_rs::ECDSA_P256_SHA256.public_key_alg_id()
    }
    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        webpki::aws_lc_rs::ECDSA_P256_SHA256.signature_alg_id()
    }
}

/// The verdict on a chain, and how many signatures it took.
fn verify(anchors: &[Vec<u8>], certs: &[Vec<u8>]) -> (Result<(), Error>, usize) {
    let provider = CryptoProvider {
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: &[&Counted], mapping: &[] },
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let anchor = |der: &Vec<u8>| webpki::anchor_from_trusted_cert(&der.as_slice().into()).unwrap().to_owned();
    let anchors: Vec<TrustAnchor<'static>> = anchors.iter().map(anchor).collect();
    let expected = Expected::Member(parse_trust_domain("example.org").unwrap());
    let verifier = SvidVerifier::new(Arc::new(Arc::new(anchors)), expected, true, Arc::new(provider));
    let certs: Vec<_> = certs.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(NOW).unwrap()));
    CHECKED.set(0);
    let verdict = verifier.verify_client_cert(&certs[0], &certs[1..], now).map(drop);
    (verdict, CHECKED.get())
}

fn new_root(name: &str) -> (Authority, Vec<u8>) {
    root(name, &rcgen::PKCS_ECDSA_P256_SHA256)
}

#[test]
fn a_good_chain_costs_one_signature_for_each_certificate() {
    let (ca, ours) = new_root("root");
    let (upper, second) = authority(&Cert::default(), "upper", 2, &ca);
    let (lower, first) = authority(&Cert::default(), "lower", 3, &upper);
    let (verdict, cost) = verify(&[ours], &[leaf(&Cert::default(), &lower), first, second]);
    assert_eq!((verdict, cost), (Ok(()), 3));
}

/// Certificates that each may have signed each other: every order of them is a path to try.
#[test]
fn certificates_that_all_bear_one_name_cost_a_bounded_number_of_signatures() {
    let (ca, ours) = new_root("twin");
    let behind: Vec<_> = (0..4).map(|n| authority(&Cert::default(), "twin", 10 + n, &ca)).collect();
    let ders: Vec<_> = behind.iter().map(|(_, der)| der.clone()).collect();
    let (stranger, _) = new_root("twin");
    let chain = |leaf: Vec<u8>| [&[leaf][..], &ders].concat();

    let (verdict, cost) = verify(std::slice::from_ref(&ours), &chain(leaf(&Cert::default(), &stranger)));
    assert!(verdict.is_err() && cost <= MOST, "{verdict:?} after {cost} signatures");
    // Its neighbour, signed by the last that would be tried, is found within the same bound.
    let (verdict, cost) = verify(&[ours], &chain(leaf(&Cert::default(), &behind[3].0)));
    assert!(verdict.is_ok() && cost <= MOST, "{verdict:?} after {cost} signatures");
}

#[test]
fn a_cycle_of_two_that_signed_each_other_ends() {
    let (ca, ours) = new_root("root");
    let ((a, _), (b, _)) = (new_root("a"), new_root("b"));
    let again = |name: &str, serial: u8, issuer: &Authority| authority(&Cert::default(), name, serial, issuer).1;
    let cycle = [again("a", 5, &b), again("b", 6, &a)];
    let (verdict, cost) = verify(std::slice::from_ref(&ours), &[&[leaf(&Cert::default(), &a)][..], &cycle].concat());
    assert!(verdict.is_err() && cost <= MOST, "{verdict:?} after {cost} signatures");
    let (good, der) = authority(&Cert::default(), "a", 7, &ca);
    let sent = [&[leaf(&Cert::default(), &good), der][..], &cycle].concat();
    let (verdict, cost) = verify(&[ours], &sent);
    assert!(verdict.is_ok() && cost <= MOST, "{verdict:?} after {cost} signatures");
}

/// A bundle in rotation has several roots of one name.
#[test]
fn many_roots_of_one_name_cost_a_bounded_number_of_signatures() {
    let roots: Vec<_> = (0..32).map(|_| new_root("root")).collect();
    let anchors: Vec<_> = roots.iter().map(|(_, der)| der.clone()).collect();
    let (stranger, _) = new_root("root");
    let (verdict, cost) = verify(&anchors, &[leaf(&Cert::default(), &stranger)]);
    assert!(verdict.is_err() && cost <= MOST, "{verdict:?} after {cost} signatures");
    let (verdict, cost) = verify(&anchors, &[leaf(&Cert::default(), &roots[31].0)]);
    assert!(verdict.is_ok() && cost <= MOST, "{verdict:?} after {cost} signatures");
}
