//! Who is in a task, on hand-made parent chains.

use agent_core::membership::{MAX_CHAIN, Membership, MembershipError, Namespaces, ProcFacts, Registry, innermost};
use proto_types::TaskId;

const HERE: Option<Namespaces> = Some(Namespaces { user: 1, pid: 2 });

fn task(n: u128) -> TaskId {
    TaskId::new(uuid::Uuid::from_u128(n))
}

/// `pid` started at `10 * pid`, so that a child is younger than its parent.
fn process(pid: i32, ppid: i32) -> ProcFacts {
    let start_time = 10 * u64::try_from(pid).unwrap();
    ProcFacts { pid, start_time, ppid, uids: [1000; 4], gids: [1000; 4], namespaces: HERE }
}

/// 40 → 30 → 20 → 1.
fn chain() -> Vec<ProcFacts> {
    vec![process(40, 30), process(30, 20), process(20, 1), process(1, 0)]
}

fn at(roots: &[(u128, ProcFacts)]) -> Registry {
    let mut registry = Registry::new();
    for (id, facts) in roots {
        registry.start(task(*id), facts.clone()).unwrap();
    }
    registry
}

fn decide(registry: &Registry, chain: &[ProcFacts]) -> Result<Membership, MembershipError> {
    innermost(registry, chain, chain)
}

#[test]
fn the_innermost_of_two_nested_tasks_is_the_callers() {
    let nested = at(&[(1, process(20, 1)), (2, process(30, 20))]);
    assert_eq!(decide(&nested, &chain()), Ok(Membership::Member(task(2))));
    assert_eq!(decide(&nested, &chain()[2..]), Ok(Membership::Member(task(1))));
    assert_eq!(decide(&nested, &chain()[3..]), Ok(Membership::Outside));
}

#[test]
fn a_chain_may_stop_at_a_root_but_not_before_the_first_process() {
    let one = at(&[(1, process(20, 1))]);
    assert_eq!(decide(&one, &chain()[..3]), Ok(Membership::Member(task(1))));
    assert_eq!(decide(&one, &chain()[..2]), Err(MembershipError::Broken { pid: 30 }));
    assert_eq!(decide(&one, &[]), Err(MembershipError::Broken { pid: 0 }));
}

#[test]
fn a_pid_that_was_reused_is_no_root() {
    let one = at(&[(1, ProcFacts { start_time: 199, ..process(20, 1) })]);
    assert_eq!(decide(&one, &chain()), Ok(Membership::Outside));
}

#[test]
fn readings_that_differ_are_refused() {
    let one = at(&[(1, process(20, 1))]);
    let mut later = chain();
    later[0].ppid = 1;
    assert_eq!(innermost(&one, &chain(), &later), Err(MembershipError::Moved { pid: 40 }));
    assert_eq!(innermost(&one, &chain(), &chain()[..3]), Err(MembershipError::Moved { pid: 40 }));
}

#[test]
fn a_parent_younger_than_its_child_took_a_dead_parents_pid() {
    let one = at(&[(1, process(20, 1))]);
    let mut forged = chain();
    forged[1].start_time = 401;
    assert_eq!(decide(&one, &forged), Err(MembershipError::Broken { pid: 40 }));
    forged[1].start_time = 400;
    assert_eq!(decide(&one, &forged), Ok(Membership::Member(task(1))), "started within one tick");
}

#[test]
fn whoever_differs_from_the_root_anywhere_on_the_way_is_refused() {
    type Change = fn(&mut ProcFacts);
    let changes: [(&str, Change); 5] = [
        ("uids", |p| p.uids[1] = 0),
        ("uids", |p| p.uids[3] = 0),
        ("gids", |p| p.gids[2] = 0),
        ("user or PID namespaces", |p| p.namespaces = Some(Namespaces { user: 9, pid: 2 })),
        ("user or PID namespaces", |p| p.namespaces = None),
    ];
    let one = at(&[(1, process(20, 1))]);
    for (what, change) in changes {
        for place in 0..3 {
            let mut changed = chain();
            change(&mut changed[place]);
            let pid = changed[place].pid;
            assert_eq!(decide(&one, &changed), Err(MembershipError::Differs { pid, task: task(1), what }));
        }
        let mut above = chain();
        change(&mut above[3]);
        assert_eq!(decide(&one, &above), Ok(Membership::Member(task(1))), "what is above the root does not matter");
    }
}

#[test]
fn a_member_of_an_ended_task_does_not_inherit_the_outer_one() {
    let mut nested = at(&[(1, process(20, 1)), (2, process(30, 20))]);
    assert!(nested.end(&task(2)));
    assert_eq!(decide(&nested, &chain()), Ok(Membership::Ended(task(2))));
    assert_eq!(decide(&nested, &chain()[2..]), Ok(Membership::Member(task(1))));
    nested.forget(&task(2));
    assert_eq!(decide(&nested, &chain()), Ok(Membership::Member(task(1))), "its root process is gone");
}

#[test]
fn a_chain_is_followed_up_to_its_limit_and_not_beyond() {
    let long = |n: i32| -> Vec<ProcFacts> { (1..=n).rev().map(|pid| process(pid, pid - 1)).collect() };
    let none = Registry::new();
    let limit = i32::try_from(MAX_CHAIN).unwrap();
    assert_eq!(decide(&none, &long(limit)), Ok(Membership::Outside));
    assert_eq!(decide(&none, &long(limit + 1)), Err(MembershipError::TooLong { pid: limit + 1 }));
}

#[test]
fn a_process_roots_one_task_and_a_task_has_one_root() {
    let mut one = at(&[(1, process(20, 1))]);
    assert!(one.start(task(2), process(20, 1)).is_err());
    assert!(one.start(task(1), process(30, 20)).is_err());
    assert!(one.start(task(3), ProcFacts { namespaces: None, ..process(31, 20) }).is_err());
    assert!(one.start(task(2), process(30, 20)).is_ok());
}
