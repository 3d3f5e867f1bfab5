//! What the tests have in common: waiting until a server is at rest, and the verdict on it.

use std::{path::Path, time::Duration};
use testkit::poll;
use tests_crash::{
    check::{Violations, check},
    client,
    evidence::Evidence,
    world::World,
};

/// A server at rest has nothing more to do within this time; a revocation takes milliseconds.
pub const REST: Duration = Duration::from_secs(20);

/// Waits until every lease in the store is as `wanted`.
pub async fn all_leases(world: &World, wanted: impl Fn(&proto_types::Lease) -> bool) -> bool {
    poll::holds_within(REST, async || {
        let leases = world.sources().leases().await;
        leases.is_ok_and(|all| all.iter().all(&wanted))
    })
    .await
}

/// Whether the reconciler has nothing to do about it.
pub fn at_rest(lease: &proto_types::Lease) -> bool {
    use proto_types::LeaseState::{Intended, Revoking};
    !matches!(lease.state, Intended | Revoking)
}

/// Exports the journal and holds all accounts against each other.
pub async fn verdict(world: &World, admin: &Path) -> (Evidence, Violations) {
    client::export(world, admin).await.expect("the journal is exported");
    let evidence = Evidence::read(&world.sources()).await.expect("every account can be read");
    let violations = check(&evidence);
    (evidence, violations)
}
