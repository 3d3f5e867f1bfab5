//! Rooms and arrows (architecture, section 3): a crate depends on lower layers only, never on one of its own.

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::{collections::BTreeMap, path::Path};

/// Every crate of the house, from the floor up. Tests and benches stand outside: nothing may depend on them.
const LAYERS: [&[&str]; 6] = [
    &["proto-types", "proto-tlog"],
    &["server-core", "agent-core", "proto-wire", "proto-jose", "proto-tls", "proto-http"],
    &[
        "server-service",
        "server-store",
        "server-authority",
        "server-policy",
        "server-targets",
        "server-sinks",
        "agent-workload",
        "proto-attest",
    ],
    &["server-api"],
    &["server-daemon", "agent-daemon"],
    &["cli"],
];
/// The kit of tests knows nouns and ports; a crate may have it for its tests only.
const KIT: &str = "testkit";
/// Crates of one layer that one of the same layer may use all the same, each with its reason.
const BESIDE: [(&str, &str, &str); 1] =
    [("proto-http", "proto-tls", "a connection made outward verifies by the house's clock too")];

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|names| names.contains(&name))
}

#[test]
fn arrows_point_downward_only() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().other_options(["--offline".into()]).exec();
    let metadata = metadata.unwrap();
    let house: BTreeMap<&str, _> = metadata.packages.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut wrong = Vec::new();
    for (name, package) in &house {
        let folder = package.manifest_path.parent().unwrap().strip_prefix(&metadata.workspace_root).unwrap();
        if folder.as_str().replace('/', "-") != *name {
            wrong.push(format!("{name} lies in {folder}: a package is called as its folder"));
        }
        for arrow in package.dependencies.iter().filter(|d| house.contains_key(d.name.as_str())) {
            if let Some(why) = judge(name, &arrow.name, arrow.kind) {
                wrong.push(format!("{name} -> {}: {why}", arrow.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(from: &str, to: &str, kind: DependencyKind) -> Option<&'static str> {
    let outside = |name: &str| layer(name).is_none() && name != KIT;
    if outside(to) {
        return Some("nothing depends on tests and benches; a new crate is given its layer here");
    }
    if outside(from) || (kind == DependencyKind::Development && to == KIT) {
        return None;
    }
    if to == KIT {
        return Some("the kit is for tests: a dev-dependency");
    }
    if BESIDE.iter().any(|(a, b, _)| (*a, *b) == (from, to)) {
        return None;
    }
    // The kit stands beside what is above nouns and ports.
    let height = |name: &str| layer(name).unwrap_or(2);
    (height(to) >= height(from)).then_some("an arrow points to a lower layer only")
}
