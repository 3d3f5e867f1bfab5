//! Both ends of each node attestation method, through the registry, as agent and server use them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proto_attest::{
    ChannelError, Evidence, ProverChannel, Section, Spend, Verifier, VerifierChannel, VerifierPorts, VerifyError,
    join_token::{JoinTokens, TokenLookupError, token_digest},
    method,
};
use proto_types::{Fut, JoinToken, OsEntropy, Secret, Timestamp, TrustDomain, id::parse_trust_domain};
use std::sync::{Arc, Mutex};

const NOW: Timestamp = Timestamp::from_secs(1_000);

struct Issued(Vec<JoinToken>);

impl JoinTokens for Issued {
    fn find<'a>(&'a self, digest: &'a str) -> Fut<'a, Result<Option<JoinToken>, TokenLookupError>> {
        let found = self.0.iter().find(|t| t.digest == digest).cloned();
        Box::pin(async move { Ok(found) })
    }
}

/// The server as a channel that decides after the first message, or asks once more.
#[derive(Default)]
struct Wire {
    sent: Mutex<Vec<Vec<u8>>>,
    challenge: Option<Vec<u8>>,
}

impl ProverChannel for Wire {
    fn send(&mut self, evidence: Secret<Vec<u8>>) -> Fut<'_, Result<Option<Vec<u8>>, ChannelError>> {
        self.sent.lock().unwrap().push(evidence.expose().clone());
        let challenge = self.challenge.take();
        Box::pin(async move { Ok(challenge) })
    }
}

impl VerifierChannel for Wire {
    fn challenge(&mut self, _: Vec<u8>) -> Fut<'_, Result<Vec<u8>, ChannelError>> {
        Box::pin(async { Err(ChannelError::Closed) })
    }
}

fn td() -> TrustDomain {
    parse_trust_domain("example.org").unwrap()
}

fn section(text: &str) -> Section {
    text.parse().unwrap()
}

fn verifier(tokens: Vec<JoinToken>) -> Arc<dyn Verifier> {
    let ports = VerifierPorts { join_tokens: Arc::new(Issued(tokens)), entropy: Arc::new(OsEntropy) };
    (method("join_token").unwrap().verifier)(&section(""), &ports).map_err(|p| format!("{p:?}")).unwrap()
}

fn issued(token: &str, expires: i64) -> JoinToken {
    JoinToken { digest: token_digest(token.as_bytes()), expires_at: Timestamp::from_secs(expires), alias: None }
}

async fn verify(v: &dyn Verifier, payload: &[u8]) -> Result<proto_attest::Attested, VerifyError> {
    let td = td();
    v.verify(Evidence { payload, trust_domain: &td, now: NOW }, &mut Wire::default()).await
}

#[tokio::test]
async fn what_the_agent_sends_is_what_the_server_accepts_and_must_spend() {
    let prover = (method("join_token").unwrap().prover)(&section(r#"token = "s3cret-token""#));
    let prover = prover.map_err(|p| format!("{p:?}")).unwrap();
    let mut wire = Wire::default();
    prover.prove(&mut wire).await.unwrap();
    let sent = wire.sent.lock().unwrap().clone();
    let attested = verify(&*verifier(vec![issued("s3cret-token", 1_001)]), &sent[0]).await.unwrap();
    let digest = token_digest(b"s3cret-token");
    assert_eq!(attested.agent().to_string(), format!("spiffe://example.org/spire/agent/join_token/{}", &digest[..32]));
    assert_eq!(attested.spends(), [Spend::JoinToken { digest }]);
    assert!(!attested.can_reattest());
    assert!(!prover.can_reattest());
    assert!(!format!("{attested:?}").contains("s3cret"), "the token shows nowhere");
}

#[tokio::test]
async fn a_token_that_is_unknown_expired_or_malformed_is_refused_and_its_neighbour_is_not() {
    let v = verifier(vec![issued("live", 1_001), issued("late", 1_000)]);
    let refused = |r: Result<_, VerifyError>| matches!(r, Err(VerifyError::Refused { .. }));
    assert!(refused(verify(&*v, b"unknown").await));
    assert!(refused(verify(&*v, b"late").await), "it expires in the moment it names");
    assert!(refused(verify(&*v, b"../live").await));
    assert_eq!(verify(&*v, b"unknown").await, verify(&*v, b"late").await, "one answer for both");
    for bad in [&b""[..], b"li ve", b"live\n", &[b'a'; 257], &vec![b'a'; 1 << 20]] {
        assert!(matches!(verify(&*v, bad).await, Err(VerifyError::Malformed { .. })));
    }
    assert!(verify(&*v, b"live").await.is_ok());
}

#[tokio::test]
async fn a_challenge_to_a_token_is_an_error_that_says_so() {
    let prover = (method("join_token").unwrap().prover)(&section(r#"token = "t""#)).map_err(|_| ()).unwrap();
    let mut wire = Wire { challenge: Some(vec![1]), ..Wire::default() };
    assert!(prover.prove(&mut wire).await.unwrap_err().to_string().contains("challenge"));
}

#[test]
fn a_section_names_all_its_problems_and_never_the_token() {
    let make = method("join_token").unwrap().prover;
    for (bad, says) in [
        ("", "errand node token"),
        ("token = 5", "string"),
        ("token = \"a b\"", "printable"),
        ("token = \"hush\"\ntoken_file = \"/t\"", "not both"),
        ("token_file = \"t\"", "absolute"),
        ("token = \"hush\"\ncolour = 1", "`colour`"),
    ] {
        let problems = make(&section(bad)).err().unwrap();
        let text = format!("{problems:?}");
        assert!(text.contains(says), "{bad}: {text}");
        assert!(!text.contains("hush"));
    }
    assert!(make(&section("token = \"hush\"")).is_ok());
    assert!(make(&section("token_file = \"/run/token\"")).is_ok());
}

#[test]
fn an_unknown_method_is_none_and_every_method_is_found_by_its_name() {
    assert!(method("tea_leaves").is_none());
    for m in proto_attest::METHODS {
        assert_eq!(method(m.name).unwrap().name, m.name);
    }
}
