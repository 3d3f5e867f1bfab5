//! Group C of the bad inputs (`tests/data/chains.toml`): every chain that is refused, beside one that is accepted.

use crate::house::{Authority, Cert, NOW, authority, leaf, root};
use proto_tls::{Expected, SvidVerifier};
use proto_types::id::{parse_spiffe_id, parse_trust_domain};
use rustls::{
    Error,
    client::danger::ServerCertVerifier as _,
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::ClientCertVerifier as _,
};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

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
    refused: Chain,
    #[serde(default)]
    accepted: Chain,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Chain {
    at: i64,
    end: String,
    expected: String,
    root: String,
    leaf: Cert,
    behind: Vec<Cert>,
    bytes: String,
}

struct House {
    ours: (Authority, Vec<u8>),
    stranger: (Authority, Vec<u8>),
    rsa: (Authority, Vec<u8>),
}

impl House {
    fn new() -> Self {
        let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
        Self { ours: root("root", p256), stranger: root("root", p256), rsa: root("rsa root", &rcgen::PKCS_RSA_SHA256) }
    }

    /// Leaf first.
    fn build(&self, chain: &Chain) -> Vec<Vec<u8>> {
        let root = match chain.root.as_str() {
            "" => &self.ours.0,
            "stranger" => &self.stranger.0,
            "rsa" => &self.rsa.0,
            other => panic!("no such root: {other}"),
        };
        // From the root down: what stands last behind the leaf is signed first.
        let mut behind = Vec::new();
        let mut below: Option<Authority> = None;
        for (n, cert) in chain.behind.iter().enumerate().rev() {
            let serial = u8::try_from(10 + n).unwrap();
            let (next, der) = authority(cert, &format!("intermediate {n}"), serial, below.as_ref().unwrap_or(root));
            behind.insert(0, der);
            below = Some(next);
        }
        let leaf = leaf(&chain.leaf, below.as_ref().unwrap_or(root));
        bent(&chain.bytes, leaf, behind)
    }

    fn verify(&self, chain: &Chain) -> Result<(), Error> {
        let certs: Vec<_> = self.build(chain).into_iter().map(CertificateDer::from).collect();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(NOW + chain.at).unwrap()));
        let expected = match chain.expected.as_str() {
            "" => Expected::Member(parse_trust_domain("example.org").unwrap()),
            id => Expected::Exactly(parse_spiffe_id(id).unwrap()),
        };
        let anchors: Vec<TrustAnchor<'static>> = [&self.ours.1, &self.rsa.1]
            .map(|der| webpki::anchor_from_trusted_cert(&der.as_slice().into()).unwrap().to_owned())
            .into();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = SvidVerifier::new(Arc::new(Arc::new(anchors)), expected, true, provider);
        match chain.end.as_str() {
            "" | "client" => verifier.verify_client_cert(&certs[0], &certs[1..], now).map(drop),
            "server" => {
                let name = ServerName::try_from("anything.acme.test").unwrap();
                verifier.verify_server_cert(&certs[0], &certs[1..], &name, &[], now).map(drop)
            }
            other => panic!("no such end: {other}"),
        }
    }
}

fn replaced(der: Vec<u8>, from: &[u8], to: &[u8], nth: &[usize]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<_> = der.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|(at, _)| at).collect();
    let mut der = der;
    for n in nth {
        der[places[*n]..places[*n] + to.len()].copy_from_slice(to);
    }
    der
}

/// RFC 5758 section 3.2: ecdsa-with-SHA224 to -SHA512 differ in their last byte.
const ECDSA: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
/// RFC 8017 appendix A.2: so do the algorithms of PKCS#1.
const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

fn bent(how: &str, mut leaf: Vec<u8>, mut behind: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let with = |base: &[u8], last: u8| [base, &[last]].concat();
    match how {
        "" => {}
        "leaf-alone" => behind.clear(),
        "leaf-last" => {
            behind.push(leaf);
            return behind;
        }
        "hundred" => behind = vec![behind[0].clone(); 100],
        "version-1" => leaf = replaced(leaf, &[0xa0, 3, 2, 1, 2], &[0xa0, 3, 2, 1, 0], &[0]),
        "sha-1" => leaf = replaced(leaf, &with(&PKCS1, 11), &with(&PKCS1, 5), &[0, 1]),
        "sha-224" => leaf = replaced(leaf, &with(&ECDSA, 2), &with(&ECDSA, 1), &[0, 1]),
        "sha-384-outside" => leaf = replaced(leaf, &with(&ECDSA, 2), &with(&ECDSA, 3), &[1]),
        "trailing" => leaf.push(0),
        "trailing-behind" => behind[0].push(0),
        "cut" => drop(leaf.pop()),
        "empty" => leaf.clear(),
        "pem" => leaf = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_vec(),
        "flipped" => *leaf.last_mut().unwrap() ^= 1,
        other => panic!("nothing is done so: {other}"),
    }
    behind.insert(0, leaf);
    behind
}

#[test]
fn every_bad_chain_of_the_table_is_refused_for_its_own_reason_and_its_twin_is_accepted() {
    let house = House::new();
    let table: Table = toml::from_str(include_str!("../data/chains.toml")).unwrap();
    let mut wrong = Vec::new();
    for Case { id, name, refused, accepted, error } in &table.case {
        match house.verify(refused) {
            Ok(_) => wrong.push(format!("{id} {name}: accepted")),
            Err(why) if !format!("{why:?}").contains(error) => wrong.push(format!("{id} {name}: {why:?}")),
            Err(_) => {}
        }
        if let Err(why) = house.verify(accepted) {
            wrong.push(format!("the twin of {id} {name}: {why:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
