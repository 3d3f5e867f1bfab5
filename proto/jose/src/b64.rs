//! Base64url as JOSE writes it (RFC 7515 section 2): no padding, no whitespace, and one spelling of each value.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `None` for padding, a foreign character, an impossible length, or trailing bits that are not zero.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_one_spelling() {
        for bad in ["MA==", "MB", "M A", "MA\n", "+/+/", "M", "MA=", "M\u{0}"] {
            assert!(decode(bad).is_none(), "{bad:?}");
        }
        assert_eq!(decode("MA").unwrap(), b"0");
        assert_eq!(decode("-_-_").unwrap().len(), 3);
    }
}
