//! The identity cache, driven as the daemon drives it.

use agent_core::cache::{Fetched, IdentityCache, Limits, Selectors, Update, Work};
use proptest::{prelude::*, test_runner::RngSeed};
use proto_types::{Entry, EntryId, Selector, Timestamp, id::parse_spiffe_id};
use std::{collections::BTreeSet, sync::Arc};

const fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn selectors(list: &[&str]) -> Selectors {
    list.iter().map(|s| Selector::parse(s).unwrap()).collect()
}

fn entry(id: &str, wants: &[&str]) -> Entry {
    Entry {
        id: EntryId::new(id).unwrap(),
        spiffe_id: parse_spiffe_id(&format!("spiffe://example.org/{id}")).unwrap(),
        parent_id: parse_spiffe_id("spiffe://example.org/spire/agent/x").unwrap(),
        selectors: selectors(wants).into_iter().collect(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: vec![],
        dns_names: vec![],
        hint: String::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: 0,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision: 1,
        created_at: at(0),
    }
}

fn cache(limits: Limits) -> IdentityCache<&'static str> {
    IdentityCache::new(limits)
}

/// An hour's SVID for each piece of work.
fn answer(cache: &mut IdentityCache<&'static str>, work: &[Work], svid: &'static str, now: Timestamp) {
    for w in work {
        let not_after = at(now.as_secs() + 3600);
        assert!(cache.svid_arrived(&w.entry.id, w.ticket, Fetched { svid, not_before: now, not_after }, now, 0.5));
    }
}

fn seen(cache: &IdentityCache<&'static str>, who: &[&str], now: Timestamp) -> Vec<(String, &'static str)> {
    let view = cache.view(&selectors(who), now);
    view.identities.iter().map(|i| (i.entry.id.to_string(), i.svid)).collect()
}

#[test]
fn an_entry_is_fetched_served_renewed_at_half_its_life_and_never_served_past_its_end() {
    let mut c = cache(Limits::default());
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    assert_eq!(c.view(&selectors(&["unix:uid:7"]), at(0)).pending, 1);
    let work = c.due(at(0), 500);
    assert_eq!(work.len(), 1);
    assert!(!work[0].renewal && c.due(at(0), 500).is_empty(), "one fetch at a time");
    answer(&mut c, &work, "one", at(0));
    assert_eq!(seen(&c, &["unix:uid:7", "unix:gid:7"], at(1)), [("a".to_string(), "one")]);
    assert!(seen(&c, &["unix:gid:7"], at(1)).is_empty());

    assert_eq!(c.wake_at(), Some(at(1800)));
    assert!(c.due(at(1799), 500).is_empty());
    let renewal = c.due(at(1800), 500);
    assert!(renewal[0].renewal);
    c.svid_failed(&renewal[0].entry.id, renewal[0].ticket, at(1800), 0.0);
    assert_eq!(seen(&c, &["unix:uid:7"], at(3599)).len(), 1, "fail static until NotAfter");
    assert!(seen(&c, &["unix:uid:7"], at(3600)).is_empty(), "and not a moment longer");
}

#[test]
fn an_svid_that_expires_unrenewed_is_taken_from_open_streams() {
    let mut c = cache(Limits::default());
    let stream = c.subscribe(Arc::new(selectors(&["unix:uid:7"])), at(0));
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    let work = c.due(at(0), 500);
    answer(&mut c, &work, "one", at(0));
    assert_eq!(c.take_dirty(), [stream]);
    assert_eq!(c.due(at(3599), 500).len(), 1, "handed out, never answered");
    assert!(c.take_dirty().is_empty());
    c.due(at(3600), 500);
    assert_eq!(c.take_dirty(), [stream]);
}

#[test]
fn a_change_wakes_the_streams_it_concerns_and_no_other() {
    let mut c = cache(Limits::default());
    let seven = c.subscribe(Arc::new(selectors(&["unix:uid:7", "unix:gid:1"])), at(0));
    let eight = c.subscribe(Arc::new(selectors(&["unix:uid:8", "unix:gid:1"])), at(0));
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    assert_eq!(c.take_dirty(), [seven]);
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    assert!(c.take_dirty().is_empty(), "the same again is no change");
    c.apply(Update::Put(entry("a", &["unix:uid:8"])), at(0)).unwrap();
    assert_eq!(c.take_dirty(), [seven, eight], "it left one and came to the other");
    c.apply(Update::Put(entry("b", &["unix:gid:1"])), at(0)).unwrap();
    assert_eq!(c.take_dirty(), [seven, eight]);
    c.unsubscribe(eight, at(0));
    c.apply(Update::Delete(EntryId::new("a").unwrap()), at(0)).unwrap();
    assert!(c.take_dirty().is_empty());
}

#[test]
fn a_deleted_entry_is_gone_with_the_update_and_its_late_svid_is_not_used() {
    let mut c = cache(Limits::default());
    c.apply(Update::Snapshot(vec![entry("a", &["unix:uid:7"]), entry("b", &["unix:uid:7"])]), at(0)).unwrap();
    let work = c.due(at(0), 500);
    answer(&mut c, &work[..1], "one", at(0));
    let before = c.view(&selectors(&["unix:uid:7"]), at(0)).stamp;
    c.apply(Update::Snapshot(vec![]), at(1)).unwrap();
    let late = Fetched { svid: "late", not_before: at(1), not_after: at(99) };
    assert!(!c.svid_arrived(&work[1].entry.id, work[1].ticket, late, at(1), 0.5));
    let after = c.view(&selectors(&["unix:uid:7"]), at(1));
    assert_eq!((after.identities.len(), after.pending), (0, 0));
    assert_ne!(before, after.stamp);
}

#[test]
fn a_new_name_drops_the_old_svid_at_once_and_a_new_hint_keeps_it() {
    let mut c = cache(Limits::default());
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    let work = c.due(at(0), 500);
    answer(&mut c, &work, "one", at(0));
    let hinted = Entry { hint: "db".into(), revision: 2, ..entry("a", &["unix:uid:7"]) };
    c.apply(Update::Put(hinted.clone()), at(1)).unwrap();
    assert_eq!(seen(&c, &["unix:uid:7"], at(1)).len(), 1);
    assert!(c.due(at(1), 9).is_empty());
    let named = Entry { spiffe_id: parse_spiffe_id("spiffe://example.org/other").unwrap(), ..hinted.clone() };
    c.apply(Update::Put(named), at(2)).unwrap();
    assert!(seen(&c, &["unix:uid:7"], at(2)).is_empty());
    let again = c.due(at(2), 9);
    assert_eq!(again.len(), 1);
    // It is renamed back while the fetch is under way: what comes is for a name it no longer has.
    c.apply(Update::Put(hinted), at(3)).unwrap();
    let wrong = Fetched { svid: "wrong", not_before: at(3), not_after: at(99) };
    assert!(!c.svid_arrived(&again[0].entry.id, again[0].ticket, wrong, at(3), 0.5));
    assert_eq!(c.due(at(3), 9).len(), 1);
}

#[test]
fn of_two_identities_with_one_hint_the_older_is_served() {
    let mut c = cache(Limits::default());
    let old = Entry { hint: "db".into(), created_at: at(1), ..entry("z", &["unix:uid:7"]) };
    let new = Entry { hint: "db".into(), created_at: at(2), ..entry("a", &["unix:uid:7"]) };
    c.apply(Update::Snapshot(vec![new, old, entry("plain", &["unix:uid:7"])]), at(0)).unwrap();
    let work = c.due(at(0), 9);
    answer(&mut c, &work, "s", at(0));
    let names: Vec<_> = seen(&c, &["unix:uid:7"], at(0)).into_iter().map(|(id, _)| id).collect();
    assert_eq!(names, ["plain", "z"]);
}

#[test]
fn failures_wait_longer_and_a_reconnect_ends_the_wait() {
    let mut c = cache(Limits::default());
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    let mut now = at(0);
    for _ in 0..20 {
        let work = c.due(now, 9);
        c.svid_failed(&work[0].entry.id, work[0].ticket, now, 1.0);
        let next = c.wake_at().unwrap();
        assert!(next > now && next.since(now) <= Limits::default().retry_cap);
        now = next;
    }
    let work = c.due(now, 9);
    c.svid_failed(&work[0].entry.id, work[0].ticket, now, 1.0);
    assert!(c.due(now, 9).is_empty());
    c.reconnected(now);
    assert_eq!(c.due(now, 9).len(), 1);
}

#[test]
fn beyond_the_prefetch_limit_only_what_streams_want_is_held() {
    let mut c = cache(Limits { prefetch: 2, ..Limits::default() });
    let all: Vec<_> = (0..5).map(|n| entry(&format!("e{n}"), &[&format!("unix:uid:{n}")])).collect();
    c.apply(Update::Snapshot(all), at(0)).unwrap();
    let work = c.due(at(0), 99);
    assert_eq!(work.len(), 2);
    answer(&mut c, &work, "s", at(0));
    let four = c.subscribe(Arc::new(selectors(&["unix:uid:4"])), at(1));
    let wanted = c.due(at(1), 99);
    assert_eq!(wanted.iter().map(|w| w.entry.id.as_str()).collect::<Vec<_>>(), ["e4"]);
    answer(&mut c, &wanted, "s", at(1));
    assert_eq!(c.sizes(), (5, 2, 1), "an idle one made room");
    c.unsubscribe(four, at(2));
    assert_eq!(c.sizes(), (5, 2, 0));
    c.apply(Update::Delete(EntryId::new("e4").unwrap()), at(3)).unwrap();
    assert_eq!(c.due(at(3), 99).len(), 1, "the place goes to one that waited");
}

#[test]
fn an_entry_that_is_not_prefetched_is_fetched_when_a_stream_wants_it() {
    let mut c = cache(Limits { prefetch: 2, ..Limits::default() });
    let later = Entry { disable_x509_svid_prefetch: true, ..entry("later", &["unix:uid:1"]) };
    c.apply(Update::Snapshot(vec![entry("first", &["unix:uid:1"]), later.clone()]), at(0)).unwrap();
    let work = c.due(at(0), 99);
    assert_eq!(work.iter().map(|w| w.entry.id.as_str()).collect::<Vec<_>>(), ["first"]);
    answer(&mut c, &work, "s", at(0));
    c.subscribe(Arc::new(selectors(&["unix:uid:1"])), at(1));
    let work = c.due(at(1), 99);
    assert_eq!(work.iter().map(|w| w.entry.id.as_str()).collect::<Vec<_>>(), ["later"]);
    // As soon as its entry says so it is prefetched as any other.
    let mut c = cache(Limits::default());
    c.apply(Update::Put(later.clone()), at(0)).unwrap();
    assert!(c.due(at(0), 99).is_empty());
    c.apply(Update::Put(Entry { disable_x509_svid_prefetch: false, ..later }), at(0)).unwrap();
    assert_eq!(c.due(at(0), 99).len(), 1);
}

#[test]
fn an_entry_for_a_store_of_svids_is_nobodys_on_a_socket() {
    let mut c = cache(Limits::default());
    let plain = entry("a", &["unix:uid:1"]);
    let stored = Entry { store_svid: true, ..plain.clone() };
    c.apply(Update::Snapshot(vec![stored.clone()]), at(0)).unwrap();
    assert!(c.matching(&selectors(&["unix:uid:1"])).is_empty() && c.due(at(0), 9).is_empty());
    c.apply(Update::Put(plain), at(0)).unwrap();
    assert_eq!(c.matching(&selectors(&["unix:uid:1"])).len(), 1);
    c.apply(Update::Put(stored), at(0)).unwrap();
    assert!(c.matching(&selectors(&["unix:uid:1"])).is_empty());
}

#[test]
fn more_entries_than_the_limit_change_nothing() {
    let mut c = cache(Limits { entries: 1, ..Limits::default() });
    c.apply(Update::Put(entry("a", &["unix:uid:7"])), at(0)).unwrap();
    let two = vec![entry("b", &["unix:uid:7"]), entry("c", &["unix:uid:7"])];
    assert!(c.apply(Update::Snapshot(two), at(0)).is_err());
    assert!(c.apply(Update::Put(entry("b", &["unix:uid:7"])), at(0)).is_err());
    assert_eq!(c.matching(&selectors(&["unix:uid:7"])).len(), 1);
    assert!(c.apply(Update::Snapshot(vec![entry("b", &["unix:uid:7"])]), at(0)).is_ok());
}

/// The same cases each time.
fn seeded() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeded())]
    /// The index answers what a walk over all entries would, whatever came and went before.
    #[test]
    fn matching_is_the_subset_relation(
        steps in prop::collection::vec((0usize..12, prop::collection::btree_set(0u8..6, 1..4), any::<bool>()), 1..60),
        attested in prop::collection::btree_set(0u8..6, 0..6),
    ) {
        let text = |s: &BTreeSet<u8>| s.iter().map(|n| format!("t:{n}")).collect::<Vec<_>>();
        let refs = |s: &Vec<String>| selectors(&s.iter().map(String::as_str).collect::<Vec<_>>());
        let mut c = cache(Limits { prefetch: 3, ..Limits::default() });
        let mut model = std::collections::BTreeMap::new();
        let who = refs(&text(&attested));
        let stream = c.subscribe(Arc::new(who.clone()), at(0));
        for (id, wants, delete) in &steps {
            let id = format!("e{id:02}");
            if *delete {
                model.remove(&id);
                c.apply(Update::Delete(EntryId::new(id.as_str()).unwrap()), at(0)).unwrap();
            } else {
                model.insert(id.clone(), wants.clone());
                let wants = text(wants);
                let wants: Vec<&str> = wants.iter().map(String::as_str).collect();
                c.apply(Update::Put(entry(&id, &wants)), at(0)).unwrap();
            }
            let work = c.due(at(0), 2);
            answer(&mut c, &work, "s", at(0));
            let expected: Vec<&String> = model.iter().filter(|(_, w)| w.is_subset(&attested)).map(|(id, _)| id).collect();
            let got: Vec<String> = c.matching(&who).iter().map(|e| e.id.to_string()).collect();
            prop_assert_eq!(got.iter().collect::<Vec<_>>(), expected);
            let (_, held, _) = c.sizes();
            prop_assert!(held <= 3 + got.len());
        }
        // Whatever a stream wants is fetched in the end, beyond the prefetch limit too.
        loop {
            let work = c.due(at(0), 9);
            if work.is_empty() { break }
            answer(&mut c, &work, "s", at(0));
        }
        let view = c.view(&who, at(0));
        prop_assert_eq!(view.pending, 0);
        c.unsubscribe(stream, at(0));
        let (_, held, _) = c.sizes();
        prop_assert!(held <= 3);
    }
}
