//! An SSH agent for the members of one task. The private key stays in this process; members may list its certificates and
//! have user authentication signed, and nothing else ([`session`]).
//!
//! Decides whom it talks to: a peer is pinned when it connects and looked at again before each answer.

mod session;
mod userauth;

pub use session::Identity;

use super::{
    MAX_CONNECTIONS, PAUSE,
    members::{Members, Refused},
};
use crate::run::note;
use agent_workload::PinnedCaller;
use futures_util::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use proto_types::Clock;
use session::Session;
use std::{io, path::Path, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// Longest message, bytes, as OpenSSH's own agent has it.
const MAX_MESSAGE: usize = 256 * 1024;

type Connection = LocalBoxFuture<'static, Result<(), Refused>>;

/// The listening socket and who speaks on it.
pub struct SshAgent {
    listener: UnixListener,
    identities: watch::Sender<Vec<Identity>>,
    /// Absent until CMD's process exists: then nobody is one.
    members: Option<Arc<Members>>,
    connections: FuturesUnordered<Connection>,
    /// Somebody was told already that a stranger asked.
    noted: bool,
}

impl SshAgent {
    pub fn open(path: &Path, identities: Vec<Identity>) -> io::Result<Self> {
        Ok(Self {
            listener: UnixListener::bind(path)?,
            identities: watch::Sender::new(identities),
            members: None,
            connections: FuturesUnordered::new(),
            noted: false,
        })
    }

    pub fn admit(&mut self, members: Members) {
        self.members = Some(Arc::new(members));
    }

    /// Lists and signs with `identities` from now on. What somebody was just shown still signs once it is replaced: its
    /// certificate is good until it expires.
    pub fn renew(&self, identities: Vec<Identity>) {
        self.identities.send_modify(|now| {
            let before = std::mem::replace(now, identities);
            for (identity, before) in now.iter_mut().zip(before) {
                identity.replaces(before);
            }
        });
    }

    /// Never completes.
    pub async fn serve(&mut self, clock: &dyn Clock) {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => self.accepted(stream),
                    Err(_) => clock.sleep(PAUSE).await,
                },
                Some(ended) = self.connections.next() => self.ended(ended),
            }
        }
    }

    fn accepted(&mut self, stream: UnixStream) {
        let Some(members) = self.members.clone() else { return };
        match members.pin(&stream) {
            Ok(caller) => {
                let identities = self.identities.subscribe();
                self.connections.push(Box::pin(converse(stream, caller, members, identities)));
            }
            Err(refused) => self.ended(Err(refused)),
        }
    }

    /// The protocol has no words for why; a person who wonders is told once.
    fn ended(&mut self, ended: Result<(), Refused>) {
        if let Err(refused) = ended
            && !std::mem::replace(&mut self.noted, true)
        {
            note(format!("the SSH agent serves members of the task only, and turned away: {refused}"));
        }
    }
}

/// One connection, until its peer closes it, breaks the protocol or is no member any more.
async fn converse(
    mut stream: UnixStream,
    caller: PinnedCaller,
    members: Arc<Members>,
    identities: watch::Receiver<Vec<Identity>>,
) -> Result<(), Refused> {
    let mut session = Session::default();
    while let Some(message) = receive(&mut stream).await {
        members.check(&caller)?;
        let answer = session.answer(&message, &identities.borrow());
        if stream.write_all(&answer).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The next message without its length. `None` at the end, and for one that is empty or too long.
async fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let length = usize::try_from(stream.read_u32().await.ok()?).ok()?;
    if !(1..=MAX_MESSAGE).contains(&length) {
        return None;
    }
    let mut message = Vec::new();
    // Grows with what arrives, not with what was announced.
    let read = stream.take(length as u64).read_to_end(&mut message).await.ok()?;
    (read == length).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_is_read_up_to_its_bound_and_what_announces_more_is_not_waited_for() {
        for (announced, sent, read) in [
            (1, 1, Some(1)),
            (MAX_MESSAGE, MAX_MESSAGE, Some(MAX_MESSAGE)),
            (MAX_MESSAGE + 1, MAX_MESSAGE + 1, None),
            (u32::MAX as usize, 0, None),
            (0, 0, None),
        ] {
            let (mut client, mut server) = UnixStream::pair().unwrap();
            let length = u32::try_from(announced).unwrap().to_be_bytes();
            let message = [&length[..], &vec![b'm'; sent]].concat();
            let sending = async {
                // A server that reads no further makes this fail, and should.
                let _ = client.write_all(&message).await;
                std::future::pending::<()>().await;
            };
            let received = tokio::select! {
                biased;
                received = receive(&mut server) => received,
                () = sending => None,
            };
            assert_eq!(received.map(|m| m.len()), read, "{announced}");
        }
    }

    #[tokio::test]
    async fn a_message_that_is_cut_short_is_none() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        client.write_all(&[0, 0, 0, 2, b'm']).await.unwrap();
        drop(client);
        assert_eq!(receive(&mut server).await, None);
    }
}
