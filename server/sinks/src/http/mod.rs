//! `kind = "http"`: batches by POST to one URL, taken when the answer is 2xx.
//!
//! Decides what such a URL may be (`https`, or `http` on loopback), whom the connection trusts, and what is said of a
//! failure: never the token, the query or the answer's text. One connection a batch; no redirect is followed, no proxy
//! is asked, and an answer is read no further than its bound.

mod client;
mod trust;

use crate::{Place, section::Section};
use client::{Client, Endpoint};
use proto_types::{Clock, Fut, Secret};
use server_core::{
    journal::Format,
    ports::{Batch, Sink, SinkError},
};
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use trust::Trust;

/// Longest token in a file, bytes.
const MAX_TOKEN: u64 = 16 * 1024;

/// How a batch is written in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// One record a line.
    Lines,
    /// A JSON array of records.
    Array,
}

#[derive(Debug)]
struct HttpPlace {
    endpoint: Endpoint,
    token_file: Option<PathBuf>,
    trust: Trust,
    format: Format,
    body: Body,
}

pub(crate) fn read(section: &mut Section) -> Option<Arc<dyn Place>> {
    let format = section.format();
    let body = section.choice("body", &[("ndjson", Body::Lines), ("array", Body::Array)]);
    if format == Format::Cef && body == Body::Array {
        section.problem("`body` is ndjson with format = \"cef\", whose lines are no JSON");
    }
    let token_file = section.path("token_file");
    if let Some(Err(why)) = token_file.as_deref().map(token) {
        section.problem(format!("`token_file`: {why}"));
    }
    let ca_file = section.path("ca_file");
    let url = section.required("url", "https://siem.example.org/ingest");
    let endpoint = match url.as_deref().map(Endpoint::parse)? {
        Ok(endpoint) => endpoint,
        Err(why) => {
            section.problem(format!("`url` {why}"));
            return None;
        }
    };
    if !endpoint.tls && ca_file.is_some() {
        section.problem("`ca_file` says whom TLS trusts; with http there is none");
    }
    match Trust::read(ca_file.as_deref(), endpoint.tls) {
        Ok(trust) => Some(Arc::new(HttpPlace { endpoint, token_file, trust, format, body })),
        Err(why) => {
            section.problem(why);
            None
        }
    }
}

/// The bearer token in a file: one line of visible characters, so that it cannot end a header.
fn token(path: &Path) -> Result<Secret<String>, String> {
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    let meta = std::fs::metadata(path).map_err(|e| e.kind().to_string())?;
    if !meta.is_file() || meta.len() > MAX_TOKEN {
        return Err("is no regular file of at most 16 KiB".into());
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|f| f.take(MAX_TOKEN).read_to_string(&mut text));
    let text = Secret::new(text);
    read.map_err(|e| e.kind().to_string())?;
    let token = text.expose().trim_end_matches(['\n', '\r']);
    match !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(Secret::new(token.to_string())),
        false => Err("holds no token: one line of visible ASCII characters".into()),
    }
}

impl Place for HttpPlace {
    fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, SinkError> {
        let refused = |why: String| SinkError::Refused { at: self.endpoint.shown(), why };
        let client = Client::new(self.endpoint.clone(), &self.trust, clock).map_err(refused)?;
        let (token_file, format, body) = (self.token_file.clone(), self.format, self.body);
        Ok(Arc::new(HttpSink { client, token_file, format, body }))
    }
}

struct HttpSink {
    client: Client,
    token_file: Option<PathBuf>,
    format: Format,
    body: Body,
}

impl HttpSink {
    fn content_type(&self) -> &'static str {
        match (self.format, self.body) {
            (Format::Cef, _) => "text/plain; charset=utf-8",
            (_, Body::Lines) => "application/x-ndjson",
            (_, Body::Array) => "application/json",
        }
    }

    fn body(&self, batch: &Batch) -> String {
        let lines = batch.lines(self.format);
        match self.body {
            Body::Lines => lines.map(|line| line + "\n").collect(),
            Body::Array => format!("[{}]", lines.collect::<Vec<_>>().join(",")),
        }
    }
}

impl Sink for HttpSink {
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Fut<'a, Result<(), SinkError>> {
        Box::pin(async move {
            // Read each time: a token that was replaced is used at once.
            let token = self.token_file.as_deref().map(token).transpose();
            let refused = |why: String| SinkError::Refused { at: "token_file".into(), why };
            self.client.post(self.content_type(), token.map_err(refused)?, self.body(batch)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_of_visible_characters_in_a_plain_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("token");
        for good in ["s3cret", "s3cret\n", "s3cret\r\n"] {
            std::fs::write(&path, good).unwrap();
            assert_eq!(token(&path).unwrap().expose(), "s3cret");
        }
        for bad in ["", "\n", "two words", "one\ntwo", "one\r\nx-evil: yes", "t\u{f6}ken", &"x".repeat(20_000)] {
            std::fs::write(&path, bad).unwrap();
            assert!(token(&path).is_err(), "{bad:.20}");
        }
        assert!(token(home.path()).is_err());
        assert!(token(&home.path().join("absent")).is_err());
    }
}
