//! JSON over HTTP/1.1 on the admin socket: bounded answers, and streams of lines that are not held in memory.

use super::{ANSWER, AdminClient, CONNECT, problem};
use crate::error::{CliError, Result};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::Value;

/// Longest JSON answer, bytes: a page of 1000 records of the largest size does not fit, a page of real ones does.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Longest line of a stream, bytes: a record's body in base64 with its values beside it.
const MAX_LINE: usize = 1024 * 1024;

/// Query parameters; those without a value are left out.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(&'static str, String)>);

impl Query {
    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.0.extend(value.map(|v| (name, v.to_string())));
        self
    }
    /// The same with `name` at one value only.
    pub fn replaced(&self, name: &'static str, value: impl ToString) -> Self {
        let mut query = self.clone();
        query.0.retain(|(n, _)| *n != name);
        query.with(name, Some(value))
    }
    fn on(&self, path: &str) -> String {
        let pairs: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        if pairs.is_empty() { path.to_string() } else { format!("{path}?{}", pairs.join("&")) }
    }
}

/// What needs no encoding in a path segment or query value (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes one path segment or query value.
pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, RESERVED).to_string()
}

impl AdminClient {
    pub async fn get(&self, path: &str, query: &Query) -> Result<Value> {
        self.json(Method::GET, &query.on(path), None).await
    }
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.json(Method::POST, path, Some(body)).await
    }
    /// The answer's document, or null when it has none (204).
    pub async fn delete(&self, path: &str) -> Result<Value> {
        self.json(Method::DELETE, path, None).await
    }

    /// A document as the server wrote it, byte for byte, of at most `most` bytes.
    pub async fn document(&self, path: &str, most: usize) -> Result<Bytes> {
        let (status, answer) = self.send(Method::GET, path, None, "application/json").await?;
        let bytes = self.within(ANSWER, "finish its answer", self.collect(answer, path)).await??;
        match bytes {
            _ if !status.is_success() => Err(problem::error(status, &bytes, path)),
            bytes if bytes.len() > most => {
                Err(CliError::failed(format!("the server's document is larger than {most} bytes")).at(path))
            }
            bytes => Ok(bytes),
        }
    }

    /// An `application/x-ndjson` answer, line by line.
    pub async fn lines(&self, path: &str, query: &Query) -> Result<Lines> {
        let target = query.on(path);
        let (status, body) = self.send(Method::GET, &target, None, "application/x-ndjson").await?;
        if status.is_success() {
            return Ok(Lines::new(body));
        }
        Err(problem::error(status, &self.collect(body, &target).await?, &target))
    }

    async fn json(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.send(method, target, body, "application/json").await?;
        let bytes = self.within(ANSWER, "finish its answer", self.collect(answer, target)).await??;
        if !status.is_success() {
            return Err(problem::error(status, &bytes, target));
        }
        if bytes.is_empty() || status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|e| {
            CliError::failed(format!("the server's answer is not JSON: {e}"))
                .at(target)
                .hint("check that this program and the server are of the same version")
        })
    }

    async fn collect(&self, body: Incoming, target: &str) -> Result<Bytes> {
        let whole = Limited::new(body, MAX_ANSWER).collect().await;
        whole.map(http_body_util::Collected::to_bytes).map_err(|e| {
            CliError::failed(format!("the server's answer broke off or is larger than {MAX_ANSWER} bytes: {e}"))
                .at(target)
                .hint("ask for less with --limit")
        })
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        accept: &'static str,
    ) -> Result<(StatusCode, Incoming)> {
        let lost = |e: hyper::Error| {
            CliError::unreachable(format!("the connection to the server was lost: {e}")).at(self.socket.display())
        };
        let stream = TokioIo::new(self.connect().await?);
        let shaking = hyper::client::conn::http1::handshake(stream);
        let (mut sender, connection) = self.within(CONNECT, "speak HTTP", shaking).await?.map_err(lost)?;
        // The connection ends with its answer; what breaks it is seen by the request.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header(header::ACCEPT, accept);
        request = request.header(header::HOST, "localhost");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or_else(Vec::new, |b| b.to_string().into_bytes());
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(|e| CliError::failed(format!("the request cannot be written: {e}")).at(target))?;
        let answer = self.within(ANSWER, "answer", sender.send_request(request)).await?.map_err(lost)?;
        Ok((answer.status(), answer.into_body()))
    }
}

/// Lines of a stream, as they arrive.
pub struct Lines {
    body: Incoming,
    held: Vec<u8>,
    /// Where the next line starts in `held`.
    start: usize,
    /// How much of `held` was searched for a line end.
    searched: usize,
    ended: bool,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, held: Vec::new(), start: 0, searched: 0, ended: false }
    }

    /// The next line without its end; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(length) = self.held[self.searched..].iter().position(|b| *b == b'\n') {
                let end = self.searched + length;
                let line = text(&self.held[self.start..end]);
                self.start = end + 1;
                self.searched = self.start;
                return line.map(Some);
            }
            self.searched = self.held.len();
            if self.held.len() - self.start > MAX_LINE {
                return Err(CliError::failed(format!("a line of the server's stream is longer than {MAX_LINE} bytes")));
            }
            if self.ended {
                let last = std::mem::replace(&mut self.start, self.held.len());
                return if last == self.held.len() { Ok(None) } else { text(&self.held[last..]).map(Some) };
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.held.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        match self.body.frame().await {
            None => self.ended = true,
            Some(Ok(frame)) => self.held.extend(frame.data_ref().into_iter().flatten()),
            Some(Err(e)) => {
                return Err(CliError::unreachable(format!("the server's stream broke off: {e}"))
                    .hint("the server may have stopped; start the command again"));
            }
        }
        Ok(())
    }
}

fn text(line: &[u8]) -> Result<String> {
    String::from_utf8(line.to_vec()).map_err(|_| CliError::failed("a line of the server's stream is not UTF-8"))
}
