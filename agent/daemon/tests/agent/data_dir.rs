//! A data directory that goes away, is closed, is given away or rolled back while the agent runs. Fault F40.

use crate::{
    fake::{AGENT, AGENT_TTL, Journal},
    world::{SOON, World, ids, next, problem, with_header},
};
use agent_daemon::{Agent, AgentStatus, DiskError, Ports, StartError};
use proto_wire::workload::JwtsvidRequest;
use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, Permissions},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};
use testkit::poll::{holds_within, until};
use tonic::Status;

/// The files of an agent that is attested and has seen a journal.
const FILES: [&str; 3] = ["agent_svid.json", "bundle.json", "journal.json"];

async fn world() -> World {
    let mut world = World::without_agent();
    world.server.state.script().journal = journal(3);
    world.start_agent().await;
    world.create(world.entry("e", "/web")).await;
    world
}

fn journal(records: u8) -> Journal {
    Journal { store_id: "k3m9x".into(), epoch: 1, leaves: (0..records).map(|n| [n; 32]).collect() }
}

fn data(world: &World) -> PathBuf {
    world.dir.path().join("data")
}

fn make(dir: &Path) {
    DirBuilder::new().mode(0o700).create(dir).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

fn read(world: &World, file: &str) -> String {
    fs::read_to_string(data(world).join(file)).unwrap_or_default()
}

async fn new_jwt(world: &World, audience: &str) -> Result<(), Status> {
    let request = JwtsvidRequest { audience: vec![audience.into()], spiffe_id: String::new() };
    world.workload().fetch_jwtsvid(with_header(request)).await.map(drop)
}

/// Lets time pass until the agent says this of itself; nothing, when it is empty.
async fn says(world: &World, what: &str) {
    let said = holds_within(SOON, async || {
        world.clock.advance(Duration::from_secs(5));
        let problem = problem(world).await;
        if what.is_empty() { problem.is_empty() } else { problem.contains(what) }
    });
    assert!(said.await, "not `{what}`, but `{}`", problem(world).await);
}

type Change = fn(&Path);

/// What is done to the directory, what the agent says then, and how an operator repairs it. The last is for root alone.
const FAULTS: [(&str, &str, Change, Change); 6] = [
    ("deleted", "is gone", |dir| fs::remove_dir_all(dir).unwrap(), make),
    (
        "a file",
        "it is not a directory",
        |dir| {
            fs::remove_dir_all(dir).unwrap();
            fs::write(dir, "").unwrap();
        },
        |dir| {
            fs::remove_file(dir).unwrap();
            make(dir);
        },
    ),
    ("read-only", "cannot be written (mode 500)", |dir| chmod(dir, 0o500), |dir| chmod(dir, 0o700)),
    ("open", "is open to others (mode 755)", |dir| chmod(dir, 0o755), |dir| chmod(dir, 0o700)),
    (
        "unwritable",
        "agent_svid.json.new",
        |dir| {
            // What no user can write over, root included.
            fs::remove_file(dir.join("agent_svid.json")).unwrap();
            make(&dir.join("agent_svid.json.new"));
        },
        |dir| fs::remove_dir(dir.join("agent_svid.json.new")).unwrap(),
    ),
    (
        "given away",
        "belongs to uid 65534",
        |dir| std::os::unix::fs::chown(dir, Some(65534), None).unwrap(),
        |dir| std::os::unix::fs::chown(dir, Some(0), None).unwrap(),
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_dir_that_is_not_usable_stops_what_is_new_and_nothing_else_until_it_is_repaired() {
    let mut world = world().await;
    let first = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
    new_jwt(&world, "https://held.example.org").await.unwrap();
    let around = names(world.dir.path());
    let may_give_away = nix::unistd::geteuid().is_root();
    for (fault, words, make_wrong, repair) in FAULTS.iter().take(FAULTS.len() - usize::from(!may_give_away)) {
        make_wrong(&data(&world));
        says(&world, words).await;
        let again = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
        assert_eq!(again, first, "{fault}: what is held is served");
        new_jwt(&world, "https://held.example.org").await.unwrap();
        let refused = new_jwt(&world, &format!("https://{words}.example.org")).await.unwrap_err();
        assert!(refused.message().contains("nothing new is taken from the server"), "{fault}: {}", refused.message());
        assert!(refused.message().contains(words), "{fault}: {}", refused.message());
        assert_eq!(*world.agent().status().borrow(), AgentStatus::Ready, "{fault}: the server is still listened to");
        let now = names(world.dir.path());
        assert!(now.is_subset(&around), "{fault}: written to another place: {now:?}");

        repair(&data(&world));
        says(&world, "").await;
        new_jwt(&world, &format!("https://{words}.example.org")).await.unwrap();
        for file in FILES {
            let mode = fs::metadata(data(&world).join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{fault}: {file} is there again");
        }
    }
    world.stop_agent().await;
    world.start_agent().await;
    assert_eq!(world.agent().id().unwrap().to_string(), AGENT);
    assert_eq!(world.server.state.script().attested, 1, "all that makes the node what it is was written again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_s_svid_is_not_renewed_into_a_data_dir_that_is_gone_and_is_once_it_is_back() {
    let world = world().await;
    fs::remove_dir_all(data(&world)).unwrap();
    says(&world, "is gone").await;
    world.clock.advance(AGENT_TTL.mul_f64(0.56));
    let asked = holds_within(Duration::from_millis(300), || {
        world.clock.advance(Duration::from_secs(5));
        std::future::ready(world.server.state.script().renewed > 0)
    });
    assert!(!asked.await, "a renewal that cannot be kept is not asked for");
    assert!(!data(&world).exists());
    make(&data(&world));
    let state = world.server.state.clone();
    world.while_time_passes("renewed", Duration::from_secs(5), || state.script().renewed == 1).await;
    says(&world, "").await;
    assert!(read(&world, "agent_svid.json").contains(AGENT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_write_down_what_it_saw_of_the_journal_takes_nothing_new() {
    let world = world().await;
    let first = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
    make(&data(&world).join("journal.json.new"));
    new_jwt(&world, "https://before.example.org").await.unwrap();
    world.server.state.script().journal = journal(5);
    says(&world, "journal.json.new").await;
    let refused = new_jwt(&world, "https://new.example.org").await.unwrap_err();
    assert!(refused.message().contains("journal.json.new"), "{}", refused.message());
    assert_eq!(ids(&next(&mut world.x509().await.unwrap()).await.unwrap().unwrap()), ids(&first));
    // What the server says is heard all the same: an end must arrive.
    world.create(world.entry("second", "/batch")).await;
    assert!(read(&world, "journal.json").contains("\"size\":3"));

    fs::remove_dir(data(&world).join("journal.json.new")).unwrap();
    says(&world, "").await;
    assert!(read(&world, "journal.json").contains("\"size\":5"), "{}", read(&world, "journal.json"));
    new_jwt(&world, "https://new.example.org").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_dir_that_is_rolled_back_is_written_again_and_stays_this_agent_s() {
    let mut world = world().await;
    let state = world.server.state.clone();
    let old: Vec<(&str, String)> = FILES.iter().map(|file| (*file, read(&world, file))).collect();
    world.clock.advance(AGENT_TTL.mul_f64(0.56));
    world.while_time_passes("renewed", Duration::from_secs(1), || state.script().renewed == 1).await;
    state.script().journal = journal(5);
    let settled = || {
        read(&world, "journal.json").contains("\"size\":5")
            && read(&world, "agent_svid.json").contains("\"previous\":null")
    };
    world.while_time_passes("written down", Duration::from_secs(5), settled).await;
    let newest = FILES.map(|file| read(&world, file));
    assert_ne!(old[0].1, newest[0]);

    // An older copy over the files, then in the place of the whole directory.
    let put_old = |dir: &Path| old.iter().for_each(|(file, text)| fs::write(dir.join(file), text).unwrap());
    for whole in [false, true] {
        if whole {
            fs::rename(data(&world), world.dir.path().join("aside")).unwrap();
            make(&data(&world));
        }
        put_old(&data(&world));
        let as_it_was = || FILES.map(|file| read(&world, file)) == newest;
        // In small steps: when the agent is slow, its SVID must not come to its next renewal meanwhile.
        world.while_time_passes("the newest is back", Duration::from_secs(1), as_it_was).await;
        let ports = Ports { clock: std::sync::Arc::new(world.clock.clone()), ..Ports::system() };
        let second = Agent::start(world.config(), ports).await.err();
        assert!(matches!(second, Some(StartError::Disk(DiskError::Busy { .. }))), "{second:?}");
    }
    world.stop_agent().await;
    world.start_agent().await;
    assert_eq!(state.script().attested, 1);
    until("the newest serial is presented", SOON, || {
        let script = state.script();
        std::future::ready(script.serials.len() == 2)
    })
    .await;
}
