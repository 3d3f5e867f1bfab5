//! FetchX509SVID: the innermost task's SVID first, then the workload's own, in the order of their entries.

use super::feed::{Scene, SceneStamp};
use crate::x509::X509Svid;
use proto_wire::workload::{X509svid, X509svidResponse};

/// The hint of a task's SVID.
pub const TASK_HINT: &str = "task";

/// `None` while no SVID is there.
pub fn render(scene: &Scene) -> Option<(SceneStamp, X509svidResponse)> {
    let mut svids = Vec::with_capacity(scene.view.identities.len() + 1);
    if let Some((_, held)) = &scene.task {
        svids.push(svid(scene, &held.svid, TASK_HINT));
    }
    for identity in &scene.view.identities {
        // Hints are unique within an answer; inside a task this one is the task's.
        let hint = match identity.entry.hint.as_str() {
            TASK_HINT if scene.task.is_some() => "",
            hint => hint,
        };
        svids.push(svid(scene, &identity.svid, hint));
    }
    let message = X509svidResponse { svids, crl: Vec::new(), federated_bundles: Default::default() };
    (!message.svids.is_empty()).then(|| (scene.stamp(), message))
}

fn svid(scene: &Scene, svid: &X509Svid, hint: &str) -> X509svid {
    X509svid {
        spiffe_id: svid.spiffe_id.to_string(),
        x509_svid: svid.chain_der(),
        x509_svid_key: svid.key.expose().clone(),
        bundle: scene.bundle.x509_der().to_vec(),
        hint: hint.into(),
    }
}
