//! The selectors of the `unix` attestor.

use super::support::{Child, Host, is_root, pinned, skipped, this_binary, until};
use agent_core::{AttestError, Caller, CallerError, WorkloadAttestor, attest::attest_all};
use agent_workload::{
    PinnedCaller, UnixAttestor,
    hash::{HashError, Hasher},
    unix::Config,
};
use proto_types::SystemClock;
use std::{os::fd::OwnedFd, path::Path, process::Command, sync::Arc};

fn attestor(config: &Config) -> UnixAttestor {
    UnixAttestor::new(config, Arc::new(SystemClock))
}

async fn selectors(caller: &PinnedCaller) -> Vec<String> {
    let found = attestor(&Config::default()).attest(caller).await.unwrap();
    found.iter().map(ToString::to_string).collect()
}

fn of<'a>(found: &'a [String], key: &str) -> Vec<&'a str> {
    found.iter().filter_map(|s| s.strip_prefix(&format!("unix:{key}:"))).collect()
}

fn sha256(path: &Path) -> String {
    hex_of(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &std::fs::read(path).unwrap()).as_ref())
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test]
async fn a_process_has_its_ids_names_path_and_hash() {
    let host = Host::new();
    let (_child, stream) = host.child();
    let found = selectors(&pinned(&stream)).await;
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    assert_eq!(of(&found, "uid"), [uid.to_string()]);
    assert_eq!(of(&found, "gid"), [gid.to_string()]);
    let user = nix::unistd::User::from_uid(uid).unwrap();
    assert_eq!(of(&found, "user"), user.iter().map(|u| u.name.as_str()).collect::<Vec<_>>());
    assert_eq!(of(&found, "path"), [this_binary().to_str().unwrap()]);
    assert_eq!(of(&found, "sha256"), [sha256(&this_binary())]);
    let mut groups: Vec<String> = nix::unistd::getgroups().unwrap().iter().map(ToString::to_string).collect();
    groups.sort();
    groups.dedup();
    let mut seen = of(&found, "supplementary_gid");
    seen.sort_unstable();
    assert_eq!(seen, groups);
}

#[tokio::test]
async fn supplementary_groups_are_named_and_an_unknown_id_has_no_name() {
    if !is_root() {
        return skipped("other ids need root");
    }
    let host = Host::new();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "4242424", "--regid", "4242425", "--groups", "0,4242426"]).arg(host.copy("peer"));
    let _child = Child::start(command, "connect_and_obey", &host.socket());
    let found = selectors(&pinned(&host.accept())).await;
    assert_eq!(of(&found, "uid"), ["4242424"]);
    assert!(of(&found, "user").is_empty() && of(&found, "group").is_empty());
    assert_eq!(of(&found, "supplementary_gid"), ["0", "4242426"]);
    assert_eq!(of(&found, "supplementary_group"), ["root"]);
}

#[tokio::test]
async fn g12_a_deleted_or_replaced_program_keeps_its_own_hash_and_loses_its_path() {
    let host = Host::new();
    let program = host.copy("program");
    let start = |path: &Path| Child::start(Command::new(path), "connect_and_obey", &host.socket());
    let _child = start(&program);
    let caller = pinned(&host.accept());
    let whole = selectors(&caller).await;
    assert_eq!(of(&whole, "path"), [program.to_str().unwrap()]);

    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "another").unwrap();
    let replaced = selectors(&caller).await;
    assert!(of(&replaced, "path").is_empty());
    assert_eq!(of(&replaced, "sha256"), [sha256(&this_binary())]);
    caller.recheck().unwrap();

    let named = host.copy("program (deleted)");
    let _other = start(&named);
    let found = selectors(&pinned(&host.accept())).await;
    assert!(of(&found, "path").is_empty(), "a name that only looks so goes without");
    assert_eq!(of(&found, "sha256").len(), 1);
}

#[tokio::test]
async fn g12_a_program_above_the_limit_has_a_path_and_no_hash() {
    let host = Host::new();
    let (_child, stream) = host.child();
    let size = std::fs::metadata(this_binary()).unwrap().len();
    for (limit, hashes) in [(size - 1, 0), (size, 1)] {
        let config = Config { max_hash_size: limit, ..Config::default() };
        let found = attestor(&config).attest(&pinned(&stream)).await.unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!((of(&found, "path").len(), of(&found, "sha256").len()), (1, hashes));
    }
    let off = Config { discover_workload_path: false, ..Config::default() };
    let found = attestor(&off).attest(&pinned(&stream)).await.unwrap();
    assert!(found.iter().all(|s| !s.value().starts_with("path:") && !s.value().starts_with("sha256:")));
}

#[tokio::test]
async fn g12_four_gigabytes_are_refused_before_they_are_read() {
    let hasher = Hasher::new(Arc::new(SystemClock), agent_workload::hash::DEFAULT_LIMIT);
    let huge = tempfile::tempfile().unwrap();
    huge.set_len(4 << 30).unwrap();
    let limit = agent_workload::hash::DEFAULT_LIMIT;
    assert_eq!(hasher.hash(huge.into()).await, Err(HashError::TooLarge { size: 4 << 30, limit }));
    for other in ["/dev/zero", "/"] {
        let file: OwnedFd = std::fs::File::open(other).unwrap().into();
        assert_eq!(hasher.hash(file).await, Err(HashError::NotRegular), "{other}");
    }
}

#[tokio::test]
async fn many_that_ask_at_once_get_one_answer() {
    let host = Host::new();
    let (_child, stream) = host.child();
    let (caller, attestor) = (Arc::new(pinned(&stream)), Arc::new(attestor(&Config::default())));
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (caller, attestor) = (caller.clone(), attestor.clone());
        asking.spawn(async move { attestor.attest(&*caller).await.unwrap() });
    }
    let answers = asking.join_all().await;
    assert!(answers.iter().all(|a| *a == answers[0] && !a.is_empty()));
}

#[tokio::test]
async fn who_becomes_another_program_or_dies_gets_no_selectors() {
    let host = Host::new();
    let attestors: Vec<Arc<dyn WorkloadAttestor>> = vec![Arc::new(attestor(&Config::default()))];
    let (mut child, stream) = host.child();
    let (caller, pid) = (pinned(&stream), child.pid());
    assert!(!attest_all(&attestors, &caller).await.unwrap().is_empty());
    child.tell("exec sleep");
    let changed = CallerError::Changed { pid, what: "program" };
    // Its name changes last. Before that, while the exec waits for the other threads to die, it may look dead.
    let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until("it runs sleep", || name().trim() == "sleep").await;
    assert_eq!(attest_all(&attestors, &caller).await, Err(AttestError::Caller(changed)));
    // Whoever connects from the new program is attested as it.
    assert!(!attest_all(&attestors, &pinned(&stream)).await.unwrap().is_empty());

    let (mut child, stream) = host.child();
    let (caller, pid) = (pinned(&stream), child.pid());
    child.tell("exit");
    child.reap();
    let gone = CallerError::Exited { pid };
    assert_eq!(attest_all(&attestors, &caller).await, Err(AttestError::Caller(gone)));
}
