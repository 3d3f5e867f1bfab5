//! The identity a task holds while it exchanges: its X.509-SVID, its key and the JWT-SVID that names it to the token
//! endpoint. Takes the wire's bytes apart; verifies nothing, since the agent that gave them is trusted for them.

use super::ClientError;
use proto_types::Secret;
use rustls::pki_types::CertificateDer;

/// What a task shows the token endpoint.
#[derive(Clone, Debug)]
pub struct Identity {
    pub spiffe_id: String,
    /// DER, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8, DER.
    pub key: Secret<Vec<u8>>,
    /// A JWT-SVID of the same task whose audience is the issuer.
    pub subject_token: Secret<String>,
}

impl Identity {
    /// From the concatenated DER of the Workload API (section 5.2.1) and of `errand.v1.Task/Start`.
    pub fn new(spiffe_id: String, svid: &[u8], key: Vec<u8>, subject_token: String) -> Result<Self, ClientError> {
        let fail = |why: &str| ClientError::Answer { doing: "reading the task's identity", why: why.into() };
        let key = Secret::new(key);
        let chain = split_der(svid).ok_or_else(|| fail("its certificates are not DER"))?;
        if chain.is_empty() || key.expose().is_empty() {
            return Err(fail("it has no certificate or no key"));
        }
        if subject_token.is_empty() {
            return Err(fail("it has no JWT-SVID for the token endpoint"));
        }
        Ok(Self { spiffe_id, chain, key, subject_token: subject_token.into() })
    }
}

/// The certificates of a concatenation, by their outermost DER lengths (X.690 section 8.1.3; definite form only).
pub fn split_der(mut bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let mut certificates = Vec::new();
    while !bytes.is_empty() {
        let (&[tag, first], rest) = bytes.split_first_chunk::<2>()?;
        let long = if first & 0x80 == 0 { 0 } else { usize::from(first & 0x7f) };
        // A certificate starts with SEQUENCE, and four bytes of length are 4 GiB.
        if tag != 0x30 || first == 0x80 || long > 4 || rest.len() < long {
            return None;
        }
        let length = match long {
            0 => usize::from(first),
            _ => rest[..long].iter().fold(0usize, |n, byte| n << 8 | usize::from(*byte)),
        };
        let end = length.checked_add(2 + long)?;
        certificates.push(CertificateDer::from(bytes.get(..end)?.to_vec()));
        bytes = &bytes[end..];
    }
    Some(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenated_der_is_taken_apart_and_what_is_cut_short_is_refused() {
        let short = [0x30, 2, 1, 2];
        let long = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        let both = [&short[..], &long].concat();
        let parts = split_der(&both).unwrap();
        assert_eq!((parts[0].as_ref(), parts[1].as_ref()), (&short[..], &long[..]));
        for bad in [&both[..both.len() - 1], &[0x31, 0][..], &[0x30, 0x80, 0, 0], &[0x30], &[0x30, 0x85, 0, 0, 0, 0, 0]]
        {
            assert!(split_der(bad).is_none(), "{bad:x?}");
        }
        assert!(split_der(&[]).unwrap().is_empty());
    }
}
