//! FetchX509Bundles and FetchJWTBundles: the own trust domain's, to callers that have an identity.

use super::feed::{Scene, SceneStamp};
use proto_wire::workload::{JwtBundlesResponse, X509BundlesResponse};

pub fn x509(scene: &Scene) -> Option<(SceneStamp, X509BundlesResponse)> {
    let bundles = [(scene.trust_domain.clone(), scene.bundle.x509_der().to_vec())].into();
    Some((scene.bundle_stamp(), X509BundlesResponse { crl: Vec::new(), bundles }))
}

pub fn jwt(scene: &Scene) -> Option<(SceneStamp, JwtBundlesResponse)> {
    let bundles = [(scene.trust_domain.clone(), scene.bundle.jwks().to_vec())].into();
    Some((scene.bundle_stamp(), JwtBundlesResponse { bundles }))
}
