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
use proto_jose::{Expect, JwtError, KeyPurpose, KeySet, VerifiedJwt, jwk_from_spki, verify_jwt};
use proto_types::{Timestamp, id::parse_trust_domain};

pub const NOW: i64 = 1_800_000_000;
pub const AUDIENCE: &str = "https://errand.example.org";

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a token is signed with.
#[derive(serde::Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Sign {
    #[default]
    P256,
    P384,
    Rs256,
    Ps256,
    /// The right key, in the form certificates use.
    P256Der,
    /// A key that nobody trusts.
    Stranger,
    /// HMAC with what everybody knows of the right key.
    HmacPem,
    HmacDer,
    HmacJwk,
}

/// One key of each kind that is used here, and one that is not trusted.
pub struct World {
    pub p256: EcdsaKeyPair,
    pub p384: EcdsaKeyPair,
    pub rsa: RsaKeyPair,
    stranger: EcdsaKeyPair,
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
        let stranger = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { p256, p384, rsa, stranger, keys }
    }

    /// The named keys only; all of them for `None`.
    pub fn keys(&self, names: Option<&[String]>) -> KeySet {
        let Some(names) = names else { return self.keys.clone() };
        let all = [("p256", spki(&self.p256)), ("p384", spki(&self.p384)), ("rsa", self.rsa_spki())];
        let kept = all.iter().filter(|(name, _)| names.iter().any(|n| n == name));
        KeySet::from_spkis(kept.map(|(name, spki)| (*name, spki.as_slice()))).unwrap()
    }

    pub fn rsa_spki(&self) -> Vec<u8> {
        self.rsa.public_key().as_der().unwrap().as_ref().to_vec()
    }

    pub fn signed(&self, with: Sign, header: &str, claims: &str) -> String {
        match with {
            Sign::P256 => self.ec(&self.p256, header, claims),
            Sign::P384 => self.ec(&self.p384, header, claims),
            Sign::Stranger => self.ec(&self.stranger, header, claims),
            Sign::Rs256 => self.rs256(header, claims),
            Sign::Ps256 => self.ps256(header, claims),
            Sign::P256Der => self.in_der(header, claims),
            Sign::HmacPem => self.hmac(self.pem().as_bytes(), header, claims),
            Sign::HmacDer => self.hmac(&spki(&self.p256), header, claims),
            Sign::HmacJwk => {
                let jwk = jwk_from_spki(&spki(&self.p256), Some("p256"), KeyPurpose::Signature).unwrap();
                self.hmac(jwk.to_string().as_bytes(), header, claims)
            }
        }
    }

    fn pem(&self) -> String {
        use base64::engine::general_purpose::STANDARD;
        let text = STANDARD.encode(spki(&self.p256));
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn hmac(&self, secret: &[u8], header: &str, claims: &str) -> String {
        let input = format!("{}.{}", b64(header), b64(claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
        let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
        format!("{input}.{}", b64(tag.as_ref()))
    }

    /// r and s as INTEGERs in a SEQUENCE, as X.509 has them.
    fn in_der(&self, header: &str, claims: &str) -> String {
        let token = self.ec(&self.p256, header, claims);
        let (input, signature) = token.rsplit_once('.').unwrap();
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let integer = |half: &[u8]| {
            let digits: Vec<u8> = half.iter().copied().skip_while(|b| *b == 0).collect();
            let sign = if digits[0] & 0x80 == 0 { &[][..] } else { &[0] };
            [&[2, (sign.len() + digits.len()) as u8][..], sign, &digits].concat()
        };
        let both = [integer(&raw[..32]), integer(&raw[32..])].concat();
        format!("{input}.{}", b64([&[0x30, both.len() as u8][..], &both].concat()))
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
    with(&[])
}

/// The good claims with members replaced or added; `"exp":` alone removes one. A later member wins over an earlier one.
pub fn with(members: &[String]) -> String {
    let name = |member: &str| member.split(':').next().unwrap_or_default().to_string();
    let mut kept = vec![
        r#""sub":"spiffe://example.org/web""#.to_string(),
        format!("\"aud\":[\"{AUDIENCE}\"]"),
        format!("\"exp\":{}", NOW + 60),
        format!("\"iat\":{NOW}"),
    ];
    for member in members {
        kept.retain(|m| name(m) != name(member));
        if !member.ends_with(':') {
            kept.push(member.clone());
        }
    }
    format!("{{{}}}", kept.join(","))
}

/// `{{n*text}}` is `text` n times: a short way to write a long input.
pub fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once("{{") else { return text.to_string() };
    let (inside, after) = rest.split_once("}}").expect("it is closed");
    let (times, what) = inside.split_once('*').expect("{{n*text}}");
    before.to_string() + &what.repeat(times.parse().expect("a number")) + &expand(after)
}
