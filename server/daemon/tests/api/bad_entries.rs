//! Group F of the bad inputs, as far as it is entries: each field bad in each way, and its nearest good neighbour accepted.

use crate::world::{TD, World, entry, id, selector};
use proto_wire::spire::api::{
    server::entry::v1::{BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, GetEntryRequest},
    types::{Entry, EntryMask, Spiffeid},
};
use tonic::Code;

/// (number, what, the bad entry, its good neighbour).
fn cases() -> Vec<(&'static str, &'static str, Entry, Entry)> {
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut e = entry("/w");
        change(&mut e);
        e
    };
    let selectors = |list: &[&str]| with(&|e| e.selectors = list.iter().map(|s| selector(s)).collect());
    let many = |n: usize| with(&|e| e.selectors = (0..n).map(|n| selector(&format!("unix:uid:{n}"))).collect());
    let dns = |name: &str| with(&|e| e.dns_names = vec![name.into()]);
    let names = |n: usize| with(&|e| e.dns_names = (0..n).map(|n| format!("n{n}.test")).collect());
    let hint = |n: usize| with(&|e| e.hint = "h".repeat(n));
    let ttl = |n: i32| with(&|e| e.x509_svid_ttl = n);
    let jwt_ttl = |n: i32| with(&|e| e.jwt_svid_ttl = n);
    let spiffe = |path: &str| with(&|e| e.spiffe_id = Some(id(path)));
    let parent = |path: &str| with(&|e| e.parent_id = Some(id(path)));
    let of = |td: &str| with(&|e| e.spiffe_id = Some(Spiffeid { trust_domain: td.into(), path: "/w".into() }));
    let named = |text: &str| with(&|e| e.id = text.into());
    let long = |n: usize| format!("unix:{}", "v".repeat(n));
    let labels = |n: usize| vec!["a"; n].join(".");
    let stored = |list: &[&str]| Entry { store_svid: true, ..selectors(list) };
    vec![
        ("F16", "no selector", selectors(&[]), selectors(&["unix:uid:1"])),
        ("F17", "a selector without a type", selectors(&[":uid:1"]), selectors(&["u:uid:1"])),
        ("F17", "a selector without a value", selectors(&["unix:"]), selectors(&["unix:u"])),
        ("F18", "10,000 selectors", many(10_000), many(64)),
        ("F18", "65 selectors", many(65), many(64)),
        ("F19", "a selector of 1 MiB", selectors(&[&long(1 << 20)]), selectors(&[&long(1024)])),
        ("F19", "a selector of 1,025 bytes", selectors(&[&long(1025)]), selectors(&[&long(1024)])),
        ("F21", "a parent that is itself", parent("/w"), parent("/w2")),
        ("F21", "a parent that is no agent", parent("/spire/agentx"), parent("/spire/agent/x")),
        ("F21", "a parent that is the trust domain", parent(""), parent("/spire/server")),
        ("F24", "a wildcard", dns("*.acme.test"), dns("x.acme.test")),
        ("F24", "256 labels", dns(&labels(256)), dns(&labels(127))),
        ("F24", "an address", dns("192.0.2.1"), dns("192-0-2-1")),
        ("F24", "a trailing dot", dns("acme.test."), dns("acme.test")),
        ("F24", "33 names", names(33), names(32)),
        (
            "F25",
            "a trust domain without a bundle",
            with(&|e| e.federates_with = vec!["other.test".into()]),
            entry("/w"),
        ),
        ("F25", "no trust domain", with(&|e| e.federates_with = vec!["https://other.test".into()]), entry("/w")),
        ("F32", "a hint of 1,025 bytes", hint(1025), hint(1024)),
        ("A37", "an agent as a workload", spiffe("/spire/agent/w"), spiffe("/spirex/agent/w")),
        ("A39", "a workload of another trust domain", of("other.test"), of(TD)),
        ("A11", "a trust domain in capitals", of("EXAMPLE.ORG"), of(TD)),
        ("A22", "a path that climbs", spiffe("/a/../b"), spiffe("/a/b")),
        ("", "no SPIFFE ID", Entry { spiffe_id: None, ..entry("/w") }, entry("/w")),
        ("", "no parent", Entry { parent_id: None, ..entry("/w") }, entry("/w")),
        ("", "a task's path", spiffe("/w/task/018f2f0c-8f6b-7c3e-8a52-0123456789ab"), spiffe("/w/task/1")),
        ("", "a negative TTL", ttl(-1), ttl(0)),
        ("", "a TTL of more than a year", ttl(31_536_001), ttl(31_536_000)),
        ("", "a negative JWT TTL", jwt_ttl(i32::MIN), jwt_ttl(0)),
        ("", "an id with a slash", named("a/b"), named("a.b")),
        ("", "an id of 256 bytes", named(&"i".repeat(256)), named(&"i".repeat(255))),
        ("", "a stored SVID with selectors of two types", stored(&["a:1", "b:1"]), stored(&["a:1", "a:2"])),
        ("F33", "an empty message", Entry::default(), entry("/w")),
    ]
}

#[tokio::test]
async fn each_bad_entry_is_refused_changes_nothing_and_its_neighbour_is_accepted() {
    let world = World::start().await;
    for (number, what, bad, good) in cases() {
        let before = world.records();
        let refused = world.try_create(vec![bad]).await.remove(0);
        let status = refused.status.unwrap();
        assert_eq!(status.code, Code::InvalidArgument as i32, "{number} {what}: {}", status.message);
        assert!((10..400).contains(&status.message.len()), "{number} {what}: {}", status.message);
        assert_eq!((refused.entry, world.records()), (None, before), "{number} {what}");
        let made = world.create(vec![good]).await;
        world.entries().batch_delete_entry(BatchDeleteEntryRequest { ids: made }).await.unwrap();
    }
}

/// F33.
#[tokio::test]
async fn a_batch_has_one_to_a_thousand_items_and_a_bad_one_costs_only_itself() {
    let world = World::start().await;
    let create = |n: usize| BatchCreateEntryRequest {
        entries: (0..n).map(|n| entry(&format!("/w{n}"))).collect(),
        output_mask: Some(EntryMask::default()),
    };
    let mut client = world.entries();
    for n in [0, 1001, 10_001] {
        let refused = client.batch_create_entry(create(n)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{n}");
        let ids = (0..n).map(|n| n.to_string()).collect();
        let refused = client.batch_delete_entry(BatchDeleteEntryRequest { ids }).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{n}");
        let entries = create(n).entries;
        let refused = client.batch_update_entry(BatchUpdateEntryRequest { entries, ..Default::default() }).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{n}");
    }
    assert_eq!(world.server.service.read(|s| s.entries.len()), 0);
    let mixed = world.try_create(vec![entry("/a"), Entry::default(), entry("/b")]).await;
    let codes: Vec<_> = mixed.iter().map(|r| r.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [0, Code::InvalidArgument as i32, 0]);
    assert_eq!(client.batch_create_entry(create(1000)).await.unwrap().into_inner().results.len(), 1000);
}

/// F21, F22.
#[tokio::test]
async fn entries_never_stand_below_themselves_and_a_parent_may_come_later() {
    let world = World::start().await;
    let below = |path: &str, parent: &str| Entry { parent_id: Some(id(parent)), id: path[1..].into(), ..entry(path) };
    // Nobody has the parent yet: agents attest, and aliases are made, after the entries that wait for them.
    world.create(vec![below("/b", "/a"), below("/c", "/b")]).await;
    let closing = world.try_create(vec![below("/a", "/c")]).await.remove(0).status.unwrap();
    assert_eq!(closing.code, Code::InvalidArgument as i32, "{}", closing.message);
    world.create(vec![below("/a", "/spire/agent/x")]).await;
    let request = BatchUpdateEntryRequest {
        entries: vec![below("/a", "/c")],
        input_mask: Some(EntryMask { parent_id: true, ..EntryMask::default() }),
        output_mask: None,
    };
    let updated = world.entries().batch_update_entry(request).await.unwrap().into_inner().results.remove(0);
    assert_eq!(updated.status.unwrap().code, Code::InvalidArgument as i32);
    let stands = world.entries().get_entry(GetEntryRequest { id: "a".into(), output_mask: None }).await.unwrap();
    assert_eq!(stands.into_inner().parent_id, Some(id("/spire/agent/x")));
}
