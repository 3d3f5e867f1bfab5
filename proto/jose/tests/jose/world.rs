//! Keys and tokens to bend: tokens are signed rightly over whatever header and claims a case wants.

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_jose::{Expect, JwtError, KeySet, VerifiedJwt, verify_jwt};
use proto_types::{Timestamp, id::parse_trust_domain};

pub const NOW: i64 = 1_800_000_000;
pub const AUDIENCE: &str = "https://errand.example.org";

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One key of each kind that is used here.
pub struct World {
    pub p256: EcdsaKeyPair,
    pub p384: EcdsaKeyPair,
    pub rsa: RsaKeyPair,
    pub keys: KeySet,
}

pub fn spki(key: &EcdsaKeyPair) -> Vec<u8> {
    key.public_key().as_der().unwrap().as_ref().to_vec()
}

impl World {
    pub fn new() -> Self {
        let p256 = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let rsa_spki = rsa.public_key().as_der().unwrap().as_ref().to_vec();
        let (a, b) = (spki(&p256), spki(&p384));
        let keys = KeySet::from_spkis([("p256", &a[..]), ("p384", &b[..]), ("rsa", &rsa_spki[..])]).unwrap();
        Self { p256, p384, rsa, keys }
    }

    pub fn ec(&self, key: &EcdsaKeyPair, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(claims));
        let signature = key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", b64(signature.as_ref()))
    }

    /// Signed with the P-256 key, the header untouched.
    pub fn token(&self, header: &str, claims: &str) -> String {
        self.ec(&self.p256, header, claims)
    }

    fn rsa_with(&self, encoding: &'static dyn RsaEncoding, header: &str, claims: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(claims));
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(encoding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        format!("{input}.{}", b64(signature))
    }
    pub fn rs256(&self, header: &str, claims: &str) -> String {
        self.rsa_with(&RSA_PKCS1_SHA256, header, claims)
    }
    pub fn ps256(&self, header: &str, claims: &str) -> String {
        self.rsa_with(&RSA_PSS_SHA256, header, claims)
    }

    pub fn verify(&self, token: &str) -> Result<VerifiedJwt, JwtError> {
        verify_jwt(token, &svid(), &self.keys, Timestamp::from_secs(NOW))
    }
}

pub fn svid() -> Expect {
    Expect::jwt_svid(AUDIENCE, parse_trust_domain("example.org").unwrap())
}

pub const HEADER: &str = r#"{"alg":"ES256","kid":"p256","typ":"JWT"}"#;

pub fn claims() -> String {
    with("")
}

/// The good claims with one member replaced or added: `"exp":1` or empty for none.
pub fn with(member: &str) -> String {
    let good = [
        r#""sub":"spiffe://example.org/web""#.to_string(),
        format!("\"aud\":[\"{AUDIENCE}\"]"),
        format!("\"exp\":{}", NOW + 60),
        format!("\"iat\":{NOW}"),
    ];
    let name = member.split(':').next().unwrap_or_default();
    let mut kept: Vec<&str> = good.iter().map(String::as_str).filter(|m| m.split(':').next() != Some(name)).collect();
    if !member.is_empty() && !member.ends_with(':') {
        kept.push(member);
    }
    format!("{{{}}}", kept.join(","))
}
