//! Task membership of real processes.

use super::support::{Child, Host, is_dead, is_root, pinned, skipped, until, witness};
use agent_core::{
    Caller,
    membership::{Membership, MembershipError, Registry},
};
use agent_workload::{PeerPidfd, PinnedCaller, chain, chain::ChainError, proc::Proc};
use proto_types::{Entropy, OsEntropy, TaskId, Timestamp};

fn task(registry: &mut Registry, root: &PinnedCaller) -> TaskId {
    let task = TaskId::new(OsEntropy.uuid_v7(Timestamp::from_secs(0)));
    registry.start(task, Proc(root.proc_dir()).facts().unwrap()).unwrap();
    task
}

fn decide(registry: &Registry, caller: &PinnedCaller) -> Result<Membership, ChainError> {
    chain::membership(&witness(PeerPidfd::Auto), caller, registry)
}

/// A process, its child, and both as pinned callers.
fn family(host: &Host) -> (Child, PinnedCaller, PinnedCaller) {
    let (mut parent, stream) = host.child();
    let root = pinned(&stream);
    let child: i32 = parent.order("bear").parse().unwrap();
    let member = pinned(&host.accept());
    assert_eq!(member.pid(), child);
    (parent, root, member)
}

#[tokio::test]
async fn what_descends_from_a_root_is_in_its_task_and_what_stands_beside_is_not() {
    let host = Host::new();
    let (_parent, root, member) = family(&host);
    let (_stranger, stream) = host.child();
    let mut registry = Registry::new();
    let outer = task(&mut registry, &root);
    assert_eq!(decide(&registry, &root), Ok(Membership::Member(outer)));
    assert_eq!(decide(&registry, &member), Ok(Membership::Member(outer)));
    assert_eq!(decide(&registry, &pinned(&stream)), Ok(Membership::Outside));

    let inner = task(&mut registry, &member);
    assert_eq!(decide(&registry, &member), Ok(Membership::Member(inner)));
    assert_eq!(decide(&registry, &root), Ok(Membership::Member(outer)));
    registry.end(&inner);
    assert_eq!(decide(&registry, &member), Ok(Membership::Ended(inner)));
}

#[tokio::test]
async fn a_member_whose_root_is_gone_is_in_no_task() {
    let host = Host::new();
    let (mut parent, root, member) = family(&host);
    let mut registry = Registry::new();
    let outer = task(&mut registry, &root);
    assert_eq!(decide(&registry, &member), Ok(Membership::Member(outer)));
    parent.tell("exit");
    let pid = root.pid();
    until("the root is dead", || is_dead(pid)).await;
    parent.reap();
    // The child has another parent now, or is ended with its input.
    assert_ne!(decide(&registry, &member), Ok(Membership::Member(outer)));
    assert!(decide(&registry, &root).is_err());
}

#[tokio::test]
async fn a_member_that_changes_its_uid_leaves_the_task() {
    if !is_root() {
        return skipped("changing a uid needs root");
    }
    let host = Host::new();
    let (mut parent, stream) = host.child();
    let root = pinned(&stream);
    let mut registry = Registry::new();
    let outer = task(&mut registry, &root);
    assert_eq!(decide(&registry, &root), Ok(Membership::Member(outer)));
    parent.order("setuid");
    let differs = MembershipError::Differs { pid: root.pid(), task: outer, what: "uids" };
    assert_eq!(decide(&registry, &root), Err(ChainError::Membership(differs)));
}
