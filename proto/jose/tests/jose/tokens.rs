//! Group D of the catalogue: tokens that must be refused, each for its own reason, beside neighbours that are accepted.

use crate::world::{AUDIENCE, HEADER, NOW, World, b64, claims, spki, svid, with};
use proto_jose::{
    Alg, Expect, Header, JwtError, KeyPurpose, KeySet, claimed_trust_domain, jwk_from_spki, sign, verify_jwt,
};
use proto_types::{Timestamp, id::parse_trust_domain};
use serde_json::{Map, Value, json};
use std::time::Duration;

type Refused = fn(&JwtError) -> bool;

macro_rules! is {
    ($pattern:pat) => {
        |e| matches!(e, $pattern)
    };
}

#[test]
fn headers_that_say_more_or_other_than_they_may_are_refused() {
    let world = World::new();
    let bad: &[(&str, &str, Refused)] = &[
        ("D01", r#"{"alg":"none","kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D01", r#"{"alg":"nOnE","kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D01", r#"{"alg":"ES256 ","kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D02", r#"{"kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D03", r#"{"alg":["ES256"],"kid":"p256"}"#, is!(JwtError::Header)),
        ("D03", r#"{"alg":256,"kid":"p256"}"#, is!(JwtError::Header)),
        ("D03", r#"{"alg":null,"kid":"p256"}"#, is!(JwtError::Header)),
        ("D04", r#"{"alg":"HS256","kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D05", r#"{"alg":"ES384","kid":"p256"}"#, is!(JwtError::KeyAlgorithm)),
        ("D05", r#"{"alg":"RS256","kid":"p256"}"#, is!(JwtError::KeyAlgorithm)),
        ("D05", r#"{"alg":"ES256","kid":"p384"}"#, is!(JwtError::KeyAlgorithm)),
        ("D05", r#"{"alg":"ES256","kid":"rsa"}"#, is!(JwtError::KeyAlgorithm)),
        ("D05", r#"{"alg":"PS256","kid":"rsa"}"#, is!(JwtError::Signature)),
        ("D07", r#"{"alg":"ES256K","kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D07", r#"{"alg":"EdDSA","kid":"p256"}"#, is!(JwtError::Algorithm)),
        ("D10", r#"{"alg":"ES256","kid":"p256","jwk":{"kty":"EC"}}"#, is!(JwtError::HeaderMember(_))),
        ("D11", r#"{"alg":"ES256","kid":"p256","jku":"https://169.254.169.254/"}"#, is!(JwtError::HeaderMember(_))),
        ("D12", r#"{"alg":"ES256","kid":"p256","x5u":"https://acme.test/"}"#, is!(JwtError::HeaderMember(_))),
        ("D13", r#"{"alg":"ES256","kid":"p256","x5c":[]}"#, is!(JwtError::HeaderMember(_))),
        ("D20", r#"{"alg":"ES256","kid":"p256","crit":["exp"],"exp":1}"#, is!(JwtError::HeaderMember(_))),
        ("D20", r#"{"alg":"ES256","kid":"p256","b64":false}"#, is!(JwtError::HeaderMember(_))),
        ("D21", r#"{"alg":"ES256","kid":"p256","cty":"JWT"}"#, is!(JwtError::HeaderMember(_))),
        ("D22", r#"{"alg":"ES256","kid":"p256","typ":"at+jwt"}"#, is!(JwtError::Type(_))),
        ("D22", r#"{"alg":"ES256","kid":"p256","typ":"wit+jwt"}"#, is!(JwtError::Type(_))),
        ("D22", r#"{"alg":"ES256","kid":"p256","typ":["JWT"]}"#, is!(JwtError::Header)),
        ("D24", r#"{"alg":"ES256","kid":"p256","zip":"DEF"}"#, is!(JwtError::HeaderMember(_))),
        ("D29", r#"{"alg":"ES256","alg":"ES256","kid":"p256"}"#, is!(JwtError::Header)),
        ("D29", r#"{"alg":"none","kid":"p256","alg":"ES256"}"#, is!(JwtError::Header)),
        ("", r#"{"alg":"ES256","kid":"other"}"#, is!(JwtError::UnknownKey)),
        ("", r#"{"alg":"ES256","kid":""}"#, is!(JwtError::UnknownKey)),
        ("", r#"["ES256"]"#, is!(JwtError::Header)),
    ];
    for (id, header, refused) in bad {
        let error = world.verify(&world.token(header, &claims())).expect_err(header);
        assert!(refused(&error), "{id} {header}: {error:?}");
    }
    for good in [
        HEADER,
        r#"{"alg":"ES256","kid":"p256"}"#,
        r#"{"typ":"JOSE","kid":"p256","alg":"ES256"}"#,
        // Without a kid, as only one key suits the algorithm.
        r#"{"alg":"ES256"}"#,
    ] {
        world.verify(&world.token(good, &claims())).expect(good);
    }
}

#[test]
fn claims_of_the_wrong_type_are_refused_and_never_taken_for_absent() {
    let world = World::new();
    let deep = format!("\"x\":{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let members = format!("\"x\":{{{}\"z\":1}}", (0..5000).map(|i| format!("\"{i}\":1,")).collect::<String>());
    let audiences = format!("\"aud\":[{}\"{AUDIENCE}\"]", "\"a\",".repeat(100));
    let exp = |v: &str| format!("\"exp\":{v}");
    let bad: &[(&str, String, Refused)] = &[
        ("D30", deep, is!(JwtError::TooLong(_) | JwtError::Payload)),
        ("D31", members, is!(JwtError::TooLong(_) | JwtError::Payload)),
        ("D32", exp("1e400"), is!(JwtError::Payload)),
        ("D32", exp("9223372036854775808"), is!(JwtError::Mistyped("exp"))),
        ("D32", exp("-1"), is!(JwtError::Mistyped("exp"))),
        ("D32", exp("1800000060.5"), is!(JwtError::Mistyped("exp"))),
        ("D32", exp("1.80000006e9"), is!(JwtError::Mistyped("exp"))),
        ("D33", exp("\"1800000060\""), is!(JwtError::Mistyped("exp"))),
        ("D33", exp("null"), is!(JwtError::Mistyped("exp"))),
        ("D33", exp("[1800000060]"), is!(JwtError::Mistyped("exp"))),
        ("D33", exp("{}"), is!(JwtError::Mistyped("exp"))),
        ("D33", exp("true"), is!(JwtError::Mistyped("exp"))),
        ("D33", "\"nbf\":\"0\"".into(), is!(JwtError::Mistyped("nbf"))),
        ("D33", "\"nbf\":null".into(), is!(JwtError::Mistyped("nbf"))),
        ("D33", "\"iat\":false".into(), is!(JwtError::Mistyped("iat"))),
        ("D34", "\"exp\":".into(), is!(JwtError::Missing("exp"))),
        ("D35", exp("1800000000"), is!(JwtError::Expired(_))),
        ("D36", "\"nbf\":1800000001".into(), is!(JwtError::NotYet(_))),
        ("D37", "\"iat\":1800000001".into(), is!(JwtError::IssuedLater(_))),
        ("D39", "\"aud\":".into(), is!(JwtError::Missing("aud"))),
        ("D40", "\"aud\":\"\"".into(), is!(JwtError::Audience { .. })),
        ("D40", "\"aud\":[]".into(), is!(JwtError::Audience { .. })),
        ("D40", "\"aud\":[\"\"]".into(), is!(JwtError::Audience { .. })),
        ("D41", "\"aud\":[1]".into(), is!(JwtError::Mistyped("aud"))),
        ("D41", format!("\"aud\":[\"{AUDIENCE}\",1]"), is!(JwtError::Mistyped("aud"))),
        ("D42", format!("\"aud\":\"{AUDIENCE}/\""), is!(JwtError::Audience { .. })),
        ("D42", "\"aud\":\"https://errand.example.or\"".into(), is!(JwtError::Audience { .. })),
        ("D42", "\"aud\":\"HTTPS://errand.example.org\"".into(), is!(JwtError::Audience { .. })),
        ("D43", audiences, is!(JwtError::Mistyped("aud"))),
        ("D44", "\"sub\":".into(), is!(JwtError::Missing("sub"))),
        ("D44", "\"sub\":\"\"".into(), is!(JwtError::Missing("sub"))),
        ("D44", "\"sub\":7".into(), is!(JwtError::Mistyped("sub"))),
        ("D45", "\"sub\":\"web\"".into(), is!(JwtError::Subject(_))),
        ("D45", "\"sub\":\"spiffe://example.org\"".into(), is!(JwtError::Subject(_))),
        ("D47", "\"sub\":\"spiffe://other.org/web\"".into(), is!(JwtError::Subject(_))),
        ("D29", "\"x\":1,\"x\":2".into(), is!(JwtError::Payload)),
        ("D29", "\"x\":{\"a\":1,\"a\":1}".into(), is!(JwtError::Payload)),
    ];
    for (id, member, refused) in bad {
        let error = world.verify(&world.token(HEADER, &with(member))).expect_err(member);
        assert!(refused(&error), "{id} {}: {error:?}", &member[..member.len().min(60)]);
    }
    for good in [
        "",
        "\"exp\":1800000001",
        "\"nbf\":1800000000",
        "\"iat\":",
        "\"aud\":\"https://errand.example.org\"",
        "\"aud\":[\"a\",\"https://errand.example.org\"]",
        "\"x\":{\"a\":1,\"b\":1}",
    ] {
        world.verify(&world.token(HEADER, &with(good))).expect(good);
    }
}

#[test]
fn forms_other_than_three_strict_parts_are_refused() {
    let world = World::new();
    let good = world.token(HEADER, &claims());
    let (head, rest) = good.split_once('.').unwrap();
    let (body, signature) = rest.split_once('.').unwrap();
    for (id, token) in [
        ("D09", format!("{head}.{body}.")),
        ("D09", format!("{head}.{body}")),
        ("D23", json!({"payload": body, "protected": head, "signature": signature}).to_string()),
        ("D24", format!("{head}.{body}.{signature}.{body}.{signature}")),
        ("D25", format!("{head}..{body}.{signature}")),
        ("D25", ".".repeat(1_000_000)),
        ("D25", ".".repeat(2)),
        ("D26", format!("{head}=.{body}.{signature}")),
        ("D26", format!("{head}.{body}.{signature}==")),
        ("D26", format!("{head}.{body}.{signature}\n")),
        ("D26", format!(" {good}")),
        ("D26", good.replace('-', "+").replace('_', "/") + "+"),
        ("", String::new()),
        ("", format!("{good}{}", "A".repeat(16 * 1024))),
    ] {
        assert!(world.verify(&token).is_err(), "{id} {}", &token[..token.len().min(80)]);
    }
    // The last of 86 characters holds four bits: sixteen spellings, one of them right.
    let last = signature.chars().last().unwrap();
    let others = ('A'..='Z').chain('a'..='z').filter(|c| *c != last);
    for other in others {
        let token = format!("{}{other}", &good[..good.len() - 1]);
        assert!(world.verify(&token).is_err(), "D26 last character {other}");
    }
    world.verify(&good).unwrap();
}

#[test]
fn signatures_of_the_wrong_form_or_value_are_refused() {
    let world = World::new();
    let good = world.token(HEADER, &claims());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let raw = {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap()
    };
    // The order of P-256.
    let n = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let n: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&n[2 * i..2 * i + 2], 16).unwrap()).collect();
    let (r, s) = raw.split_at(32);
    let zero = [0u8; 32];
    for bad in [
        [&zero[..], &zero].concat(),
        [r, &zero].concat(),
        [&zero[..], s].concat(),
        [&n[..], &n].concat(),
        raw[..63].to_vec(),
        [&raw[..], &[0]].concat(),
        [&[0x30, 0x44, 2, 32][..], r, &[2, 32], s].concat(),
    ] {
        assert_eq!(world.verify(&format!("{input}.{}", b64(bad))).unwrap_err(), JwtError::Signature, "D08");
    }
    for bit in 0..512 {
        let mut flipped = raw.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(world.verify(&format!("{input}.{}", b64(flipped))).unwrap_err(), JwtError::Signature, "D09 {bit}");
    }
    assert!(world.verify(&good).is_ok());
}

#[test]
fn every_algorithm_verifies_with_its_own_key_only() {
    let world = World::new();
    let header = |alg: &str, kid: &str| format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
    let made = [
        ("ES256", "p256", world.token(&header("ES256", "p256"), &claims())),
        ("ES384", "p384", world.ec(&world.p384, &header("ES384", "p384"), &claims())),
        ("RS256", "rsa", world.rs256(&header("RS256", "rsa"), &claims())),
        ("PS256", "rsa", world.ps256(&header("PS256", "rsa"), &claims())),
    ];
    for (_, kid, token) in &made {
        assert_eq!(world.verify(token).unwrap().kid(), Some(*kid));
        let (_, rest) = token.split_once('.').unwrap();
        for alg in Alg::ALL {
            for other in ["p256", "p384", "rsa"] {
                let moved = format!("{}.{rest}", b64(header(alg.name(), other)));
                let same = moved == *token;
                assert_eq!(world.verify(&moved).is_ok(), same, "D05 {} with {other}", alg.name());
            }
        }
    }
}

#[test]
fn kinds_of_tokens_never_pass_for_one_another() {
    let world = World::new();
    let issuer = AUDIENCE;
    let claims = with(&format!("\"jti\":\"1\",\"iss\":\"{issuer}\""));
    let typs = [("svid", "JWT"), ("task", "at+jwt"), ("wit", "wit+jwt"), ("secevent", "secevent+jwt")];
    let now = Timestamp::from_secs(NOW);
    for (kind, typ) in typs {
        let token = world.token(&format!(r#"{{"alg":"ES256","kid":"p256","typ":"{typ}"}}"#), &claims);
        let task = Expect::task_token(issuer, AUDIENCE);
        assert_eq!(verify_jwt(&token, &svid(), &world.keys, now).is_ok(), kind == "svid", "{typ} as JWT-SVID");
        assert_eq!(verify_jwt(&token, &task, &world.keys, now).is_ok(), kind == "task", "{typ} as task token");
    }
}

#[test]
fn a_task_token_wants_its_issuer_its_jti_and_a_short_life() {
    let world = World::new();
    let header = r#"{"alg":"ES256","kid":"p256","typ":"at+jwt"}"#;
    let expect = Expect::task_token("https://errand.example.org", AUDIENCE);
    let check = |member: &str| {
        let token = world.token(header, &with(member));
        verify_jwt(&token, &expect, &world.keys, Timestamp::from_secs(NOW)).map(|_| ())
    };
    let iss = r#""iss":"https://errand.example.org""#;
    assert_eq!(check(&format!("{iss},\"jti\":\"1\"")), Ok(()));
    assert_eq!(check(iss), Err(JwtError::Missing("jti")));
    assert_eq!(check("\"jti\":\"1\""), Err(JwtError::Missing("iss")));
    for (id, other) in [("D48", "https://errand.example.org/"), ("D49", "https://errand.example.org.evil.test")] {
        let error = check(&format!("\"iss\":\"{other}\",\"jti\":\"1\"")).unwrap_err();
        assert!(matches!(error, JwtError::Issuer { .. }), "{id}");
    }
    let long = format!("\"exp\":{},{iss},\"jti\":\"1\"", NOW + 301);
    assert_eq!(check(&long), Err(JwtError::TooLongLived));
    let rs = world.rs256(r#"{"alg":"RS256","kid":"rsa","typ":"at+jwt"}"#, &with(&format!("{iss},\"jti\":\"1\"")));
    let refused = verify_jwt(&rs, &expect, &world.keys, Timestamp::from_secs(NOW)).unwrap_err();
    assert_eq!(refused, JwtError::Algorithm, "D06");
}

#[test]
fn leeway_is_none_unless_given_and_never_above_ten_seconds() {
    let world = World::new();
    let token = world.token(HEADER, &claims());
    let at = |expect: &Expect, secs: i64| verify_jwt(&token, expect, &world.keys, Timestamp::from_secs(secs)).is_ok();
    let exp = NOW + 60;
    assert!(at(&svid(), exp - 1) && !at(&svid(), exp));
    let wide = svid().leeway(Duration::from_secs(3600));
    assert!(at(&wide, exp + 9) && !at(&wide, exp + 10));
    assert!(at(&wide, NOW - 10) && !at(&wide, NOW - 11));
}

#[test]
fn without_a_kid_two_suiting_keys_are_one_too_many() {
    let world = World::new();
    let (a, b) = (spki(&world.p256), spki(&World::new().p256));
    let two = KeySet::from_spkis([("a", &a[..]), ("b", &b[..])]).unwrap();
    let token = world.token(r#"{"alg":"ES256"}"#, &claims());
    let refused = verify_jwt(&token, &svid(), &two, Timestamp::from_secs(NOW)).unwrap_err();
    assert_eq!(refused, JwtError::NoKid);
}

#[test]
fn what_we_sign_verifies_here_and_with_openssl_through_josekit() {
    let world = World::new();
    let claims: Map<String, Value> = serde_json::from_str(&claims()).unwrap();
    let rng = aws_lc_rs::rand::SystemRandom::new();
    let token = sign(&Header::es256("p256", "JWT"), &claims, |m| world.p256.sign(&rng, m).map(|s| s.as_ref().to_vec()));
    let token = token.unwrap();
    let verified = world.verify(&token).unwrap();
    assert_eq!(verified.claims(), &claims);
    assert_eq!(verified.spiffe_id().unwrap().path(), "/web");

    let jwk = jwk_from_spki(&spki(&world.p256), Some("p256"), KeyPurpose::Signature).unwrap();
    let jwk = josekit::jwk::Jwk::from_map(jwk.as_object().unwrap().clone()).unwrap();
    let openssl = josekit::jws::ES256.verifier_from_jwk(&jwk).unwrap();
    josekit::jwt::decode_with_verifier(&token, &openssl).unwrap();
    josekit::jwt::decode_with_verifier(token.replacen('J', "K", 1), &openssl).unwrap_err();
}

#[test]
fn the_claimed_trust_domain_is_a_hint_that_needs_no_key() {
    let world = World::new();
    let token = world.token(HEADER, &claims());
    assert_eq!(claimed_trust_domain(&token).unwrap(), parse_trust_domain("example.org").unwrap());
    assert!(claimed_trust_domain(&world.token(HEADER, &with("\"sub\":\"web\""))).is_err());
}
