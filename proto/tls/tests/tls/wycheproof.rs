//! The signature of a handshake against the vectors of the corpora, by the verifier that every end uses.

use crate::{
    house::{Cert, root},
    vectors::each_has_its_expected_outcome,
};
use proto_tls::{Expected, SvidVerifier};
use proto_types::id::parse_trust_domain;
use rcgen::SubjectPublicKeyInfo;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    internal::msgs::codec::{Codec as _, Reader},
    pki_types::CertificateDer,
    server::danger::ClientCertVerifier as _,
};
use serde_json::Value;
use std::sync::Arc;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex")).expect("hex")
}

/// As it stands in a CertificateVerify message (RFC 8446 section 4.4.3).
fn signed(scheme: SignatureScheme, signature: &[u8]) -> DigitallySignedStruct {
    let mut wire = Vec::new();
    scheme.encode(&mut wire);
    wire.extend(u16::try_from(signature.len()).unwrap().to_be_bytes());
    wire.extend(signature);
    DigitallySignedStruct::read(&mut Reader::init(&wire)).unwrap()
}

#[test]
fn every_handshake_signature_of_wycheproof_has_its_expected_outcome() {
    let (ca, _) = root("root", &rcgen::PKCS_ECDSA_P256_SHA256);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let expected = Expected::Member(parse_trust_domain("example.org").unwrap());
    let verifier = SvidVerifier::new(Arc::new(Arc::new(Vec::new())), expected, true, provider);
    each_has_its_expected_outcome("tls", |group, vector| {
        let key = SubjectPublicKeyInfo::from_der(&bytes(&group["publicKeyDer"])).unwrap();
        let cert = Cert::default().params(true, "leaf", 2).signed_by(&key, &ca).unwrap();
        let cert = CertificateDer::from(cert.der().to_vec());
        let (message, signature) = (bytes(&vector["msg"]), bytes(&vector["sig"]));
        match group["type"].as_str() {
            Some("EcdsaVerify") => {
                let signed = signed(SignatureScheme::ECDSA_NISTP256_SHA256, &signature);
                let new = verifier.verify_tls13_signature(&message, &cert, &signed).is_ok();
                let old = verifier.verify_tls12_signature(&message, &cert, &signed).is_ok();
                assert_eq!(new, old, "{}", vector["tcId"]);
                new
            }
            Some("RsassaPkcs1Verify") => {
                let signed = signed(SignatureScheme::RSA_PKCS1_SHA256, &signature);
                // RFC 8446 section 4.2.3: not in a handshake of TLS 1.3.
                assert!(verifier.verify_tls13_signature(&message, &cert, &signed).is_err());
                verifier.verify_tls12_signature(&message, &cert, &signed).is_ok()
            }
            other => panic!("no verifier for {other:?}"),
        }
    });
}
