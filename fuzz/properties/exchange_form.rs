//! What holds for any bytes sent as a token request. Shared by the fuzz target and the tests.

use proto_types::{RoleName, Timestamp, id::parse_spiffe_id};
use server_core::exchange::{ExchangeForm, ExchangeRequest, MAX_BODY, OAuthError, Proven, Surroundings, fingerprint};

/// Whatever is sent, an error keeps to the characters of RFC 6749; and a request is the same when every byte of it is
/// escaped, or when empty parameters stand around it. Answers whether it was one.
pub fn holds(data: &[u8]) -> bool {
    let request = match read(data) {
        Ok(request) => request,
        Err(why) => {
            assert!(why.description().chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\'));
            return false;
        }
    };
    let mark = fingerprint(&request, &proven());
    for other in [escaped(data), [b"&", data, b"&&"].concat()].into_iter().filter(|body| body.len() <= MAX_BODY) {
        let again = read(&other).expect("it says the same");
        assert_eq!(fingerprint(&again, &proven()), mark);
        assert_eq!(again.subject.token.expose(), request.subject.token.expose());
    }
    true
}

fn read(body: &[u8]) -> Result<ExchangeRequest, OAuthError> {
    let form = ExchangeForm::parse("application/x-www-form-urlencoded", body)?;
    let resource = |_: &str| -> Option<RoleName> { None };
    let issuer = "https://errand.example.org";
    ExchangeRequest::read(&form, &Surroundings { issuer, authorization: false, certificate: true, resource: &resource })
}

fn proven() -> Proven {
    let client = parse_spiffe_id("spiffe://example.org/agents/planner").expect("a good ID");
    Proven { client, client_task: None, subject_task: None, subject_expires: Timestamp::from_secs(1_800_000_000) }
}

/// The same parameters with every byte written as `%XX`, but for what separates them.
fn escaped(body: &[u8]) -> Vec<u8> {
    let mut out = String::new();
    let pairs = body.split(|b| *b == b'&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let cut = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(cut);
        let value = value.strip_prefix(b"=").unwrap_or(value);
        out += &format!("&{}={}", every_byte(name), every_byte(value));
    }
    out.into_bytes()
}

fn every_byte(mut text: &[u8]) -> String {
    let mut out = String::new();
    while let Some((byte, rest)) = text.split_first() {
        let taken = match byte {
            b'%' => {
                out += &String::from_utf8_lossy(&text[..3]);
                3
            }
            b'+' => {
                out += "%20";
                1
            }
            byte => {
                out += &format!("%{byte:02X}");
                1
            }
        };
        text = if taken == 1 { rest } else { &text[taken..] };
    }
    out
}
