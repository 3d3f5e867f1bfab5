//! The life of keys over simulated years (invariant 14): whatever the clock does, after each tick every use has one
//! usable signer, everything signed and unexpired has its key published, and no key signs unseen while another can.

use proptest::prelude::*;
use proto_types::{KeyUse, Timestamp};
use server_core::{
    authority::{AuthorityView, KeyAction, Lifetimes, plan},
    ports::AuthorityState::{Active, Old, Prepared},
};
use std::time::Duration;

const MINUTE: u64 = 60;
const DAY: u64 = 86_400;

#[derive(Default)]
struct House {
    rows: Vec<AuthorityView>,
    made: u32,
    /// (key, end) of everything signed.
    signed: Vec<(String, Timestamp)>,
}

impl House {
    fn usable_signers(&self, key_use: KeyUse, now: Timestamp) -> Vec<&AuthorityView> {
        self.rows.iter().filter(|r| r.key_use == key_use && r.state == Active && r.is_usable(now)).collect()
    }

    fn carry_out(&mut self, action: &KeyAction, lifetimes: &Lifetimes, now: Timestamp) {
        match action {
            KeyAction::Create { key_use, state } => {
                self.made += 1;
                let id = format!("k{}", self.made);
                let not_after = now.plus(lifetimes.of(*key_use));
                self.rows.push(AuthorityView {
                    id: id.clone(),
                    key_use: *key_use,
                    state: Prepared,
                    created_at: now,
                    not_after,
                });
                if *state == Active {
                    self.activate(*key_use, &id);
                }
            }
            KeyAction::Activate { key_use, id } => {
                let seen =
                    self.rows.iter().find(|r| r.id == *id).unwrap().created_at.plus(lifetimes.refresh_hint) <= now;
                assert!(
                    seen || self.usable_signers(*key_use, now).is_empty(),
                    "{id} signs before anybody could see it"
                );
                self.activate(*key_use, id);
            }
            KeyAction::Drop { id, .. } => self.rows.retain(|r| r.id != *id),
        }
    }

    fn activate(&mut self, key_use: KeyUse, id: &str) {
        for row in self.rows.iter_mut().filter(|r| r.key_use == key_use && (r.state == Active || r.id == id)) {
            row.state = if row.id == id { Active } else { Old };
        }
    }

    fn tick(&mut self, lifetimes: &Lifetimes, now: Timestamp, svid_ttl: Duration) {
        for round in 0.. {
            let due = plan(now, &self.rows, lifetimes);
            if due.is_empty() {
                break;
            }
            assert!(round < 4, "a plan comes to rest: {due:?}");
            due.iter().for_each(|a| self.carry_out(a, lifetimes, now));
        }
        for key_use in KeyUse::ALL {
            let signers = self.usable_signers(key_use, now);
            assert_eq!(signers.len(), 1, "{key_use:?} at {now}");
            let end = now.plus(svid_ttl).min(signers[0].not_after);
            let id = signers[0].id.clone();
            self.signed.push((id, end));
        }
        self.signed.retain(|(_, end)| *end > now);
        for (key, end) in &self.signed {
            assert!(
                self.rows.iter().any(|r| r.id == *key),
                "{key} is gone, what it signed ends at {end}, now is {now}"
            );
        }
        assert!(self.rows.len() <= 64, "keys pile up: {}", self.rows.len());
    }
}

fn step() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 10i64..600,
        4 => 600i64..(6 * 3600),
        2 => (6 * 3600i64)..(3 * DAY as i64),
        1 => (3 * DAY as i64)..(400 * DAY as i64),
        1 => -(2 * 3600i64)..0,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn there_is_always_one_usable_signer_and_no_key_goes_too_early(
        ca in MINUTE..(60 * DAY),
        jwt in MINUTE..(60 * DAY),
        hint in 1u64..600,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let lifetimes = Lifetimes {
            ca_ttl: Duration::from_secs(ca),
            jwt_key_ttl: Duration::from_secs(jwt),
            refresh_hint: Duration::from_secs(hint),
        };
        let mut house = House::default();
        let mut now = Timestamp::from_secs(1_800_000_000);
        for secs in steps {
            house.tick(&lifetimes, now, Duration::from_secs(3600));
            now = Timestamp::from_millis(now.as_millis() + secs * 1000);
        }
    }
}

fn row(id: &str, state: server_core::ports::AuthorityState, from: u64, to: u64) -> AuthorityView {
    let at = |secs| Timestamp::from_secs(i64::try_from(secs).unwrap());
    AuthorityView { id: id.into(), key_use: KeyUse::X509, state, created_at: at(from), not_after: at(to) }
}

fn x509_steps(now: u64, rows: &[AuthorityView]) -> Vec<KeyAction> {
    let mut steps = plan(Timestamp::from_secs(i64::try_from(now).unwrap()), rows, &Lifetimes::default());
    steps.retain(|a| {
        matches!(a, KeyAction::Create { key_use, .. } | KeyAction::Activate { key_use, .. } | KeyAction::Drop { key_use, .. }
            if *key_use == KeyUse::X509)
    });
    steps
}

#[test]
fn a_day_long_ca_is_prepared_at_half_and_relieved_at_a_sixth_of_its_life() {
    let active = row("a", Active, 0, DAY);
    assert_eq!(x509_steps(DAY / 2 - 1, std::slice::from_ref(&active)), []);
    let prepare = KeyAction::Create { key_use: KeyUse::X509, state: Prepared };
    assert_eq!(x509_steps(DAY / 2, std::slice::from_ref(&active)), [prepare]);
    let both = [active, row("b", Prepared, DAY / 2, DAY / 2 + DAY)];
    assert_eq!(x509_steps(DAY - 4 * 3600 - 1, &both), []);
    let activate = KeyAction::Activate { key_use: KeyUse::X509, id: "b".into() };
    assert_eq!(x509_steps(DAY - 4 * 3600, &both), [activate]);
}

#[test]
fn a_key_prepared_late_waits_for_the_refresh_hint_while_the_signer_lasts_and_not_longer() {
    let rows = [row("a", Active, 0, DAY), row("b", Prepared, DAY - 60, 2 * DAY)];
    assert_eq!(x509_steps(DAY - 1, &rows), []);
    let activate = KeyAction::Activate { key_use: KeyUse::X509, id: "b".into() };
    assert_eq!(x509_steps(DAY, &rows), [activate]);
}

#[test]
fn an_old_key_stays_for_a_day_after_its_end() {
    let rows = [row("o", Old, 0, DAY), row("a", Active, DAY, 10 * DAY)];
    assert_eq!(x509_steps(2 * DAY - 1, &rows), []);
    assert_eq!(x509_steps(2 * DAY, &rows), [KeyAction::Drop { key_use: KeyUse::X509, id: "o".into() }]);
}
