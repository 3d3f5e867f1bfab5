//! The bytes that are signed to authenticate a user by public key: RFC 4252, section 7, and the method of OpenSSH that
//! names the host too (its PROTOCOL, section 3.1). Everything else that a program may want signed with a key is something else:
//! a commit, a file, a session of another protocol.

use crate::ssh::{CERTIFICATE, wire::Reader};

const USERAUTH_REQUEST: u8 = 50;
const SERVICE: &[u8] = b"ssh-connection";
const PUBLICKEY: &[u8] = b"publickey";
const WITH_HOST: &[u8] = b"publickey-hostbound-v00@openssh.com";

/// What is signed, as far as it matters who signs.
#[derive(Debug, PartialEq, Eq)]
pub struct UserAuth<'a> {
    pub session_id: &'a [u8],
    /// The certificate the server will be shown.
    pub key: &'a [u8],
    /// The server's own, where the method names it.
    pub host_key: Option<&'a [u8]>,
}

impl<'a> UserAuth<'a> {
    /// `None` for whatever is not exactly that, for an Ed25519 certificate.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = Reader::new(bytes);
        let session_id = rest.string().filter(|id| !id.is_empty())?;
        let is_request = rest.byte()? == USERAUTH_REQUEST;
        let _user = rest.string()?;
        let service = rest.string()?;
        let method = rest.string()?;
        let has_signature = rest.boolean()?;
        let algorithm = rest.string()?;
        let key = rest.string()?;
        let host_key = if method == WITH_HOST { Some(rest.string()?) } else { None };
        rest.end()?;
        let is_sound = is_request
            && service == SERVICE
            && (method == PUBLICKEY || host_key.is_some())
            && has_signature
            && algorithm == CERTIFICATE.as_bytes();
        is_sound.then_some(Self { session_id, key, host_key })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ssh::wire::put_string;

    pub const HOSTBOUND: &[u8] = WITH_HOST;

    /// One request, each part of it free.
    pub struct Request<'a> {
        pub session_id: &'a [u8],
        pub number: u8,
        pub service: &'a [u8],
        pub method: &'a [u8],
        pub signature: u8,
        pub algorithm: &'a [u8],
        pub key: &'a [u8],
        pub host_key: Option<&'a [u8]>,
    }

    impl Default for Request<'_> {
        fn default() -> Self {
            Self {
                session_id: b"session",
                number: USERAUTH_REQUEST,
                service: SERVICE,
                method: PUBLICKEY,
                signature: 1,
                algorithm: CERTIFICATE.as_bytes(),
                key: b"key",
                host_key: None,
            }
        }
    }

    impl Request<'_> {
        pub fn bytes(&self) -> Vec<u8> {
            let mut bytes = Vec::new();
            put_string(&mut bytes, self.session_id);
            bytes.push(self.number);
            put_string(&mut bytes, b"kim");
            put_string(&mut bytes, self.service);
            put_string(&mut bytes, self.method);
            bytes.push(self.signature);
            put_string(&mut bytes, self.algorithm);
            put_string(&mut bytes, self.key);
            if let Some(host_key) = self.host_key {
                put_string(&mut bytes, host_key);
            }
            bytes
        }
    }

    #[test]
    fn only_user_authentication_with_a_certificate_is_read() {
        let ours = || Request::default();
        for good in [ours(), Request { method: HOSTBOUND, host_key: Some(b"host"), ..ours() }] {
            let bytes = good.bytes();
            let read = UserAuth::parse(&bytes).unwrap();
            assert_eq!((read.session_id, read.key, read.host_key), (&b"session"[..], &b"key"[..], good.host_key));
            for cut in 0..bytes.len() {
                assert_eq!(UserAuth::parse(&bytes[..cut]), None, "{cut}");
            }
            assert_eq!(UserAuth::parse(&[&bytes[..], &[0]].concat()), None, "one byte more");
        }
        for bad in [
            Request { session_id: b"", ..ours() },
            Request { number: 51, ..ours() },
            Request { service: b"ssh-userauth", ..ours() },
            Request { method: b"hostbased", ..ours() },
            Request { method: HOSTBOUND, ..ours() },
            Request { host_key: Some(b"host"), ..ours() },
            Request { signature: 0, ..ours() },
            Request { algorithm: b"ssh-ed25519", ..ours() },
        ] {
            assert_eq!(UserAuth::parse(&bad.bytes()), None);
        }
        assert_eq!(UserAuth::parse(b"SSHSIG\0\0\0\x04file\0\0\0\0"), None);
    }
}
