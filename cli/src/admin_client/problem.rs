//! Problem documents (RFC 9457) and what they mean for an exit status.

use crate::error::{CliError, Exit};
use http::StatusCode;
use serde::Deserialize;

/// The members of a problem document that are read; none is required.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
    code: String,
}

/// An answer that is not a success, as an error. A title that only repeats the status says nothing (RFC 9457 section
/// 4.2.1): then `detail` is what was wrong; beside a title of its own it is what to do next.
pub fn error(status: StatusCode, body: &[u8], path: &str) -> CliError {
    let Problem { title, detail, code } = serde_json::from_slice(body).unwrap_or_default();
    let generic = title.is_empty() || status.canonical_reason().is_some_and(|r| r.eq_ignore_ascii_case(&title));
    let (what, next) = match (generic, detail.is_empty()) {
        (true, true) => (format!("the server answered {}", status.as_u16()), String::new()),
        (true, false) => (bounded(&detail), String::new()),
        (false, _) => (bounded(&title), bounded(&detail)),
    };
    let what = if code.is_empty() { what } else { format!("{what} ({})", bounded(&code)) };
    let error = CliError::failed(what).with_exit(exit(status, &code)).at(path);
    let malformed = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY);
    let error = if malformed { error.invalid() } else { error };
    if next.is_empty() { error } else { error.hint(next) }
}

fn exit(status: StatusCode, code: &str) -> Exit {
    match status {
        _ if code == "authorization_pending" || code == "approval_pending" => Exit::Pending,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// A server's sentence, at most 1000 characters: room for the list of what is wrong, none for a flood.
pub fn bounded(text: &str) -> String {
    text.chars().take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_exits_77_and_a_server_that_is_not_ready_69_and_any_other_problem_1() {
        let of = |status: u16| error(StatusCode::from_u16(status).unwrap(), b"{}", "/v1/tasks").exit();
        assert_eq!([of(401), of(403)], [Exit::Denied; 2]);
        assert_eq!(of(503), Exit::Unreachable);
        assert_eq!([of(400), of(404), of(409), of(500)], [Exit::Failed; 4]);
    }

    #[test]
    fn what_is_no_problem_document_still_says_the_status() {
        let shown = error(StatusCode::NOT_FOUND, b"<html>", "/v1/x").render(crate::output::style::Style::PLAIN);
        assert_eq!(shown, "error: the server answered 404\n  where: /v1/x\n");
        let body = br#"{"title":"Not Found","code":"not_found","detail":"task `x` does not exist"}"#;
        let shown = error(StatusCode::NOT_FOUND, body, "/v1/x").render(crate::output::style::Style::PLAIN);
        assert_eq!(shown, "error: task `x` does not exist (not_found)\n  where: /v1/x\n");
        let body = br#"{"title":"no such task","code":"not_found","detail":"list them with `errand task list`"}"#;
        let shown = error(StatusCode::NOT_FOUND, body, "/v1/x").render(crate::output::style::Style::PLAIN);
        assert!(shown.starts_with("error: no such task (not_found)\n"), "{shown}");
        assert!(shown.ends_with("next: list them with `errand task list`\n"), "{shown}");
    }
}
