//! The newest trust bundle, as the house's verifier (`proto-tls`) wants it: read at each handshake.

use crate::bundle::TrustBundle;
use arc_swap::ArcSwapOption;
use proto_tls::Anchors;
use rustls_pki_types::TrustAnchor;
use std::sync::Arc;

/// The newest bundle.
pub type CurrentBundle = Arc<ArcSwapOption<TrustBundle>>;

/// Without a bundle nobody is believed.
pub struct BundleAnchors(pub CurrentBundle);

impl Anchors for BundleAnchors {
    fn anchors(&self) -> Arc<Vec<TrustAnchor<'static>>> {
        self.0.load().as_ref().map(|bundle| bundle.anchors()).unwrap_or_default()
    }
}
