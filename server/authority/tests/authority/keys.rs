//! Keys at rest: the KEK's file and sealed rows.

use crate::house::{House, NOW, Seeded, done, realm};
use proto_types::{Epoch, KeyUse, Secret};
use server_authority::{
    AuthorityConfig, FileProblem, Kek, KekError, Keyring, KeyringError,
    seal::{Place, SealError, open, seal},
};
use server_core::authority::KeyAction;
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tempfile::TempDir;

fn mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn problem(path: &std::path::Path) -> Option<FileProblem> {
    match Kek::load(path).err()? {
        KekError::File { problem, .. } => Some(problem),
        other => panic!("{other}"),
    }
}

#[test]
fn a_kek_that_others_may_read_or_that_is_no_key_is_refused() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("kek");
    let made = Kek::create(&path, Seeded::new(1).as_ref()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the key is left behind");
    assert_eq!(Kek::load(&path).unwrap().id(), made.id());
    for bad in [0o644, 0o604, 0o620, 0o602, 0o666] {
        mode(&path, bad);
        assert!(matches!(problem(&path), Some(FileProblem::Exposed { mode, .. }) if mode == bad), "{bad:o}");
    }
    mode(&path, 0o400);
    Kek::load(&path).unwrap();
    mode(&path, 0o600);
    for bytes in [&[][..], &[7; 31], &[7; 33]] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(problem(&path), Some(FileProblem::Size { .. })));
    }
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for not_a_file in [dir.path(), &fifo, std::path::Path::new("/dev/zero")] {
        assert!(matches!(problem(not_a_file), Some(FileProblem::NotAFile)), "{}", not_a_file.display());
    }
    assert!(matches!(problem(&dir.path().join("none")), Some(FileProblem::Io(_))));
}

#[test]
fn an_existing_kek_is_never_replaced() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("kek");
    let first = Kek::create(&path, Seeded::new(1).as_ref()).unwrap();
    assert!(matches!(
        Kek::create(&path, Seeded::new(2).as_ref()),
        Err(KekError::File { problem: FileProblem::Io(_), .. })
    ));
    assert_eq!(Kek::load(&path).unwrap().id(), first.id());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_sealed_value_opens_in_its_own_place_only() {
    let dir = TempDir::new().unwrap();
    let kek = Kek::create(&dir.path().join("a"), Seeded::new(1).as_ref()).unwrap();
    let other = Kek::create(&dir.path().join("b"), Seeded::new(2).as_ref()).unwrap();
    let place = Place { store_id: "s1", table: "authority", row: "k1" };
    let blob = done(seal(&kek, &place, &Secret::new(b"hunter2".to_vec()))).unwrap();
    assert_eq!(done(open(&kek, &place, &blob)).unwrap().expose(), b"hunter2");
    for wrong in [
        Place { store_id: "s2", ..place },
        Place { table: "vault", ..place },
        Place { row: "k2", ..place },
        // The same bytes, cut elsewhere.
        Place { store_id: "s1a", table: "uthority", ..place },
    ] {
        assert_eq!(done(open(&kek, &wrong, &blob)).unwrap_err(), SealError::Tampered, "{wrong:?}");
    }
    assert!(matches!(done(open(&other, &place, &blob)), Err(SealError::OtherKek { .. })));
    for at in 0..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert!(done(open(&kek, &place, &changed)).is_err(), "byte {at}");
        assert!(done(open(&kek, &place, &blob[..at])).is_err(), "{at} bytes");
    }
    let again = done(seal(&kek, &place, &Secret::new(b"hunter2".to_vec()))).unwrap();
    assert_ne!(blob, again, "nonces differ");
}

#[test]
fn rows_reopen_with_their_kek_and_neither_with_another_nor_with_sealed_halves_swapped() {
    let house = House::new();
    house.reopened(house.rows.clone()).unwrap();

    let stranger = Kek::create(&house.dir.path().join("other"), Seeded::new(9).as_ref()).unwrap();
    let error = done(Keyring::open(house.rows.clone(), stranger, realm(), Seeded::new(3), Epoch(0))).err().unwrap();
    assert!(matches!(error, KeyringError::Sealed { source: SealError::OtherKek { .. }, .. }));
    assert!(error.to_string().contains("[authority]"), "{error}");

    let mut swapped = house.rows.clone();
    let jwt = |u| house.rows.iter().position(|r| r.key_use == u).unwrap();
    let (a, b) = (jwt(KeyUse::JwtSvid), jwt(KeyUse::Oauth));
    (swapped[a].sealed, swapped[b].sealed) = (house.rows[b].sealed.clone(), house.rows[a].sealed.clone());
    let error = house.reopened(swapped).err().unwrap();
    assert!(matches!(error, KeyringError::Sealed { source: SealError::Tampered, .. }), "M11: {error}");

    let mut public = house.rows.clone();
    public[a].public = house.rows[b].public.clone();
    assert!(matches!(house.reopened(public), Err(KeyringError::Mismatch { .. })));
}

#[test]
fn no_private_byte_is_in_a_record_or_in_a_debug_form() {
    let mut house = House::new();
    let prepare = KeyAction::Create { key_use: KeyUse::JwtSvid, state: server_core::ports::AuthorityState::Prepared };
    let change = done(house.keyring.carry_out(&prepare, &house.lifetimes, NOW)).unwrap();
    let record = serde_json::to_string(change.commit.records()).unwrap();
    assert!(record.contains("public") && !record.contains("sealed"));
    house.step(&prepare, NOW).unwrap();
}

#[test]
fn a_section_with_lives_that_cannot_be_is_refused_with_all_its_problems() {
    assert_eq!(AuthorityConfig::default().check(), []);
    let bad = AuthorityConfig {
        ca_ttl: Duration::from_secs(600),
        jwt_key_ttl: Duration::from_secs(1),
        kek_file: Some("kek".into()),
        ..AuthorityConfig::default()
    };
    // J08: an SVID may not outlive the CA.
    let said: Vec<String> = bad.check().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 4, "{said:#?}");
    assert!(said.iter().any(|s| s.contains("x509_svid_ttl") && s.contains("ca_ttl")));
    assert!(serde_json::from_str::<AuthorityConfig>(r#"{"ca_tll":"1h"}"#).is_err());
    let read: AuthorityConfig = serde_json::from_str(r#"{"ca_ttl":"12h"}"#).unwrap();
    assert_eq!(read.lifetimes().ca_ttl, Duration::from_secs(43_200));
}
