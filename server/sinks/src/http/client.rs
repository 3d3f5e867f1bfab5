//! One POST over a connection of its own.

use super::trust::Trust;
use http::{
    HeaderValue, Request, StatusCode,
    header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use proto_tls::HouseTime;
use proto_types::{Clock, Secret};
use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use server_core::ports::SinkError;
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// Bytes of an answer that are read, and dropped.
const MAX_ANSWER: usize = 64 * 1024;

/// A URL that may be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub tls: bool,
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl Endpoint {
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        // A parser of URLs takes line breaks out silently; here they are an error.
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err("holds blanks or control characters");
        }
        let url = Url::parse(text).map_err(|_| "is not a URL")?;
        let host = url.host().ok_or("names no host")?;
        let tls = match url.scheme() {
            "https" => true,
            "http" if is_loopback(&host) => false,
            "http" => return Err("is https; http is for loopback addresses only"),
            _ => return Err("is an https URL"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds credentials; name a `token_file` instead");
        }
        if url.fragment().is_some() {
            return Err("has a fragment, which is never sent");
        }
        let target = url.query().map_or_else(|| url.path().into(), |q| format!("{}?{q}", url.path()));
        Ok(Self { tls, host: host.to_string(), port: url.port_or_known_default().ok_or("names no port")?, target })
    }

    /// Without path and query, which may hold a secret.
    pub fn shown(&self) -> String {
        format!("{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }

    fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// The name in the certificate and in the resolver: without the brackets of a URL.
    fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(v4) => v4.is_loopback(),
        Host::Ipv6(v6) => *v6 == Ipv6Addr::LOCALHOST,
        Host::Domain(name) => *name == "localhost",
    }
}

pub struct Client {
    endpoint: Endpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Client {
    pub fn new(endpoint: Endpoint, trust: &Trust, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let tls = match endpoint.tls {
            false => None,
            true => {
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut config = ClientConfig::builder_with_details(provider, Arc::new(HouseTime(clock)))
                    .with_safe_default_protocol_versions()
                    .map_err(|e| e.to_string())?
                    .with_root_certificates(trust.0.clone())
                    .with_no_client_auth();
                config.resumption = Resumption::disabled();
                let name = ServerName::try_from(endpoint.name().to_string()).map_err(|e| e.to_string())?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        Ok(Self { endpoint, tls })
    }

    /// Posts and waits for the answer, of which nothing but its status counts.
    pub async fn post(
        &self,
        content_type: &'static str,
        token: Option<Secret<String>>,
        body: String,
    ) -> Result<(), SinkError> {
        let request = self.request(content_type, token, body).map_err(|why| self.refused(why))?;
        let tcp = self.connect().await.map_err(|e| self.unreachable(e.to_string()))?;
        let status = match &self.tls {
            None => self.exchange(tcp, request).await?,
            Some((connector, name)) => {
                let tls = connector.connect(name.clone(), tcp).await;
                self.exchange(tls.map_err(|e| self.unreachable(e.to_string()))?, request).await?
            }
        };
        match status {
            ok if ok.is_success() => Ok(()),
            away if away.is_redirection() => {
                Err(self.refused(format!("it answers {}; redirects are not followed", away.as_u16())))
            }
            other => Err(self.refused(format!("it answers {}", other.as_u16()))),
        }
    }

    fn request(
        &self,
        content_type: &'static str,
        token: Option<Secret<String>>,
        body: String,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::post(&self.endpoint.target)
            .header(HOST, self.endpoint.authority())
            .header(CONTENT_TYPE, content_type)
            .header(USER_AGENT, concat!("errand/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| e.to_string())?;
        if let Some(token) = token {
            let bearer = Secret::new(format!("Bearer {}", token.expose()));
            let mut value = HeaderValue::from_str(bearer.expose()).map_err(|_| "the token is no header value")?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        match self.endpoint.name().parse::<IpAddr>() {
            Ok(ip) => TcpStream::connect((ip, self.endpoint.port)).await,
            Err(_) => TcpStream::connect((self.endpoint.name(), self.endpoint.port)).await,
        }
    }

    async fn exchange(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<StatusCode, SinkError> {
        let lost = |e: hyper::Error| self.unreachable(e.to_string());
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(64)
            .max_buf_size(MAX_ANSWER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(lost)?;
        // Ends with this call, also when that is given up.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let answer = sender.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        // Read to its end so that the other side sees a whole exchange; what is longer is cut off.
        let _ = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        Ok(status)
    }

    fn unreachable(&self, why: String) -> SinkError {
        SinkError::Unreachable { at: self.endpoint.shown(), why }
    }
    fn refused(&self, why: String) -> SinkError {
        SinkError::Refused { at: self.endpoint.shown(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_https_or_on_loopback_and_holds_no_credentials() {
        for good in [
            "https://siem.example.org/ingest?source=errand",
            "https://10.1.2.3:8088/",
            "http://127.0.0.1:9/x",
            "http://localhost:9/x",
            "http://[::1]:9/x",
        ] {
            Endpoint::parse(good).unwrap_or_else(|why| panic!("{good}: {why}"));
        }
        for bad in [
            "http://siem.example.org/ingest",
            "http://10.1.2.3/",
            "http://0.0.0.0:9/",
            "http://localhost.example.org/",
            "ftp://siem.example.org/",
            "file:///etc/shadow",
            "https://user:secret@siem.example.org/",
            "https://token@siem.example.org/",
            "https://siem.example.org/#part",
            "https://siem.example.org/a\r\nx-evil: yes",
            "https://siem.example.org/a b",
            "siem.example.org",
            "https://",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_shown_of_an_endpoint_holds_neither_path_nor_query() {
        let endpoint = Endpoint::parse("https://siem.example.org/secret-path?key=s3cret").unwrap();
        assert_eq!(endpoint.shown(), "https://siem.example.org:443");
        assert_eq!(
            (endpoint.authority().as_str(), endpoint.target.as_str()),
            ("siem.example.org", "/secret-path?key=s3cret")
        );
    }
}
