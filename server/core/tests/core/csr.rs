//! CSRs, one by one (`tests/data/csr.json`). A case with `refused` names the error it must give and its twin, a nearly
//! identical request that is accepted.

use base64::{Engine, engine::general_purpose::STANDARD};
use server_core::issue::{CsrError, DerFault, MAX_CSR, check_csr, check_spki};
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    catalogue: String,
    der: String,
    refused: Option<String>,
    twin: Option<String>,
}

fn cases() -> BTreeMap<String, Case> {
    let all: Vec<Case> = serde_json::from_str(include_str!("../data/csr.json")).unwrap();
    all.into_iter().map(|c| (c.name.clone(), c)).collect()
}

fn der(case: &Case) -> Vec<u8> {
    STANDARD.decode(&case.der).unwrap()
}

fn good(name: &str) -> Vec<u8> {
    der(&cases()[name])
}

fn nothing_is_blocked(_: &[u8]) -> bool {
    false
}

#[test]
fn each_bad_request_is_refused_for_its_own_reason_and_its_twin_is_accepted() {
    let cases = cases();
    for case in cases.values() {
        let answer = check_csr(&der(case), &nothing_is_blocked);
        match &case.refused {
            None => assert!(answer.is_ok(), "{} {}: {answer:?}", case.catalogue, case.name),
            Some(why) => {
                let error = answer.expect_err(&case.name);
                assert!(format!("{error:?}").starts_with(why), "{} {}: {error:?}", case.catalogue, case.name);
                let twin = &cases[case.twin.as_ref().unwrap()];
                assert!(twin.refused.is_none(), "{} has a twin that is bad too", case.name);
            }
        }
    }
}

#[test]
fn a_request_cut_short_anywhere_is_refused() {
    let whole = good("p256");
    for n in 0..whole.len() {
        assert!(check_csr(&whole[..n], &nothing_is_blocked).is_err(), "{n} bytes");
    }
    check_csr(&whole, &nothing_is_blocked).unwrap();
}

#[test]
fn no_request_with_one_byte_changed_proves_its_key() {
    let whole = good("p256");
    for at in 0..whole.len() {
        for flip in [0x01, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            assert!(check_csr(&changed, &nothing_is_blocked).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn trailing_bytes_are_refused_and_counted() {
    let mut der = good("p256");
    der.push(0);
    assert_eq!(check_csr(&der, &nothing_is_blocked), Err(CsrError::Der(DerFault::Trailing(1))));
}

#[test]
fn size_is_bounded_before_anything_is_parsed() {
    let huge = vec![0x30; 1024 * 1024];
    assert_eq!(check_csr(&huge, &nothing_is_blocked), Err(CsrError::TooLarge(1024 * 1024)));
    assert_eq!(check_csr(&[], &nothing_is_blocked), Err(CsrError::Empty));
    assert!(good("rsa4096").len() < MAX_CSR);
}

#[test]
fn deep_nesting_is_refused_without_recursion_to_match() {
    let mut der = vec![0x05, 0x00];
    for _ in 0..2000 {
        let len = der.len();
        let mut outer = vec![0x30];
        if len < 0x80 {
            outer.push(len as u8);
        } else {
            outer.extend([0x82, (len >> 8) as u8, len as u8]);
            if len < 0x100 {
                outer.splice(1..4, [0x81, len as u8]);
            }
        }
        outer.extend(der);
        der = outer;
    }
    assert_eq!(check_csr(&der, &nothing_is_blocked), Err(CsrError::Der(DerFault::TooDeep)));
}

#[test]
fn a_blocked_key_is_refused_whoever_proves_it() {
    let der = good("p256");
    let key = check_csr(&der, &nothing_is_blocked).unwrap();
    let ours = key.spki_der().to_vec();
    assert_eq!(check_csr(&der, &|spki| spki == ours), Err(CsrError::Blocked));
    check_csr(&good("p384_sha384"), &|spki| spki == ours).unwrap();
}

#[test]
fn the_proven_key_has_the_algorithm_of_the_key_and_not_of_the_signature() {
    let key = check_csr(&good("p384_sha256"), &nothing_is_blocked).unwrap();
    let secp384r1 = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
    assert!(key.spki_der().windows(secp384r1.len()).any(|w| w == secp384r1));
    check_spki(key.spki_der()).unwrap();
    assert!(check_spki(&key.spki_der()[1..]).is_err());
}
