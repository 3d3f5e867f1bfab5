//! The filters of the list calls, read strictly: an unknown parameter is an error, not a wider list.

use crate::problem::Problem;
use axum::{extract::FromRequestParts, http::request::Parts};
use proto_types::Timestamp;
use serde::Deserialize;
use server_core::{journal::Format, ports::Filter};

/// Items of a page: at most, and when not said.
const MAX_LIMIT: u32 = 1000;
const DEFAULT_LIMIT: u32 = 100;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct List {
    live: Option<bool>,
    kind: Option<String>,
    workload: Option<String>,
    user: Option<String>,
    target: Option<String>,
    task: Option<String>,
    node: Option<String>,
    credential: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u32>,
    /// The last id or position of the page before.
    pub(super) before: Option<String>,
}

impl List {
    pub(super) fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
    }

    pub(super) fn filter(&self) -> Result<Filter, Problem> {
        let time = |text: &Option<String>| -> Result<Option<Timestamp>, Problem> {
            let bad = |_| Problem::invalid("a time is written as RFC 3339, such as 2026-01-31T12:00:00Z");
            text.as_ref().map(|t| t.parse().map_err(bad)).transpose()
        };
        let task = self.task.as_ref().map(|t| t.parse()).transpose();
        Ok(Filter {
            from: time(&self.from)?,
            to: time(&self.to)?,
            kind: self.kind.clone(),
            workload: self.workload.clone(),
            user: self.user.clone(),
            target: self.target.clone(),
            task: task.map_err(|e: proto_types::IdError| Problem::invalid(e.to_string()))?,
            node: self.node.clone(),
            credential: self.credential.clone(),
            live: self.live,
        })
    }
}

/// What an export holds and how it is written. Without any of it: the whole journal, as it is stored.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Export {
    format: Option<String>,
    kind: Option<String>,
    workload: Option<String>,
    user: Option<String>,
    target: Option<String>,
    task: Option<String>,
    credential: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Export {
    /// `None`: lines of stored bytes.
    pub(super) fn format(&self) -> Result<Option<Format>, Problem> {
        match self.format.as_deref() {
            None | Some("jsonl") => Ok(None),
            Some("ocsf") => Ok(Some(Format::Ocsf)),
            Some("cef") => Ok(Some(Format::Cef)),
            Some(_) => Err(Problem::invalid("`format` is one of jsonl, ocsf, cef")),
        }
    }

    /// `None`: every record.
    pub(super) fn filter(self) -> Result<Option<Filter>, Problem> {
        let Self { format: _, kind, workload, user, target, task, credential, from, to } = self;
        let all =
            [&kind, &workload, &user, &target, &task, &credential, &from, &to].iter().all(|asked| asked.is_none());
        if all {
            return Ok(None);
        }
        List { kind, workload, user, target, task, credential, from, to, ..List::default() }.filter().map(Some)
    }
}

/// `axum::Query` with this API's errors.
pub(super) struct Params<T>(pub T);

impl<S: Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|q| Self(q.0)).map_err(|e| Problem::invalid(format!("the query is refused: {}", e.body_text())))
    }
}
