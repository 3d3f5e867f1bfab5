//! Which moves a lease may make, what its records carry, when it is looked at again.

use crate::fixture::*;
use proptest::prelude::*;
use proto_types::{Lease, LeaseState, Revocability, Timestamp};
use serde_json::{Value, json};
use server_core::{
    lease::{
        self, BACKOFF_CAP, Due, INTENT_GRACE, LeaseError, Moved, NewLease, again, backoff, due, expire, found_alive,
        from_record, gone, hand, intend, lingers, mint, next_due, recover, revoke, void,
    },
    ports::{Guard, Write},
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn end() -> Timestamp {
    NOW.plus(Duration::from_secs(300))
}

fn fresh(revocability: Revocability, make: impl FnOnce(NewLease<'_>) -> Moved) -> Lease {
    let task = task(1, &["orders-db/readonly"], None);
    let role = role("orders-db/readonly");
    let (id, kind, store_id) = (lease_id(1), "postgres", "k3m9x");
    make(NewLease { id, task: &task, role, kind, store_id, revocability, expires_at: end(), attempt: None, now: NOW })
        .lease
}

fn in_state(state: LeaseState) -> Lease {
    Lease { state, ..fresh(Revocability::SessionKill, intend) }
}

const ALL: [LeaseState; 7] = [
    LeaseState::Intended,
    LeaseState::Handed,
    LeaseState::Revoking,
    LeaseState::Revoked,
    LeaseState::Lingering,
    LeaseState::Expired,
    LeaseState::Void,
];

type Move = (&'static str, fn(&Lease) -> Result<Moved, LeaseError>, LeaseState, &'static [LeaseState]);

#[test]
fn every_move_is_legal_from_its_states_and_refused_from_all_others() {
    use LeaseState::*;
    let moves: [Move; 7] = [
        ("hand", |l| hand(l, Value::Null, end(), NOW), Handed, &[Intended]),
        ("void", |l| void(l, "no such role", NOW), Void, &[Intended]),
        ("revoke", |l| revoke(l, "completed", NOW), Revoking, &[Intended, Handed]),
        ("gone", |l| gone(l, NOW), Revoked, &[Revoking]),
        ("lingers", |l| lingers(l, end(), NOW), Lingering, &[Revoking]),
        ("expire", |l| expire(l, end()), Expired, &[Lingering]),
        ("found alive", |l| found_alive(l, NOW), Revoking, &[Revoked, Expired, Void]),
    ];
    for (name, step, to, legal) in moves {
        for state in ALL {
            match step(&in_state(state)) {
                Ok(moved) => {
                    assert!(legal.contains(&state), "{name} from {state:?}");
                    assert_eq!((moved.was, moved.lease.state), (Some(state), to), "{name}");
                    assert_eq!(moved.record.kind, format!("lease.{}", to.as_str()));
                    assert_eq!(from_record(&moved.record), Some(moved.lease));
                }
                Err(why) => {
                    assert!(!legal.contains(&state), "{name} from {state:?}: {why}");
                    assert_eq!(why, LeaseError::Illegal { lease: lease_id(1), from: state, to });
                }
            }
        }
    }
}

#[test]
fn a_move_commits_its_lease_and_record_under_the_state_it_saw() {
    let intended = fresh(Revocability::SessionKill, intend);
    let handed = hand(&intended, json!({"oid": 7}), end(), NOW).unwrap();
    let unit = handed.commit();
    assert_eq!(unit.guards(), [Guard::LeaseIn(lease_id(1), LeaseState::Intended)]);
    assert!(
        matches!(unit.writes(), [Write::Lease(l)] if l.state == LeaseState::Handed && l.handle == json!({"oid": 7}).into())
    );
    let [record] = unit.records() else { panic!("one record") };
    assert_eq!(record.detail["name"], json!(intended.name));
    assert_eq!(record.detail["state"], "handed");
    assert_eq!((record.target.as_deref(), record.role.as_deref()), (Some("orders-db"), Some("readonly")));
    assert_eq!(record.credential.as_ref().map(|c| c.id.clone()), Some(lease_id(1).to_string()));
}

#[test]
fn a_record_of_a_release_says_for_whom_and_why() {
    let task = proto_types::Task { user: Some("kim".into()), ..task(1, &["orders-db/readonly"], None) };
    let moved = hand(&fresh(Revocability::Instant, intend), Value::Null, end(), NOW).unwrap().on_behalf_of(&task, None);
    assert_eq!(moved.record.user.as_deref(), Some("kim"));
    assert_eq!(moved.record.intent.as_deref(), Some("count the open orders"));
}

#[test]
fn a_credential_that_outlives_what_was_granted_is_not_handed() {
    let intended = fresh(Revocability::SessionKill, intend);
    let longer = hand(&intended, Value::Null, end().plus(SECOND), NOW);
    assert!(matches!(longer, Err(LeaseError::Outlives { .. })));
    let shorter = hand(&intended, Value::Null, end().minus(SECOND), NOW).unwrap().lease;
    assert_eq!((shorter.expires_at, next_due(&shorter)), (end().minus(SECOND), Some(end().minus(SECOND))));
}

#[test]
fn after_a_start_only_what_nobody_holds_is_revoked() {
    for state in ALL {
        let revoked = recover(&in_state(state), NOW).map(|m| m.lease.state);
        let wanted = (state == LeaseState::Intended).then_some(LeaseState::Revoking);
        assert_eq!(revoked, wanted, "{state:?}");
    }
}

#[test]
fn a_login_that_ran_out_is_still_dropped_and_what_leaves_nothing_behind_just_expires() {
    let before = end().minus(Duration::from_millis(1));
    let role = Lease { state: LeaseState::Handed, ..fresh(Revocability::SessionKill, intend) };
    assert_eq!((due(&role, before), due(&role, end())), (None, Some(Due::Revoke)));
    assert!(expire(&role, end()).is_err());
    let certificate = fresh(Revocability::TtlOnly, |new| mint(new, Value::Null));
    assert_eq!((due(&certificate, before), due(&certificate, end())), (None, Some(Due::Expire)));
    assert!(matches!(expire(&certificate, before), Err(LeaseError::NotYet { .. })));
    assert_eq!(expire(&certificate, end()).unwrap().lease.state, LeaseState::Expired);
}

#[test]
fn what_was_intended_and_forgotten_is_revoked_after_a_grace() {
    let lease = fresh(Revocability::SessionKill, intend);
    let late = NOW.plus(INTENT_GRACE);
    assert_eq!((due(&lease, late.minus(SECOND)), due(&lease, late)), (None, Some(Due::Revoke)));
    assert_eq!(due(&revoke(&lease, "deadline", NOW).unwrap().lease, NOW), Some(Due::Try));
    for state in ALL.into_iter().filter(|s| s.is_final()) {
        assert_eq!(due(&in_state(state), Timestamp::from_millis(i64::MAX)), None);
    }
}

#[test]
fn the_wait_doubles_to_its_cap_and_a_lease_is_never_given_up() {
    let waits: Vec<_> = (0..4).map(|n| backoff(n).as_millis()).collect();
    assert_eq!(waits, [250, 500, 1000, 2000]);
    assert_eq!([backoff(12), backoff(31), backoff(32), backoff(u32::MAX)], [BACKOFF_CAP; 4]);
    let mut lease = Lease { tries: u32::MAX - 1, ..in_state(LeaseState::Revoking) };
    for _ in 0..3 {
        lease = again(&lease, "connection refused", u64::MAX, NOW).unwrap();
        assert!(due(&lease, NOW.plus(BACKOFF_CAP)).is_some());
    }
    assert_eq!(lease.last_error.as_deref(), Some("connection refused"));
    let later = end().plus(lease::NEEDS_HUMAN_AFTER);
    let stuck = again(&lease, "connection refused\nno route", 0, later).unwrap();
    assert_eq!(stuck.last_error.as_deref(), Some("needs_human: connection refused no route"));
    assert_eq!(due(&stuck, later), Some(Due::Try));
}

proptest! {
    #[test]
    fn jitter_is_full_and_within_its_window(tries in 0u32..64, random: u64) {
        let lease = Lease { tries, ..in_state(LeaseState::Revoking) };
        let next = again(&lease, "x", random, NOW).unwrap();
        prop_assert!(next.due_at >= NOW && next.due_at <= NOW.plus(backoff(tries)));
        prop_assert_eq!(next.tries, tries + 1);
    }

    /// Whatever moves are tried in whatever order, a credential that may exist always has a lease that is looked at.
    #[test]
    fn no_lease_is_forgotten(steps in prop::collection::vec(0usize..7, 0..24)) {
        let mut lease = fresh(Revocability::SessionKill, intend);
        for step in steps {
            let moved = match step {
                0 => hand(&lease, Value::Null, end(), NOW),
                1 => void(&lease, "x", NOW),
                2 => revoke(&lease, "x", NOW),
                3 => gone(&lease, NOW),
                4 => lingers(&lease, end(), NOW),
                5 => expire(&lease, end()),
                _ => found_alive(&lease, NOW),
            };
            lease = moved.map_or(lease, |m| m.lease);
            prop_assert_eq!(next_due(&lease).is_none(), lease.state.is_final());
            prop_assert_eq!(&lease.name, &in_state(LeaseState::Intended).name);
        }
    }
}
