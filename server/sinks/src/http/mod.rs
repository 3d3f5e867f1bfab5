//! `kind = "http"`: batches by POST to one URL, taken when the answer is 2xx.
//!
//! Decides what the section may say and what is said of a failure: never the token, the query or the answer's text. A
//! connection a batch; the token goes to the configured host only, and only after TLS has verified it.

#[cfg(test)]
mod tests;

use crate::{Place, section::Section};
use proto_http::{Client, Endpoint, Method, Question, Trust, token};
use proto_types::{Clock, Fut, Secret};
use server_core::{
    journal::Format,
    ports::{Batch, Sink, SinkError},
};
use std::{path::PathBuf, sync::Arc};

/// How a batch is written in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// One record a line.
    Lines,
    /// A JSON array of records.
    Array,
}

#[derive(Clone, Debug)]
struct HttpPlace {
    endpoint: Endpoint,
    trust: Trust,
    token_file: Option<PathBuf>,
    format: Format,
    body: Body,
}

pub(crate) fn read(section: &mut Section) -> Option<Arc<dyn Place>> {
    let format = section.format();
    let body = section.choice("body", &[("lines", Body::Lines), ("array", Body::Array)]);
    if format == Format::Cef && body == Body::Array {
        section.problem("`body` is lines with format = \"cef\", whose lines are no JSON");
    }
    let token_file = section.path("token_file");
    if let Some(Err(why)) = token_file.as_deref().map(token) {
        section.problem(format!("`token_file`: {why}"));
    }
    let ca_file = section.path("ca_file");
    let url = section.required("url", "https://siem.example.org/ingest")?;
    let endpoint = Endpoint::parse(&url).map_err(|why| section.problem(format!("`url` {why}"))).ok()?;
    let trust = match (endpoint.tls, ca_file) {
        (true, Some(path)) => Trust::File(path),
        (true, None) => Trust::System,
        (false, None) => Trust::Nobody,
        (false, Some(_)) => {
            section.problem("`ca_file` says whom TLS trusts, and an http URL has none");
            return None;
        }
    };
    if let Err(why) = trust.check() {
        section.problem(why);
    }
    Some(Arc::new(HttpPlace { endpoint, trust, token_file, format, body }))
}

impl Place for HttpPlace {
    fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, SinkError> {
        let refused = |why: String| SinkError::Refused { at: self.endpoint.to_string(), why };
        let client = Client::new(self.endpoint.clone(), self.trust.clone(), clock).map_err(refused)?;
        Ok(Arc::new(HttpSink { client, place: self.clone() }))
    }
}

struct HttpSink {
    client: Client,
    place: HttpPlace,
}

impl HttpSink {
    fn content_type(&self) -> &'static str {
        match (self.place.format, self.place.body) {
            (Format::Cef, _) => "text/plain; charset=utf-8",
            (_, Body::Lines) => "application/x-ndjson",
            (_, Body::Array) => "application/json",
        }
    }

    fn body(&self, batch: &Batch) -> String {
        let lines = batch.lines(self.place.format);
        match self.place.body {
            Body::Lines => lines.map(|line| line + "\n").collect(),
            Body::Array => format!("[{}]", lines.collect::<Vec<_>>().join(",")),
        }
    }

    /// The status is all that counts: who answers 2xx has read the batch. Its text is not read.
    async fn post(&self, token: Option<Secret<String>>, body: String) -> Result<(), String> {
        let question = Question {
            method: Method::POST,
            target: &self.client.endpoint.target,
            content_type: self.content_type(),
            token,
            body: Secret::new(body),
            most: 0,
        };
        match self.client.ask(question).await?.status {
            taken if taken.is_success() => Ok(()),
            away if away.is_redirection() => {
                Err(format!("it answers {}, and a redirect is not followed", away.as_u16()))
            }
            other => Err(format!("it answers {}", other.as_u16())),
        }
    }
}

impl Sink for HttpSink {
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Fut<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let refused = |why: String| SinkError::Refused { at: self.client.endpoint.to_string(), why };
            // Read each time: a token that was replaced is used at once.
            let token = self.place.token_file.as_deref().map(token).transpose();
            let token = token.map_err(|why| refused(format!("`token_file`: {why}")))?;
            self.post(token, self.body(batch)).await.map_err(refused)
        })
    }
}
