//! The sink against real TLS servers: what reaches them, whom it refuses, and what it never sends.

use crate::{SinkConfig, read};
use proto_types::{Clock as _, Position, Record, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use server_core::ports::{Batch, Outgoing, Sink, SinkError};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use testkit::fakes::FakeClock;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// 2026-01-01T00:00:00Z.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a server's certificate says; the default is one that is accepted.
struct Leaf {
    names: &'static [&'static str],
    years: (i32, i32),
}
const GOOD: Leaf = Leaf { names: &["127.0.0.1", "localhost"], years: (2025, 2027) };

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of this test");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// `None`: the server vouches for itself.
    fn acceptor(by: Option<&Self>, leaf: &Leaf) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = leaf.names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(leaf.years.0, 1, 1);
        params.not_after = date_time_ymd(leaf.years.1, 1, 1);
        let cert = by.map_or_else(|| params.self_signed(&key), |ca| params.signed_by(&key, &ca.issuer)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], der)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server that keeps every request as it came and answers each the same.
struct Collector {
    at: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn start(tls: Option<TlsAcceptor>, answer: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (at, answer) = (listener.local_addr().unwrap(), answer.into());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (mut serving, kept) = (JoinSet::new(), requests.clone());
        serving.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                match &tls {
                    None => converse(tcp, &kept, &answer).await,
                    // A client that does not trust it hangs up.
                    Some(tls) => match tls.accept(tcp).await {
                        Ok(stream) => converse(stream, &kept, &answer).await,
                        Err(_) => continue,
                    },
                }
            }
        });
        Self { at, requests, _serving: serving }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, kept: &Mutex<Vec<String>>, answer: &str) {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        // Whoever speaks TLS here is not understood.
        let Ok(part) = std::str::from_utf8(&buffer[..n]) else { return };
        text += part;
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
            body.len() == length.parse::<usize>().unwrap()
        });
        if whole {
            kept.lock().unwrap().push(text);
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
        if n == 0 {
            return;
        }
    }
}

/// A folder with an authority's certificate and a token.
struct Setup {
    home: TempDir,
    ca: Authority,
}

impl Setup {
    fn new() -> Self {
        let (home, ca) = (tempfile::tempdir().unwrap(), Authority::new());
        std::fs::write(home.path().join("ca.pem"), &ca.pem).unwrap();
        std::fs::write(home.path().join("token"), "s3cret\n").unwrap();
        Self { home, ca }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn config(&self, url: &str, more: &str) -> SinkConfig {
        let ca = if url.starts_with("https") { format!("ca_file = {:?}\n", self.at("ca.pem")) } else { String::new() };
        let text = format!("kind = \"http\"\nurl = \"{url}\"\ntoken_file = {:?}\n{ca}{more}", self.at("token"));
        read(vec![toml::from_str(&text).unwrap()]).unwrap().remove(0)
    }

    fn sink(&self, url: &str, more: &str) -> Arc<dyn Sink> {
        self.config(url, more).place.open(Arc::new(FakeClock::at(NOW))).unwrap()
    }
}

fn batch(intents: &[&str]) -> Batch {
    let record = |intent: &&str| Record::new(FakeClock::at(NOW).now(), "decision.made").intent(*intent);
    let out = |(i, intent)| Outgoing { position: Position(i), leaf: [7; 32], record: record(intent) };
    Batch { store_id: "s".into(), records: (0..).zip(intents).map(out).collect() }
}

#[tokio::test]
async fn a_batch_is_one_post_of_lines_or_an_array_with_the_token_of_now() {
    let setup = Setup::new();
    let server = Collector::start(Some(Authority::acceptor(Some(&setup.ca), &GOOD)), OK).await;
    let url = format!("https://{}/ingest?source=errand", server.at);
    let lines = setup.sink(&url, "");
    lines.deliver(&batch(&["one", "two"])).await.unwrap();
    std::fs::write(setup.at("token"), "renewed").unwrap();
    lines.deliver(&batch(&["three"])).await.unwrap();
    setup.sink(&url, "body = \"array\"\nformat = \"ocsf\"\n").deliver(&batch(&["four", "five"])).await.unwrap();
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /ingest?source=errand HTTP/1.1\r\n"), "{head}");
    for header in [
        format!("host: {}", server.at),
        "content-type: application/x-ndjson".into(),
        "authorization: Bearer s3cret".into(),
    ] {
        assert!(head.lines().any(|l| l == header), "{header}: {head}");
    }
    assert_eq!(body.lines().count(), 2);
    assert!(body.ends_with('\n') && body.contains("one") && body.contains("two"), "{body}");
    assert!(requests[1].contains("authorization: Bearer renewed\r\n"), "{}", requests[1]);
    let (head, body) = requests[2].split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(body.starts_with("[{") && body.contains("},{") && body.ends_with("}]"), "{body}");
}

/// H14: whoever is not the host that was named, now, by an authority that was named, gets neither record nor token.
#[tokio::test]
async fn only_a_server_whose_certificate_holds_gets_anything() {
    let setup = Setup::new();
    let other = Authority::new();
    let ca = &setup.ca;
    let cases = [
        ("as it should be", Some(ca), GOOD, true),
        ("another name", Some(ca), Leaf { names: &["siem.example.org"], ..GOOD }, false),
        ("more names, ours among them", Some(ca), Leaf { names: &["siem.example.org", "127.0.0.1"], ..GOOD }, true),
        ("expired", Some(ca), Leaf { years: (2024, 2025), ..GOOD }, false),
        ("not yet valid", Some(ca), Leaf { years: (2027, 2028), ..GOOD }, false),
        ("valid for long", Some(ca), Leaf { years: (2024, 2030), ..GOOD }, true),
        ("of another authority", Some(&other), GOOD, false),
        ("self-signed", None, GOOD, false),
    ];
    for (what, by, leaf, accepted) in cases {
        let server = Collector::start(Some(Authority::acceptor(by, &leaf)), OK).await;
        let taken = setup.sink(&format!("https://{}/", server.at), "").deliver(&batch(&["one"])).await;
        assert_eq!(taken.is_ok(), accepted, "{what}: {taken:?}");
        assert_eq!(server.requests().len(), usize::from(accepted), "{what}");
        if let Err(error) = taken {
            assert!(error.to_string().contains("TLS"), "{what}: {error}");
        }
    }
    // A server without TLS is no server for an https URL, and the other way round.
    let plain = Collector::start(None, OK).await;
    assert!(setup.sink(&format!("https://{}/", plain.at), "").deliver(&batch(&["one"])).await.is_err());
    setup.sink(&format!("http://{}/", plain.at), "").deliver(&batch(&["one"])).await.unwrap();
    assert_eq!(plain.requests().len(), 1);
}

/// H09, H20: an answer leads nowhere, and only a 2xx means that the batch is there.
#[tokio::test]
async fn only_a_2xx_is_taken_and_no_answer_leads_to_another_host() {
    let setup = Setup::new();
    let elsewhere = Collector::start(None, OK).await;
    let to = format!("location: http://{}/ingest\r\n", elsewhere.at);
    let long = "x".repeat(200_000);
    let cases = [
        ("200 OK", "", "", true),
        ("202 Accepted", "", "queued", true),
        ("204 No Content", "", "", true),
        ("200 OK", to.as_str(), "", true),
        ("200 OK", "", long.as_str(), true),
        ("301 Moved Permanently", to.as_str(), "", false),
        ("302 Found", to.as_str(), "", false),
        ("307 Temporary Redirect", to.as_str(), "", false),
        ("308 Permanent Redirect", to.as_str(), "", false),
        ("400 Bad Request", "", "told-in-confidence", false),
        ("401 Unauthorized", "", "", false),
        ("429 Too Many Requests", "", "", false),
        ("503 Service Unavailable", "", long.as_str(), false),
    ];
    for (status, header, body, accepted) in cases {
        let answer = format!("HTTP/1.1 {status}\r\n{header}content-length: {}\r\n\r\n{body}", body.len());
        let server = Collector::start(None, answer).await;
        let taken = setup.sink(&format!("http://{}/?key=in-the-query", server.at), "").deliver(&batch(&["one"])).await;
        assert_eq!(taken.is_ok(), accepted, "{status}: {taken:?}");
        assert_eq!(server.requests().len(), 1, "{status}");
        if let Err(error) = taken {
            let said = error.to_string();
            assert!(said.contains(&status[..3]), "{said}");
            for secret in ["s3cret", "in-the-query", "told-in-confidence"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
    for broken in
        ["", "220 mail.example.org ESMTP\r\n", &format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(40_000))]
    {
        let server = Collector::start(None, broken).await;
        assert!(
            setup.sink(&format!("http://{}/", server.at), "").deliver(&batch(&["one"])).await.is_err(),
            "{broken:.20}"
        );
    }
}

/// H18: what was one line when the server started may be two by now.
#[tokio::test]
async fn a_token_that_became_two_lines_is_not_sent() {
    let setup = Setup::new();
    let server = Collector::start(None, OK).await;
    let sink = setup.sink(&format!("http://{}/", server.at), "");
    std::fs::write(setup.at("token"), "one\r\nx-evil: yes").unwrap();
    let refused = sink.deliver(&batch(&["one"])).await.unwrap_err();
    assert!(matches!(&refused, SinkError::Refused { why, .. } if why.contains("`token_file`")), "{refused:?}");
    assert!(server.requests().is_empty());
    std::fs::write(setup.at("token"), "one").unwrap();
    sink.deliver(&batch(&["one"])).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_section_names_a_url_and_what_goes_with_it() {
    let setup = Setup::new();
    std::fs::write(setup.at("empty"), "").unwrap();
    let path = |name: &str| setup.at(name).display().to_string();
    let (ca, token, empty) = (path("ca.pem"), path("token"), path("empty"));
    let url = "url = \"https://siem.example.org/ingest\"\n".to_string();
    let pairs = [
        ("url = \"http://siem.example.org/\"\n".into(), format!("{url}ca_file = \"{ca}\"\n"), "`url`"),
        (String::new(), format!("url = \"http://[::1]:9/\"\ntoken_file = \"{token}\"\n"), "`url`"),
        (format!("{url}ca_file = \"{empty}\"\n"), format!("{url}ca_file = \"{ca}\"\n"), "`ca_file`"),
        (
            format!("url = \"http://127.0.0.1:9/\"\nca_file = \"{ca}\"\n"),
            format!("url = \"https://127.0.0.1:9/\"\nca_file = \"{ca}\"\n"),
            "`ca_file`",
        ),
        (
            format!("{url}ca_file = \"{ca}\"\ntoken_file = \"{empty}\"\n"),
            format!("{url}ca_file = \"{ca}\"\ntoken_file = \"{token}\"\n"),
            "`token_file`",
        ),
        (
            format!("{url}ca_file = \"{ca}\"\nformat = \"cef\"\nbody = \"array\"\n"),
            format!("{url}ca_file = \"{ca}\"\nformat = \"cef\"\nbody = \"lines\"\n"),
            "`body`",
        ),
        (format!("{url}ca_file = \"{ca}\"\nproxy = \"x\"\n"), format!("{url}ca_file = \"{ca}\"\n"), "`proxy`"),
    ];
    let parse = |text: &str| read(vec![toml::from_str(&format!("kind = \"http\"\n{text}")).unwrap()]);
    for (bad, good, names) in pairs {
        let problems = parse(&bad).unwrap_err();
        assert!(problems.iter().any(|p| p.what.contains(names)), "{names}: {problems:?}");
        assert_eq!(parse(&good).unwrap()[0].kind, "http", "{good}");
    }
}
