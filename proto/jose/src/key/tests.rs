//! Signatures alone, without a token around them, against the vectors of the corpora.

#[path = "../../tests/jose/vectors.rs"]
mod vectors;

use super::VerificationKey;
use crate::alg::Alg;
use serde_json::Value;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex")).expect("hex")
}

#[test]
fn every_signature_of_wycheproof_has_its_expected_outcome() {
    vectors::each_has_its_expected_outcome("token-key", |group, vector| {
        let alg = match group["type"].as_str() {
            Some("EcdsaP1363Verify") => Alg::Es256,
            Some("RsassaPkcs1Verify") => Alg::Rs256,
            other => panic!("no verifier for {other:?}"),
        };
        let Ok(key) = VerificationKey::from_spki("k", &bytes(&group["publicKeyDer"])) else { return false };
        let verifier = key.verifier(alg).expect("the key suits the algorithm");
        verifier.verify(&bytes(&vector["msg"]), &bytes(&vector["sig"])).is_ok()
    });
}
