//! Invariant 12: no secret in a log, a record, the store, a process list or an environment. Every secret that this world
//! knows is looked for in everything that it leaves behind, as it is and as base64 and hex.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::world::{Exchange, World, written};

const READONLY: &str = "orders-db/readonly";
/// The manager's password; long and odd enough to be found.
const MANAGER: &str = "canary-5f1d-manager-password";

/// Places to look in: what they are called, and their bytes.
type Places = Vec<(String, Vec<u8>)>;

#[tokio::test]
async fn no_secret_is_found_anywhere_but_where_its_owner_reads_it() {
    let world = World::of_processes().await;
    let orders = world.has_its_own_orders_db().await;
    world.permits_everything().await;
    orders.postgres.sql(&format!("ALTER ROLE errand PASSWORD '{MANAGER}'")).await;
    fs::write(world.layout.dir().join("secrets/orders-db"), MANAGER).unwrap();

    // One secret of each kind.
    let task = world.holds_task("canary", &[READONLY]).await;
    let credential = Exchange::of(&task).to(READONLY).send(&world).await.granted();
    let token = Exchange::of(&task).send(&world).await.granted();
    let one_off = world.errand(["exchange", READONLY, "--as", "json"]).to_end().await.exited(0).json();
    let file = world.layout.dir().join("pgpass");
    let keep = format!("cat \"$PGPASSFILE\" > {}; sleep 600", file.display());
    let run = world.run(["--grant", READONLY, "--", "sh", "-c", &keep]).start();
    let pgpass = written(&file).await;
    fs::remove_file(&file).unwrap();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_string();
    let mut secrets = vec![
        ("the manager's password", MANAGER.to_string()),
        ("a password from the token endpoint", text(&credential["credential"]["password"])),
        ("a password of `errand exchange`", text(&one_off["credential"]["password"])),
        ("a password of `errand run`", pgpass.rsplit(':').next().unwrap().to_string()),
        ("a task token", text(&token["access_token"])),
        ("a subject token", task.subject_token().to_string()),
    ];
    let key = task.identity.key.expose();
    secrets.push(("the task's key", STANDARD.encode(&key[key.len() - 64..])));
    secrets.push(("the task's key in hex", hex::encode(&key[key.len() - 64..])));

    let places = places(&world, &[run.pid, world.server.process().pid(), world.node.process().pid()]).await;
    // What is no secret is there: the search looks in the right places.
    let role = text(&credential["credential"]["user"]);
    for place in ["journal export", "server/errand.db", "server.log", "node.log", "cmdline", "environ"] {
        assert!(
            places.iter().any(|(name, bytes)| name.contains(place) && !bytes.is_empty()),
            "{place} is not looked at"
        );
    }
    for place in ["journal export", "server/errand.db"] {
        let found = places.iter().any(|(name, bytes)| name.contains(place) && holds(bytes, role.as_bytes()));
        assert!(found, "the role's name is not in {place}");
    }
    for (what, secret) in &secrets {
        assert!(secret.len() > 20, "{what} is too short to be looked for");
        for (name, bytes) in &places {
            for form in [secret.clone(), STANDARD.encode(secret), hex::encode(secret)] {
                assert!(!holds(bytes, form.as_bytes()), "{what} is in {name}");
            }
        }
    }
    run.kill();
    task.completes().await;
    // The task that `errand exchange` started for itself lasts as long as its credential.
    world.operator(["task", "revoke", world.journal("lease.handed").await[1]["task_id"].as_str().unwrap()]).await;
    orders.is_left_alone().await;
    world.ends_well().await;
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle)
}

async fn places(world: &World, daemons: &[i32]) -> Places {
    let mut places = Places::new();
    let export = world.errand(["journal", "export"]).to_end().await.exited(0);
    for line in export.stdout.lines() {
        // Records are exported as the bytes that are stored, in base64.
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let body = line["body"].as_str().map(|b| STANDARD.decode(b).unwrap()).unwrap_or_default();
        places.push(("journal export".into(), [line.to_string().into_bytes(), body].concat()));
    }
    for list in [["task", "list"], ["lease", "list"], ["target", "list"], ["journal", "search"]] {
        let printed =
            world.operator(list.into_iter().chain(["--all"]).take(if list[0] == "target" { 2 } else { 3 })).await;
        places.push((format!("errand {}", list.join(" ")), printed.to_string().into_bytes()));
    }
    let shown = world.operator(["target", "show", "orders-db"]).await;
    places.push(("errand target show".into(), shown.to_string().into_bytes()));
    // The operator's own secret lies where it was put, and the key-encryption key where it belongs.
    let theirs = [world.layout.dir().join("secrets"), world.layout.dir().join("kek")];
    files(world.layout.dir(), &theirs, &mut places);
    for pid in daemons.iter().copied().chain(daemons.iter().flat_map(|p| children(*p))) {
        for name in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{name}");
            places.push((path.clone(), fs::read(path).unwrap_or_default()));
        }
    }
    places
}

fn files(folder: &Path, but: &[PathBuf], places: &mut Places) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !but.contains(&path) {
            files(&path, but, places);
        } else if path.is_file() && !but.contains(&path) {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// Everything below a process: the command of `errand run`, and its watchdog.
fn children(pid: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let direct: Vec<i32> = text.split_whitespace().filter_map(|p| p.parse().ok()).collect();
    direct.iter().copied().chain(direct.iter().flat_map(|p| children(*p))).collect()
}
