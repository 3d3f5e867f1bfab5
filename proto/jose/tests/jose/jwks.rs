//! JWKS and bundle documents: what we publish reads back, what we read is bounded and unambiguous.

use crate::world::{World, b64, spki};
use proto_jose::{
    BundleParts, JwkError, JwksUses, KeyPurpose, KeySet, KeySetError, MAX_JWKS, jwk_from_spki, spiffe_bundle_json,
    thumbprint,
};
use serde_json::{Value, json};

fn read(keys: &[Value], uses: JwksUses) -> Result<usize, KeySetError> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes(), uses).map(|set| set.len())
}

fn oidc(key: &Value) -> Result<usize, KeySetError> {
    read(std::slice::from_ref(key), JwksUses::Oidc)
}

fn ec(kid: &str) -> Value {
    jwk_from_spki(&spki(&World::new().p256), Some(kid), KeyPurpose::Signature).unwrap()
}

fn changed(key: &Value, name: &str, value: Value) -> Value {
    let mut key = key.clone();
    key[name] = value;
    key
}

#[test]
fn a_bad_key_makes_the_document_bad_and_a_foreign_one_is_passed_over() {
    let good = ec("a");
    let bad = |key: &Value| match oidc(key).unwrap_err() {
        KeySetError::Key { problem, .. } => problem,
        other => panic!("{other}"),
    };
    assert_eq!(bad(&changed(&good, "d", "AA".into())), JwkError::Private, "D56");
    assert_eq!(bad(&changed(&good, "x", b64([7; 32]).into())), JwkError::Point, "D56");
    assert_eq!(bad(&changed(&good, "x", b64([7; 31]).into())), JwkError::Member("x, y"));
    assert_eq!(bad(&changed(&good, "x", "A=".into())), JwkError::Member("x"));
    assert_eq!(bad(&changed(&good, "kid", json!(7))), JwkError::Member("kid"));
    assert_eq!(bad(&changed(&good, "alg", "RS256".into())), JwkError::Member("alg"));
    let n = b64([0xff; 256]);
    assert!(matches!(bad(&json!({"kty":"RSA","n":n,"e":"AQ"})), JwkError::Rsa { .. }), "D56");
    assert!(matches!(bad(&json!({"kty":"RSA","n":b64([0xff; 128]),"e":"AQAB"})), JwkError::Rsa { bits: 1024 }));
    for foreign in [
        json!({"kty":"oct","k":"AAAA"}),
        json!({"kty":"OKP","crv":"Ed25519","x":"AAAA"}),
        json!({"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}),
        json!({"use":"sig"}),
        changed(&good, "use", "enc".into()),
        changed(&good, "alg", "ES256K".into()),
        changed(&good, "key_ops", json!(["sign"])),
    ] {
        assert_eq!(oidc(&foreign), Ok(0), "{foreign}");
    }
    assert_eq!(oidc(&good), Ok(1));
    assert_eq!(oidc(&changed(&good, "key_ops", json!(["verify"]))), Ok(1));
}

#[test]
fn a_document_is_bounded_and_names_each_key_once() {
    assert!(matches!(read(&[ec("a"), ec("a")], JwksUses::Oidc), Err(KeySetError::SameKid { index: 1 })));
    assert_eq!(read(&[ec("a"), ec("b")], JwksUses::Oidc), Ok(2));
    assert!(matches!(read(&vec![json!({"kty":"x"}); 129], JwksUses::Oidc), Err(KeySetError::TooMany(129))));
    assert_eq!(read(&vec![json!({"kty":"x"}); 128], JwksUses::Oidc), Ok(0));
    let huge = vec![b' '; MAX_JWKS + 1];
    assert!(matches!(KeySet::from_jwks(&huge, JwksUses::Oidc), Err(KeySetError::TooLarge(_))));
    for bad in ["{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, r#"{"keys":[1]}"#] {
        assert!(KeySet::from_jwks(bad.as_bytes(), JwksUses::Oidc).is_err(), "{bad}");
    }
    // C47: an empty list revokes everything.
    assert!(KeySet::from_jwks(br#"{"keys":[]}"#, JwksUses::Oidc).unwrap().is_empty());
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
