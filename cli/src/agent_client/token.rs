//! One RFC 8693 exchange: a task's identity in, one credential out, over mutual TLS.
//!
//! Decides what is sent and when the same request is sent again (its idempotency key keeps that from making a second
//! credential). Does not decide where the credential goes.

pub use super::token_error::TokenError;
use super::{identity::Identity, tls::ServerIdentity, within};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use proto_types::{Clock, CredentialInfo, RoleName, Secret, id::excerpt};
use proto_wire::errand::v1::GetInfoResponse;
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A target may take its time to create a user; a server that takes longer has lost the request.
const LIMIT: Duration = Duration::from_secs(30);
/// Longest answer, bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Waits before the second, third and fourth attempt.
const AGAIN: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The type of a key in `authorization_details`.
const KEY: &str = "urn:errand:key";

/// The token endpoint, and how it is recognised.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    url: http::Uri,
    server: Arc<ServerIdentity>,
}

/// The endpoint as one identity sees it. Cheap to clone; every exchange opens its own connection.
#[derive(Clone)]
pub struct TokenClient {
    endpoint: TokenEndpoint,
    tls: Arc<ClientConfig>,
    subject_token: Secret<String>,
}

/// One credential, and the whole answer it came in.
pub struct Answer {
    /// The JSON of the token endpoint, byte for byte.
    pub body: Secret<Vec<u8>>,
    pub credential: CredentialInfo,
}

#[derive(serde::Deserialize)]
struct Granted {
    credential: CredentialInfo,
}

#[derive(serde::Deserialize, Default)]
struct Refused {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
    #[serde(default)]
    key_format: Option<String>,
}

/// What is asked for, once.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub role: &'a RoleName,
    /// The public half of a key of the caller's, for a role that is issued for one.
    pub public_key: Option<&'a str>,
    /// New for each credential and the same for each attempt to get it.
    pub idempotency_key: &'a str,
}

impl TokenEndpoint {
    /// What the agent says of its server.
    pub fn new(info: &GetInfoResponse) -> Result<Self, TokenError> {
        let fail = || TokenError::Endpoint(excerpt(&info.mtls_token_endpoint));
        let url: http::Uri = info.mtls_token_endpoint.parse().map_err(|_| fail())?;
        if url.scheme_str() != Some("https") || url.host().is_none() {
            return Err(fail());
        }
        Ok(Self { url, server: Arc::new(ServerIdentity::new(&info.ca_pem, &info.trust_domain)?) })
    }

    pub fn client(&self, identity: &Identity) -> Result<TokenClient, TokenError> {
        let tls = self.server.client_config(identity)?;
        Ok(TokenClient { endpoint: self.clone(), tls, subject_token: identity.subject_token.clone() })
    }

    fn host(&self) -> &str {
        self.url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }
}

impl TokenClient {
    /// Obtains one credential.
    pub async fn exchange(&self, wanted: Wanted<'_>, clock: &dyn Clock) -> Result<Answer, TokenError> {
        let mut waits = AGAIN.into_iter();
        loop {
            let tried = within(clock, LIMIT, self.once(wanted)).await.unwrap_or(Err(TokenError::Silent));
            match (tried, waits.next()) {
                (Err(error), Some(wait)) if error.may_pass() => clock.sleep(wait).await,
                (outcome, _) => return outcome,
            }
        }
    }

    async fn once(&self, wanted: Wanted<'_>) -> Result<Answer, TokenError> {
        let url = &self.endpoint.url;
        let host = self.endpoint.host();
        let tcp = TcpStream::connect((host, url.port_u16().unwrap_or(443))).await.map_err(TokenError::Connect)?;
        let _ = tcp.set_nodelay(true);
        let name = ServerName::try_from(host.to_string()).map_err(|_| TokenError::Endpoint(excerpt(host)))?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await.map_err(TokenError::Handshake)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.map_err(|e| broken(&e))?;
        let conversation = async move {
            let response = sender.send_request(self.request(wanted)?).await.map_err(|e| broken(&e))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|e| TokenError::Broken(e.to_string()))?.to_bytes();
            read(status, body)
        };
        // The connection is driven beside the conversation and dropped with it: one exchange, one connection.
        let mut connection = std::pin::pin!(connection);
        let mut conversation = std::pin::pin!(conversation);
        tokio::select! {
            answer = &mut conversation => answer,
            ended = &mut connection => match ended {
                // The answer may have been read in full before the server closed.
                Ok(()) => conversation.await,
                Err(error) => Err(broken(&error)),
            },
        }
    }

    fn request(&self, wanted: Wanted<'_>) -> Result<http::Request<Full<Bytes>>, TokenError> {
        let url = &self.endpoint.url;
        let role = wanted.role.to_string();
        let details = wanted.public_key.map(|key| json!([{ "type": KEY, "public_key": key }]).to_string());
        let form: Vec<String> = [
            ("grant_type", GRANT_TYPE),
            ("subject_token", self.subject_token.expose().as_str()),
            ("subject_token_type", JWT),
            ("audience", role.as_str()),
        ]
        .into_iter()
        .chain(details.as_deref().map(|details| ("authorization_details", details)))
        .map(|(name, value)| {
            format!("{name}={}", percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC))
        })
        .collect();
        http::Request::post(url.path_and_query().map_or("/", |p| p.as_str()))
            .header(http::header::HOST, url.authority().map_or("", |a| a.as_str()))
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .header("idempotency-key", wanted.idempotency_key)
            .body(Full::new(Bytes::from(form.join("&"))))
            .map_err(|_| TokenError::Endpoint(excerpt(&url.to_string())))
    }
}

/// What the endpoint's answer means (RFC 6749 section 5, RFC 8693 section 2.2).
fn read(status: u16, body: Bytes) -> Result<Answer, TokenError> {
    if status == 200 {
        let body = Secret::new(Vec::from(body));
        let granted: Granted = serde_json::from_slice(body.expose())
            // serde_json's message holds a position and a field's name, never a value of the text.
            .map_err(|e| {
                TokenError::Answer(format!("line {}, column {} of the answer: no credential", e.line(), e.column()))
            })?;
        return Ok(Answer { body, credential: granted.credential });
    }
    let refused: Refused = serde_json::from_slice(&body).unwrap_or_default();
    let description = match refused.error_description.as_str() {
        "" => format!("HTTP {status} {}", refused.error),
        text => text.chars().take(1024).collect(),
    };
    if matches!(status, 429 | 502 | 503 | 504) {
        return Err(TokenError::Busy { status, description });
    }
    if let Some(format) = refused.key_format {
        return Err(TokenError::KeyWanted { format: excerpt(&format), description });
    }
    Err(TokenError::Refused { error: excerpt(&refused.error), description, status })
}

fn broken(error: &hyper::Error) -> TokenError {
    TokenError::Broken(super::innermost(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn refused(status: u16, body: &'static str) -> TokenError {
        read(status, Bytes::from_static(body.as_bytes())).err().unwrap()
    }

    #[test]
    fn a_refusal_is_read_as_the_endpoint_means_it() {
        for (status, body, exit) in [
            (400, r#"{"error":"access_denied","error_description":"no"}"#, Exit::Denied),
            (401, r#"{"error":"invalid_client"}"#, Exit::Denied),
            (400, r#"{"error":"authorization_pending"}"#, Exit::Pending),
            (400, r#"{"error":"invalid_target"}"#, Exit::Failed),
            (403, "forbidden by a proxy", Exit::Denied),
            (503, "", Exit::Unreachable),
            (400, r#"{"error":"invalid_authorization_details","key_format":"openssh"}"#, Exit::Failed),
            (500, "<html>", Exit::Failed),
        ] {
            assert_eq!(refused(status, body).exit(), exit, "{status} {body}");
        }
    }

    #[test]
    fn an_answer_without_a_credential_is_refused_without_being_quoted() {
        let error = refused(200, r#"{"access_token":"s3cret"}"#).to_string();
        assert!(!error.contains("s3cret"), "{error}");
        let good =
            r#"{"credential":{"kind":"k","id":"i","expires_at":"2026-01-01T00:00:00Z","revocability":"instant"}}"#;
        assert_eq!(read(200, Bytes::from_static(good.as_bytes())).unwrap().credential.kind, "k");
    }
}
