//! What is opened and what is refused; a refusal changes nothing.

use super::{beside, open, options, place, size, try_open};
use rusqlite::Connection;
use server_core::ports::{Ledger, Snapshots, Write};
use server_store::{BackupError, OpenError, SqliteStore, backup, restore};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};
use testkit::ledger_law::nouns::{at, note, task};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Copies a store as it lies there, log and all.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(beside(from, suffix), beside(to, suffix)).unwrap();
    }
}

fn edit(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn a_store_belongs_to_its_owner_and_to_one_server_at_a_time() {
    let (_folder, path) = place();
    let store = open(&path);
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(mode(&beside(&path, "-wal")), 0o600);
    let pid = std::process::id();
    assert!(matches!(try_open(&path), Err(OpenError::InUse { pid: Some(holder), .. }) if holder == pid));
    drop(store);
    assert!(!beside(&path, "-wal").exists(), "a clean end folds the log into the file");
    open(&path);
}

#[test]
fn a_folder_that_everyone_may_write_to_is_refused_and_one_for_its_group_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("errand.db");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(try_open(&path), Err(OpenError::OpenFolder { .. })));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
    open(&path);
}

#[test]
fn a_store_of_another_trust_domain_or_stamp_is_refused_and_opens_as_what_it_is() {
    let (_folder, path) = place();
    drop(open(&path));
    let as_what = |td: &str, dev| SqliteStore::open(&path, options(td, dev)).map(drop);
    assert!(matches!(as_what("other.org", false), Err(OpenError::WrongTrustDomain { .. })));
    assert!(matches!(as_what("example.org", true), Err(OpenError::DevStamp { store_is_dev: false, .. })));
    as_what("example.org", false).unwrap();
    let dev = path.with_file_name("dev.db");
    drop(SqliteStore::open(&dev, options("example.org", true)).unwrap());
    assert!(matches!(try_open(&dev), Err(OpenError::DevStamp { store_is_dev: true, .. })));
}

#[test]
fn a_store_that_is_only_looked_at_is_neither_made_nor_brought_up_to_date() {
    let (folder, path) = place();
    let look = || SqliteStore::open(&path, options("example.org", false).as_it_is()).map(drop);
    assert!(matches!(look(), Err(OpenError::NoStore { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    drop(open(&path));
    look().unwrap();
    let now: i64 = Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    edit(&path, "PRAGMA user_version = 1");
    assert!(matches!(look(), Err(OpenError::OlderSchema { found: 1, known, .. }) if known == now));
}

#[test]
fn a_newer_schema_is_refused_and_the_known_one_is_not() {
    let (_folder, path) = place();
    drop(open(&path));
    let version = |n: i64| edit(&path, &format!("PRAGMA user_version = {n}"));
    let now: i64 = Connection::open(&path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    version(now + 1);
    assert!(
        matches!(try_open(&path), Err(OpenError::NewerSchema { found, known, .. }) if (found, known) == (now + 1, now))
    );
    version(0);
    assert!(matches!(try_open(&path), Err(OpenError::NotAStore { .. })));
    version(now);
    open(&path);
}

#[tokio::test]
async fn an_older_schema_is_brought_up_to_date_and_keeps_what_it_held() {
    let (_folder, path) = place();
    let store = open(&path);
    store.commit(note().put(Write::Task(task(1)))).await.unwrap();
    drop(store);
    edit(&path, "ALTER TABLE journal_head DROP COLUMN start; DROP TABLE revoked_token; PRAGMA user_version = 4");
    let store = open(&path);
    let revoked = Write::RevokedToken { jti: "one".into(), expires_at: at(300) };
    store.commit(note().put(revoked)).await.unwrap();
    let all = store.load().await.unwrap();
    assert_eq!((all.tasks, all.revoked_tokens), (vec![task(1)], vec![("one".to_string(), at(300))]));
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let (_folder, path) = place();
    drop(open(&path));
    let whole = fs::read(&path).unwrap();
    let other = path.with_file_name("other.db");
    edit(&other, "CREATE TABLE t(x); INSERT INTO t VALUES(1)");
    let foreign = fs::read(&other).unwrap();
    let mut headless = whole.clone();
    headless[..16].fill(0);
    for bytes in [b"".as_slice(), b"-----BEGIN", &headless, &foreign] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(try_open(&path), Err(OpenError::NotAStore { .. })));
        assert!(fs::read(&path).unwrap() == bytes, "the file was changed");
    }
    for length in [4096, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(try_open(&path), Err(OpenError::Damaged { .. })), "{length} bytes of {}", whole.len());
        assert!(fs::read(&path).unwrap() == whole[..length], "the file was changed");
    }
    fs::write(&path, &whole).unwrap();
    open(&path);
}

#[tokio::test]
async fn a_log_without_its_store_is_not_taken_for_a_new_one() {
    let (_folder, path) = place();
    let store = open(&path);
    store.commit(note()).await.unwrap();
    let lone: PathBuf = path.with_file_name("lone.db");
    fs::copy(beside(&path, "-wal"), beside(&lone, "-wal")).unwrap();
    assert!(matches!(try_open(&lone), Err(OpenError::NotAStore { .. })));
    assert!(!lone.exists());
}

#[tokio::test]
async fn a_store_that_lost_its_log_waits_for_consent_and_becomes_a_new_epoch() {
    let (_folder, path) = place();
    let store = open(&path);
    store.commit(note()).await.unwrap();
    let (bare, whole) = (path.with_file_name("bare.db"), path.with_file_name("whole.db"));
    copy(&path, &whole);
    fs::copy(&path, &bare).unwrap();
    for _ in 0..2 {
        assert!(matches!(try_open(&bare), Err(OpenError::LogMissing { .. })));
    }
    let accepted = SqliteStore::open(&bare, options("example.org", false).accept_rollback(true)).unwrap();
    assert_eq!((accepted.meta().epoch, size(&accepted)), (2, 0));
    // With its log it is the same store, all of it.
    let same = open(&whole);
    assert_eq!((same.meta().epoch, size(&same)), (1, 1));
}

#[tokio::test]
async fn a_refusal_leaves_file_and_log_of_a_crashed_store_as_they_are() {
    let (_folder, path) = place();
    let store = open(&path);
    for _ in 0..5 {
        store.commit(note()).await.unwrap();
    }
    let crashed = path.with_file_name("crashed.db");
    copy(&path, &crashed);
    let bytes = || (fs::read(&crashed).unwrap(), fs::read(beside(&crashed, "-wal")).unwrap());
    let before = bytes();
    let refused = SqliteStore::open(&crashed, options("other.org", false)).map(drop);
    assert!(matches!(refused, Err(OpenError::WrongTrustDomain { .. })));
    assert!(bytes() == before, "a refusal changed the store");
    assert_eq!(size(&open(&crashed)), 5);
}

/// F33.
#[tokio::test]
async fn a_backup_is_taken_while_the_store_is_written_and_opens_only_as_a_new_epoch() {
    let (folder, path) = place();
    let store = open(&path);
    let commits = async |count: usize| {
        for _ in 0..count {
            store.commit(note()).await.unwrap();
        }
    };
    commits(20).await;
    store.write_root(None).await.unwrap();
    let to = folder.path().join("monday.db");
    let taking = {
        let (path, to) = (path.clone(), to.clone());
        tokio::task::spawn_blocking(move || backup(&path, &to))
    };
    commits(50).await;
    let taken = taking.await.unwrap().unwrap();
    assert!((20..=70).contains(&taken.records), "{taken:?}");
    assert_eq!(mode(&to), 0o600);
    assert!(matches!(backup(&path, &to), Err(BackupError::Exists { .. })), "a backup is never written over");

    // Not over a store that is there.
    assert!(matches!(restore(&to, &path), Err(BackupError::Occupied { .. })));
    drop(store);
    let elsewhere = folder.path().join("again/errand.db");
    fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    assert_eq!(restore(&to, &elsewhere).unwrap(), taken);
    let refused = try_open(&elsewhere);
    assert!(matches!(refused, Err(OpenError::LogMissing { .. })), "{:?}", refused.err());
    let accepted = SqliteStore::open(&elsewhere, options("example.org", false).accept_rollback(true)).unwrap();
    assert_eq!((size(&accepted), accepted.meta().epoch), (taken.records, 2));

    // A backup that was changed is none.
    let mut bytes = fs::read(&to).unwrap();
    let at = bytes.windows(9).position(|w| w == b"\"kind\":\"d").expect("a record");
    bytes[at + 8] ^= 1;
    let changed = folder.path().join("changed.db");
    fs::write(&changed, &bytes).unwrap();
    let found = restore(&changed, &folder.path().join("new.db"));
    assert!(matches!(found, Err(BackupError::Damaged { .. })), "{found:?}");
    assert!(!folder.path().join("new.db").exists());
}
