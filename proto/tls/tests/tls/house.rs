//! Certificates to bend: a leaf, what stands behind it, and a root, made from a description in which everything that is
//! not said is good.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use serde::Deserialize;
use time::OffsetDateTime;

pub const NOW: i64 = 1_800_000_000;
const LIFE: i64 = 3600;

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct Cert {
    pub uris: Option<Vec<String>>,
    pub dns: Vec<String>,
    /// So many more DNS names, of twenty bytes each.
    pub dns_names: usize,
    pub ca: Option<bool>,
    pub path_len: Option<u8>,
    pub usage: Option<Vec<String>>,
    pub usage_is_a_hint: bool,
    pub purposes: Vec<String>,
    pub begins: i64,
    pub ends: i64,
    pub extension: String,
    pub permits_uri: Option<String>,
}

impl Default for Cert {
    fn default() -> Self {
        Self {
            uris: None,
            dns: Vec::new(),
            dns_names: 0,
            ca: None,
            path_len: None,
            usage: None,
            usage_is_a_hint: false,
            purposes: vec!["server".into(), "client".into()],
            begins: 0,
            ends: LIFE,
            extension: String::new(),
            permits_uri: None,
        }
    }
}

fn at(secs: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW + secs).unwrap()
}

/// RFC 5280 section 4.2.1.3.
fn key_usage(names: &[String]) -> Vec<u8> {
    let bit = |name: &String| match name.as_str() {
        "digitalSignature" => 0x80u8,
        "keyEncipherment" => 0x20,
        "keyAgreement" => 0x08,
        "keyCertSign" => 0x04,
        "cRLSign" => 0x02,
        other => panic!("no such usage: {other}"),
    };
    let bits = names.iter().map(bit).fold(0, |all, bit| all | bit);
    vec![3, 2, u8::try_from(bits.trailing_zeros()).unwrap(), bits]
}

impl Cert {
    /// `leaf`: an SVID unless said otherwise; else a signing certificate.
    pub fn params(&self, leaf: bool, name: &str, serial: u8) -> CertificateParams {
        let usual_uris: &[&str] = if leaf { &["spiffe://example.org/web"] } else { &[] };
        let usual_usage: &[&str] = if leaf { &["digitalSignature"] } else { &["keyCertSign", "cRLSign"] };
        let given = |given: &Option<Vec<String>>, usual: &[&str]| {
            given.clone().unwrap_or_else(|| usual.iter().map(ToString::to_string).collect())
        };
        let mut params = CertificateParams::default();
        (params.not_before, params.not_after) = (at(self.begins), at(self.ends));
        params.serial_number = Some(vec![serial].into());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let uris = given(&self.uris, usual_uris);
        params.subject_alt_names.extend(uris.iter().map(|u| SanType::URI(u.as_str().try_into().unwrap())));
        let many = (0..self.dns_names).map(|n| format!("n{n:07}.example.org"));
        let dns = self.dns.iter().cloned().chain(many);
        params.subject_alt_names.extend(dns.map(|d| SanType::DnsName(d.as_str().try_into().unwrap())));
        params.is_ca = match (self.ca.unwrap_or(!leaf), self.path_len) {
            (false, _) => IsCa::ExplicitNoCa,
            (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
            (true, Some(len)) => IsCa::Ca(BasicConstraints::Constrained(len)),
        };
        let usage = given(&self.usage, usual_usage);
        if !usage.is_empty() {
            params.custom_extensions.push(extension(15, key_usage(&usage), !self.usage_is_a_hint));
        }
        if leaf {
            params.extended_key_usages = self.purposes.iter().map(|p| purpose(p)).collect();
        }
        self.more(&mut params, &usage);
        params
    }

    fn more(&self, params: &mut CertificateParams, usage: &[String]) {
        let added = match self.extension.as_str() {
            "" => None,
            "usage-again" => Some(extension(15, key_usage(usage), true)),
            "names-again" => {
                let uri = b"spiffe://example.org/db";
                let name = [&[0x86, uri.len() as u8][..], uri].concat();
                Some(extension(17, [&[0x30, name.len() as u8][..], &name].concat(), false))
            }
            // Under the arc for examples of RFC 5612's kin: nobody's.
            kind => {
                let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 32473, 1], vec![5, 0]);
                unknown.set_criticality(kind == "critical");
                Some(unknown)
            }
        };
        params.custom_extensions.extend(added);
        if let Some(name) = &self.permits_uri {
            // NameConstraints { permittedSubtrees [0] { { uniformResourceIdentifier [6] } } }
            let wrap = |tag: u8, inside: &[u8]| [&[tag, inside.len() as u8][..], inside].concat();
            let subtrees = wrap(0xa0, &wrap(0x30, &wrap(0x86, name.as_bytes())));
            params.custom_extensions.push(extension(30, wrap(0x30, &subtrees), true));
        }
    }
}

fn purpose(name: &str) -> ExtendedKeyUsagePurpose {
    match name {
        "server" => ExtendedKeyUsagePurpose::ServerAuth,
        "client" => ExtendedKeyUsagePurpose::ClientAuth,
        "code" => ExtendedKeyUsagePurpose::CodeSigning,
        other => panic!("no such purpose: {other}"),
    }
}

/// An extension of `id-ce`.
fn extension(number: u64, content: Vec<u8>, critical: bool) -> CustomExtension {
    let mut made = CustomExtension::from_oid_content(&[2, 5, 29, number], content);
    made.set_criticality(critical);
    made
}

/// An authority that signs.
pub type Authority = Issuer<'static, KeyPair>;

/// A root of this name, and its certificate.
pub fn root(name: &str, alg: &'static rcgen::SignatureAlgorithm) -> (Authority, Vec<u8>) {
    let key = KeyPair::generate_for(alg).unwrap();
    let cert =
        Cert { uris: Some(vec!["spiffe://example.org".into()]), begins: -LIFE, ends: 24 * LIFE, ..Cert::default() };
    let params = cert.params(false, name, 1);
    let der = params.self_signed(&key).unwrap().der().to_vec();
    (Issuer::new(params, key), der)
}

/// An authority below another.
pub fn authority(cert: &Cert, name: &str, serial: u8, issuer: &Authority) -> (Authority, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let params = cert.params(false, name, serial);
    let der = params.signed_by(&key, issuer).unwrap().der().to_vec();
    (Issuer::new(params, key), der)
}

pub fn leaf(cert: &Cert, issuer: &Authority) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    cert.params(true, "leaf", 99).signed_by(&key, issuer).unwrap().der().to_vec()
}
