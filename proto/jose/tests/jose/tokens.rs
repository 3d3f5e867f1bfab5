//! Group D of the bad inputs (`tests/data/tokens.toml`): tokens that must be refused, each for its own reason, beside
//! neighbours that are accepted; and what no table can hold.

use crate::world::{AUDIENCE, HEADER, NOW, Sign, World, b64, claims, expand, spki, svid, with};
use proto_jose::{
    Alg, Expect, Header, JwtError, KeyPurpose, KeySet, claimed_trust_domain, jwk_from_spki, sign, verify_jwt,
};
use proto_types::{Timestamp, id::parse_trust_domain};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

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
    #[serde(default, rename = "as")]
    kind: Kind,
    refused: Shown,
    #[serde(default)]
    accepted: Shown,
    /// How the reason begins, as `Debug` writes it.
    error: String,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Svid,
    Task,
}

/// A token and the circumstances in which it is shown. What a case does not say is good.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Shown {
    header: Option<String>,
    claims: Vec<String>,
    sign: Sign,
    form: Option<String>,
    at: i64,
    leeway: u64,
    keys: Option<Vec<String>>,
}

const TASK_HEADER: &str = r#"{"alg":"ES256","kid":"p256","typ":"at+jwt"}"#;

impl Shown {
    fn token(&self, kind: Kind, world: &World) -> String {
        let usual = if kind == Kind::Task { TASK_HEADER } else { HEADER };
        let header = expand(self.header.as_deref().unwrap_or(usual));
        let mut members = Vec::new();
        if kind == Kind::Task {
            members.extend([format!("\"iss\":\"{AUDIENCE}\""), "\"jti\":\"1\"".to_string()]);
        }
        members.extend(self.claims.iter().map(|m| expand(m)));
        let good = world.signed(self.sign, &header, &with(&members));
        match &self.form {
            None => good,
            Some(form) => shaped(form, &good),
        }
    }

    fn verify(&self, kind: Kind, world: &World) -> Result<(), JwtError> {
        let expect = if kind == Kind::Task { Expect::task_token(AUDIENCE, AUDIENCE) } else { svid() };
        let expect = expect.leeway(Duration::from_secs(self.leeway));
        let keys = world.keys(self.keys.as_deref());
        verify_jwt(&self.token(kind, world), &expect, &keys, Timestamp::from_secs(NOW + self.at)).map(drop)
    }
}

fn shaped(form: &str, good: &str) -> String {
    let [head, body, signature] = good.splitn(3, '.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    if let Some(cut) = form.strip_prefix("{cut ").and_then(|f| f.strip_suffix('}')) {
        return good[..good.len() - cut.parse::<usize>().unwrap()].to_string();
    }
    let filled = [("{head}", head), ("{body}", body), ("{sig}", signature), ("{good}", good)];
    filled.iter().fold(expand(form), |text, (name, value)| text.replace(name, value))
}

#[test]
fn every_bad_token_of_the_table_is_refused_for_its_own_reason_and_its_twin_is_accepted() {
    let world = World::new();
    let table: Table = toml::from_str(include_str!("../data/tokens.toml")).unwrap();
    for Case { id, name, kind, refused, accepted, error } in &table.case {
        let why = refused.verify(*kind, &world).expect_err(&format!("{id} {name}"));
        assert!(format!("{why:?}").starts_with(error), "{id} {name}: {why:?}");
        assert!(why.to_string().len() < 300, "{id} {name}: an error does not echo its input");
        accepted.verify(*kind, &world).unwrap_or_else(|why| panic!("the twin of {id} {name}: {why:?}"));
    }
}

#[test]
fn no_beginning_of_a_token_is_a_token_and_a_signature_has_one_spelling() {
    let world = World::new();
    let good = world.token(HEADER, &claims());
    for n in 0..good.len() {
        assert!(world.verify(&good[..n]).is_err(), "D59 {n}");
    }
    // The last of 86 characters holds four bits: sixteen spellings, one of them right.
    let last = good.chars().last().unwrap();
    for other in ('A'..='Z').chain('a'..='z').filter(|c| *c != last) {
        assert!(world.verify(&format!("{}{other}", &good[..good.len() - 1])).is_err(), "D26 last character {other}");
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
    let claims = with(&["\"jti\":\"1\"".into(), format!("\"iss\":\"{issuer}\"")]);
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
    assert!(claimed_trust_domain(&world.token(HEADER, &with(&["\"sub\":\"web\"".into()]))).is_err());
}
