//! One request to an endpoint below `/oauth2/`, put together field by field.

use super::{
    HeldTask, World,
    http::{Answer, ClientIdentity, https},
};
use http_body_util::Full;
use hyper::Request;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_SPIFFE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A request; what is not said otherwise is right.
#[derive(Clone)]
pub struct Exchange {
    path: &'static str,
    identity: Option<ClientIdentity>,
    form: Vec<(String, String)>,
    key: Option<String>,
}

impl Exchange {
    /// As this task, with its own JWT-SVID as the subject token.
    pub fn of(task: &HeldTask) -> Self {
        Self::over(Some(task.certificate())).subject(task.subject_token(), JWT)
    }
    /// Over a connection with this certificate, without a subject token.
    pub fn over(identity: Option<ClientIdentity>) -> Self {
        Self { path: "/oauth2/token", identity, form: vec![("grant_type".into(), GRANT.into())], key: None }
    }
    /// A question about a token (RFC 7662).
    pub fn introspection(identity: Option<ClientIdentity>, token: &str) -> Self {
        Self { path: "/oauth2/introspect", identity, form: vec![("token".into(), token.into())], key: None }
    }
    /// The end of a token (RFC 7009).
    pub fn revocation(identity: Option<ClientIdentity>, token: &str) -> Self {
        Self { path: "/oauth2/revoke", ..Self::introspection(identity, token) }
    }
    /// With a JWT-SVID that says who calls, over a connection without a certificate.
    pub fn asserting(mut self, jwt: &str) -> Self {
        self.identity = None;
        self.and("client_assertion_type", JWT_SPIFFE).and("client_assertion", jwt)
    }

    /// Replaces the subject token.
    pub fn subject(self, token: &str, kind: &str) -> Self {
        self.without("subject_token")
            .without("subject_token_type")
            .and("subject_token", token)
            .and("subject_token_type", kind)
    }
    /// A JWT-SVID as the subject token.
    pub fn subject_jwt(self, token: &str) -> Self {
        self.subject(token, JWT)
    }
    /// For a role, or for the issuer.
    pub fn to(self, audience: &str) -> Self {
        self.and("audience", audience)
    }
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.form.push((name.into(), value.into()));
        self
    }
    pub fn without(mut self, name: &str) -> Self {
        self.form.retain(|(n, _)| n != name);
        self
    }
    pub fn idempotency_key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sends it to the mTLS listener.
    pub async fn send(&self, world: &World) -> Answer {
        self.try_send(world).await.expect("the token endpoint answers")
    }
    /// The same, when the connection itself may be refused.
    pub async fn try_send(&self, world: &World) -> std::io::Result<Answer> {
        self.send_to(world, world.layout.mtls).await
    }
    /// Sends it to this port.
    pub async fn send_to(&self, world: &World, port: u16) -> std::io::Result<Answer> {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let form: Vec<_> = self.form.iter().map(|(n, v)| format!("{}={}", encode(n), encode(v))).collect();
        let mut request = Request::post(self.path)
            .header("host", format!("localhost:{port}"))
            .header("content-type", "application/x-www-form-urlencoded");
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        let request = request.body(Full::from(form.join("&"))).expect("a request");
        https(&world.layout.ca_file(), port, self.identity.clone(), request).await
    }
}

impl Answer {
    /// A credential or token came.
    #[track_caller]
    pub fn granted(&self) -> serde_json::Value {
        let body = self.json();
        assert_eq!(self.status, 200, "{body}");
        assert_eq!(self.headers.get("cache-control").map(|v| v.as_bytes()), Some(&b"no-store"[..]));
        body
    }
    /// An OAuth error came (RFC 6749 section 5.2), with words that say what to do.
    #[track_caller]
    pub fn refused(&self, error: &str) -> serde_json::Value {
        let body = self.json();
        assert_eq!(body["error"], error, "{} {body}", self.status);
        assert!(!self.status.is_success(), "{} {body}", self.status);
        assert!(body["error_description"].as_str().is_some_and(|d| d.len() > 10), "{body}");
        assert!(body.get("access_token").is_none(), "{body}");
        body
    }
}
