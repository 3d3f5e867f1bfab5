//! A certificate authority for tests: an X.509 CA and one key for JWT-SVIDs.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use proto_types::Timestamp;
use proto_wire::spire::api::types as wire;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use time::OffsetDateTime;

pub const KID: &str = "jwt-1";

pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub der: Vec<u8>,
    pub pem: String,
    jwt: KeyPair,
    serial: AtomicU64,
}

fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.as_secs()).unwrap()
}

impl Ca {
    pub fn new(now: Timestamp) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date(now.minus(Duration::from_secs(86_400)));
        params.not_after = date(now.plus(Duration::from_secs(10 * 365 * 86_400)));
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let jwt = KeyPair::generate().unwrap();
        let (der, pem) = (cert.der().to_vec(), cert.pem());
        Self { issuer: Issuer::new(params, key), der, pem, jwt, serial: AtomicU64::new(1) }
    }

    fn leaf(&self, id: &str, from: Timestamp, ttl: Duration) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date(from);
        params.not_after = date(from.plus(ttl));
        params.serial_number = Some(SerialNumber::from(self.serial.fetch_add(1, Ordering::SeqCst)));
        params
    }

    /// A certificate and its key (PKCS#8).
    pub fn server(&self, id: &str, from: Timestamp, life: Duration) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate().unwrap();
        let params = self.leaf(id, from, life);
        (params.signed_by(&key, &self.issuer).unwrap().der().to_vec(), key.serialize_der())
    }

    /// An SVID for the key of a request.
    pub fn svid(&self, id: &str, csr: &[u8], now: Timestamp, ttl: Duration) -> wire::X509svid {
        let csr = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        let cert = self.leaf(id, now, ttl).signed_by(&csr.public_key, &self.issuer).unwrap();
        let (trust_domain, path) = id.strip_prefix("spiffe://").unwrap().split_once('/').unwrap();
        wire::X509svid {
            cert_chain: vec![cert.der().to_vec()],
            id: Some(wire::Spiffeid { trust_domain: trust_domain.into(), path: format!("/{path}") }),
            expires_at: now.plus(ttl).as_secs(),
            hint: String::new(),
        }
    }

    pub fn bundle(&self, sequence_number: u64) -> wire::Bundle {
        wire::Bundle {
            trust_domain: "example.org".into(),
            x509_authorities: vec![wire::X509Certificate { asn1: self.der.clone(), tainted: false }],
            jwt_authorities: vec![wire::JwtKey {
                public_key: self.jwt.subject_public_key_info(),
                key_id: KID.into(),
                expires_at: 0,
                tainted: false,
            }],
            refresh_hint: 300,
            sequence_number,
            wit_authorities: Vec::new(),
        }
    }

    pub fn jwt(&self, sub: &str, aud: &[String], now: Timestamp, ttl: Duration) -> String {
        let claims = serde_json::json!({
            "sub": sub, "aud": aud, "iat": now.as_secs(), "exp": now.plus(ttl).as_secs(),
            "n": self.serial.fetch_add(1, Ordering::SeqCst),
        });
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, self.jwt.serialized_der()).unwrap();
        let sign = |input: &[u8]| key.sign(&SystemRandom::new(), input).map(|s| s.as_ref().to_vec());
        let header = proto_jose::Header::es256(KID, "JWT");
        proto_jose::sign(&header, claims.as_object().unwrap(), sign).unwrap()
    }
}
