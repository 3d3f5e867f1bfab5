//! The way between agent and server when it is bad: silent without an end, and coming and going. Faults F14 and F15.

use crate::{
    fake::SVID_TTL,
    world::{SOON, World, next},
};
use agent_daemon::{AgentConfig, AgentStatus, Running};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use testkit::poll::{holds_within, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tonic::Code;

/// A ping each ten seconds, ten for its answer, and some for a loaded machine.
const NOTICED: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Whole,
    /// Takes connections and bytes and hands nothing on; nobody is told.
    Silent,
    /// Every connection is cut, new ones at once.
    Cut,
}

/// A TCP proxy before the server.
pub struct Proxy {
    pub addr: SocketAddr,
    link: watch::Sender<Link>,
    open: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (link, open) = (watch::Sender::new(Link::Whole), Arc::new(AtomicUsize::new(0)));
        let (links, count) = (link.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (links, count) = (links.clone(), count.clone());
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    if let Ok(server) = TcpStream::connect(server).await {
                        let ((from, to), (back, there)) = (client.into_split(), server.into_split());
                        let mut cut = links.subscribe();
                        tokio::select! {
                            () = pump(from, there, links.subscribe()) => {}
                            () = pump(back, to, links.subscribe()) => {}
                            _ = cut.wait_for(|l| *l == Link::Cut) => {}
                        }
                    }
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { addr, link, open }
    }

    pub fn is(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// An agent that is ready, behind this proxy.
    async fn agent(&self, world: &World) -> Running {
        let text = world.config_text().replace(&world.server.addr.to_string(), &self.addr.to_string());
        let agent = world.launch(AgentConfig::parse(&text).unwrap()).await;
        tokio::time::timeout(SOON, agent.ready()).await.unwrap().unwrap();
        agent
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let Ok(n @ 1..) = from.read(&mut bytes).await else { return };
        if link.wait_for(|l| *l != Link::Silent).await.is_err() || to.write_all(&bytes[..n]).await.is_err() {
            return;
        }
    }
}

/// Lets time pass until the agent is ready again.
pub async fn heals(world: &World, agent: &Running) {
    let ready = holds_within(SOON, || {
        world.clock.advance(Duration::from_secs(1));
        std::future::ready(*agent.status().borrow() == AgentStatus::Ready)
    });
    assert!(ready.await, "{:?}", *agent.status().borrow());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_silent_is_noticed_and_what_is_held_is_served_to_its_end_and_not_after() {
    let world = World::without_agent();
    world.server.state.create(world.entry("e", "/web"));
    let proxy = Proxy::before(world.server.addr).await;
    let agent = proxy.agent(&world).await;
    let mut stream = world.x509().await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();

    proxy.is(Link::Silent);
    let mut status = agent.status();
    let noticed = status.wait_for(|s| *s == AgentStatus::Disconnected);
    tokio::time::timeout(NOTICED, noticed).await.expect("the silence is noticed").unwrap();
    let again = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
    assert_eq!(again, first, "what is held, while nobody answers");
    world.clock.advance(SVID_TTL + Duration::from_secs(1));
    assert_eq!(next(&mut stream).await.unwrap_err().code(), Code::Unavailable);

    proxy.is(Link::Whole);
    heals(&world, &agent).await;
    let fresh = next(&mut world.x509().await.unwrap()).await.unwrap().unwrap();
    assert_ne!(fresh, first);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_comes_and_goes_leaves_no_connection_behind() {
    let world = World::without_agent();
    let proxy = Proxy::before(world.server.addr).await;
    let agent = proxy.agent(&world).await;
    for _ in 0..20 {
        proxy.is(Link::Cut);
        let mut status = agent.status();
        let away = status.wait_for(|s| *s == AgentStatus::Disconnected);
        tokio::time::timeout(SOON, away).await.expect("the cut is noticed").unwrap();
        proxy.is(Link::Whole);
        heals(&world, &agent).await;
    }
    until("one connection is open", SOON, || std::future::ready(proxy.open.load(Ordering::SeqCst) == 1)).await;
    agent.stop().await;
}
