//! What a request on loopback must show. Pure.
//!
//! The bearer says that the caller can read the private directory. The name of the host keeps out a page in a browser that
//! had a name of its own point here (DNS rebinding); the path, one that tries ports.

use hyper::{Method, Request, header};
use proto_types::Secret;

/// One endpoint's secrets.
pub struct Guard {
    /// Address and port, as `Host` must name them.
    pub host: String,
    pub path: String,
    pub bearer: Secret<String>,
}

impl Guard {
    /// Whether the document is for this request. A refusal says nothing of which part was wrong.
    pub fn admits<B>(&self, request: &Request<B>) -> bool {
        let uri = request.uri();
        let is_plain = uri.scheme().is_none() && uri.authority().is_none();
        request.method() == Method::GET
            && is_plain
            && uri.path_and_query().is_some_and(|path| is_equal(path.as_str(), &self.path))
            && only(request, header::HOST).is_some_and(|host| host == self.host)
            && only(request, header::AUTHORIZATION).is_some_and(|shown| is_equal(shown, self.bearer.expose()))
    }
}

/// The one value of a header; `None` when there are several.
fn only<B>(request: &Request<B>, name: header::HeaderName) -> Option<&str> {
    let mut values = request.headers().get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

/// In a time that does not depend on where they differ.
fn is_equal(shown: &str, secret: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(shown.as_bytes(), secret.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri(uri);
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn every_part_of_a_request_must_be_right() {
        let guard =
            Guard { host: "127.0.0.1:4000".into(), path: "/random".into(), bearer: "b3arer".to_string().into() };
        let (host, bearer) = (("host", "127.0.0.1:4000"), ("authorization", "b3arer"));
        assert!(guard.admits(&request("GET", "/random", &[host, bearer, ("accept", "*/*")])));
        for method in ["HEAD", "POST", "PUT", "OPTIONS", "get"] {
            assert!(!guard.admits(&request(method, "/random", &[host, bearer])), "{method}");
        }
        for uri in
            ["/", "/random/", "/random?", "/random?a", "//random", "/Random", "/rando", "http://127.0.0.1:4000/random"]
        {
            assert!(!guard.admits(&request("GET", uri, &[host, bearer])), "{uri}");
        }
        for other in ["localhost:4000", "127.0.0.1", "127.0.0.1:4001", "127.1:4000", "evil.example.org:4000", ""] {
            assert!(!guard.admits(&request("GET", "/random", &[("host", other), bearer])), "{other}");
        }
        for other in ["b3areR", "b3are", "Bearer b3arer", "b3arer,b3arer", ""] {
            assert!(!guard.admits(&request("GET", "/random", &[host, ("authorization", other)])), "{other}");
        }
        for headers in [&[host][..], &[bearer], &[host, bearer, bearer], &[host, host, bearer], &[]] {
            assert!(!guard.admits(&request("GET", "/random", headers)), "{headers:?}");
        }
    }
}
