//! Lists that come in pages: how many are asked for, and following `next`.

use super::{AdminClient, Query};
use crate::{error::Result, output::value};
use serde_json::Value;

/// Most rows one page is asked for.
const PAGE: usize = 500;

/// `--limit` and `--all`, for every list.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Paging {
    /// Show at most this many, newest first where there is an order
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    pub limit: usize,
    /// Show all of them
    #[arg(long)]
    pub all: bool,
}

fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("write a number of 1 or more".into()),
    }
}

impl Paging {
    /// How many rows are wanted in all.
    pub fn wanted(self) -> usize {
        if self.all { usize::MAX } else { self.limit }
    }
    /// How many to ask for in the next page, having `got`.
    pub fn page(self, got: usize) -> usize {
        self.wanted().saturating_sub(got).min(PAGE)
    }
}

impl AdminClient {
    /// The rows under `key`, page after page, and where they go on when there are more.
    pub async fn list(
        &self,
        path: &str,
        key: &str,
        query: &Query,
        paging: Paging,
    ) -> Result<(Vec<Value>, Option<Value>)> {
        let mut rows: Vec<Value> = Vec::new();
        let mut query = query.clone();
        loop {
            query = query.replaced("limit", paging.page(rows.len()));
            let mut answer = self.get(path, &query).await?;
            let page = answer.get_mut(key).and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            let next = answer.get("next").filter(|n| !n.is_null()).cloned();
            let empty = page.is_empty();
            rows.extend(page);
            // A page without rows that names a next one would never end.
            let Some(next) = next.filter(|_| !empty) else { return Ok((rows, None)) };
            if rows.len() >= paging.wanted() {
                rows.truncate(paging.wanted());
                return Ok((rows, Some(next)));
            }
            query = query.replaced("before", value::plain(&next));
        }
    }
}
