//! `x509pop`: both ends in one conversation. Each bad chain, answer or file beside the nearly identical one that is accepted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto_attest::{
    Attested, ChannelError, Evidence, ProveError, Prover, ProverChannel, Verifier, VerifierChannel, VerifyError,
    method,
    x509pop::{X509PopProver, X509PopVerifier},
};
use proto_types::{Entropy, Fut, OsEntropy, Secret, Timestamp, id::parse_trust_domain};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, sync::Arc};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// In the middle of what every certificate of these tests covers, unless it says otherwise.
const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2023, 1, 1);
    params.not_after = rcgen::date_time_ymd(2024, 1, 1);
    params
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Authority {
    fn root(name: &str) -> Self {
        let (params, key) = (authority_params(name), key(&PKCS_ECDSA_P256_SHA256));
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }
    fn below(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), key(&PKCS_ECDSA_P256_SHA256));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }
    fn leaf(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = params("node-7");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }
    fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }
}

fn verifier(roots: &[&Authority]) -> X509PopVerifier {
    let roots: Vec<_> = roots.iter().map(|r| r.certificate.der().clone()).collect();
    X509PopVerifier::new(&roots, Arc::new(OsEntropy)).unwrap()
}

/// The server's side of a conversation whose answers a test writes.
struct Answering<F>(F);

impl<F: FnMut(Value) -> Value + Send> VerifierChannel for Answering<F> {
    fn challenge(&mut self, challenge: Vec<u8>) -> Fut<'_, Result<Vec<u8>, ChannelError>> {
        let answer = (self.0)(serde_json::from_slice(&challenge).unwrap());
        Box::pin(async move { Ok(serde_json::to_vec(&answer).unwrap()) })
    }
}

async fn verified(
    verifier: &X509PopVerifier,
    payload: &[u8],
    channel: &mut dyn VerifierChannel,
) -> Result<Attested, VerifyError> {
    let td = parse_trust_domain("example.org").unwrap();
    verifier.verify(Evidence { payload, trust_domain: &td, now: NOW }, channel).await
}

fn payload(chain: &[Vec<u8>]) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let certificates: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
    json!({ "certificates": certificates }).to_string().into_bytes()
}

/// What the verifier says of a chain before it sends any challenge.
async fn opening(verifier: &X509PopVerifier, payload: &[u8]) -> Result<(), VerifyError> {
    let mut challenged = false;
    let mut channel = Answering(|_| {
        challenged = true;
        json!({})
    });
    let answer = verified(verifier, payload, &mut channel).await;
    match answer {
        Err(error) if !challenged => Err(error),
        _ => Ok(()),
    }
}

/// Both ends, joined: what one sends the other receives.
struct Joined {
    to: mpsc::Sender<Vec<u8>>,
    from: mpsc::Receiver<Vec<u8>>,
}

impl ProverChannel for Joined {
    fn send(&mut self, evidence: Secret<Vec<u8>>) -> Fut<'_, Result<Option<Vec<u8>>, ChannelError>> {
        Box::pin(async move {
            self.to.send(evidence.expose().clone()).await.map_err(|_| ChannelError::Closed)?;
            Ok(self.from.recv().await)
        })
    }
}

impl VerifierChannel for Joined {
    fn challenge(&mut self, challenge: Vec<u8>) -> Fut<'_, Result<Vec<u8>, ChannelError>> {
        Box::pin(async move {
            self.to.send(challenge).await.map_err(|_| ChannelError::Closed)?;
            self.from.recv().await.ok_or(ChannelError::Closed)
        })
    }
}

async fn attest(prover: &dyn Prover, verifier: &X509PopVerifier) -> Result<Attested, String> {
    let ((to_server, at_server), (to_agent, at_agent)) = (mpsc::channel(1), mpsc::channel(1));
    let mut agent = Joined { to: to_server, from: at_agent };
    let server = async move {
        let mut channel = Joined { to: to_agent, from: at_server };
        let opening = channel.from.recv().await.ok_or("the agent said nothing")?;
        verified(verifier, &opening, &mut channel).await.map_err(|e| e.to_string())
    };
    // Whoever gives up hangs up: the other end must not wait for it.
    let agent = async move { prover.prove(&mut agent).await };
    let (proved, attested) = tokio::join!(agent, server);
    proved.map_err(|e| e.to_string())?;
    attested
}

/// A node's files.
struct Files(TempDir);

impl Files {
    fn new(key_pem: &str, chain: &[Vec<u8>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Self(dir);
        fs::write(files.key(), key_pem).unwrap();
        fs::set_permissions(files.key(), fs::Permissions::from_mode(0o600)).unwrap();
        let pem: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        fs::write(files.certificate(), pem).unwrap();
        files
    }
    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }
    fn certificate(&self) -> PathBuf {
        self.0.path().join("certificate.pem")
    }
    fn prover(&self) -> X509PopProver {
        X509PopProver::new(self.key(), self.certificate(), None, Arc::new(OsEntropy))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// An RSA key by openssl, since ours makes none.
fn rsa(bits: u32) -> (KeyPair, String) {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt", &format!("rsa_keygen_bits:{bits}")])
        .output()
        .expect("openssl is missing: apt-get install openssl");
    let text = String::from_utf8(made.stdout).unwrap();
    let pair = KeyPair::from_pem_and_sign_algo(&text, &rcgen::PKCS_RSA_SHA256).unwrap();
    (pair, text)
}

#[tokio::test]
async fn a_node_with_the_key_of_its_certificate_is_attested_by_that_certificate_s_name() {
    let root = Authority::root("factory");
    let between = root.below("line 4");
    let (rsa, rsa_pem) = rsa(2048);
    let ec = key(&PKCS_ECDSA_P256_SHA256);
    let ec_pem = ec.serialize_pem();
    for (pair, key_pem) in [(&ec, ec_pem), (&rsa, rsa_pem)] {
        let leaf = between.leaf(pair, |p| p.serial_number = Some(vec![0x0b, 0xad].into()));
        let files = Files::new(&key_pem, &[leaf.clone(), between.der()]);
        let attested = attest(&files.prover(), &verifier(&[&root])).await.unwrap();
        let print = sha1(&leaf);
        assert_eq!(attested.agent().to_string(), format!("spiffe://example.org/spire/agent/x509pop/{print}"));
        assert!(attested.can_reattest() && attested.spends().is_empty());
        let selectors: Vec<String> = attested.selectors().iter().map(ToString::to_string).collect();
        let wanted = [
            "x509pop:subject:cn:node-7".to_string(),
            format!("x509pop:ca:fingerprint:{}", sha1(&between.der())),
            format!("x509pop:ca:fingerprint:{}", sha1(&root.der())),
            "x509pop:serialnumber:0bad".to_string(),
        ];
        assert_eq!(selectors, wanted);
    }
}

fn sha1(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn a_chain_that_proves_nothing_is_refused_before_any_challenge_and_its_neighbour_is_challenged() {
    let (root, other) = (Authority::root("factory"), Authority::root("factory"));
    let pair = key(&PKCS_ECDSA_P256_SHA256);
    let good = root.leaf(&pair, |_| {});
    let verifier = verifier(&[&root]);
    opening(&verifier, &payload(std::slice::from_ref(&good))).await.unwrap();
    let p384 = key(&PKCS_ECDSA_P384_SHA384);
    opening(&verifier, &payload(&[root.leaf(&p384, |_| {})])).await.unwrap();
    let server_only = |p: &mut CertificateParams| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    opening(&verifier, &payload(&[root.leaf(&pair, server_only)])).await.unwrap();

    let mut chain = vec![root.below("1")];
    for name in ["2", "3", "4", "5"] {
        chain.push(chain.last().unwrap().below(name));
    }
    let deep = |n: usize| {
        let mut ders = vec![chain[n - 1].leaf(&pair, |_| {})];
        ders.extend(chain[..n].iter().rev().map(Authority::der));
        payload(&ders)
    };
    opening(&verifier, &deep(4)).await.unwrap();

    let changed = |at: fn(&mut Vec<u8>)| {
        let mut der = good.clone();
        at(&mut der);
        payload(&[der])
    };
    let short = params("node-7").signed_by(&Bare::of_bits(1024), &root.issuer).unwrap();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("no JSON", b"certificates".to_vec()),
        ("no certificate", payload(&[])),
        ("an empty certificate", payload(&[Vec::new()])),
        ("not base64", json!({ "certificates": ["*"] }).to_string().into_bytes()),
        ("garbage", payload(&[vec![0x30; 300]])),
        ("a byte behind it", changed(|der| der.push(0))),
        ("its last byte cut", changed(|der| der.truncate(der.len() - 1))),
        ("another signature", changed(|der| *der.last_mut().unwrap() ^= 1)),
        ("another authority of the same name", payload(&[other.leaf(&pair, |_| {})])),
        ("an authority as leaf", payload(&[root.below("ca").der()])),
        ("expired", payload(&[root.leaf(&pair, |p| p.not_after = rcgen::date_time_ymd(2023, 11, 14))])),
        ("not yet valid", payload(&[root.leaf(&pair, |p| p.not_before = rcgen::date_time_ymd(2023, 11, 15))])),
        (
            "a key that may not sign",
            payload(&[root.leaf(&pair, |p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement])]),
        ),
        (
            "for mail",
            payload(&[root.leaf(&pair, |p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
            })]),
        ),
        ("five intermediates", deep(5)),
        ("without its intermediate", payload(&[chain[0].leaf(&pair, |_| {})])),
        ("a short RSA key", payload(&[short.der().to_vec()])),
        (
            "a certificate of 11 KiB",
            payload(&[root.leaf(&pair, |p| {
                p.subject_alt_names = (0..400)
                    .map(|n| rcgen::SanType::DnsName(format!("node-{n}.example.org.internal").try_into().unwrap()))
                    .collect();
            })]),
        ),
    ];
    for (case, payload) in cases {
        let refused = opening(&verifier, &payload).await;
        assert!(
            matches!(refused, Err(VerifyError::Malformed { .. } | VerifyError::Refused { .. })),
            "{case}: {refused:?}"
        );
    }
}

/// An RSA key too large to compute with, in a leaf that the authority did sign: its size is read, its arithmetic is not done.
#[tokio::test]
async fn a_huge_rsa_key_is_refused_by_its_size_and_one_of_4096_bits_is_not() {
    let root = Authority::root("factory");
    let verifier = verifier(&[&root]);
    let (fits, _) = rsa(4096);
    opening(&verifier, &payload(&[root.leaf(&fits, |_| {})])).await.unwrap();
    let leaf = params("node-7").signed_by(&Bare::of_bits(16_384), &root.issuer).unwrap();
    let refused = opening(&verifier, &payload(&[leaf.der().to_vec()])).await.unwrap_err();
    assert!(refused.to_string().contains("2048 to 4096 bits"), "{refused}");
}

/// An RSA public key of which nobody has the private half.
struct Bare(Vec<u8>);

impl Bare {
    /// `RSAPublicKey` with a modulus of so many bits, all set, and the exponent 65537.
    fn of_bits(bits: usize) -> Self {
        let length = |n: usize| [&[0x82][..], &u16::try_from(n).unwrap().to_be_bytes()].concat();
        let modulus = [&[0x02][..], &length(bits / 8 + 1), &[0], &vec![0xff; bits / 8]].concat();
        let body = [&modulus[..], &[0x02, 0x03, 0x01, 0x00, 0x01]].concat();
        Self([&[0x30][..], &length(body.len()), &body].concat())
    }
}

impl rcgen::PublicKeyData for Bare {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

/// The answers a stranger may give, each beside the right one.
#[tokio::test]
async fn only_an_answer_to_this_conversation_s_nonce_by_this_certificate_s_key_proves_anything() {
    let root = Authority::root("factory");
    let verifier = verifier(&[&root]);
    let (own, stranger) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P256_SHA256));
    let leaf = root.leaf(&own, |_| {});
    let right = answers(&own);
    let opening = payload(std::slice::from_ref(&leaf));
    let said = async |change: &(dyn Fn(Value) -> Value + Sync)| {
        verified(&verifier, &opening, &mut Answering(|challenge| change(right(challenge)))).await
    };
    said(&|answer| answer).await.unwrap();

    // Another conversation's answer: its nonce was another one.
    let old = right(json!({ "ecdsa_signature": { "nonce": b64(&[7; 32]) } }));
    let foreign = answers(&stranger);
    let refused: Vec<(&str, Result<Attested, VerifyError>)> = vec![
        ("an old answer", verified(&verifier, &opening, &mut Answering(|_| old.clone())).await),
        ("another key", verified(&verifier, &opening, &mut Answering(&foreign)).await),
        ("nothing", said(&|_| json!({})).await),
        (
            "another nonce of its own",
            said(&|mut a| {
                a["ecdsa_signature"]["nonce"] = json!(b64(&[1; 32]));
                a
            })
            .await,
        ),
        (
            "a short nonce",
            said(&|mut a| {
                a["ecdsa_signature"]["nonce"] = json!(b64(&[1; 31]));
                a
            })
            .await,
        ),
        (
            "r of zero",
            said(&|mut a| {
                a["ecdsa_signature"]["r"] = json!(b64(&[0]));
                a
            })
            .await,
        ),
        (
            "r and s exchanged",
            said(&|mut a| {
                let r = a["ecdsa_signature"]["r"].take();
                a["ecdsa_signature"]["r"] = a["ecdsa_signature"]["s"].take();
                a["ecdsa_signature"]["s"] = r;
                a
            })
            .await,
        ),
        (
            "an s of 33 bytes",
            said(&|mut a| {
                a["ecdsa_signature"]["s"] = json!(b64(&[1; 33]));
                a
            })
            .await,
        ),
        (
            "under the other kind",
            said(&|a| {
                json!({ "rsa_signature": {
            "nonce": a["ecdsa_signature"]["nonce"], "signature": a["ecdsa_signature"]["r"] } })
            })
            .await,
        ),
        (
            "both kinds",
            said(&|mut a| {
                a["rsa_signature"] = json!({ "nonce": a["ecdsa_signature"]["nonce"], "signature": "" });
                a
            })
            .await,
        ),
    ];
    for (case, refused) in refused {
        assert!(
            matches!(refused, Err(VerifyError::Malformed { .. } | VerifyError::Refused { .. })),
            "{case}: {refused:?}"
        );
    }
    let gone = verified(&verifier, &opening, &mut Gone).await;
    assert_eq!(gone, Err(VerifyError::Channel(ChannelError::Closed)));
}

fn b64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

struct Gone;

impl VerifierChannel for Gone {
    fn challenge(&mut self, _: Vec<u8>) -> Fut<'_, Result<Vec<u8>, ChannelError>> {
        Box::pin(async { Err(ChannelError::Closed) })
    }
}

/// The right answer to any challenge, by this key.
fn answers(pair: &KeyPair) -> impl Fn(Value) -> Value + Sync + '_ {
    move |challenge: Value| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let theirs = STANDARD.decode(challenge["ecdsa_signature"]["nonce"].as_str().unwrap()).unwrap();
        let mut own = [0; 32];
        OsEntropy.fill(&mut own);
        let der = rcgen::SigningKey::sign(pair, &[theirs.as_slice(), &own].concat()).unwrap();
        let (r, s) = integers(&der);
        json!({ "ecdsa_signature": { "nonce": b64(&own), "r": b64(&r), "s": b64(&s) } })
    }
}

/// The two numbers of `SEQUENCE { INTEGER, INTEGER }`.
fn integers(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let r_len = usize::from(der[3]);
    let (r, rest) = der[4..].split_at(r_len);
    let s = &rest[2..];
    let strip = |n: &[u8]| n.iter().skip_while(|b| **b == 0).copied().collect();
    (strip(r), strip(s))
}

/// What is wrong with a node's files is found on the node, and no byte of a key is in what is said.
#[tokio::test]
async fn a_file_that_is_wrong_is_named_on_the_node_and_the_same_file_put_right_is_used() {
    let root = Authority::root("factory");
    let (own, other) = (key(&PKCS_ECDSA_P256_SHA256), key(&PKCS_ECDSA_P256_SHA256));
    let leaf = root.leaf(&own, |_| {});
    let good = || Files::new(&own.serialize_pem(), std::slice::from_ref(&leaf));
    let verifier = verifier(&[&root]);
    attest(&good().prover(), &verifier).await.unwrap();
    let p384 = key(&PKCS_ECDSA_P384_SHA384);
    type Spoil<'a> = &'a dyn Fn(&Files);
    let cases: [(&str, &str, Spoil<'_>); 8] = [
        ("a key that others may read", "chmod 600", &|f| {
            fs::set_permissions(f.key(), fs::Permissions::from_mode(0o644)).unwrap();
        }),
        ("no key", "cannot read", &|f| fs::remove_file(f.key()).unwrap()),
        ("an empty key", "no PEM", &|f| fs::write(f.key(), "").unwrap()),
        ("a key of another certificate", "private_key_path", &|f| fs::write(f.key(), other.serialize_pem()).unwrap()),
        ("a P-384 key", "P-256, or RSA", &|f| fs::write(f.key(), p384.serialize_pem()).unwrap()),
        ("a directory", "not a regular file", &|f| {
            fs::remove_file(f.certificate()).unwrap();
            fs::create_dir(f.certificate()).unwrap();
        }),
        ("no certificate", "1 to 5 certificates", &|f| fs::write(f.certificate(), "").unwrap()),
        ("64 KiB and a byte", "64 KiB", &|f| fs::write(f.certificate(), vec![b'\n'; (64 << 10) + 1]).unwrap()),
    ];
    for (case, words, spoil) in cases {
        let files = good();
        spoil(&files);
        let error = attest(&files.prover(), &verifier).await.unwrap_err();
        assert!(error.contains(words), "{case}: {error}");
    }
    let mut fifo = good();
    nix::unistd::mkfifo(&fifo.0.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let prover = X509PopProver::new(fifo.0.path().join("fifo"), fifo.certificate(), None, Arc::new(OsEntropy));
    assert!(attest(&prover, &verifier).await.unwrap_err().contains("not a regular file"));
    fifo = good();
    // Intermediates may stand in a file of their own.
    let between = root.below("line 4");
    fs::write(fifo.certificate(), pem("CERTIFICATE", &between.leaf(&own, |_| {}))).unwrap();
    let apart = fifo.0.path().join("intermediates.pem");
    fs::write(&apart, pem("CERTIFICATE", &between.der())).unwrap();
    let prover = X509PopProver::new(fifo.key(), fifo.certificate(), Some(apart), Arc::new(OsEntropy));
    attest(&prover, &verifier).await.unwrap();
}

/// A server that asks twice, or for another kind of signature, gets no answer: the key signs one challenge.
#[tokio::test]
async fn a_node_answers_one_challenge_of_its_own_kind_of_key() {
    struct Asking(Vec<Value>);
    impl ProverChannel for Asking {
        fn send(&mut self, _: Secret<Vec<u8>>) -> Fut<'_, Result<Option<Vec<u8>>, ChannelError>> {
            let next = self.0.pop().map(|v| serde_json::to_vec(&v).unwrap());
            Box::pin(async move { Ok(next) })
        }
    }
    let root = Authority::root("factory");
    let own = key(&PKCS_ECDSA_P256_SHA256);
    let prover = Files::new(&own.serialize_pem(), &[root.leaf(&own, |_| {})]);
    let asked = async |challenges: Vec<Value>| prover.prover().prove(&mut Asking(challenges)).await;
    let good = json!({ "ecdsa_signature": { "nonce": b64(&[9; 32]) } });
    asked(vec![good.clone()]).await.unwrap();
    for (case, challenges) in [
        ("twice", vec![good.clone(), good.clone()]),
        ("RSA", vec![json!({ "rsa_signature": { "nonce": b64(&[9; 32]) } })]),
        (
            "both",
            vec![json!({ "rsa_signature": { "nonce": b64(&[9; 32]) }, "ecdsa_signature": { "nonce": b64(&[9; 32]) } })],
        ),
        ("none", vec![json!({})]),
        ("a short nonce", vec![json!({ "ecdsa_signature": { "nonce": b64(&[9; 31]) } })]),
        ("no JSON", vec![json!("x")]),
    ] {
        let refused = asked(challenges).await;
        assert!(matches!(refused, Err(ProveError::Malformed { .. })), "{case}: {refused:?}");
    }
}

#[test]
fn a_section_names_all_its_problems_at_either_end() {
    let method = method("x509pop").unwrap();
    let section = |text: &str| text.parse().unwrap();
    for (bad, says) in [
        ("", "private_key_path"),
        ("private_key_path = \"/k\"", "certificate_path"),
        ("private_key_path = \"k\"\ncertificate_path = \"/c\"", "absolute"),
        ("private_key_path = 1\ncertificate_path = \"/c\"", "absolute"),
        ("private_key_path = \"/k\"\ncertificate_path = \"/c\"\ncolour = 1", "`colour`"),
    ] {
        let text = format!("{:?}", (method.prover)(&section(bad)).err().unwrap());
        assert!(text.contains(says), "{bad}: {text}");
    }
    assert!((method.prover)(&section("private_key_path = \"/k\"\ncertificate_path = \"/c\"")).is_ok());

    struct None_;
    impl proto_attest::join_token::JoinTokens for None_ {
        fn find<'a>(
            &'a self,
            _: &'a str,
        ) -> Fut<'a, Result<Option<proto_types::JoinToken>, proto_attest::join_token::TokenLookupError>> {
            Box::pin(async { Ok(None) })
        }
    }
    let ports = proto_attest::VerifierPorts { join_tokens: Arc::new(None_), entropy: Arc::new(OsEntropy) };
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let root = Authority::root("factory");
    let good = file("roots.pem", &pem("CERTIFICATE", &root.der()));
    for (bad, says) in [
        (String::new(), "is missing"),
        ("ca_bundle_path = \"roots.pem\"".into(), "absolute"),
        ("ca_bundle_path = \"/dev/zero\"".into(), "regular file"),
        (format!("ca_bundle_path = {:?}", dir.path()), "regular file"),
        (format!("ca_bundle_path = {:?}", file("empty.pem", "")), "1 to 100 certificates"),
        (format!("ca_bundle_path = {:?}", file("garbage.pem", &pem("CERTIFICATE", b"x"))), "no authority's"),
        (format!("ca_bundle_path = {good:?}\ncolour = 1"), "`colour`"),
    ] {
        let text = format!("{:?}", (method.verifier)(&section(&bad), &ports).err().unwrap());
        assert!(text.contains(says), "{bad}: {text}");
    }
    assert!((method.verifier)(&section(&format!("ca_bundle_path = {good:?}")), &ports).is_ok());
}
