//! The signature layer against Project Wycheproof's JWS vectors for RSA and EC keys (Apache-2.0), by their own verdict.

use proto_jose::{Alg, JwksUses, KeySet, verify_jws};
use serde_json::Value;

#[derive(serde::Deserialize)]
struct Group {
    group: String,
    jwks: Value,
    cases: Vec<(u32, String, String)>,
}

/// Vectors whose verdict differs here, each with its reason.
const DIFFERENT: &[(&str, &[u32], &str)] = &[
    ("json_web_signature/rs256", &[259], "an empty payload is no JWT"),
    ("json_web_signature/rs384", &[264], "an empty payload is no JWT"),
    ("json_web_signature/rs512", &[268], "an empty payload is no JWT"),
    ("json_web_signature/ps256", &[272], "an empty payload is no JWT"),
    ("json_web_signature/ps384", &[320], "an empty payload is no JWT"),
    ("json_web_signature/ps512", &[325], "an empty payload is no JWT"),
    ("json_web_signature/rfc7520", &[346, 347], "the key's `alg` is not the token's"),
    ("json_web_signature/rfc7520WithKeyOps", &[350, 351], "the key's `alg` is not the token's"),
    ("json_web_key/jws_rsa_roca_key", &[7], "weakly generated RSA keys are not recognised"),
    ("json_web_crypto/jws_rsa_roca_key", &[46], "weakly generated RSA keys are not recognised"),
];

#[test]
fn every_vector_has_the_verdict_it_should_have() {
    let groups: Vec<Group> = serde_json::from_str(include_str!("../data/wycheproof_jws.json")).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in &groups {
        let keys = KeySet::from_jwks(group.jwks.to_string().as_bytes(), JwksUses::Oidc).unwrap_or_default();
        for (id, verdict, token) in &group.cases {
            let answer = verify_jws(token, &Alg::ALL, &["", "JWT", "JOSE"], &keys);
            let differs = DIFFERENT.iter().any(|(g, ids, _)| *g == group.group && ids.contains(id));
            let expected = (verdict == "valid") != differs;
            assert_eq!(answer.is_ok(), expected, "{} {id}: {verdict}, {answer:?}", group.group);
            if expected { accepted += 1 } else { refused += 1 }
        }
    }
    assert!(accepted > 20 && refused > 300, "{accepted} accepted, {refused} refused");
}
