//! A way to the database that breaks off at a commit: before the database hears of it, or before anybody hears of it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Where the next commit is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    Nowhere = 0,
    /// On its way there.
    Asking = 1,
    /// On its way back.
    Answering = 2,
    /// It is late: the way there breaks off for whoever asked, and it arrives when [`Wire::arrives`] is called.
    Late = 3,
}

#[derive(Clone)]
pub struct Wire {
    pub port: u16,
    next: Arc<AtomicU8>,
    late: Arc<Late>,
}

#[derive(Default)]
struct Late {
    arrives: Notify,
    arrived: Notify,
}

impl Wire {
    /// To the server at this port. What commits says `commit`.
    pub async fn to(port: u16, commit: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self { port: listener.local_addr().unwrap().port(), next: Arc::default(), late: Arc::default() };
        let (next, late) = (wire.next.clone(), wire.late.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(
                    client,
                    SocketAddr::from(([127, 0, 0, 1], port)),
                    commit,
                    next.clone(),
                    late.clone(),
                ));
            }
        });
        wire
    }

    pub fn loses(&self, lost: Lost) {
        self.next.store(lost as u8, Ordering::SeqCst);
    }
    /// What was late arrives, and whoever is there has done with it.
    pub async fn arrives(&self) {
        self.late.arrives.notify_one();
        self.late.arrived.notified().await;
    }
    /// Whether it happened.
    pub fn lost(&self) -> bool {
        self.next.load(Ordering::SeqCst) == Lost::Nowhere as u8
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, commit: &'static [u8], next: Arc<AtomicU8>, late: Arc<Late>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut deaf = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(n @ 1..) = read else { return };
                let commits = asked[..n].windows(commit.len()).any(|w| w == commit);
                let lost = if commits { next.swap(Lost::Nowhere as u8, Ordering::SeqCst) } else { 0 };
                if lost == Lost::Asking as u8 {
                    return;
                }
                if lost == Lost::Late as u8 {
                    drop(client);
                    late.arrives.notified().await;
                    // An answer, or the end of a session that is no longer there.
                    let _ = server.write_all(&asked[..n]).await;
                    let _ = server.read(&mut answered).await;
                    late.arrived.notify_one();
                    return;
                }
                deaf |= lost == Lost::Answering as u8;
                if server.write_all(&asked[..n]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(n @ 1..) = read else { return };
                // It was answered, and nobody hears it.
                if deaf || client.write_all(&answered[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
