//! Erasing people's names and words: what goes, what is refused, and that the journal stays true.

use crate::{
    exports::{get, post},
    world::World,
};
use proto_types::{EndReason, Epoch, Record, Task, TaskId, TaskState, hold::Scope};
use serde_json::{Value, json};
use server_core::{
    journal::{Trust, Verdict, verify_export},
    ports::{Commit, Write},
};
use testkit::ledger_law::nouns;

const USER: &str = "kim@example.org";

async fn redact(world: &World, asked: &Value) -> (u16, Value) {
    post(world, "/v1/journal/redact", asked).await
}

async fn commit(world: &World, unit: Commit) -> u64 {
    world.server.service.ports().ledger.commit(unit).await.unwrap().first().0
}

/// A task for a person, in this state, with the record of its start; answers the record's position.
async fn task(world: &World, n: u64, state: TaskState) -> (TaskId, u64) {
    let over = state == TaskState::Ended;
    let task = Task {
        user: Some(USER.into()),
        intent: format!("work {n}"),
        state,
        epoch: Epoch(1),
        end_reason: over.then_some(EndReason::Completed),
        ended_at: over.then_some(nouns::at(1)),
        ..nouns::task(n)
    };
    let record = Record::new(world.server.service.now(), "task.started")
        .task(task.id)
        .user(Some(USER.into()))
        .intent(&task.intent);
    (task.id, commit(world, Commit::of(record).put(Write::Task(task))).await)
}

fn asked(positions: &[u64]) -> Value {
    json!({ "positions": positions, "fields": ["user", "intent"], "reason": "a request under the law" })
}

#[tokio::test]
async fn what_an_operator_redacts_is_nowhere_any_more_and_the_journal_says_who_and_why() {
    let world = World::start().await;
    let (id, position) = task(&world, 1, TaskState::Ended).await;
    let (other, kept) = task(&world, 2, TaskState::Ended).await;
    let archive = &world.server.service.ports().archive;

    let (status, answer) = redact(&world, &asked(&[position])).await;
    assert_eq!(status, 200, "{answer}");
    let values = json!([{ "position": position, "field": "user" }, { "position": position, "field": "intent" }]);
    assert_eq!(answer["redacted"], values);

    let gone = archive.task(id).await.unwrap().unwrap();
    assert_eq!((gone.user, gone.intent.as_str()), (None, ""));
    assert_eq!(archive.task(other).await.unwrap().unwrap().user.as_deref(), Some(USER), "another task is left alone");
    let (_, record) = get(&world, &format!("/v1/journal/{position}")).await;
    let (_, found) = get(&world, &format!("/v1/journal?user={USER}")).await;
    let (_, export) = get(&world, "/v1/journal/export").await;
    assert!(!record.contains(USER) && !record.contains("work 1"), "{record}");
    assert!(found.contains(&format!("\"position\":{kept}")) && !found.contains(&format!("\"position\":{position},")));
    assert!(!export.contains("work 1") && export.contains("work 2"));
    assert!(matches!(verify_export(export.lines(), &Trust::default()), Ok(Verdict::Ok { .. })));
    let at = answer["position"].as_u64().unwrap();
    let said: Value = serde_json::from_str(&get(&world, &format!("/v1/journal/{at}")).await.1).unwrap();
    assert_eq!(said["kind"], "journal.redacted");
    assert_eq!(said["intent"], "a request under the law");
    assert_eq!(said["detail"]["positions"], json!({ "intent": [position], "user": [position] }));

    // The reason is a person's words, too.
    let (status, answer) = redact(&world, &asked(&[at])).await;
    assert_eq!((status, answer["redacted"].clone()), (200, json!([{ "position": at, "field": "intent" }])));
}

#[tokio::test]
async fn what_is_still_in_use_is_not_redacted() {
    let world = World::start().await;
    let (id, position) = task(&world, 1, TaskState::Active).await;
    let (status, problem) = redact(&world, &asked(&[position])).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem.to_string().contains(&format!("errand task revoke {id}")), "{problem}");

    let hold = nouns::hold(7, Scope::User(USER.into()));
    let made = server_core::hold::record("created", &hold, None, world.server.service.now());
    let position = commit(&world, Commit::of(made).put(Write::Hold(hold.clone()))).await;
    let (status, problem) = redact(&world, &asked(&[position])).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem.to_string().contains("errand hold release"), "{problem}");
    world.server.service.hold_release(hold.id, None).await.unwrap();
    assert_eq!(redact(&world, &asked(&[position])).await.0, 200, "released");
}

#[tokio::test]
async fn a_redaction_that_is_not_wholly_right_erases_nothing() {
    let world = World::start().await;
    let (id, position) = task(&world, 1, TaskState::Ended).await;
    let with = |name: &str, value: Value| {
        let mut asked = asked(&[position]);
        asked[name] = value;
        asked
    };
    for (case, wrong, status) in [
        ("a record without such values", with("positions", json!([position, 0])), 400),
        ("a position beyond the end", with("positions", json!([position, 1_000_000])), 404),
        ("no position", with("positions", json!([])), 400),
        ("a position twice", with("positions", json!([position, position])), 400),
        ("more positions than one record names", with("positions", json!((0..501).collect::<Vec<u64>>())), 400),
        ("a field that is none", with("fields", json!(["user", "workload"])), 400),
        ("no field", with("fields", json!([])), 400),
        ("no reason", with("reason", json!(" ")), 400),
        ("a reason of two lines", with("reason", json!("a\nb")), 400),
        ("a reason beyond its bound", with("reason", json!("a".repeat(1025))), 400),
    ] {
        let (got, problem) = redact(&world, &wrong).await;
        assert_eq!(got, status, "{case}: {problem}");
    }
    let task = world.server.service.ports().archive.task(id).await.unwrap().unwrap();
    assert_eq!((task.user.as_deref(), task.intent.as_str()), (Some(USER), "work 1"));
    assert_eq!(redact(&world, &with("reason", json!("a".repeat(1024)))).await.0, 200);
    assert_eq!(redact(&world, &asked(&[position])).await.0, 400, "once");
}
