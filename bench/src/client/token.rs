//! One kept mTLS connection to the token endpoint (HTTP/1.1), its requests made ready.

use super::{node::TaskIdentity, tls};
use anyhow::{Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Bytes,
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub struct TokenConnection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    body: Bytes,
}

impl TokenConnection {
    /// `more`: what the form says besides; nothing asks for a task token.
    pub async fn open(port: u16, ca: &[Vec<u8>], task: &TaskIdentity, more: &[(&str, &str)]) -> Result<Self> {
        let config = tls::config(ca, Some((&task.chain, &task.key)), b"http/1.1")?;
        let stream = tls::connect(port, config).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Ends with the sender; an error shows at the next request.
            let _ = connection.await;
        });
        let mut form = format!(
            "grant_type={}&subject_token_type={}&subject_token={}",
            encoded("urn:ietf:params:oauth:grant-type:token-exchange"),
            encoded("urn:ietf:params:oauth:token-type:jwt"),
            task.subject_token
        );
        for (name, value) in more {
            form.push_str(&format!("&{name}={}", encoded(value)));
        }
        Ok(Self { sender, host: format!("localhost:{port}"), body: form.into() })
    }

    /// One exchange; the whole answer.
    pub async fn exchange(&mut self) -> Result<Bytes> {
        let request = http::Request::post("/oauth2/token")
            .header("host", &self.host)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(self.body.clone()))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200, "the token endpoint answers {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
