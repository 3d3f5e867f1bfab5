//! `errand exchange`: one credential on standard output.

use crate::fake::{Fake, Script, TASK, WORKLOAD, finish};
use serde_json::Value;

#[tokio::test]
async fn outside_a_task_it_starts_one_and_prints_the_whole_answer() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.errand(&["exchange", "orders-db/readonly", "--as", "json", "--ttl", "5m"])).await;
    let answer: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(answer["access_token"], "opaque");
    assert_eq!(answer["credential"]["user"], "kim_r");
    assert_eq!(finished.stderr, "");
    let seen = fake.seen();
    assert_eq!((seen.starts[0].launch_id.as_str(), seen.starts[0].ttl_seconds), ("", 300));
    assert!(seen.completed.is_empty() && seen.revoked.is_empty(), "the credential outlives the command");
}

#[tokio::test]
async fn inside_a_task_it_speaks_as_the_task() {
    let fake = Fake::start(Script { inside: true, ..Script::default() }).await;
    let finished = finish(fake.errand(&["exchange", "orders-db/readonly"])).await;
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let seen = fake.seen();
    assert!(seen.starts.is_empty());
    let (form, _, client) = &seen.exchanges[0];
    let task = format!("{WORKLOAD}/task/{TASK}");
    assert_eq!(client, &task);
    assert_eq!(form["subject_token"], format!("token of {task} for https://issuer.example.org"));
}

#[tokio::test]
async fn what_belongs_to_a_new_task_is_bad_usage_inside_one() {
    let fake = Fake::start(Script { inside: true, ..Script::default() }).await;
    for flag in [["--ttl", "5m"], ["--intent", "x"]] {
        let args = ["exchange", "orders-db/readonly", flag[0], flag[1]];
        assert_eq!(finish(fake.errand(&args)).await.status, 2, "{flag:?}");
    }
}

#[tokio::test]
async fn as_env_is_read_back_by_a_shell() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.errand(&["exchange", "orders-db/readonly", "--as", "env"])).await;
    let script = format!("{}\necho \"$PGUSER $PGPASSWORD $DATABASE_URL\"", finished.stdout);
    let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(
        String::from_utf8(shell.stdout).unwrap(),
        "kim_r secret-of-kim_r postgres://kim_r:secret%2Dof%2Dkim%5Fr@orders.internal:5432/orders\n"
    );
}

#[tokio::test]
async fn as_pgpass_is_one_line_and_a_form_the_kind_has_not_is_refused() {
    let fake = Fake::start(Script::default()).await;
    let finished = finish(fake.errand(&["exchange", "orders-db/readonly", "--as", "pgpass"])).await;
    assert_eq!(finished.stdout, "orders.internal:5432:orders:kim_r:secret-of-kim_r\n");
    for form in ["aws", "ssh"] {
        let finished = finish(fake.errand(&["exchange", "orders-db/readonly", "--as", form])).await;
        assert_eq!((finished.status, finished.stdout.as_str()), (1, ""));
        assert!(finished.stderr.contains(&format!("role kind `postgres` has no {form} form")), "{}", finished.stderr);
    }
    assert_eq!(fake.seen().revoked.len(), 2, "what nobody has is taken back");
}

#[tokio::test]
async fn a_denied_role_gives_77_and_prints_nothing() {
    let mut script = Script::default();
    script.refusals.insert("orders-db/readonly".into(), ("access_denied".into(), "not permitted".into(), 403));
    let fake = Fake::start(script).await;
    let finished = finish(fake.errand(&["exchange", "orders-db/readonly"])).await;
    assert_eq!((finished.status, finished.stdout.as_str()), (77, ""));
    assert!(finished.stderr.contains("not permitted"));
}
