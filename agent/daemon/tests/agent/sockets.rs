//! G16: where a socket may be put, and where not.

use crate::world::World;
use agent_daemon::{Agent, AgentConfig, DiskError, Ports, SocketPathError, StartError};
use std::{os::unix::fs::PermissionsExt as _, os::unix::net::UnixListener, path::Path};

async fn refusal(world: &World, socket: &Path) -> Option<StartError> {
    let old = format!("socket = \"{}\"", world.socket().display());
    let text = world.config_text().replace(&old, &format!("socket = \"{}\"", socket.display()));
    Agent::start(AgentConfig::parse(&text).unwrap(), Ports::system()).await.err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_put_neither_through_a_link_nor_over_what_is_there_nor_where_others_write() {
    let world = World::without_agent();
    let dir = world.dir.path();
    std::os::unix::fs::symlink("/dev/null", dir.join("link.sock")).unwrap();
    std::fs::write(dir.join("file.sock"), "").unwrap();
    let _live = UnixListener::bind(dir.join("live.sock")).unwrap();
    std::fs::create_dir(dir.join("open")).unwrap();
    std::fs::set_permissions(dir.join("open"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::os::unix::fs::symlink(dir, dir.join("linked")).unwrap();
    use SocketPathError as E;
    for (path, is_right) in [
        ("link.sock", (|e| matches!(e, E::Symlink { .. })) as fn(&E) -> bool),
        ("file.sock", |e| matches!(e, E::NotASocket { .. })),
        ("live.sock", |e| matches!(e, E::InUse { .. })),
        ("open/a.sock", |e| matches!(e, E::WritableDirectory { .. })),
        ("linked/a.sock", |e| matches!(e, E::Symlink { .. })),
    ] {
        match refusal(&world, &dir.join(path)).await {
            Some(StartError::Socket(e)) => assert!(is_right(&e), "{path}: {e}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_socket_is_replaced_and_a_sticky_directory_will_do() {
    let mut world = World::without_agent();
    drop(UnixListener::bind(world.socket()).unwrap());
    assert!(world.socket().exists());
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    world.start_agent().await;
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.socket()), 0o777);
    assert_eq!(mode(&world.dir.path().join("launch.sock")), 0o666);
    assert_eq!(mode(&world.dir.path().join("data")), 0o700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_serves_one_agent_and_is_closed_to_others() {
    let world = World::new().await;
    let second = refusal(&world, &world.dir.path().join("second.sock")).await;
    assert!(matches!(second, Some(StartError::Disk(DiskError::Busy { .. }))), "{second:?}");
    let open = World::without_agent();
    std::fs::create_dir(open.dir.path().join("data")).unwrap();
    std::fs::set_permissions(open.dir.path().join("data"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let refused = refusal(&open, &open.socket()).await;
    assert!(matches!(refused, Some(StartError::Disk(DiskError::Open { .. }))), "{refused:?}");
}
