//! `dev.env`: every address and socket of a running `errand dev`, to be sourced by a shell.

use super::layout::{Layout, write_private};
use crate::error::Result;
use server_daemon::Running;

pub(super) fn write(layout: &Layout, server: &Running) -> Result<()> {
    let ca_file = layout.dir.join("ca.pem");
    write_private(&ca_file, server.ca_pem().as_bytes())?;
    let a = &server.addresses;
    let values = [
        ("ERRAND_TRUST_DOMAIN", layout.trust_domain.to_string()),
        ("ERRAND_SERVER_SOCKET", a.admin_socket.display().to_string()),
        ("SPIFFE_ENDPOINT_SOCKET", format!("unix://{}", layout.agent_socket().display())),
        ("ERRAND_ISSUER", a.issuer.clone()),
        ("ERRAND_CA_FILE", ca_file.display().to_string()),
        ("ERRAND_HTTP", format!("https://localhost:{}", a.http.port())),
        ("ERRAND_GRPC", a.grpc.to_string()),
        ("ERRAND_MTLS", format!("https://localhost:{}", a.mtls.port())),
        ("ERRAND_PUBLIC", format!("https://localhost:{}", a.public.port())),
        ("ERRAND_METRICS", format!("http://{}", a.metrics)),
    ];
    let lines: String = values.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect();
    write_private(&layout.dir.join("dev.env"), lines.as_bytes())
}

/// A word that a shell takes literally.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-".contains(c);
    if value.chars().all(plain) { value.into() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}
