//! Whole tokens against the JWS, JWK and JWE vectors of the corpora.

use crate::vectors::{each_has_its_expected_outcome, folder, list};
use proto_jose::{Alg, JwksUses, KeySet, verify_jws};
use serde_json::{Value, json};

/// The public keys of a group as a key set; a group of symmetric keys has none, and nothing of it is ever accepted.
fn keys(group: &Value) -> KeySet {
    let Some(public) = group.get("public") else { return KeySet::default() };
    let set = if public.get("keys").is_some() { public.clone() } else { json!({ "keys": [public] }) };
    KeySet::from_jwks(set.to_string().as_bytes(), JwksUses::Oidc).unwrap_or_default()
}

#[test]
fn every_token_of_wycheproof_has_its_expected_outcome() {
    each_has_its_expected_outcome("jws", |group, vector| {
        // A token that is not a string (the JSON serialisation) or is encrypted is offered as what it is.
        let token = vector.get("jws").or(vector.get("jwe")).unwrap();
        let token = token.as_str().map_or_else(|| token.to_string(), String::from);
        verify_jws(&token, &Alg::ALL, &["", "JWT", "JOSE"], &keys(group)).is_ok()
    });
}

#[test]
fn every_file_of_wycheproof_has_a_verifier() {
    let Some(folder) = folder() else { return };
    let list = list();
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(file) = name.strip_suffix("_test.json") else { continue };
        assert!(list.suite.iter().any(|s| s.file == file), "{name} is in no suite of tests/data/wycheproof.toml");
    }
}
