//! What holds for any bytes read as a certificate signing request. Shared by the fuzz target and the tests.

use server_core::issue::{CsrError, check_csr, check_spki};

/// A key that is proven stands in the request as it is, is a key that is taken alone, and can be blocked; and a request
/// is whole: nothing may be missing from it, follow it, or be changed in it. Answers whether there was one.
pub fn holds(data: &[u8]) -> bool {
    let key = match check_csr(data, &|_| false) {
        Ok(key) => key,
        Err(why) => {
            assert!(why.to_string().len() <= 256);
            return false;
        }
    };
    let spki = key.spki_der().to_vec();
    assert!(data.windows(spki.len()).any(|w| w == spki));
    assert_eq!(check_spki(&spki), Ok(()));
    assert_eq!(check_csr(data, &|k| k == spki).map(drop), Err(CsrError::Blocked));
    assert!(check_csr(&[data, &[0]].concat(), &|_| false).is_err());
    assert!(check_csr(&data[..data.len() - 1], &|_| false).is_err());
    let mut changed = data.to_vec();
    changed[data.len() / 2] ^= 1;
    assert!(check_csr(&changed, &|_| false).is_err());
    true
}
