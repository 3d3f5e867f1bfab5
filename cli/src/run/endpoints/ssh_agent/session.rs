//! One connection to the agent as the protocol has it (OpenSSH's PROTOCOL.agent, draft-ietf-sshm-ssh-agent): a message in,
//! an answer out. Pure.
//!
//! Decides what is answered at all: the list of certificates, a signature over user authentication, and the announcement
//! of the session a connection is for. A connection that was announced to be forwarded gets nothing more: what asks there
//! is another machine, which is no member of any task. An announcement is believed without looking at the host's signature, since
//! it can only take away.

use super::userauth::UserAuth;
use crate::ssh::{
    SshKey,
    wire::{Reader, put_string, put_u32},
};
use std::sync::Arc;

const FAILURE: u8 = 5;
const SUCCESS: u8 = 6;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
const EXTENSION: u8 = 27;

const SESSION_BIND: &[u8] = b"session-bind@openssh.com";

/// One certificate and its key.
pub struct Identity {
    comment: String,
    key: Arc<SshKey>,
    certificate: Vec<u8>,
    /// What was listed before it was renewed.
    previous: Option<Vec<u8>>,
}

/// What one connection has announced.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Session {
    #[default]
    Unannounced,
    Bound {
        host_key: Vec<u8>,
        id: Vec<u8>,
    },
    /// Forwarded, or announced in a way that means nothing: answered no more.
    Shut,
}

impl Identity {
    pub fn new(comment: String, key: Arc<SshKey>, certificate: Vec<u8>) -> Self {
        Self { comment, key, certificate, previous: None }
    }

    /// Takes the place of `before`, for whose last certificate it signs too.
    pub fn replaces(&mut self, before: Self) {
        let is_same_key = Arc::ptr_eq(&before.key, &self.key);
        self.previous = if before.certificate == self.certificate { before.previous } else { Some(before.certificate) };
        self.previous = self.previous.take().filter(|_| is_same_key);
    }

    fn has(&self, blob: &[u8]) -> bool {
        self.certificate == blob || self.previous.as_deref() == Some(blob)
    }
}

impl Session {
    /// The answer to one message, with its length before it.
    pub fn answer(&mut self, message: &[u8], identities: &[Identity]) -> Vec<u8> {
        let answer = self.content(message, identities).unwrap_or_else(|| vec![FAILURE]);
        let mut framed = Vec::with_capacity(answer.len() + 4);
        put_string(&mut framed, &answer);
        framed
    }

    fn content(&mut self, message: &[u8], identities: &[Identity]) -> Option<Vec<u8>> {
        if *self == Self::Shut {
            return None;
        }
        let mut rest = Reader::new(message);
        match rest.byte()? {
            REQUEST_IDENTITIES => rest.end().map(|()| list(identities)),
            SIGN_REQUEST => self.sign(rest, identities),
            EXTENSION if rest.string()? == SESSION_BIND => {
                let bound = self.bind(rest);
                let answer = bound.is_some().then(|| vec![SUCCESS]);
                *self = bound.unwrap_or(Self::Shut);
                answer
            }
            _ => None,
        }
    }

    fn sign(&self, mut request: Reader<'_>, identities: &[Identity]) -> Option<Vec<u8>> {
        let (blob, message) = (request.string()?, request.string()?);
        // Flags choose among the signatures of an RSA key; this one has one.
        let _flags = request.u32()?;
        request.end()?;
        let identity = identities.iter().find(|identity| identity.has(blob))?;
        let asked = UserAuth::parse(message)?;
        let is_announced = match self {
            Self::Bound { host_key, id } => asked.session_id == id && asked.host_key.is_none_or(|key| key == host_key),
            Self::Unannounced => true,
            Self::Shut => false,
        };
        if asked.key != blob || !is_announced {
            return None;
        }
        let mut answer = vec![SIGN_RESPONSE];
        put_string(&mut answer, &identity.key.sign(message));
        Some(answer)
    }

    /// A connection is for one session; announced anew it must be the same.
    fn bind(&self, mut announced: Reader<'_>) -> Option<Self> {
        let (host_key, id) = (announced.string()?, announced.string()?);
        let _signature = announced.string()?;
        let is_forwarding = announced.boolean()?;
        announced.end()?;
        if is_forwarding {
            return Some(Self::Shut);
        }
        let bound = Self::Bound { host_key: host_key.into(), id: id.into() };
        (!id.is_empty() && (*self == Self::Unannounced || *self == bound)).then_some(bound)
    }
}

fn list(identities: &[Identity]) -> Vec<u8> {
    let mut answer = vec![IDENTITIES_ANSWER];
    put_u32(&mut answer, identities.len());
    for identity in identities {
        put_string(&mut answer, &identity.certificate);
        put_string(&mut answer, identity.comment.as_bytes());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::endpoints::ssh_agent::userauth::tests::{HOSTBOUND, Request};
    use proto_types::OsEntropy;

    /// The agent compares certificates and reads none: that it is one was seen when it was placed.
    const CERTIFICATE: &[u8] = b"a certificate";

    fn ring() -> Vec<Identity> {
        let key = Arc::new(SshKey::generate(&OsEntropy).unwrap());
        vec![Identity::new("bastion/ops".into(), key, CERTIFICATE.into())]
    }

    fn sign_request(blob: &[u8], data: &[u8]) -> Vec<u8> {
        let mut message = vec![SIGN_REQUEST];
        put_string(&mut message, blob);
        put_string(&mut message, data);
        put_u32(&mut message, 0);
        message
    }

    fn bind(id: &[u8], forwarding: u8) -> Vec<u8> {
        let mut message = vec![EXTENSION];
        for part in [SESSION_BIND, b"host key", id, b"signature"] {
            put_string(&mut message, part);
        }
        message.push(forwarding);
        message
    }

    /// The type of the answer.
    fn asked(session: &mut Session, message: &[u8]) -> u8 {
        session.answer(message, &ring())[4]
    }

    fn request() -> Request<'static> {
        Request { key: CERTIFICATE, ..Request::default() }
    }

    #[test]
    fn certificates_are_listed_and_nothing_but_user_authentication_with_one_is_signed() {
        let mut session = Session::default();
        assert_eq!(asked(&mut session, &[REQUEST_IDENTITIES]), IDENTITIES_ANSWER);
        assert_eq!(asked(&mut session, &sign_request(CERTIFICATE, &request().bytes())), SIGN_RESPONSE);
        for refused in [
            sign_request(CERTIFICATE, b"SSHSIG and whatever follows"),
            sign_request(CERTIFICATE, b""),
            sign_request(b"another", &Request { key: b"another", ..request() }.bytes()),
            sign_request(CERTIFICATE, &Request { key: b"another", ..request() }.bytes()),
            [&sign_request(CERTIFICATE, &request().bytes())[..], &[0]].concat(),
            vec![REQUEST_IDENTITIES, 0],
        ] {
            assert_eq!(asked(&mut session, &refused), FAILURE, "{refused:?}");
        }
    }

    #[test]
    fn every_other_message_fails() {
        for other in (0..=255u8).filter(|t| ![REQUEST_IDENTITIES, SIGN_REQUEST, EXTENSION].contains(t)) {
            assert_eq!(asked(&mut Session::default(), &[other]), FAILURE, "{other}");
        }
        let mut query = vec![EXTENSION];
        put_string(&mut query, b"query");
        assert_eq!(asked(&mut Session::default(), &query), FAILURE);
    }

    #[test]
    fn a_forwarded_connection_gets_nothing_more() {
        for (forwarding, then) in [(0, SIGN_RESPONSE), (1, FAILURE), (255, FAILURE)] {
            let mut session = Session::default();
            assert_eq!(asked(&mut session, &bind(request().session_id, forwarding)), SUCCESS);
            assert_eq!(asked(&mut session, &sign_request(CERTIFICATE, &request().bytes())), then, "{forwarding}");
            let listed = asked(&mut session, &[REQUEST_IDENTITIES]);
            assert_eq!(listed == IDENTITIES_ANSWER, then == SIGN_RESPONSE);
        }
    }

    #[test]
    fn a_bound_connection_is_for_its_session_and_its_host_alone() {
        let hostbound = |host_key| Request { method: HOSTBOUND, host_key: Some(host_key), ..request() };
        for (request, outcome) in [
            (request(), SIGN_RESPONSE),
            (Request { session_id: b"another session", ..request() }, FAILURE),
            (hostbound(b"host key"), SIGN_RESPONSE),
            (hostbound(b"another host"), FAILURE),
        ] {
            let mut session = Session::default();
            assert_eq!(asked(&mut session, &bind(Request::default().session_id, 0)), SUCCESS);
            assert_eq!(asked(&mut session, &sign_request(CERTIFICATE, &request.bytes())), outcome);
        }
    }

    #[test]
    fn what_is_bound_twice_or_without_sense_is_shut() {
        let id = request().session_id;
        let truncated = &bind(id, 0)[..40];
        for (second, outcome) in [
            (&bind(id, 0)[..], SIGN_RESPONSE),
            (&bind(b"another", 0), FAILURE),
            (&bind(b"", 0), FAILURE),
            (&bind(id, 1), FAILURE),
            (truncated, FAILURE),
        ] {
            let mut session = Session::default();
            asked(&mut session, &bind(id, 0));
            asked(&mut session, second);
            assert_eq!(asked(&mut session, &sign_request(CERTIFICATE, &request().bytes())), outcome, "{second:?}");
        }
    }

    #[test]
    fn a_renewed_identity_signs_for_the_certificate_before_it_and_for_no_older_one() {
        let key = Arc::new(SshKey::generate(&OsEntropy).unwrap());
        let of = |certificate: &[u8]| Identity::new("bastion/ops".into(), key.clone(), certificate.into());
        let mut now = of(b"1");
        for certificate in [b"2", b"3"] {
            let before = std::mem::replace(&mut now, of(certificate));
            now.replaces(before);
        }
        assert_eq!([now.has(b"1"), now.has(b"2"), now.has(b"3")], [false, true, true]);
        // Another grant was renewed: this one is as it was.
        let before = std::mem::replace(&mut now, of(b"3"));
        now.replaces(before);
        assert!(now.has(b"2") && now.has(b"3"));
        let mut other = ring().remove(0);
        other.replaces(now);
        assert!(!other.has(b"3"), "another key");
    }
}
