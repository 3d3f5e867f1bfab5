//! An STS that is down, slow, hostile or somebody else: what is certain and what is not (K18, group H).

use super::{Cloud, document, refusal, trust};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};
use testkit::{poll, sts::StandInSts, target_law::durable};
use tokio_rustls::rustls::{self, ServerConfig, pki_types::PrivateKeyDer};

#[tokio::test]
async fn an_answer_that_is_unclear_may_have_made_a_session_and_a_clear_no_has_not() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    let error =
        |code: &str| format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><x>&b;</x>";
    for (status, body, how) in [
        (200, error("InvalidIdentityToken"), "refused"),
        (400, error("IDPCommunicationError"), "refused"),
        (400, error("Throttling"), "refused"),
        (403, error("RegionDisabledException"), "never"),
        (403, error("AccessDenied"), "never"),
        (403, "<html>forbidden by a proxy</html>".into(), "refused"),
        (404, String::new(), "refused"),
        (200, bomb.into(), "unknown"),
        (200, "<html>welcome</html>".into(), "unknown"),
        (200, String::new(), "unknown"),
        (200, "x".repeat(70_000), "unknown"),
        (500, error("InternalFailure"), "unknown"),
        (503, error("ServiceUnavailable"), "unknown"),
    ] {
        cloud.sts.answers_xml(status, &body);
        let (found, why) = refusal(cloud.issue(&*target).await);
        assert_eq!(found, how, "{status} {}: {why}", &body[..body.len().min(80)]);
    }
    cloud.sts.answers(*b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n<Assume");
    assert_eq!(refusal(cloud.issue(&*target).await).0, "unknown");
    cloud.sts.answers([b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 70_000]].concat());
    assert_eq!(refusal(cloud.issue(&*target).await).0, "unknown");
    cloud.sts.answers(*b"not http at all\r\n\r\n");
    assert_eq!(refusal(cloud.issue(&*target).await).0, "unknown");
    cloud.sts.closes();
    assert_eq!(refusal(cloud.issue(&*target).await).0, "unknown");
    cloud.sts.verifies();
    cloud.issue(&*target).await.unwrap();
}

/// H09, H20: the token goes to the endpoint and nowhere else.
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let cloud = Cloud::new().await;
    let elsewhere = StandInSts::start(trust(&cloud.signers, &cloud.clock)).await;
    let target = cloud.target("", "");
    for status in [301, 302, 307, 308] {
        let url = elsewhere.url();
        cloud.sts.answers(format!("HTTP/1.1 {status} X\r\nlocation: {url}/\r\ncontent-length: 0\r\n\r\n"));
        let (how, why) = refusal(cloud.issue(&*target).await);
        assert!(how == "refused" && why.contains("redirect"), "{how} {why}");
    }
    assert_eq!(elsewhere.calls().len(), 0);
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    let free = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let cloud = Cloud::new().await;
    let target = super::build(&document(&format!("http://{free}"), "", ""), &cloud.context());
    let (how, why) = refusal(cloud.issue(&*target).await);
    assert!(how == "refused" && why.contains("cannot reach"), "{how} {why}");
}

#[tokio::test]
async fn an_sts_that_does_not_answer_is_waited_for_a_little_and_may_have_made_a_session() {
    let cloud = Cloud::new().await;
    cloud.sts.hangs();
    let target = cloud.target("", "");
    let request = cloud.request(&*target, Duration::from_secs(3600));
    let asking = tokio::spawn(async move { target.issue(&durable(), &request).await });
    poll::until("the STS is asked", Duration::from_secs(5), async || cloud.sts.calls().len() == 1).await;
    poll::until("an answer is waited for", Duration::from_secs(5), async || cloud.clock.sleepers() == 1).await;
    cloud.clock.advance(Duration::from_secs(5));
    let (how, why) = refusal(asking.await.unwrap());
    assert!(how == "unknown" && why.contains("nothing within 5 s"), "{how} {why}");
}

/// An authority of the operator's own, and a certificate of it for `name`.
struct House {
    ca: Issuer<'static, KeyPair>,
    pem: String,
}

impl House {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("valid by construction");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("valid by construction");
        let pem = params.self_signed(&key).expect("valid by construction").pem();
        Self { ca: Issuer::new(params, key), pem }
    }

    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("valid by construction");
        let params = CertificateParams::new([name.to_string()]).expect("valid by construction");
        let cert = params.signed_by(&key, &self.ca).expect("valid by construction");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("valid by construction");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("valid by construction");
        Arc::new(
            builder
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .expect("valid by construction"),
        )
    }
}

/// H14: who is not verified is not sent a token.
#[tokio::test]
async fn an_sts_behind_tls_is_who_its_certificate_says_or_is_not_asked() {
    let cloud = Cloud::new().await;
    let (house, stranger) = (House::new(), House::new());
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let ours = file("ca.pem", &house.pem);
    let theirs = file("other.pem", &stranger.pem);
    let good = StandInSts::start_tls(trust(&cloud.signers, &cloud.clock), house.server("localhost")).await;
    let misnamed = StandInSts::start_tls(trust(&cloud.signers, &cloud.clock), house.server("sts.example.org")).await;
    let at = |sts: &StandInSts, ca: String| {
        super::build(&document(&sts.url(), &ca, "").replace("danger_allow_http = true\n", ""), &cloud.context())
    };
    let ca = |path: &PathBuf| format!("ca_file = \"{}\"", path.display());
    for (what, sts, ca) in [
        ("an authority that is not the target's", &good, ca(&theirs)),
        ("the system's authorities", &good, String::new()),
        ("another name", &misnamed, ca(&ours)),
    ] {
        let (how, why) = refusal(cloud.issue(&*at(sts, ca)).await);
        assert!(how == "refused" && why.contains("TLS"), "{what}: {how} {why}");
        assert_eq!(sts.calls().len(), 0, "{what}");
    }
    let target = at(&good, ca(&ours));
    cloud.issue(&*target).await.unwrap();
    // The file is read at each call: an authority renews while the server runs.
    file("ca.pem", &stranger.pem);
    assert_eq!(refusal(cloud.issue(&*target).await).0, "refused");
    file("ca.pem", &format!("{}{}", stranger.pem, house.pem));
    cloud.issue(&*target).await.unwrap();
    assert_eq!(good.calls().len(), 2);
}

#[tokio::test]
async fn many_at_once_are_all_answered() {
    let cloud = Cloud::new().await;
    let target = cloud.target("", "");
    let started: Vec<_> = (0..32)
        .map(|_| {
            let (target, request) = (target.clone(), cloud.request(&*target, Duration::from_secs(3600)));
            tokio::spawn(async move { target.issue(&durable(), &request).await })
        })
        .collect();
    let mut keys = Vec::new();
    for one in started {
        keys.push(one.await.unwrap().unwrap().access_token.expose().clone());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 32);
}
