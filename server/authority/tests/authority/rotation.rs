//! Rotation over real keys: published before it signs, still published after, and never a moment without a signer.

use crate::house::{House, NOW, workload_key};
use proto_types::{KeyUse, Timestamp, id::parse_spiffe_id};
use server_authority::KeyringError;
use server_core::{
    authority::KeyAction,
    issue::{Ttls, x509_template},
    ports::{Authorities, AuthorityState, JournalSigner, Minter, SshSigner},
};

const HOUR: i64 = 3600;

fn hours(n: i64) -> Timestamp {
    Timestamp::from_secs(NOW.as_secs() + n * HOUR)
}

#[tokio::test]
async fn a_week_of_ticks_keeps_a_signer_and_every_certificate_verifiable() {
    let mut house = House::new();
    let id = parse_spiffe_id("spiffe://example.org/web").unwrap();
    let mut published = house.keyring.bundle();
    let mut records = Vec::new();
    let mut signers = std::collections::BTreeSet::new();
    for hour in 0..7 * 24 {
        let now = hours(hour);
        records.extend(house.tick(now));
        let template = x509_template(&id, &[], 0, &Ttls::default(), now, house.keyring.ca_not_after()).unwrap();
        let svid = house.keyring.x509(&template, &workload_key()).await.unwrap();
        let verifies = |ca: &Vec<u8>| {
            use x509_parser::prelude::{FromDer, X509Certificate};
            let (_, ca) = X509Certificate::from_der(ca).unwrap();
            let (_, leaf) = X509Certificate::from_der(&svid.chain[0]).unwrap();
            leaf.verify_signature(Some(ca.public_key())).is_ok()
        };
        // What a consumer fetched an hour ago holds the key that signs now.
        assert_eq!(published.x509.iter().filter(|ca| verifies(ca)).count(), 1, "hour {hour}");
        let signer = house.keyring.bundle().x509.iter().position(verifies).unwrap();
        signers.insert(house.keyring.bundle().x509[signer].clone());
        assert!(house.keyring.bundle().sequence >= published.sequence);
        published = house.keyring.bundle();
        assert!(published.x509.len() <= 4, "old keys go");
    }
    assert!(signers.len() >= 7, "{} signers", signers.len());
    for kind in ["authority.prepared", "authority.activated", "authority.retired"] {
        assert!(records.iter().any(|r| r == kind), "{kind}");
    }
    assert_eq!(house.rows.iter().filter(|r| r.key_use == KeyUse::Journal).count(), 1);
}

#[test]
fn a_restart_brings_back_the_same_keys_and_a_sequence_that_does_not_go_back() {
    let mut house = House::new();
    house.tick(hours(13));
    let before = house.keyring.bundle();
    let again = house.reopened(house.rows.clone()).unwrap();
    assert_eq!(again.bundle().x509, before.x509);
    assert_eq!(again.bundle().jwt, before.jwt);
    assert_eq!(again.bundle().sequence, before.sequence);
    assert_eq!(JournalSigner::key(&again), JournalSigner::key(&house.keyring));
}

#[test]
fn an_ssh_key_signs_until_an_operator_activates_another_and_is_never_followed_by_itself() {
    let mut house = House::new();
    let first = SshSigner::public(&house.keyring).unwrap().kid;
    for day in 1..40 {
        house.tick(hours(24 * day));
    }
    assert_eq!(SshSigner::public(&house.keyring).unwrap().kid, first);
    let key_use = KeyUse::Ssh;
    house.step(&KeyAction::Create { key_use, state: AuthorityState::Prepared }, NOW).unwrap();
    let second = house.rows.iter().find(|r| r.key_use == key_use && r.state == AuthorityState::Prepared).unwrap();
    let second = second.id.clone();
    house.step(&KeyAction::Activate { key_use, id: second.clone() }, NOW).unwrap();
    assert_eq!(SshSigner::public(&house.keyring).unwrap().kid, second);
    // Hosts may list both.
    assert_eq!(house.keyring.public_keys(key_use).len(), 2);
}

#[test]
fn an_operator_prepares_activates_and_revokes_and_cannot_revoke_the_signer() {
    let mut house = House::new();
    let of = |house: &House, state| {
        let row = house.rows.iter().find(|r| r.key_use == KeyUse::JwtSvid && r.state == state);
        row.map(|r| r.id.clone())
    };
    let key_use = KeyUse::JwtSvid;
    let first = of(&house, AuthorityState::Active).unwrap();
    let revoke = |id: &str| KeyAction::Drop { key_use, id: id.into() };
    assert!(matches!(house.step(&revoke(&first), NOW), Err(KeyringError::Signs { .. })));
    let activate = |id: &str| KeyAction::Activate { key_use, id: id.into() };
    assert!(matches!(house.step(&activate(&first), NOW), Err(KeyringError::NotPrepared { .. })));
    assert!(matches!(house.step(&activate("none"), NOW), Err(KeyringError::NoSuchKey { .. })));

    let sequence = house.keyring.bundle().sequence;
    house.step(&KeyAction::Create { key_use, state: AuthorityState::Prepared }, NOW).unwrap();
    let second = of(&house, AuthorityState::Prepared).unwrap();
    assert_eq!(house.keyring.bundle().jwt.len(), 2);
    house.step(&activate(&second), NOW).unwrap();
    assert_eq!(of(&house, AuthorityState::Old), Some(first.clone()));
    house.step(&revoke(&first), NOW).unwrap();
    assert_eq!(house.keyring.bundle().jwt.len(), 1);
    assert!(house.keyring.bundle().sequence > sequence);
}
