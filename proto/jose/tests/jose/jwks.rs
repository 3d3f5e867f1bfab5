//! JWKS and bundle documents: what we publish reads back, what we read is bounded and unambiguous.

use crate::world::{World, expand, spki};
use proto_jose::{
    BundleParts, JwksUses, KeyPurpose, KeySet, KeySetError, jwk_from_spki, spiffe_bundle_json, thumbprint,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

fn read(keys: &[Value], uses: JwksUses) -> Result<usize, KeySetError> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), uses).map(|set| set.len())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    name: String,
    refused: Document,
    #[serde(default)]
    accepted: Document,
    /// How the reason begins; without it the key is passed over.
    error: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Document {
    key: Option<String>,
    set: Map<String, Value>,
    doc: Option<String>,
    uses: Option<String>,
}

impl Document {
    fn read(&self, world: &World) -> Result<usize, KeySetError> {
        let spki = if self.key.as_deref() == Some("rsa") { world.rsa_spki() } else { spki(&world.p256) };
        let mut key = jwk_from_spki(&spki, Some("a"), KeyPurpose::Unstated).unwrap();
        for (name, value) in &self.set {
            match value.as_str() {
                Some("null") => drop(key.as_object_mut().unwrap().remove(name)),
                Some(text) => key[name] = expand(text).into(),
                None => key[name] = value.clone(),
            }
        }
        let doc = expand(self.doc.as_deref().unwrap_or(r#"{"keys":[{key}]}"#)).replace("{key}", &key.to_string());
        let uses = match self.uses.as_deref() {
            None | Some("oidc") => JwksUses::Oidc,
            Some("bundle") => JwksUses::SpiffeBundle,
            Some("workload") => JwksUses::WorkloadApi,
            Some(other) => panic!("no such use: {other}"),
        };
        KeySet::from_jwks(doc.as_bytes(), uses).map(|set| set.len())
    }
}

#[test]
fn every_bad_key_of_the_table_is_refused_or_passed_over_and_its_twin_is_taken() {
    let world = World::new();
    let table: Table = toml::from_str(include_str!("../data/jwks.toml")).unwrap();
    for Case { id, name, refused, accepted, error } in &table.case {
        match (refused.read(&world), error) {
            (Ok(0), None) => {}
            (Err(why), Some(error)) => assert!(format!("{why:?}").starts_with(error), "{id} {name}: {why:?}"),
            (other, _) => panic!("{id} {name}: {other:?}"),
        }
        assert_eq!(accepted.read(&world), Ok(1), "the twin of {id} {name}");
    }
}

#[test]
fn keys_are_taken_by_their_use() {
    let of = |purpose| jwk_from_spki(&spki(&World::new().p256), Some("k"), purpose).unwrap();
    let (svid, sig, none) = (of(KeyPurpose::JwtSvid), of(KeyPurpose::Signature), of(KeyPurpose::Unstated));
    let x509 = of(KeyPurpose::X509Svid);
    for (uses, takes) in
        [(JwksUses::SpiffeBundle, [1, 0, 0]), (JwksUses::WorkloadApi, [1, 1, 1]), (JwksUses::Oidc, [0, 1, 1])]
    {
        for (key, n) in [&svid, &sig, &none].into_iter().zip(takes) {
            assert_eq!(read(std::slice::from_ref(key), uses), Ok(n), "{uses:?} {key}");
        }
        assert_eq!(read(std::slice::from_ref(&x509), uses), Ok(0));
    }
}

#[test]
fn the_thumbprint_is_the_one_of_rfc_7638() {
    // The example key of RFC 7638 section 3.1, as SubjectPublicKeyInfo.
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3okn\
             jhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6\
             qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let n: String = n.chars().filter(|c| !c.is_whitespace()).collect();
    let n = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, n).unwrap();
    let rsa = aws_lc_rs::signature::RsaPublicKeyComponents { n, e: vec![1, 0, 1] };
    let spki = aws_lc_rs::encoding::AsDer::as_der(&rsa).unwrap();
    assert_eq!(thumbprint(spki.as_ref()).unwrap(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // RFC 8037 appendix A.3.
    let x = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    );
    let ed = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], &x.unwrap()].concat();
    assert_eq!(thumbprint(&ed).unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_bundle_document_carries_certificates_without_kid_and_tokens_keys_with_one() {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::default().self_signed(&key).unwrap().der().to_vec();
    let jwt = spki(&World::new().p256);
    let parts = BundleParts { x509: std::slice::from_ref(&cert), jwt: &[("k1", &jwt)], sequence: 7, refresh_hint: 300 };
    let doc = spiffe_bundle_json(&parts).unwrap();
    assert_eq!((&doc["spiffe_sequence"], &doc["spiffe_refresh_hint"]), (&json!(7), &json!(300)));
    let x509 = &doc["keys"][0];
    assert_eq!((&x509["use"], x509.get("kid")), (&json!("x509-svid"), None));
    let x5c = x509["x5c"].as_array().unwrap();
    let der = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, x5c[0].as_str().unwrap()).unwrap();
    assert_eq!((x5c.len(), der), (1, cert));
    assert_eq!((&doc["keys"][1]["use"], &doc["keys"][1]["kid"]), (&json!("jwt-svid"), &json!("k1")));
    assert_eq!(KeySet::from_jwks(doc.to_string().as_bytes(), JwksUses::SpiffeBundle).unwrap().len(), 1);
}
