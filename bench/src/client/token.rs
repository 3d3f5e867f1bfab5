//! One kept mTLS connection to the token endpoint (HTTP/1.1), its requests made ready.

use super::{http::Http, node::TaskIdentity, tls};
use anyhow::Result;
use hyper::body::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

pub struct TokenConnection {
    http: Http,
    body: Bytes,
}

impl TokenConnection {
    /// `more`: what the form says besides; nothing asks for a task token.
    pub async fn open(port: u16, ca: &[Vec<u8>], task: &TaskIdentity, more: &[(&str, &str)]) -> Result<Self> {
        let config = tls::config(ca, Some((&task.chain, &task.key)), b"http/1.1")?;
        let stream = tls::connect(port, config).await?;
        let http = Http::over(stream, format!("localhost:{port}")).await?;
        let mut form = format!(
            "grant_type={}&subject_token_type={}&subject_token={}",
            encoded("urn:ietf:params:oauth:grant-type:token-exchange"),
            encoded("urn:ietf:params:oauth:token-type:jwt"),
            task.subject_token
        );
        for (name, value) in more {
            form.push_str(&format!("&{name}={}", encoded(value)));
        }
        Ok(Self { http, body: form.into() })
    }

    /// One exchange; the whole answer.
    pub async fn exchange(&mut self) -> Result<Bytes> {
        let request = http::Request::post("/oauth2/token").header("content-type", "application/x-www-form-urlencoded");
        self.http.send(request, self.body.clone()).await
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
