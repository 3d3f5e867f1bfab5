//! `kind = "syslog"`: RFC 5424 messages to a unix datagram socket, or to a named address over TCP (octet counting, RFC
//! 6587) or UDP (RFC 5426).
//!
//! A syslog receiver confirms nothing: a batch counts as taken when this machine's kernel has it. What is in flight
//! when a TCP receiver dies, and any UDP datagram, may be lost; where a gap is not acceptable, the kinds `file` and
//! `http` are.

mod address;
mod message;

use crate::{Place, section::Section};
use address::Address;
use message::Header;
use proto_types::{Clock, Fut};
use server_core::{
    journal::Format,
    ports::{Batch, Sink, SinkError},
};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpStream, UdpSocket, UnixDatagram},
};

/// Bytes of a message that every receiver takes: over UDP, and elsewhere.
const DATAGRAM: usize = 2048;
const MESSAGE: usize = 8096;

/// Facilities, as RFC 5424 numbers them.
const FACILITIES: &[(&str, u8)] = &[
    ("authpriv", 10),
    ("auth", 4),
    ("audit", 13),
    ("daemon", 3),
    ("user", 1),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

#[derive(Debug)]
struct SyslogPlace {
    address: Address,
    format: Format,
    facility: u8,
    max: usize,
}

pub(crate) fn read(section: &mut Section) -> Option<Arc<dyn Place>> {
    let format = section.format();
    let facility = section.choice("facility", FACILITIES);
    let max = section.integer("max_message", 480, 256 * 1024);
    let text = section.text("address").unwrap_or_else(|| "unix:///dev/log".into());
    match Address::parse(&text) {
        Ok(address) => {
            let usual = if matches!(address, Address::Udp(_)) { DATAGRAM } else { MESSAGE };
            Some(Arc::new(SyslogPlace { address, format, facility, max: max.unwrap_or(usual) }))
        }
        Err(why) => {
            section.problem(format!("`address` {why}"));
            None
        }
    }
}

impl Place for SyslogPlace {
    fn open(&self, _clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, SinkError> {
        Ok(Arc::new(SyslogSink {
            at: self.address.to_string(),
            address: self.address.clone(),
            format: self.format,
            header: Header::of_this_machine(self.facility),
            max: self.max,
            stream: Mutex::default(),
        }))
    }
}

struct SyslogSink {
    at: String,
    address: Address,
    format: Format,
    header: Header,
    max: usize,
    /// The TCP connection between batches. During one it is in the batch's hands: given up, it is closed, since a
    /// message may be half sent.
    stream: Mutex<Option<TcpStream>>,
}

impl SyslogSink {
    fn messages(&self, batch: &Batch) -> impl Iterator<Item = String> {
        batch.records.iter().map(|out| {
            let header = self.header.of(&out.record);
            let room = self.max.saturating_sub(header.len());
            header + message::cut(&batch.line(out, self.format, room), room)
        })
    }

    fn unreachable(&self, e: &io::Error) -> SinkError {
        SinkError::Unreachable { at: self.at.clone(), why: e.to_string() }
    }

    async fn datagrams(&self, batch: &Batch) -> io::Result<()> {
        match &self.address {
            Address::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                for message in self.messages(batch) {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Address::Udp(to) => {
                let socket = bound_for(to).await?;
                for message in self.messages(batch) {
                    socket.send(message.as_bytes()).await?;
                }
            }
            Address::Tcp(_) => {}
        }
        Ok(())
    }

    async fn stream(&self, to: &str, batch: &Batch) -> io::Result<()> {
        let kept = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stream = match kept.filter(still_open) {
            Some(stream) => stream,
            None => TcpStream::connect(to).await?,
        };
        let mut frames = String::new();
        for message in self.messages(batch) {
            frames += &format!("{} {message}", message.len());
        }
        stream.write_all(frames.as_bytes()).await?;
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }
}

/// A UDP socket that talks to the first address of `to` it can.
async fn bound_for(to: &str) -> io::Result<UdpSocket> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host(to).await? {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).await?;
        match socket.connect(address).await {
            Ok(()) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Whether the receiver has not hung up. Receivers send nothing: whatever is there to be read is an end.
fn still_open(stream: &TcpStream) -> bool {
    match stream.try_read(&mut [0; 1]) {
        Ok(_) => false,
        Err(e) => e.kind() == io::ErrorKind::WouldBlock,
    }
}

impl Sink for SyslogSink {
    fn deliver<'a>(&'a self, batch: &'a Batch) -> Fut<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let sent = match &self.address {
                Address::Tcp(to) => self.stream(to, batch).await,
                Address::Udp(_) | Address::Unix(_) => self.datagrams(batch).await,
            };
            sent.map_err(|e| self.unreachable(&e))
        })
    }
}
