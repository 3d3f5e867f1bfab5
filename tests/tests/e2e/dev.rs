//! `errand dev`: everything in one process, found by every other command of the same user (interfaces, section 1).

use tests::world::{Command, Daemon, Layout};

/// A command of the user that names no socket.
fn errand(layout: &Layout, args: &[&str]) -> Command {
    let command = Command::new(layout, std::path::Path::new("/nonexistent")).args(args.iter().copied());
    command.without_env("ERRAND_SERVER_SOCKET").without_env("SPIFFE_ENDPOINT_SOCKET")
}

#[tokio::test]
async fn dev_is_found_by_itself_permits_its_user_and_goes_on_where_it_was() {
    let layout = Layout::new();
    let log = layout.dir().join("dev.log");
    let mut dev = Daemon::start(&["dev", "--http", "127.0.0.1:0"], &layout.dir().join("home"), log);
    dev.ready().await;

    let shown = errand(&layout, &["svid", "x509", "--output", "json"]).to_end().await.exited(0).json();
    let id = shown["svids"][0]["spiffe_id"].as_str().unwrap().to_string();
    assert!(id.contains("/dev/"), "{id}");
    errand(&layout, &["run", "--intent", "try", "--", "sh", "-c", "test -n \"$ERRAND_TASK_ID\""])
        .to_end()
        .await
        .exited(0);
    let healthy = errand(&layout, &["doctor"]).to_end().await;
    for word in ["the store takes", "can be reached", "server: answers", "agent: answers"] {
        assert!(healthy.stdout.contains(word), "`{word}` is not in {healthy:?}");
    }
    assert!(!healthy.stdout.contains("clock") && !healthy.stdout.contains("not ready"), "{healthy:?}");
    let file = layout.dir().join("home/.local/share/errand/dev/dev.env");
    let env = std::fs::read_to_string(&file).unwrap();
    for name in [
        "ERRAND_TRUST_DOMAIN",
        "ERRAND_SERVER_SOCKET",
        "SPIFFE_ENDPOINT_SOCKET",
        "ERRAND_ISSUER",
        "ERRAND_CA_FILE",
        "ERRAND_GRPC",
        "ERRAND_MTLS",
        "ERRAND_PUBLIC",
        "ERRAND_METRICS",
    ] {
        assert!(env.lines().any(|l| l.starts_with(&format!("export {name}="))), "{name} is not in {env}");
    }

    // SIGTERM ends it cleanly; started again it has the same addresses, tasks and journal.
    dev.stop().await;
    assert!(!file.exists(), "nobody finds what does not run");
    errand(&layout, &["svid", "x509"]).to_end().await.exited(69);
    dev.start_again();
    dev.ready().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), env);
    let tasks = errand(&layout, &["task", "list", "--output", "json"]).to_end().await.exited(0).json();
    assert_eq!(
        (&tasks["tasks"][0]["intent"], &tasks["tasks"][0]["state"]),
        (&"try".into(), &"ended".into()),
        "{tasks}"
    );
    errand(&layout, &["journal", "verify"]).to_end().await.exited(0);

    // After a kill as well.
    dev.kill();
    dev.start_again();
    dev.ready().await;
    let again = errand(&layout, &["svid", "x509", "--output", "json"]).to_end().await.exited(0).json();
    assert_eq!(again["svids"][0]["spiffe_id"], id.as_str());
    errand(&layout, &["journal", "verify"]).to_end().await.exited(0);
    dev.stop().await;
}

#[tokio::test]
async fn the_store_of_dev_is_refused_by_a_server_that_is_not() {
    let layout = Layout::new();
    let data = layout.dir().join("dev");
    let args = ["dev", "--http", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let mut dev = Daemon::start(&args, &layout.dir().join("home"), layout.dir().join("dev.log"));
    dev.ready().await;
    dev.stop().await;
    let kek = std::fs::read_dir(layout.dir().join("home/.local/state/errand")).unwrap().next().unwrap().unwrap().path();
    let text = layout.server_toml();
    let text = text.replace(&format!("{}/server\"", layout.dir().display()), &format!("{}/server\"", data.display()));
    let text = text.replace(&format!("{}/kek", layout.dir().display()), kek.to_str().unwrap());
    let text = text.replace("acme.test", "dev.internal");
    let config = layout.write("server.toml", &text);
    errand(&layout, &["server", "check", "--config", &config]).to_end().await.exited(0);
    errand(&layout, &["server", "run", "--config", &config]).to_end().await.exited(1).said("dev");
}
