//! Messages on their way: over a stream, counted, or each in a datagram.
//!
//! Decides when messages are with the other side. A stream is ended after each batch and the batch counts when the
//! other side ends it too: it has read everything by then. A datagram counts when it was sent; nobody confirms one.

use super::address::{Address, Place};
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket, UnixDatagram},
};

pub(super) async fn carry(to: &Address, messages: &[String]) -> io::Result<()> {
    match to {
        Address::Unix(path) => unix(path, messages).await,
        Address::Tcp(place) => tcp(place, messages).await,
        Address::Udp(place) => udp(place, messages).await,
    }
}

/// RFC 6587, octet counting: a message may hold anything.
async fn tcp(to: &Place, messages: &[String]) -> io::Result<()> {
    let mut stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
    let counted: String = messages.iter().map(|m| format!("{} {m}", m.len())).collect();
    stream.write_all(counted.as_bytes()).await?;
    stream.shutdown().await?;
    let mut said = [0; 256];
    while stream.read(&mut said).await? > 0 {}
    Ok(())
}

async fn unix(path: &Path, messages: &[String]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    for message in messages {
        socket.send(message.as_bytes()).await?;
    }
    Ok(())
}

async fn udp(to: &Place, messages: &[String]) -> io::Result<()> {
    let mut last = io::Error::other("its name has no address to send to");
    for at in tokio::net::lookup_host((to.host.as_str(), to.port)).await? {
        match datagrams(at, messages).await {
            Ok(()) => return Ok(()),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn datagrams(to: SocketAddr, messages: &[String]) -> io::Result<()> {
    let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(to).await?;
    for message in messages {
        socket.send(message.as_bytes()).await?;
    }
    Ok(())
}
