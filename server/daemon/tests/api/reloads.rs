//! J19 and J20: a configuration that is read again while the server runs. What may change comes into force whole, and
//! anything else leaves everything as it was, with a word on why.

use crate::{exports::get, world::World};
use std::fs;

const PLANNED: &str = "[policy]\nfiles = [\"DIR/house.cedar\"]\n";
const PERMIT: &str = "permit (principal == Workload::\"spiffe://example.org/a\", action, resource);";
const BASTION: &str = "[[target]]\nname = \"bastion\"\nkind = \"ssh\"\nhost = \"bastion.example.org\"\n[[target.role]]\nname = \"ops\"\nprincipals = [\"ops\"]\n";

/// What is in force: the policies' texts and the targets' names.
fn in_force(world: &World) -> (Vec<String>, Vec<String>) {
    world.server.service.read(|s| {
        (
            s.policies.values().map(|p| p.text.clone()).collect(),
            s.targets.values().map(|t| t.doc.name.clone()).collect(),
        )
    })
}

/// Reads the file again with `change` made to it.
async fn reread(world: &World, change: impl Fn(String) -> String) -> Result<(), String> {
    let file = world.at("server.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, change(before.clone())).unwrap();
    let outcome = world.server.reload(&file).await.map_err(|e| e.to_string());
    fs::write(&file, before).unwrap();
    outcome
}

#[tokio::test]
async fn a_configuration_that_is_wrong_or_takes_a_restart_changes_nothing_and_its_twin_is_taken() {
    let mut world = World::start().await;
    fs::write(world.at("house.cedar"), PERMIT).unwrap();
    world = world.again(PLANNED).await;
    let before = in_force(&world);
    // What is put in place of what; an empty place is the end of the file.
    let refused = [
        ("a line that is no TOML", "", "[[target", "line "),
        ("a key that is none", "files =", "file =", "line "),
        ("another trust domain", "\"example.org\"", "\"example.com\"", "[server] trust_domain"),
        ("another store", "[admin]", "[store]\nurl = \"sqlite:///elsewhere.db\"\n[admin]", "[store] url"),
        ("an operator more", "= \"kim\"", "= \"kim\", \"4000\" = \"ann\"", "[admin] operators"),
        ("records kept for less", "", "[journal]\nkeep = \"60d\"\n", "[journal] keep"),
        ("a sink more", "", "[[journal.sink]]\nname = \"s\"\nkind = \"file\"\npath = \"/tmp/s\"\n", "[journal] sink"),
        ("another method of attesting", "", "[[node_attestor]]\nkind = \"join_token\"\n", "[[node_attestor]]"),
    ];
    for (name, instead, put, says) in refused {
        let change = |text: String| match instead {
            "" => format!("{text}{BASTION}{put}"),
            _ => format!("{}{BASTION}", text.replacen(instead, put, 1)),
        };
        let why = reread(&world, change).await.expect_err(name);
        assert!(why.contains(says), "{name}: {why}");
        assert_eq!(in_force(&world), before, "{name}");
    }
    // A policy that does not compile takes the target beside it with it.
    fs::write(world.at("house.cedar"), "permit (principal, action").unwrap();
    reread(&world, |text| format!("{text}{BASTION}")).await.expect_err("a broken policy");
    assert_eq!(in_force(&world), before);

    let records: serde_json::Value =
        serde_json::from_str(&get(&world, "/v1/journal?kind=server.reload_refused").await.1).unwrap();
    let records = records["records"].as_array().unwrap();
    assert_eq!(records.len(), refused.len() + 1);
    assert!(records.iter().any(|r| r["detail"]["why"].as_str().unwrap().contains("takes a restart")), "{records:?}");

    // The twin: the same target, and a policy that compiles.
    let denies = "forbid (principal, action, resource);";
    fs::write(world.at("house.cedar"), denies).unwrap();
    reread(&world, |text| format!("{text}{BASTION}")).await.expect("it may change");
    assert_eq!(in_force(&world), (vec![denies.to_string()], vec!["bastion".to_string()]));
    world.server.stop().await;
}
