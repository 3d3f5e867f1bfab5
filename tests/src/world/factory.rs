//! A factory that gives nodes certificates, for the attestation `x509pop`.

use super::Layout;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// Its authority.
pub struct Factory(Issuer<'static, KeyPair>);

impl Factory {
    /// A new one, whose certificate is `factory.pem` in the layout.
    pub fn new(layout: &Layout) -> Self {
        let (mut ca, key) = (CertificateParams::default(), KeyPair::generate().expect("a key"));
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        layout.write("factory.pem", &ca.self_signed(&key).expect("a certificate").pem());
        Self(Issuer::new(ca, key))
    }

    /// The server's section that believes it.
    pub fn server_section(layout: &Layout) -> String {
        format!("[[node_attestor]]\nkind = \"x509pop\"\nca_bundle_path = \"{}/factory.pem\"\n", layout.dir().display())
    }

    /// The configuration of an agent on the node `name`, with its certificate beside it.
    pub fn agent_toml(&self, layout: &Layout, name: &str) -> String {
        let (mut leaf, key) = (CertificateParams::default(), KeyPair::generate().expect("a key"));
        leaf.distinguished_name.push(DnType::CommonName, name);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = leaf.signed_by(&key, &self.0).expect("a certificate");
        let key = layout.write(&format!("{name}.key"), &key.serialize_pem());
        let certificate = layout.write(&format!("{name}.pem"), &leaf.pem());
        let method =
            format!("kind = \"x509pop\"\nprivate_key_path = \"{key}\"\ncertificate_path = \"{certificate}\"\n");
        layout.agent_toml(name, "unused").replace("kind = \"join_token\"\ntoken = \"unused\"\n", &method)
    }
}
