//! A developer's own credentials never win over the task's.

use std::os::unix::fs::PermissionsExt as _;
use tests::world::{Command, Database, World};

const GRANT: [&str; 3] = ["--grant", "orders-db/readonly", "--"];

/// What a developer has lying around, in the environment and at home.
fn planted(world: &World, orders: &Database, command: Command) -> Command {
    let home = world.layout.dir().join("home");
    let write = |name: &str, text: &str| {
        let path = home.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    let port = orders.postgres.port();
    write(".pgpass", "*:*:*:*:root's own secret\n");
    write(".pg_service.conf", &format!("[orders-db]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname=orders\n"));
    write(".aws/credentials", "[default]\naws_access_key_id = AKIAPLANTED\naws_secret_access_key = planted\n");
    let superuser = format!("postgres://postgres:root%27s%20own%20secret@127.0.0.1:{port}/orders");
    command
        .env("PGUSER", "postgres")
        .env("PGPASSWORD", "root's own secret")
        .env("PGSERVICE", "orders-db")
        .env("PGOPTIONS", "-c role=postgres")
        .env("DATABASE_URL", &superuser)
        .env("AWS_ACCESS_KEY_ID", "AKIAPLANTED")
        .env("AWS_SECRET_ACCESS_KEY", "planted")
        .env("AWS_PROFILE", "planted")
        .env("GH_TOKEN", "planted")
        .env("KUBECONFIG", "/planted")
        .env("SSH_AUTH_SOCK", "/planted")
        .env("GOOGLE_APPLICATION_CREDENTIALS", "/planted")
        .env("EDITOR", "ed")
}

/// Invariant 6; interfaces section 1.
#[tokio::test]
async fn planted_credentials_of_every_kind_never_win() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let psql = orders.psql();
    let psql = psql.to_str().unwrap();
    let who = "select current_user like 'errand\\_%' and session_user = current_user";

    let run = planted(&world, &orders, world.run(GRANT).args([psql, "-Atc", who]));
    run.to_end().await.exited(0).printed("t\n");
    // A program that reads nothing but the URL, and one that reads nothing but the service.
    let by_url = format!("exec {psql} -Atc \"{who}\" \"$DATABASE_URL\"");
    planted(&world, &orders, world.run(GRANT).args(["sh", "-c", &by_url])).to_end().await.exited(0).printed("t\n");
    let by_service = format!("exec {psql} -Atc \"{who}\" service=orders-db");
    planted(&world, &orders, world.run(GRANT).args(["sh", "-c", &by_service])).to_end().await.exited(0).printed("t\n");

    let env = planted(&world, &orders, world.run(GRANT).args(["env"])).to_end().await.exited(0).stdout;
    assert!(!env.contains("planted") && !env.contains("PLANTED") && !env.contains("root's own secret"), "{env}");
    assert!(env.contains("\nEDITOR=ed\n"), "what is no credential stays: {env}");
    let files = env.lines().filter(|l| l.starts_with("AWS_SHARED_CREDENTIALS_FILE=") || l.starts_with("PGPASSFILE="));
    let home = world.layout.dir().join("home");
    assert!(files.into_iter().all(|l| !l.contains(home.to_str().unwrap())), "{env}");
    orders.is_left_alone().await;
    world.ends_well().await;
}

/// Interfaces, section 1: `--keep-env`.
#[tokio::test]
async fn keep_env_restores_one_variable_and_no_other() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let run = world.run(["--keep-env", "AWS_PROFILE", "--keep-env", "NOT_SET"]).args(GRANT).args(["env"]);
    let env = planted(&world, &orders, run).to_end().await.exited(0).stdout;
    assert!(env.contains("\nAWS_PROFILE=planted\n"), "{env}");
    assert!(!env.contains("AKIAPLANTED") && !env.contains("GH_TOKEN") && !env.contains("NOT_SET"), "{env}");
    world.ends_well().await;
}

/// Invariant 12, interfaces section 1: the URL has no password unless it is asked for.
#[tokio::test]
async fn the_password_is_in_one_private_file_and_in_no_variable() {
    let world = World::start().await;
    let orders = world.has_orders_db().await;
    world.permits_everything().await;
    let look = "cut -d: -f5 \"$PGPASSFILE\" | grep -q . || exit 5; env | grep -F \"$(cut -d: -f5 \"$PGPASSFILE\")\" && exit 6; \
                stat -c %a \"$ERRAND_DIR\" \"$PGPASSFILE\"; stat -f -c %T \"$ERRAND_DIR\"; echo \"$ERRAND_DIR\"";
    let out = world.run(GRANT).args(["sh", "-c", look]).to_end().await.exited(0).stdout;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(&lines[..3], ["700", "600", "tmpfs"], "{out}");
    assert!(!std::path::Path::new(lines[3]).exists(), "{} outlived its task", lines[3]);

    let url = format!("exec env -u PGPASSFILE {} -Atc 'select 1' \"$DATABASE_URL\"", orders.psql().display());
    let run = world.run(["--password-in-url"]).args(GRANT).args(["sh", "-c", &url]);
    run.to_end().await.exited(0).printed("1\n");
    world.run(GRANT).args(["sh", "-c", &url]).env("HOME", "/nonexistent").to_end().await.exited(2);
    world.ends_well().await;
}
