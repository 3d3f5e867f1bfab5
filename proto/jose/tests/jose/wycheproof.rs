//! The signature layer against the JWS, JWK and JWE vectors of the corpora, by their own verdict.
//!
//! The vectors are not part of the project: `ERRAND_CORPORA` names the folder that holds them. Without it the test says
//! so and goes on.

use proto_jose::{Alg, JwksUses, KeySet, verify_jws};
use serde_json::{Value, json};
use std::path::PathBuf;

const FILES: [&str; 3] = ["json_web_signature", "json_web_key", "json_web_crypto"];

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

/// The public keys of a group as a key set; a group of symmetric keys has none, and nothing of it is ever accepted.
fn keys(group: &Value) -> Option<KeySet> {
    let public = group.get("public")?;
    let set = if public.get("keys").is_some() { public.clone() } else { json!({ "keys": [public] }) };
    Some(KeySet::from_jwks(set.to_string().as_bytes(), JwksUses::Oidc).unwrap_or_default())
}

#[test]
fn every_vector_has_the_verdict_it_should_have() {
    let Some(corpora) = std::env::var_os("ERRAND_CORPORA").map(PathBuf::from) else {
        println!("ERRAND_CORPORA is not set: the JWS vectors were not tried");
        return;
    };
    let (mut accepted, mut refused) = (0, 0);
    for file in FILES {
        let path = corpora.join("wycheproof").join(format!("{file}_test.json"));
        let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let suite: Value = serde_json::from_slice(&text).unwrap();
        for group in suite["testGroups"].as_array().unwrap() {
            let name = format!("{file}/{}", group["comment"].as_str().unwrap());
            let keys = keys(group);
            for case in group["tests"].as_array().unwrap() {
                let id = u32::try_from(case["tcId"].as_u64().unwrap()).unwrap();
                // A token that is not a string (the JSON serialisation) or is encrypted is offered as what it is.
                let token = case.get("jws").or(case.get("jwe")).unwrap();
                let token = token.as_str().map_or_else(|| token.to_string(), String::from);
                let answer =
                    verify_jws(&token, &Alg::ALL, &["", "JWT", "JOSE"], keys.as_ref().unwrap_or(&KeySet::default()));
                let differs = DIFFERENT.iter().any(|(g, ids, _)| *g == name && ids.contains(&id));
                let expected = keys.is_some() && (case["result"] == "valid") != differs;
                assert_eq!(answer.is_ok(), expected, "{name} {id}: {}, {answer:?}", case["result"]);
                if expected { accepted += 1 } else { refused += 1 }
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 20 && refused > 400, "{accepted} accepted, {refused} refused");
}
