//! The bytes of a user certificate (OpenSSH PROTOCOL.certkeys): composed from a template, and read back by another
//! implementation before they leave. Signs nothing.

use super::key::CallersKey;
use proto_types::Timestamp;
use ssh_key::{Certificate, certificate::CertType};

/// A user certificate, not a host's.
const USER: u32 = 1;

/// What a certificate will say; of the request only the key is in it.
#[derive(Clone, Debug)]
pub(super) struct Template<'a> {
    pub(super) key: &'a CallersKey,
    pub(super) nonce: [u8; 32],
    pub(super) serial: u64,
    pub(super) key_id: String,
    pub(super) principals: &'a [String],
    pub(super) valid_after: Timestamp,
    pub(super) valid_before: Timestamp,
    /// (name, value), sorted by name.
    pub(super) options: Vec<(&'static str, String)>,
    /// Sorted.
    pub(super) extensions: &'a [String],
}

/// A finished certificate is not what its template says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate's {0} is not what was to be certified")]
pub(super) struct Differs(&'static str);

fn put(out: &mut Vec<u8>, part: &[u8]) {
    // Every part is bounded far below 4 GiB: keys by 4 KiB, texts by their section.
    out.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(part);
}

fn packed<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut out = Vec::new();
    parts.into_iter().for_each(|p| put(&mut out, p.as_ref()));
    out
}

/// The wire form of an Ed25519 key.
pub(super) fn ed25519(raw: &[u8; 32]) -> Vec<u8> {
    packed([b"ssh-ed25519".as_slice(), raw])
}

/// The name of the certificate's format: `ssh-ed25519-cert-v01@openssh.com`, and of a key on a token
/// `sk-ssh-ed25519-cert-v01@openssh.com`.
pub(super) fn format_of(key_algorithm: &str) -> String {
    format!("{}-cert-v01@openssh.com", key_algorithm.strip_suffix("@openssh.com").unwrap_or(key_algorithm))
}

impl Template<'_> {
    /// Everything that is signed. `ca`: the wire form of the key that signs.
    pub(super) fn to_sign(&self, ca: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        put(&mut out, format_of(&self.key.algorithm).as_bytes());
        put(&mut out, &self.nonce);
        out.extend(&self.key.parts);
        out.extend(self.serial.to_be_bytes());
        out.extend(USER.to_be_bytes());
        put(&mut out, self.key_id.as_bytes());
        put(&mut out, &packed(self.principals));
        out.extend(self.valid_after.as_secs().to_be_bytes());
        out.extend(self.valid_before.as_secs().to_be_bytes());
        let options = self.options.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), packed([value])]);
        put(&mut out, &packed(options));
        put(&mut out, &packed(self.extensions.iter().flat_map(|name| [name.as_bytes(), b""])));
        put(&mut out, b"");
        put(&mut out, ca);
        out
    }

    /// Reads the finished certificate with other eyes and compares every field (as the X.509 linter does).
    pub(super) fn lint(&self, certificate: &[u8], ca: &[u8]) -> Result<(), Differs> {
        let read = Certificate::from_bytes(certificate).map_err(|_| Differs("form"))?;
        let own = |field: &'static str, same: bool| if same { Ok(()) } else { Err(Differs(field)) };
        let blob = ssh_key::PublicKey::from(read.public_key().clone()).to_bytes().unwrap_or_default();
        own("key", blob == [packed([self.key.algorithm.as_bytes()]), self.key.parts.clone()].concat())?;
        own("nonce", read.nonce() == self.nonce)?;
        own("serial", read.serial() == self.serial)?;
        own("type", read.cert_type() == CertType::User)?;
        own("key id", read.key_id() == self.key_id)?;
        own("principals", !read.valid_principals().is_empty() && read.valid_principals() == self.principals)?;
        let seconds = |at: Timestamp| u64::try_from(at.as_secs()).unwrap_or_default();
        own("beginning", read.valid_after() == seconds(self.valid_after))?;
        own("end", read.valid_before() == seconds(self.valid_before))?;
        let options = read.critical_options().iter().map(|(n, v)| (n.as_str(), v.as_str()));
        own("options", options.eq(self.options.iter().map(|(n, v)| (*n, v.as_str()))))?;
        let extensions = read.extensions().iter().map(|(n, v)| (n.as_str(), v.as_str()));
        own("extensions", extensions.eq(self.extensions.iter().map(|n| (n.as_str(), ""))))?;
        let signer = ssh_key::PublicKey::from(read.signature_key().clone()).to_bytes().unwrap_or_default();
        own("signer", signer == ca)
    }
}

/// The whole certificate: what was signed, and the signature (RFC 8709 section 6).
pub(super) fn finish(mut signed: Vec<u8>, signature: &[u8; 64]) -> Vec<u8> {
    let blob = packed([b"ssh-ed25519".as_slice(), signature]);
    put(&mut signed, &blob);
    signed
}
