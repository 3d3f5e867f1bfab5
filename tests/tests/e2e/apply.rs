//! A directory of files as the wanted state: shown, made, kept, and taken away again.

use serde_json::Value;
use tests::world::World;

/// What a plan changes, as `change kind name`.
fn changes(plan: &Value) -> Vec<String> {
    let word = |c: &Value, field: &str| c[field].as_str().unwrap().to_string();
    let line = |c: &Value| [word(c, "change"), word(c, "kind"), word(c, "name")].join(" ");
    plan["changes"].as_array().unwrap().iter().map(line).collect()
}

async fn names(world: &World, verb: [&str; 2], of: &str, field: &str) -> Vec<String> {
    let found = world.operator(verb).await;
    let mut names: Vec<_> =
        found[of].as_array().unwrap().iter().map(|t| t[field].as_str().unwrap().to_string()).collect();
    names.sort();
    names
}

/// Invariant 6: what is applied is in the journal, and nothing that was not asked for is deleted.
#[tokio::test]
async fn a_directory_is_shown_then_made_then_kept_and_prune_removes_only_what_it_made() {
    let world = World::start().await;
    let _orders = world.has_orders_db().await;
    world.permits_everything().await;
    let by_hand = names(&world, ["entry", "list"], "entries", "id").await;

    let house = world.layout.dir().join("house");
    std::fs::create_dir(&house).unwrap();
    let target = std::fs::read_to_string(world.layout.dir().join("orders-db.toml")).unwrap();
    let target = target.replacen("name = \"orders-db\"", "name = \"archive-db\"", 1);
    world.layout.write("house/archive.toml", &target);
    let entry = |hint: &str| {
        let (id, user) = (world.workload("reports"), world.this_user());
        format!("[[entry]]\nname = 'reports'\nspiffe_id = '{id}'\nselectors = ['{user}']\nhint = '{hint}'\n")
    };
    world.layout.write("house/entries.toml", &entry("first"));
    world.layout.write(
        "house/reports.cedar",
        "@id(\"reports\") forbid (principal, action, resource == Role::\"archive-db/writer\");",
    );
    let dir = house.to_str().unwrap();
    let apply = async |more: &[&str]| world.operator(["apply", "-f", dir].iter().chain(more).copied()).await;

    let made = ["create target archive-db", "create policy reports", "create entry apply.reports"];
    assert_eq!(changes(&apply(&["--dry-run"]).await), made);
    assert_eq!(names(&world, ["target", "list"], "targets", "name").await, ["orders-db"], "a dry run changes nothing");
    assert_eq!(changes(&apply(&[]).await), made);
    assert_eq!(names(&world, ["target", "list"], "targets", "name").await, ["archive-db", "orders-db"]);
    let written = world.journal("policy.applied").await.len();
    let again = apply(&[]).await;
    assert_eq!((changes(&again), &again["unchanged"]), (vec![], &3.into()));
    assert_eq!(world.journal("policy.applied").await.len(), written, "and writes nothing");

    world.layout.write("house/entries.toml", &entry("second"));
    let changed = apply(&[]).await;
    assert_eq!(changes(&changed), ["update entry apply.reports"]);
    assert_eq!(changed["changes"][0]["fields"][0]["after"], "second", "{changed}");

    // Without --prune what left the directory stays.
    std::fs::remove_file(house.join("archive.toml")).unwrap();
    std::fs::remove_file(house.join("entries.toml")).unwrap();
    std::fs::remove_file(house.join("reports.cedar")).unwrap();
    world.layout.write(
        "house/later.cedar",
        "@id(\"later\") forbid (principal, action, resource == Role::\"orders-db/writer\");",
    );
    assert_eq!(changes(&apply(&[]).await), ["create policy later"]);
    assert_eq!(names(&world, ["target", "list"], "targets", "name").await, ["archive-db", "orders-db"]);
    let gone = ["delete target archive-db", "delete policy reports", "delete entry apply.reports"];
    assert_eq!(changes(&apply(&["--prune", "--dry-run"]).await), gone);
    assert_eq!(changes(&apply(&["--prune", "--yes"]).await), gone);
    assert_eq!(names(&world, ["target", "list"], "targets", "name").await, ["orders-db"]);
    assert_eq!(names(&world, ["entry", "list"], "entries", "id").await, by_hand);
    assert_eq!(names(&world, ["policy", "show"], "policies", "id").await, ["house", "later"]);
    world.ends_well().await;
}
