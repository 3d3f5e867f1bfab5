//! Where CMD finds its credentials, and that a developer's own never win.

use crate::fake::{Fake, Script, finish, postgres, spawn};
use serde_json::json;
use std::{collections::BTreeMap, time::Duration};
use testkit::poll::until;
use tokio::io::{AsyncBufReadExt, BufReader};

fn variables(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

#[tokio::test]
async fn variables_and_files_are_in_place_and_private() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.shell(
        "env; stat -c 'mode_dir=%a' $ERRAND_DIR; stat -c 'mode_file=%a' $PGPASSFILE; echo line=$(cat $PGPASSFILE)",
    ))
    .await;
    let env = variables(&finished.stdout);
    assert_eq!((env["PGHOST"], env["PGUSER"], env["PGDATABASE"]), ("orders.internal", "kim_r", "orders"));
    assert_eq!(env["DATABASE_URL"], "postgres://kim_r@orders.internal:5432/orders");
    assert_eq!(env["PGPASSFILE"], format!("{}/pgpass", env["ERRAND_DIR"]));
    assert_eq!(env["line"], "orders.internal:5432:orders:kim_r:secret-of-kim_r");
    assert_eq!((env["mode_dir"], env["mode_file"]), ("700", "600"));
    assert_eq!(env["SPIFFE_ENDPOINT_SOCKET"], format!("unix://{}", fake.socket().display()));
    assert!(!std::path::Path::new(env["ERRAND_DIR"]).exists(), "gone with the task");
}

#[tokio::test]
async fn the_exchange_carries_the_tasks_certificate_and_token() {
    let fake = Fake::start(Script::default()).await;
    finish(fake.shell("true")).await;
    let seen = fake.seen();
    let (form, _, client) = &seen.exchanges[0];
    assert!(client.ends_with(&format!("/task/{}", crate::fake::TASK)), "{client}");
    assert_eq!(form["subject_token"], "token-of-the-task");
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:token-exchange");
    assert_eq!(form["subject_token_type"], "urn:ietf:params:oauth:token-type:jwt");
}

#[tokio::test]
async fn the_intent_and_the_length_of_the_task_are_passed_on() {
    let fake = Fake::start(Script::default()).await;
    let args = ["run", "--intent", "nightly report", "--ttl", "1h", "--grant", "orders-db/readonly", "--", "true"];
    finish(fake.errand(&args)).await;
    let seen = fake.seen();
    assert_eq!((seen.starts[0].intent.as_str(), seen.starts[0].ttl_seconds), ("nightly report", 3600));
    assert_eq!(seen.starts[0].grants, ["orders-db/readonly"]);
}

#[tokio::test]
async fn a_task_without_a_stated_intent_says_what_it_runs_and_never_with_which_arguments() {
    let fake = Fake::start(Script::default()).await;
    finish(fake.run(&["/bin/echo", "--password=s3cret"])).await;
    finish(fake.errand(&["exchange", "orders-db/readonly"])).await;
    let seen = fake.seen();
    assert_eq!(
        (seen.starts[0].intent.as_str(), seen.starts[1].intent.as_str()),
        ("run echo", "exchange orders-db/readonly")
    );
}

#[tokio::test]
async fn a_password_is_in_a_url_only_when_asked_for() {
    let fake = Fake::start(Script::default()).await;
    let args = ["run", "--password-in-url", "--grant", "orders-db/readonly", "--", "sh", "-c", "echo $DATABASE_URL"];
    let finished = finish(fake.errand(&args)).await;
    assert_eq!(finished.stdout, "postgres://kim_r:secret%2Dof%2Dkim%5Fr@orders.internal:5432/orders\n");
}

#[tokio::test]
async fn two_grants_of_a_kind_share_files_and_leave_single_valued_variables_out() {
    let mut script = Script::default();
    script.credentials.insert("billing-db/readonly".into(), postgres("billing", "kim_b"));
    let fake = Fake::start(script).await;
    let args = ["run", "--grant", "orders-db/readonly", "--grant", "billing-db/readonly", "--", "sh", "-c"];
    let finished = finish(fake.errand(&[&args[..], &["env; cat $PGPASSFILE $PGSERVICEFILE"]].concat())).await;
    let env = variables(&finished.stdout);
    for absent in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "DATABASE_URL"] {
        assert!(!env.contains_key(absent), "{absent}");
    }
    assert!(env.contains_key("PGPASSFILE") && env.contains_key("PGSERVICEFILE"));
    for line in ["orders.internal:5432:", "billing.internal:5432:", "[orders]", "[billing]"] {
        assert!(finished.stdout.contains(line), "{line}");
    }
    assert!(finished.stderr.contains("PGHOST"), "said: {}", finished.stderr);
}

/// One secret of each kind as a developer has it, and the masks of the kinds.
fn developers() -> (BTreeMap<&'static str, &'static str>, serde_json::Value) {
    let planted = BTreeMap::from([
        ("PGPASSWORD", "mine"),
        ("PGSERVICE", "mine"),
        ("PGPASSFILE", "/home/kim/.pgpass"),
        ("PGHOSTADDR", "10.0.0.1"),
        ("MYSQL_PWD", "mine"),
        ("REDISCLI_AUTH", "mine"),
        ("SSH_AUTH_SOCK", "/tmp/mine"),
        ("AWS_ACCESS_KEY_ID", "mine"),
        ("AWS_SECRET_ACCESS_KEY", "mine"),
        ("AWS_PROFILE", "mine"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/home/kim/key.json"),
        ("AZURE_CLIENT_SECRET", "mine"),
        ("KUBECONFIG", "/home/kim/.kube/config"),
        ("GH_TOKEN", "mine"),
        ("ERRAND_CRED_OTHER_FILE", "/outer/task"),
    ]);
    let masks = json!([
        { "env": ["PGPASSWORD", "PGSERVICE", "PGPASSFILE", "PGHOSTADDR", "PGHOST"], "set": { "PGPASSFILE": "${DIR}/pgpass" } },
        { "env": ["MYSQL_PWD"] }, { "env": ["REDISCLI_AUTH"] }, { "env": ["SSH_AUTH_SOCK"] },
        { "env": ["AWS_*"], "set": { "AWS_SHARED_CREDENTIALS_FILE": "${DIR}/none" } },
        { "env": ["GOOGLE_APPLICATION_CREDENTIALS"] }, { "env": ["AZURE_CLIENT_SECRET"] },
        { "env": ["KUBECONFIG"], "set": { "KUBECONFIG": "${DIR}/kubeconfig" } }, { "env": ["GH_TOKEN"] },
    ]);
    (planted, masks)
}

#[tokio::test]
async fn a_developers_credentials_of_each_kind_never_win() {
    let (planted, masks) = developers();
    let fake = Fake::start(Script { masks, ..Script::default() }).await;
    let mut command = fake.run(&["env"]);
    command.envs(&planted).env("EDITOR", "vi");
    let finished = finish(command).await;
    let env = variables(&finished.stdout);
    for (name, mine) in &planted {
        assert_ne!(env.get(name), Some(mine), "{name}");
    }
    let dir = env["ERRAND_DIR"];
    assert_eq!(env["PGPASSFILE"], format!("{dir}/pgpass"));
    assert_eq!(env["AWS_SHARED_CREDENTIALS_FILE"], format!("{dir}/none"));
    assert_eq!(env["EDITOR"], "vi", "what is no credential stays");
}

#[tokio::test]
async fn keep_env_restores_one_variable_and_no_other() {
    let (planted, masks) = developers();
    let fake = Fake::start(Script { masks, ..Script::default() }).await;
    let args =
        ["run", "--keep-env", "GH_TOKEN", "--keep-env", "KUBECONFIG", "--grant", "orders-db/readonly", "--", "env"];
    let mut command = fake.errand(&args);
    command.envs(&planted);
    let finished = finish(command).await;
    let env = variables(&finished.stdout);
    assert_eq!((env["GH_TOKEN"], env["KUBECONFIG"]), ("mine", "/home/kim/.kube/config"));
    assert!(!env.contains_key("MYSQL_PWD"));
}

#[tokio::test]
async fn a_credential_that_expires_before_the_task_is_renewed_in_its_file() {
    let fake = Fake::start(Script { credential_ttl: Some(Duration::from_secs(3)), ..Script::default() }).await;
    let mut errand = spawn(fake.shell("echo $ERRAND_DIR; read line < fifo"));
    nix::unistd::mkfifo(&fake.dir().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut lines = BufReader::new(errand.stdout.take().unwrap()).lines();
    let dir = lines.next_line().await.unwrap().unwrap();
    let pgpass = std::path::Path::new(&dir).join("pgpass");
    assert!(std::fs::read_to_string(&pgpass).unwrap().contains("kim_r"));
    fake.script().credentials.insert("orders-db/readonly".into(), postgres("orders", "kim_r2"));
    until("the file has the renewed credential", crate::fake::SOON, || async {
        std::fs::read_to_string(&pgpass).unwrap().contains("secret-of-kim_r2")
    })
    .await;
    {
        let seen = fake.seen();
        assert_ne!(seen.exchanges[0].1, seen.exchanges[1].1, "another credential, another key");
    }
    tokio::fs::write(fake.dir().join("fifo"), "go\n").await.unwrap();
    assert_eq!(errand.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn static_placement_writes_plain_files_only() {
    let mut script = Script::default();
    let credential = json!({
        "kind": "kubernetes", "revocability": "ttl_only", "token": "t0ken",
        "placement": [
            { "type": "env", "name": "KUBECONFIG", "value": "${DIR}/kubeconfig" },
            { "type": "exec_plugin", "path": "kubeconfig", "content": "exec: errand exchange k8s/view" },
        ],
    });
    script.credentials.insert("k8s/view".into(), credential);
    let fake = Fake::start(script).await;
    let show = "ls $ERRAND_DIR; cat $KUBECONFIG $ERRAND_CRED_K8S_VIEW_FILE";
    let auto = finish(fake.errand(&["run", "--grant", "k8s/view", "--", "sh", "-c", show])).await;
    assert!(auto.stdout.contains("errand exchange k8s/view"), "{}", auto.stdout);
    let args = ["run", "--place", "static", "--grant", "k8s/view", "--", "sh", "-c", show];
    let plain = finish(fake.errand(&args)).await;
    assert!(plain.stdout.contains("\"token\":\"t0ken\""), "{}", plain.stdout);
    assert!(!plain.stdout.contains("errand exchange"));
}
