//! Why: of an identity, of a decision, and who else could.

use serde_json::{Value, json};
use testkit::poll;
use tests::world::{SOON, World};

/// Interfaces, section 1; invariant 9.
#[tokio::test]
async fn an_identity_is_explained_by_what_matches_what_nearly_does_and_what_is_elsewhere() {
    let world = World::start().await;
    let _near = world
        .operator([
            "entry",
            "create",
            "--spiffe-id",
            &world.workload("ops"),
            "--selector",
            &world.this_user(),
            "--selector",
            "unix:user:nobody-else",
        ])
        .await;
    let elsewhere = format!("spiffe://{}/spire/agent/join_token/elsewhere", tests::world::TRUST_DOMAIN);
    let other = world
        .operator([
            "entry",
            "create",
            "--spiffe-id",
            &world.workload("other"),
            "--selector",
            &world.this_user(),
            "--parent-id",
            &elsewhere,
        ])
        .await;
    let pid = std::process::id().to_string();
    let explain = async || world.errand(["entry", "explain", "--output", "json", "--pid", &pid]).to_end().await;
    let known = async || explain().await.json()["near"].as_array().is_some_and(|near| !near.is_empty());
    poll::until("the agent knows the entries", SOON, known).await;
    let told = explain().await.exited(0).json();
    assert_eq!(told["matches"][0]["spiffe_id"], world.workload("planner"), "{told}");
    assert_eq!(told["near"][0]["missing"], "unix:user:nobody-else", "{told}");
    assert_eq!(told["elsewhere"][0]["entry"]["id"], other["id"], "{told}");
    assert!(told["elsewhere"][0]["why"].as_str().unwrap().contains(&elsewhere), "{told}");
    assert!(told["selectors"].as_array().unwrap().contains(&world.this_user().into()), "{told}");

    // On hold it gets nothing, and hears what would have matched.
    let hold = world.operator(["hold", "create", "--reason", "odd", "--workload", &world.workload("planner")]).await;
    let gone = async || explain().await.code == Some(1);
    poll::until("it gets nothing", SOON, gone).await;
    let told = explain().await.exited(1).json();
    let held =
        told["elsewhere"].as_array().unwrap().iter().find(|e| e["entry"]["spiffe_id"] == world.workload("planner"));
    assert!(held.unwrap()["why"].as_str().unwrap().contains(hold["id"].as_str().unwrap()), "{told}");
    // Without a server what the agent knows is told all the same.
    let alone = world.errand(["entry", "explain", "--pid", &pid]).env("ERRAND_SERVER_SOCKET", "/nonexistent/s.sock");
    alone.to_end().await.exited(1).said("not shown");
    world.errand(["entry", "explain", "--pid", "0"]).to_end().await.exited(2);
    world.ends_well().await;
}

const HOUSE: &str = "@id(\"readers\")\n@description(\"agents read\")\n@max_ttl(\"10m\")\n\
    permit (principal, action, resource == Role::\"orders-db/readonly\");\n\
    @id(\"closing\")\npermit (principal, action, resource == Role::\"orders-db/writer\")\n\
    when { context.intent like \"close *\" };";

/// Interfaces, section 1; invariant 6.
#[tokio::test]
async fn a_decision_is_explained_by_its_policies_and_a_role_by_everyone_who_could_have_it() {
    let world = World::start().await;
    let _orders = world.has_orders_db().await;
    world.permits(HOUSE).await;
    let planner = world.workload("planner");
    let explain = async |args: &[&str], code| -> Value {
        let ask = ["policy", "explain", "--output", "json", "--workload", &planner];
        world.errand(ask).args(args.iter().copied()).to_end().await.exited(code).json()
    };
    let told = explain(&["--grant", "orders-db/readonly"], 0).await;
    let [start, exchange] = &told["answers"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&start["action"], &exchange["action"]), (&json!("start_task"), &json!("exchange")));
    assert_eq!((&start["outcome"], &start["max_ttl"]), (&json!("permit"), &json!("10m")), "{told}");
    assert_eq!(start["policies"][0]["id"], "readers", "{told}");
    assert_eq!(start["policies"][0]["document"], "house", "{told}");
    assert!(start["policies"][0]["text"].as_str().unwrap().contains("orders-db/readonly"), "{told}");
    assert!(start["assumed"]["selectors"].as_array().unwrap().contains(&world.this_user().into()), "{told}");

    let writer = ["--grant", "orders-db/writer", "--action", "exchange"];
    let denied = explain(&writer, 77).await;
    assert_eq!(denied["answers"][0]["outcome"], "deny");
    explain(&[&writer[..], &["--intent", "close the books"]].concat(), 0).await;
    world
        .errand(["policy", "explain", "--workload", &world.workload("nobody")])
        .to_end()
        .await
        .exited(1)
        .said("no entry");

    let who = async |args: &[&str]| world.operator(["policy", "who-can"].into_iter().chain(args.iter().copied())).await;
    assert_eq!(who(&["orders-db/writer"]).await["paths"], json!([]));
    let paths = who(&["orders-db/writer", "--intent", "close the books"]).await;
    assert_eq!(
        (&paths["paths"][0]["workload"], &paths["paths"][0]["policies"]),
        (&json!(planner), &json!(["closing"]))
    );
    for n in 0..3 {
        world.register(&format!("n{n}"), &world.this_user()).await;
    }
    let all = who(&["orders-db/readonly", "--all"]).await;
    assert_eq!(all["paths"].as_array().unwrap().len(), 4, "{all}");
    assert_eq!(all["paths"][0]["max_ttl"], "10m", "{all}");
    let some = who(&["orders-db/readonly", "--limit", "2"]).await;
    assert!(some["paths"].as_array().unwrap().len() == 2 && some["next"].is_string(), "{some}");
    world.errand(["policy", "who-can", "orders-db/nothing"]).to_end().await.exited(1);

    // A hold refuses what policy permits.
    let hold = world.operator(["hold", "create", "--reason", "odd", "--target", "orders-db"]).await;
    let held = explain(&["--grant", "orders-db/readonly"], 77).await;
    assert_eq!((&held["answers"][0]["outcome"], &held["answers"][0]["hold"]), (&json!("held"), &hold["id"]));
    let table = world.errand(["policy", "who-can", "orders-db/readonly"]).to_end().await.exited(0);
    assert!(table.stdout.contains("ON HOLD") && table.stdout.contains("yes"), "{}", table.stdout);
    world.ends_well().await;
}
