//! Lists and counts: what a filter means, what a mask leaves, and pages.

use crate::world::{World, entry, id, selector};
use proto_wire::spire::api::{
    server::{
        agent::v1::{ListAgentsRequest, list_agents_request},
        entry::v1::{CountEntriesRequest, ListEntriesRequest, count_entries_request, list_entries_request::Filter},
    },
    types::{
        AgentMask, Entry, EntryMask, FederatesWithMatch, SelectorMatch, Spiffeid, federates_with_match,
        selector_match::MatchBehavior,
    },
};
use tonic::Code;

fn by(selectors: &[&str], how: MatchBehavior) -> Filter {
    let selectors = selectors.iter().map(|s| selector(s)).collect();
    Filter { by_selectors: Some(SelectorMatch { selectors, r#match: how.into() }), ..Filter::default() }
}

/// The ids that a filter finds; the count must say the same.
async fn found(world: &World, filter: Filter) -> Result<Vec<String>, Code> {
    let count = count_entries_request::Filter {
        by_spiffe_id: filter.by_spiffe_id.clone(),
        by_parent_id: filter.by_parent_id.clone(),
        by_selectors: filter.by_selectors.clone(),
        by_federates_with: filter.by_federates_with.clone(),
        by_hint: filter.by_hint.clone(),
        by_downstream: filter.by_downstream,
    };
    let count = world.entries().count_entries(CountEntriesRequest { filter: Some(count) }).await;
    let request = ListEntriesRequest { filter: Some(filter), ..ListEntriesRequest::default() };
    let list = world.entries().list_entries(request).await.map_err(|e| e.code())?.into_inner();
    assert_eq!(usize::try_from(count.unwrap().into_inner().count).unwrap(), list.entries.len());
    Ok(list.entries.into_iter().map(|e| e.id).collect())
}

async fn three(world: &World) {
    let of = |name: &str, list: &[&str]| Entry {
        id: name.into(),
        selectors: list.iter().map(|s| selector(s)).collect(),
        ..entry(&format!("/{name}"))
    };
    let (a, ab) = (of("a", &["x:a"]), of("ab", &["x:a", "x:b"]));
    let abc = Entry { hint: "all".into(), downstream: true, ..of("abc", &["x:a", "x:b", "x:c"]) };
    world.create(vec![abc, a, Entry { parent_id: Some(id("/spire/server")), ..ab }]).await;
}

#[tokio::test]
async fn a_filter_by_selectors_means_exactly_these_a_part_all_or_any_of_them() {
    use MatchBehavior::{MatchAny as Any, MatchExact as Exact, MatchSubset as Subset, MatchSuperset as Superset};
    let world = World::start().await;
    three(&world).await;
    for (selectors, how, expected) in [
        (&["x:a", "x:b"][..], Exact, &["ab"][..]),
        (&["x:b"], Exact, &[]),
        (&["x:a", "x:b"], Subset, &["a", "ab"]),
        (&["x:b", "x:c"], Subset, &[]),
        (&["x:a", "x:b"], Superset, &["ab", "abc"]),
        (&["x:a", "x:d"], Superset, &[]),
        (&["x:b", "x:d"], Any, &["ab", "abc"]),
        (&["x:d"], Any, &[]),
        (&["x:b", "x:a", "x:a"], Exact, &["ab"]),
    ] {
        assert_eq!(found(&world, by(selectors, how)).await.unwrap(), expected, "{selectors:?} {how:?}");
    }
}

#[tokio::test]
async fn every_field_of_a_filter_narrows_and_one_that_means_nothing_is_refused() {
    let world = World::start().await;
    three(&world).await;
    let of = |id: Spiffeid| Filter { by_spiffe_id: Some(id), ..Filter::default() };
    let below = |id: Spiffeid| Filter { by_parent_id: Some(id), ..Filter::default() };
    let federated = |names: &[&str]| {
        let trust_domains = names.iter().map(ToString::to_string).collect();
        let r#match = federates_with_match::MatchBehavior::MatchAny.into();
        Filter { by_federates_with: Some(FederatesWithMatch { trust_domains, r#match }), ..Filter::default() }
    };
    let all = ["a", "ab", "abc"];
    for (filter, expected) in [
        (Filter::default(), &all[..]),
        (of(id("/ab")), &["ab"]),
        (of(id("/none")), &[]),
        (below(id("/spire/server")), &["ab"]),
        (Filter { by_hint: Some("all".into()), ..Filter::default() }, &["abc"]),
        (Filter { by_hint: Some(String::new()), ..Filter::default() }, &all),
        (Filter { by_downstream: Some(true), ..Filter::default() }, &["abc"]),
        (Filter { by_downstream: Some(false), ..Filter::default() }, &["a", "ab"]),
        (Filter { by_downstream: Some(false), ..by(&["x:b"], MatchBehavior::MatchAny) }, &["ab"]),
        (federated(&["other.test", "spiffe://third.test"]), &[]),
    ] {
        assert_eq!(found(&world, filter.clone()).await.unwrap(), expected, "{filter:?}");
    }
    let foreign = Spiffeid { trust_domain: "other.test".into(), path: "/a".into() };
    let terms = |n: usize| {
        let selectors = (0..n).map(|n| selector(&format!("x:{n}"))).collect();
        Filter { by_selectors: Some(SelectorMatch { selectors, r#match: 0 }), ..Filter::default() }
    };
    let unknown = SelectorMatch { selectors: vec![selector("x:a")], r#match: 9 };
    for (what, bad) in [
        ("a foreign id", of(foreign.clone())),
        ("a foreign parent", below(foreign)),
        ("the trust domain", of(id(""))),
        ("no selector", terms(0)),
        ("F31: 10,000 selectors", terms(10_000)),
        ("I21: an unknown match", Filter { by_selectors: Some(unknown), ..Filter::default() }),
        ("no trust domain", federated(&[])),
        ("a wrong trust domain", federated(&["OTHER"])),
        ("F31: 10,000 trust domains", federated(&["other.test"; 10_000])),
    ] {
        let request = ListEntriesRequest { filter: Some(bad), ..ListEntriesRequest::default() };
        let refused = world.entries().list_entries(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
    }
    assert_eq!(found(&world, terms(256)).await.unwrap(), [""; 0]);
}

/// F29.
#[tokio::test]
async fn pages_give_every_entry_once_and_a_mask_leaves_what_it_names() {
    let world = World::start().await;
    world.create((0..25).map(|n| Entry { id: format!("e{n:02}"), ..entry(&format!("/w{n}")) }).collect()).await;
    let mask = EntryMask { hint: true, ..EntryMask::default() };
    let page = |size: i32, token: &str| ListEntriesRequest {
        page_size: size,
        page_token: token.into(),
        output_mask: Some(mask),
        ..ListEntriesRequest::default()
    };
    let (mut ids, mut token, mut client) = (Vec::new(), String::new(), world.entries());
    loop {
        let answer = client.list_entries(page(10, &token)).await.unwrap().into_inner();
        assert!(answer.entries.iter().all(|e| *e == Entry { id: e.id.clone(), ..Entry::default() }));
        ids.extend(answer.entries.into_iter().map(|e| e.id));
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
        assert!(!ids.contains(&token), "a token is no id");
    }
    assert_eq!(ids, (0..25).map(|n| format!("e{n:02}")).collect::<Vec<_>>());
    for (size, expected) in [(0, 25), (1, 1), (i32::MAX, 25)] {
        assert_eq!(client.list_entries(page(size, "")).await.unwrap().into_inner().entries.len(), expected, "{size}");
    }
    for (size, token) in [(-1, ""), (i32::MIN, ""), (10, "e03"), (10, "1.!")] {
        let refused = client.list_entries(page(size, token)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{size} {token}");
    }
}

#[tokio::test]
async fn agents_are_found_by_what_is_known_of_them() {
    let world = World::start().await;
    let (good, bad) = (world.agent().await, world.agent().await);
    let ban = proto_wire::spire::api::server::agent::v1::BanAgentRequest { id: Some(bad.id.clone()) };
    world.agents().ban_agent(ban).await.unwrap();
    type F = list_agents_request::Filter;
    let list = async |filter: F, size: i32, mask: Option<AgentMask>| {
        let request =
            ListAgentsRequest { filter: Some(filter), page_size: size, output_mask: mask, ..Default::default() };
        world.agents().list_agents(request).await.map(|r| r.into_inner().agents)
    };
    let ids = async |filter: F| {
        let found = list(filter, 0, None).await.unwrap();
        found.into_iter().map(|a| a.id.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(F::default()).await.len(), 2);
    assert_eq!(ids(F { by_banned: Some(false), ..F::default() }).await, std::slice::from_ref(&good.id));
    assert_eq!(ids(F { by_banned: Some(true), ..F::default() }).await, std::slice::from_ref(&bad.id));
    assert_eq!(ids(F { by_can_reattest: Some(true), ..F::default() }).await, []);
    assert_eq!(ids(F { by_attestation_type: "x509pop".into(), ..F::default() }).await, []);
    assert_eq!(ids(F { by_attestation_type: "join_token".into(), ..F::default() }).await.len(), 2);
    let before = |text: &str| F { by_expires_before: text.into(), ..F::default() };
    assert_eq!(ids(before("2026-11-18T11:06:40Z")).await, []);
    assert_eq!(ids(before("2099-01-01 00:00:00 +0100 +01")).await.len(), 2);
    assert_eq!(list(before("tomorrow"), 0, None).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(list(F::default(), -1, None).await.unwrap_err().code(), Code::InvalidArgument);
    for how in [MatchBehavior::MatchSubset, MatchBehavior::MatchAny, MatchBehavior::MatchSuperset] {
        let by_selector_match = Some(SelectorMatch { selectors: vec![selector("x:a")], r#match: how.into() });
        assert_eq!(ids(F { by_selector_match, ..F::default() }).await, [], "{how:?}");
    }
    let only = list(F::default(), 1, Some(AgentMask::default())).await.unwrap();
    assert_eq!((only.len(), only[0].attestation_type.as_str(), only[0].x509svid_expires_at), (1, "", 0));
}
