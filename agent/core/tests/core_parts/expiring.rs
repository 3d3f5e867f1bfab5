//! The cache of JWT-SVIDs.

use agent_core::cache::{JwtCache, JwtKey, Lookup};
use proto_types::{Timestamp, id::parse_spiffe_id};

fn key(audiences: &[&str]) -> JwtKey {
    let id = parse_spiffe_id("spiffe://example.org/a").unwrap();
    JwtKey::new(id, audiences.iter().map(ToString::to_string).collect())
}

const fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

#[test]
fn a_token_is_fresh_to_its_half_life_and_gone_at_its_end() {
    let mut cache = JwtCache::new(8);
    cache.insert(key(&["b", "a"]), 1, at(0), at(300), 0.5);
    assert_eq!(cache.get(&key(&["a", "b", "a"]), at(149)), Lookup::Fresh(1), "order and repetition are the same key");
    assert_eq!(cache.get(&key(&["a"]), at(1)), Lookup::Missing);
    assert_eq!(cache.get(&key(&["a", "b"]), at(150)), Lookup::Aging(1));
    assert_eq!(cache.get(&key(&["a", "b"]), at(299)), Lookup::Aging(1));
    assert_eq!(cache.get(&key(&["a", "b"]), at(300)), Lookup::Missing);
    assert!(cache.is_empty(), "an expired token is not even kept");
}

#[test]
fn the_one_unused_for_longest_makes_room() {
    let mut cache = JwtCache::new(2);
    cache.insert(key(&["a"]), 1, at(0), at(300), 0.5);
    cache.insert(key(&["b"]), 2, at(0), at(300), 0.5);
    assert_eq!(cache.get(&key(&["a"]), at(1)), Lookup::Fresh(1));
    cache.insert(key(&["c"]), 3, at(0), at(300), 0.5);
    assert_eq!(cache.get(&key(&["b"]), at(1)), Lookup::Missing);
    assert_eq!(cache.get(&key(&["a"]), at(1)), Lookup::Fresh(1));
    cache.retain(|k, _| k.audiences() != ["a"]);
    assert_eq!(cache.len(), 1);
    for n in 0..1000 {
        cache.insert(key(&[&n.to_string()]), n, at(0), at(300), 0.5);
        cache.insert(key(&["c"]), n, at(0), at(300), 0.5);
    }
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.get(&key(&["c"]), at(1)), Lookup::Fresh(999));
}
