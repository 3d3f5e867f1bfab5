//! The policy of `errand dev`: one workload may have every role.

use proto_types::{PolicyDoc, SpiffeId};

/// A document that permits `workload` every role and a task without roles. For development: it says so.
pub fn dev_policy(workload: &SpiffeId) -> PolicyDoc {
    // A SPIFFE ID has no character that would need escaping in a Cedar string.
    let text = format!(
        "@id(\"dev\")\n\
         @description(\"errand dev: the user who started it may have every role\")\n\
         permit (principal == Workload::\"{workload}\", action, resource);\n"
    );
    PolicyDoc { id: "dev".into(), text, revision: 1, origin: "config".into() }
}
