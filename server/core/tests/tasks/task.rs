//! What may be started, what a child gets, what ends.

use crate::fixture::*;
use proptest::prelude::*;
use proto_types::{EndReason, Epoch, Task, TaskState, Timestamp, id::parse_spiffe_id};
use server_core::{
    ports::Guard,
    task::{
        MAX_DEPTH, PathError, Ruling, StartError, StartRequest, check, descendants, end, end_tree, from_record, intent,
        path_guards, record, start,
    },
};
use std::time::Duration;

#[test]
fn an_intent_is_one_bounded_line_that_says_something() {
    assert_eq!(intent(""), Err(StartError::NoIntent));
    assert_eq!(intent(" \n\t "), Err(StartError::NoIntent));
    assert_eq!(intent("  count orders \n"), Ok("count orders".into()));
    assert_eq!(intent("count\norders"), Err(StartError::IntentControl(5)));
    assert_eq!(intent("count\0orders"), Err(StartError::IntentControl(5)));
    assert_eq!(intent("pay \u{202e}000.1"), Err(StartError::IntentControl(4)));
    assert_eq!(intent("bestellungen zählen"), Ok("bestellungen zählen".into()));
    assert_eq!(intent(&"x".repeat(1025)), Err(StartError::IntentTooLong(1025)));
    assert!(intent(&"x".repeat(1024)).is_ok());
}

#[test]
fn a_request_has_bounds() {
    let with = |change: fn(&mut StartRequest)| {
        let mut asked = request(1, &["orders-db/readonly"]);
        change(&mut asked);
        check(asked, None, NOW).map(|c| c.ttl())
    };
    assert_eq!(with(|_| ()), Ok(Duration::from_secs(900)));
    assert_eq!(with(|r| r.ttl = Some(Duration::from_millis(999))), Err(StartError::Ttl));
    assert_eq!(with(|r| r.ttl = Some(Duration::from_secs(1))), Ok(Duration::from_secs(1)));
    assert_eq!(with(|r| r.ttl = Some(Duration::from_secs(86_401))), Err(StartError::Ttl));
    assert_eq!(with(|r| r.ttl = Some(Duration::from_secs(86_400))), Ok(Duration::from_secs(86_400)));
    let twice = role("orders-db/readonly");
    assert_eq!(with(|r| r.grants.push(r.grants[0].clone())), Err(StartError::DuplicateGrant(twice)));
    let many = |r: &mut StartRequest, n: usize| r.grants = (0..n).map(|i| role(&format!("db/r{i}"))).collect();
    let mut asked = request(1, &[]);
    many(&mut asked, 17);
    assert_eq!(check(asked.clone(), None, NOW).err(), Some(StartError::TooManyGrants(17)));
    many(&mut asked, 16);
    check(asked, None, NOW).unwrap();
}

#[test]
fn nothing_is_granted_that_policy_was_not_asked_about() {
    let checked = check(request(1, &["orders-db/readonly", "bastion/ops"]), None, NOW).unwrap();
    let all = rulings(checked.asks());
    let start_with = |rulings: &[Ruling]| start(checked.clone(), rulings);
    assert_eq!(start_with(&[]), Err(StartError::Undecided));
    assert_eq!(start_with(&all[..1]), Err(StartError::Undecided));
    assert_eq!(start_with(&[all[1].clone(), all[0].clone()]), Err(StartError::Undecided));
    assert_eq!(start_with(&[all[0].clone(), all[0].clone()]), Err(StartError::Undecided));
    assert_eq!(start_with(&all).unwrap().grants.len(), 2);

    let mut denied = all.clone();
    denied[1].decision = deny();
    let why = start_with(&denied).unwrap_err();
    assert_eq!(why.to_string(), "`bastion/ops` is denied by policy: forbidden by no");

    // A task without grants is still asked about, as such.
    let bare = check(request(1, &[]), None, NOW).unwrap();
    assert_eq!(bare.asks(), [None]);
    assert_eq!(start(bare.clone(), &[]), Err(StartError::Undecided));
    assert!(start(bare.clone(), &rulings(bare.asks())).unwrap().grants.is_empty());
}

#[test]
fn a_child_gets_only_what_a_living_parent_on_its_node_has() {
    let parent = task(1, &["orders-db/readonly"], None);
    let child = |asked: StartRequest, parent: &Task| check(asked, Some(parent), NOW).map(|c| c.depth());
    assert_eq!(child(request(2, &["orders-db/readonly"]), &parent), Ok(1));
    assert_eq!(child(request(2, &[]), &parent), Ok(1));
    let wider = child(request(2, &["orders-db/owner"]), &parent);
    assert_eq!(wider, Err(StartError::NotInParent { parent: parent.id, role: role("orders-db/owner") }));

    let over = end(&parent, EndReason::Completed, NOW).unwrap();
    assert_eq!(child(request(2, &[]), &over), Err(StartError::ParentOver(parent.id)));
    let late = Task { ends_at: NOW, ..parent.clone() };
    assert_eq!(child(request(2, &[]), &late), Err(StartError::ParentOver(parent.id)));
    let elsewhere =
        StartRequest { node: parse_spiffe_id("spiffe://example.org/spire/agent/n2").unwrap(), ..request(2, &[]) };
    assert_eq!(child(elsewhere, &parent), Err(StartError::ParentElsewhere(parent.id)));
    let of_kim = Task { user: Some("kim".into()), ..parent.clone() };
    let for_lee = StartRequest { user: Some("lee".into()), ..request(2, &[]) };
    assert_eq!(child(for_lee, &of_kim), Err(StartError::OtherUser(parent.id)));
    assert_eq!(check(request(2, &[]), Some(&of_kim), NOW).unwrap().request().user.as_deref(), Some("kim"));
}

#[test]
fn tasks_nest_eight_deep_and_not_nine() {
    let mut line = vec![task(0, &["orders-db/readonly"], None)];
    for n in 1..=u64::from(MAX_DEPTH) {
        line.push(task(n, &["orders-db/readonly"], line.last()));
    }
    let last = line.last().unwrap();
    assert_eq!((last.depth, last.root), (8, line[0].id));
    assert_eq!(check(request(9, &[]), Some(last), NOW).err(), Some(StartError::TooDeep));
    assert_eq!(path_guards(last, |id| line.iter().find(|t| t.id == id)).unwrap().len(), 9);
}

#[test]
fn a_commit_in_a_task_is_guarded_by_its_whole_path() {
    let root = task(1, &["orders-db/readonly"], None);
    let child = task(2, &["orders-db/readonly"], Some(&root));
    let leaf = task(3, &["orders-db/readonly"], Some(&child));
    let all = [root.clone(), child.clone(), leaf.clone()];
    let guards = path_guards(&leaf, |id| all.iter().find(|t| t.id == id)).unwrap();
    let live = |t: &Task| Guard::TaskLive(t.id, Epoch(1));
    assert_eq!(guards, [live(&leaf), live(&child), live(&root)]);

    assert_eq!(path_guards(&leaf, |_| None::<Task>), Err(PathError::Unknown(child.id)));
    let over = end(&root, EndReason::Revoked, NOW).unwrap();
    let find = |id| if id == root.id { Some(over.clone()) } else { all.iter().find(|t| t.id == id).cloned() };
    assert_eq!(path_guards(&leaf, find), Err(PathError::NotLive(root.id)));
    // A row that points to itself does not hold the walk.
    let looped = Task { parent: Some(leaf.id), ..leaf.clone() };
    assert_eq!(path_guards(&looped, |_| Some(looped.clone())), Err(PathError::Broken(leaf.id)));
    // Nor does a path to another root pass.
    let stray = Task { root: task_id(9), ..root };
    assert_eq!(path_guards(&stray, |_| None::<Task>), Err(PathError::Broken(stray.id)));
}

#[test]
fn what_is_below_ends_with_its_parent() {
    let root = task(1, &["orders-db/readonly"], None);
    let left = task(2, &[], Some(&root));
    let right = end(&task(3, &[], Some(&root)), EndReason::Completed, NOW).unwrap();
    let leaf = task(4, &[], Some(&left));
    let other = task(5, &[], None);
    let all = [leaf.clone(), other.clone(), right.clone(), left.clone(), root.clone()];
    assert_eq!(descendants(&all, root.id), [left.id, right.id, leaf.id]);
    let ended = end_tree(&all, root.id, EndReason::Revoked, NOW).unwrap();
    let said: Vec<_> = ended.iter().map(|t| (t.id, t.end_reason.unwrap())).collect();
    let by_parent = EndReason::ParentEnded;
    assert_eq!(said, [(root.id, EndReason::Revoked), (left.id, by_parent), (leaf.id, by_parent)]);
    assert!(ended.iter().all(|t| t.epoch == Epoch(2) && t.ended_at == Some(NOW) && t.state == TaskState::Ended));

    let again = end(&ended[0], EndReason::Deadline, NOW).unwrap_err();
    assert_eq!(again.reason, Some(EndReason::Revoked));
    assert_eq!(end_tree(&all, right.id, EndReason::Revoked, NOW).unwrap_err().reason, Some(EndReason::Completed));
}

#[test]
fn a_record_carries_the_whole_task_and_its_words_once() {
    let task = Task { user: Some("kim".into()), ..task(1, &["orders-db/readonly"], None) };
    let record = record("started", &task, NOW, None);
    assert_eq!(record.kind, "task.started");
    assert_eq!(from_record(&record), Some(task.clone()));
    let detail = record.detail.to_string();
    assert!(!detail.contains("kim") && !detail.contains(&task.intent), "{detail}");
}

fn subset(max: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(0..max, 0..=max).prop_map(|s| s.into_iter().collect())
}

proptest! {
    /// Invariant 6: whatever a child asks, of whatever policy says, it never has more than its parent.
    #[test]
    fn authority_only_narrows(
        parent_roles in subset(6),
        child_roles in subset(6),
        ttls in prop::collection::vec((1u64..90_000, 1u64..90_000, prop::option::of(1u64..90_000)), 12),
        lives in (1u64..86_400, 1u64..86_400),
        later in 0i64..86_400,
    ) {
        let names = ["a/a", "a/b", "b/a", "b/b", "c/a", "c/b"];
        let roles = |picked: &[usize]| picked.iter().map(|i| names[*i]).collect::<Vec<_>>();
        let secs = Duration::from_secs;
        let begin = |n: u64, roles: &[&str], ttl: u64, parent: Option<&Task>, now: Timestamp, ttls: &[(u64, u64, Option<u64>)]| {
            let asked = StartRequest { ttl: Some(secs(ttl)), ..request(n, roles) };
            let checked = check(asked, parent, now)?;
            let rule = |(role, (limit, _, policy)): (_, &(u64, u64, Option<u64>))| Ruling {
                role, role_max_ttl: secs(*limit), decision: permit(policy.map(secs)),
            };
            let rulings: Vec<_> = checked.asks().into_iter().zip(ttls.iter().cycle()).map(rule).collect();
            start(checked, &rulings)
        };
        let parent = begin(1, &roles(&parent_roles), lives.0, None, NOW, &ttls[..6]).unwrap();
        let now = NOW.plus(secs(later.unsigned_abs()));
        match begin(2, &roles(&child_roles), lives.1, Some(&parent), now, &ttls[6..]) {
            Ok(child) => {
                prop_assert!(now < parent.ends_at);
                prop_assert!(child.ends_at <= parent.ends_at && child.ends_at > now);
                prop_assert_eq!(child.root, parent.root);
                for grant in &child.grants {
                    let over = parent.grant(&grant.role);
                    prop_assert!(over.is_some_and(|g| grant.max_ttl <= g.max_ttl));
                }
            }
            Err(StartError::ParentOver(_)) => prop_assert!(now >= parent.ends_at),
            Err(StartError::NotInParent { role, .. }) => prop_assert!(parent.grant(&role).is_none()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// A guard that saw a task before its end never holds after it.
    #[test]
    fn epochs_grow(epoch in 0u64..u64::MAX / 2, reason in 0usize..4) {
        let reason = [EndReason::Completed, EndReason::Deadline, EndReason::Revoked, EndReason::ProcessGone][reason];
        let before = Task { epoch: Epoch(epoch), ..task(1, &["a/a"], None) };
        let after = end(&before, reason, NOW).unwrap();
        prop_assert!(after.epoch > before.epoch);
        prop_assert!(end(&after, EndReason::Revoked, NOW).is_err());
        prop_assert!(path_guards(&after, |_| None::<Task>).is_err());
    }
}
