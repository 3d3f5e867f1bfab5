//! Group I: bytes on the server's listeners that no good client sends. Each is answered shortly or cut off, and the next
//! caller is served.

use crate::{
    exports::get,
    wire::framed,
    world::{SOON, Stream, Who, World, tls, tls_over},
};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tonic::Code;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    name: String,
    to: String,
    bad: String,
    refused: Vec<u16>,
    good: String,
    served: u16,
}

/// The bytes that the text stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, found)) = rest.split_once('<') {
        let (count, found) = found.split_once('*').expect("<N*TEXT>");
        let (what, after) = found.split_once('>').expect("<N*TEXT>");
        out += before;
        out += &what.repeat(count.parse().expect("a number"));
        rest = after;
    }
    (out + rest).replace('\n', "\r\n").into_bytes()
}

async fn open(world: &World, to: &str) -> Box<dyn Stream> {
    let at = &world.server.addresses;
    match to {
        "public" => Box::new(tls(at.public, None, "http/1.1").await.unwrap()),
        "http" => Box::new(tls(at.http, None, "http/1.1").await.unwrap()),
        "metrics" => Box::new(TcpStream::connect(at.metrics).await.unwrap()),
        "admin" => Box::new(UnixStream::connect(&at.admin_socket).await.unwrap()),
        other => panic!("no listener `{other}`"),
    }
}

/// What is answered, until the head of it is there or the other side hangs up. It may do so before it has read all.
async fn answer(mut stream: Box<dyn Stream>, request: impl AsRef<[u8]>) -> String {
    let request = request.as_ref();
    let begin = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
    let talk = async {
        let _ = stream.write_all(request).await;
        let _ = stream.flush().await;
        let mut seen = Vec::new();
        let mut some = [0; 4096];
        while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut some).await {
                Ok(0) | Err(_) => break,
                Ok(n) => seen.extend_from_slice(&some[..n]),
            }
        }
        String::from_utf8_lossy(&seen).into_owned()
    };
    tokio::time::timeout(SOON, talk).await.unwrap_or_else(|_| panic!("neither an answer nor an end: {begin}"))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn every_bad_request_of_the_table_is_refused_and_its_twin_is_served() {
    let table: Table = toml::from_str(include_str!("../data/http.toml")).unwrap();
    let world = World::start().await;
    let before = world.records();
    for Case { id, name, to, bad, refused, good, served } in table.case {
        let said = answer(open(&world, &to).await, bytes(&bad)).await;
        assert!(refused.contains(&status(&said)), "{id} {name}: {said}");
        assert!(said.len() < 64 * 1024, "{id} {name}: few words");
        let said = answer(open(&world, &to).await, bytes(&good)).await;
        assert_eq!(status(&said), served, "the twin of {id} {name}: {said}");
    }
    assert_eq!(world.records(), before, "nothing of it is on record");
    world.server.stop().await;
}

#[tokio::test]
async fn what_a_proxy_would_say_of_a_caller_is_not_believed() {
    let world = World::start().await;
    let form = "token=x&client_assertion=e30.e30.AA\
                &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-spiffe";
    let attempt = async |n: usize| {
        let request = format!(
            "POST /oauth2/introspect HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 192.0.2.{n}\r\n\
             forwarded: for=192.0.2.{n}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             content-length: {}\r\n\r\n{form}",
            form.len()
        );
        answer(open(&world, "http").await, request).await
    };
    // However often it says to be somebody else, it is one address: the first are heard, and then it has to wait.
    for n in 0..200 {
        let said = attempt(n).await;
        if status(&said) == 429 {
            assert!(n >= 60, "after {n}");
            assert!(said.to_ascii_lowercase().contains("\r\nretry-after: "), "{said}");
            return world.server.stop().await;
        }
        assert_eq!(status(&said), 401, "{said}");
    }
    panic!("two hundred attempts, and none was too many");
}

#[tokio::test]
async fn the_host_that_a_caller_names_stands_in_no_document() {
    let world = World::start().await;
    for host in ["evil.example.org", "localhost"] {
        let request = format!("GET /.well-known/openid-configuration HTTP/1.0\r\nhost: {host}\r\n\r\n");
        let mut stream = open(&world, "public").await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        let said = String::from_utf8(said).unwrap();
        let document: Value = serde_json::from_str(said.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(document["issuer"], "https://errand.example.org");
        assert!(!said.contains("evil"), "{said}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn health_and_metrics_name_nobody() {
    let world = World::start().await;
    world.workload("/secret-workload").await;
    world.agent().await;
    for path in ["/metrics", "/readyz", "/livez"] {
        let mut stream = open(&world, "metrics").await;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(status(&said), 200, "{path}");
        assert!(!said.contains("spiffe://") && !said.contains("secret-workload"), "{said}");
    }
    assert!(get(&world, "/v1/journal?kind=svid.minted").await.1.contains("secret-workload"), "it is there to be named");
    world.server.stop().await;
}

#[tokio::test]
async fn who_does_not_get_through_a_handshake_is_cut_off_and_who_is_slow_with_it_is_not() {
    let world = World::start().await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        idle.push(TcpStream::connect(world.server.addresses.public).await.unwrap());
    }
    // A hello that never ends, one byte at a time.
    let mut slow = TcpStream::connect(world.server.addresses.grpc).await.unwrap();
    for byte in [0x16, 3, 1, 0x02, 0, 1, 0, 1, 0xfc, 3, 3] {
        slow.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    idle.push(slow);
    // One that is as slow and does end: through a relay that hands on byte by byte.
    let (here, mut there) = tokio::io::duplex(1);
    let mut tcp = TcpStream::connect(world.server.addresses.public).await.unwrap();
    tokio::spawn(async move { tokio::io::copy_bidirectional_with_sizes(&mut there, &mut tcp, 1, 1).await });
    let served = tls_over(here, None, "http/1.1").await.expect("slow, but whole");
    let said = answer(Box::new(served), b"GET /keys HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&said), 200);

    testkit::poll::until("every half-open connection is cut", SOON, || {
        world.clock.advance(Duration::from_secs(1));
        let closed = idle.iter().all(is_closed);
        async move { closed }
    })
    .await;
    let said = answer(open(&world, "public").await, b"GET /keys HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&said), 200);
    world.server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_and_one_that_comes_late_is_read() {
    let world = World::start().await;
    let form = "token=x";
    let head = |length: usize| {
        format!(
            "POST /oauth2/introspect HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\
             content-type: application/x-www-form-urlencoded\r\n\r\n{form}"
        )
    };
    // The twin: the end of it comes after nine seconds, and is no client's all the same.
    let mut late = open(&world, "http").await;
    late.write_all(head(form.len() + 1).as_bytes()).await.unwrap();
    late.flush().await.unwrap();
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(status(&answer(late, b"y").await), 401);

    let missing = tokio::spawn(answer(open(&world, "http").await, head(8)));
    testkit::poll::until("it is given up", SOON, || {
        world.clock.advance(Duration::from_secs(1));
        let over = missing.is_finished();
        async move { over }
    })
    .await;
    let said = missing.await.unwrap();
    assert!(status(&said) == 400 && said.to_ascii_lowercase().contains("connection: close"), "{said}");
    world.server.stop().await;
}

/// Whether there is nothing more to wait for. An alert may stand before the end.
fn is_closed(tcp: &TcpStream) -> bool {
    loop {
        match tcp.try_read(&mut [0; 64]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// HTTP/2 as it begins, after which frames follow by hand.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn a_flood_of_frames_ends_its_own_connection_and_no_other() {
    let world = World::start().await;
    let head = [0x82, 0x87, 0x84, 0x41, 0x01, b'x'];
    let reset = |n: u32| [frame(1, 5, 2 * n + 1, &head), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat();
    // HEADERS without its end, then CONTINUATION after CONTINUATION.
    let endless = [frame(1, 0, 1, &head), frame(9, 0, 1, &[0x40, 1, b'a', 1, b'b']).repeat(200_000)].concat();
    let bodiless = [frame(1, 4, 1, &head), frame(0, 0, 1, &[]).repeat(200_000)].concat();
    let long = [&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], vec![0; 1 << 20].as_slice()].concat();
    // What breaks the protocol or costs more than it says ends the connection; what is only useless is read and dropped.
    for (name, frames, ends) in [
        ("a head without end", endless, true),
        ("streams that are opened and reset", (0..100_000).flat_map(reset).collect(), true),
        ("a frame longer than was agreed", long, true),
        ("window updates of nothing", frame(8, 0, 0, &[0; 4]).repeat(200_000), true),
        ("a body of empty frames", bodiless, true),
        ("pings", frame(6, 0, 0, &[7; 8]).repeat(200_000), false),
        ("settings", frame(4, 0, 0, &[]).repeat(200_000), false),
    ] {
        let stream = UnixStream::connect(&world.server.addresses.admin_socket).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let begin = [PREFACE, &frame(4, 0, 0, &[])].concat();
        let sending = async move { writing.write_all(&[begin, frames].concat()).await.map(|()| writing) };
        let read = async {
            let mut some = vec![0; 64 * 1024];
            while reading.read(&mut some).await.is_ok_and(|n| n > 0) {}
        };
        let talk = async {
            tokio::pin!(read);
            let sent = tokio::select! {
                sent = sending => sent,
                () = &mut read => return true,
            };
            // All of it was taken. Who breaks the protocol is hung up on all the same.
            let keep = sent.ok();
            if ends || keep.is_none() {
                read.await;
                return true;
            }
            false
        };
        let hung_up = tokio::time::timeout(SOON, talk).await;
        assert_eq!(hung_up.ok(), Some(ends), "{name}");
        assert_eq!(get(&world, "/v1/journal/root").await.0, 200, "{name}: the next is served");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_call_that_is_no_grpc_is_refused_and_one_that_is_gets_through_on_the_same_connection() {
    let world = World::start().await;
    let mut wire = world.wire(&Who::Local).await;
    let list = "spire.api.server.entry.v1.Entry/ListEntries";
    assert_eq!(wire.call(list, framed(&[])).await, Code::Ok);
    // I09: a length of four gigabytes, with nothing behind it.
    let long = wire.call(list, vec![0, 0xff, 0xff, 0xff, 0xff]).await;
    assert!(matches!(long, Code::OutOfRange | Code::ResourceExhausted | Code::Internal), "{long:?}");
    // I08: compressed, in a way that nobody agreed to.
    let packed = wire.call(list, vec![1, 0, 0, 0, 1, 0]).await;
    assert!(matches!(packed, Code::Unimplemented | Code::Internal | Code::InvalidArgument), "{packed:?}");
    // I11, I06: what is not there is not there, however it is written.
    for path in [
        "spire.api.server.entry.v1.Entry/Nothing",
        "no.such.Service/Call",
        "spire.api.server.entry.v1.Entry%2FListEntries",
    ] {
        assert_eq!(wire.call(path, framed(&[])).await, Code::Unimplemented, "{path}");
    }
    // I21: fields that protobuf does not have, or that end too early, or are nested without end.
    let nested = (0..10_000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = vec![0x0a];
        prost::encoding::encode_varint(inner.len() as u64, &mut outer);
        [outer, inner].concat()
    });
    for (name, message) in [
        ("field 0", vec![0x00, 0x00]),
        ("a length beyond the end", vec![0x0a, 0x7f, 0x00]),
        ("a wire type that is none", vec![0x0f, 0x00]),
        ("another wire type than the field's", vec![0x0d, 1, 2, 3, 4]),
        ("nested ten thousand deep", nested),
        ("a number that never ends", vec![0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ] {
        let code = wire.call(list, framed(&message)).await;
        assert!(matches!(code, Code::Internal | Code::InvalidArgument), "{name}: {code:?}");
    }
    assert_eq!(wire.call(list, framed(&[])).await, Code::Ok, "the connection goes on");
    world.server.stop().await;
}
