//! What holds for any bytes read as a SPIFFE ID. Shared by the fuzz target and the tests.

use proto_types::{
    WorkloadId,
    id::{MAX_SPIFFE_ID, MAX_TRUST_DOMAIN, parse_spiffe_id, parse_trust_domain},
};

/// The parser takes what the standard's words allow and nothing else, keeps it as it was written, and an ID is made
/// again by its parts. Answers whether there was one.
pub fn holds(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let read = parse_spiffe_id(text);
    assert_eq!(read.is_ok(), allowed(text), "{text:?}");
    let id = match read {
        Ok(id) => id,
        Err(why) => {
            assert!(why.to_string().len() <= 512, "an error does not echo its input");
            return false;
        }
    };
    assert_eq!(id.to_string(), text);
    let name = id.trust_domain().to_string();
    assert_eq!(format!("spiffe://{name}{}", id.path()), text);
    let td = parse_trust_domain(&name).expect("a trust domain is read alone too");
    let reserved = id.path() == "/spire" || id.path().starts_with("/spire/");
    if WorkloadId::new(id.clone(), &td).is_ok() {
        assert!(!reserved && !id.path().is_empty());
        let other = parse_trust_domain("another.example.org").expect("a good name");
        assert!(td == other || WorkloadId::new(id, &other).is_err());
    }
    true
}

/// SPIFFE-ID sections 2.1 to 2.3, read anew.
fn allowed(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://").filter(|_| text.len() <= MAX_SPIFFE_ID) else { return false };
    let (name, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let mark = |c: char| matches!(c, '.' | '-' | '_');
    let named = (1..=MAX_TRUST_DOMAIN).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || mark(c));
    let segment = |s: &str| !matches!(s, "" | "." | "..") && s.chars().all(|c| c.is_ascii_alphanumeric() || mark(c));
    named && path.split('/').skip(1).all(segment)
}
