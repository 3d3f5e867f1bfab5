//! The sink against sockets that really listen.

use crate::{SinkProblem, read};
use proto_types::{Clock as _, Position, Record, Timestamp};
use server_core::ports::{Batch, Outgoing, Sink};
use std::{net::TcpListener as StdListener, sync::Arc, time::Duration};
use testkit::fakes::FakeClock;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, UdpSocket, UnixDatagram},
};

/// 2026-01-01T00:00:00Z.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_600_000);

fn open(text: &str) -> Result<Arc<dyn Sink>, Vec<SinkProblem>> {
    let table = toml::from_str(&format!("kind = \"syslog\"\n{text}")).unwrap();
    Ok(read(vec![table])?.remove(0).place.open(Arc::new(FakeClock::at(NOW))).unwrap())
}

fn at(address: &str) -> Arc<dyn Sink> {
    open(&format!("address = \"{address}\"\n")).unwrap()
}

fn batch(intents: &[&str]) -> Batch {
    let record = |intent: &&str| Record::new(FakeClock::at(NOW).now(), "decision.made").intent(*intent);
    let out = |(i, intent)| Outgoing { position: Position(i), leaf: [7; 32], record: record(intent) };
    Batch { store_id: "s".into(), records: (0..).zip(intents).map(out).collect() }
}

/// Message by message, as its length says.
fn uncount(mut stream: &str) -> Vec<&str> {
    let mut messages = Vec::new();
    while let Some((count, rest)) = stream.split_once(' ') {
        let (message, rest) = rest.split_at(count.parse().unwrap());
        messages.push(message);
        stream = rest;
    }
    assert_eq!(stream, "");
    messages
}

fn is_message(text: &str, intent: &str) -> bool {
    text.starts_with("<86>1 2026-01-01T00:00:00Z ") && text.contains(" errand ") && text.contains(intent)
}

#[tokio::test]
async fn a_stream_is_counted_and_taken_when_the_other_side_has_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink = at(&format!("tcp://{}", listener.local_addr().unwrap()));
    let sent = batch(&["one", "zw\u{f6}lf", "three"]);
    let mut delivery = sink.deliver(&sent);
    let collect = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        (stream, text)
    };
    // Everything is read, and not yet confirmed.
    let (stream, text) = tokio::select! {
        taken = &mut delivery => panic!("taken before the other side ended: {taken:?}"),
        collected = collect => collected,
    };
    drop(stream);
    delivery.await.unwrap();
    let messages = uncount(&text);
    assert_eq!(messages.len(), 3);
    for (message, intent) in messages.into_iter().zip(["one", "zw\u{f6}lf", "three"]) {
        assert!(is_message(message, intent), "{message}");
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_never_taken() {
    // The kernel accepts for it, and takes what fits its buffers.
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let sink = at(&format!("tcp://{}", listener.local_addr().unwrap()));
    let sent = batch(&["one"]);
    let mut delivery = sink.deliver(&sent);
    let arrived = tokio::task::spawn_blocking(move || {
        let (stream, _) = listener.accept().unwrap();
        // It is there, and stays where it is.
        assert!(stream.peek(&mut [0; 1]).unwrap() == 1);
        stream
    });
    let stream = tokio::select! {
        taken = &mut delivery => panic!("{taken:?}"),
        stream = arrived => stream.unwrap(),
    };
    // Whoever hangs up on what it did not read has not taken it either.
    drop(stream);
    assert!(delivery.await.is_err());
}

#[tokio::test]
async fn each_record_is_a_datagram_to_a_socket_of_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("log");
    let sink = at(&format!("unix:{}", path.display()));
    assert!(sink.deliver(&batch(&["one"])).await.is_err(), "nobody listens");
    let socket = UnixDatagram::bind(&path).unwrap();
    sink.deliver(&batch(&["one", "two"])).await.unwrap();
    for intent in ["one", "two"] {
        let mut buffer = [0; 4096];
        let n = socket.recv(&mut buffer).await.unwrap();
        assert!(is_message(std::str::from_utf8(&buffer[..n]).unwrap(), intent), "{intent}");
    }
    // It is there again, and a link to it will do.
    drop(socket);
    std::fs::remove_file(&path).unwrap();
    assert!(sink.deliver(&batch(&["three"])).await.is_err());
    let moved = home.path().join("moved");
    let socket = UnixDatagram::bind(&moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    sink.deliver(&batch(&["three"])).await.unwrap();
    assert!(socket.recv(&mut [0; 4096]).await.unwrap() > 0);
}

#[tokio::test]
async fn a_socket_that_nobody_reads_holds_the_delivery_and_not_the_thread() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    let sink = at(&format!("unix:{}", path.display()));
    let many = vec!["x"; 4096];
    let sent = batch(&many);
    let mut delivery = sink.deliver(&sent);
    let full = testkit::poll::holds_within(Duration::from_secs(5), || {
        // A probe of its own: the queue is full for everybody.
        let probe = std::os::unix::net::UnixDatagram::unbound().unwrap();
        probe.set_nonblocking(true).unwrap();
        let full = probe.send_to(b"probe", &path).is_err();
        async move { full }
    });
    tokio::select! {
        taken = &mut delivery => panic!("{taken:?}"),
        full = full => assert!(full),
    }
    drop(delivery);
    while socket.try_recv(&mut [0; 4096]).is_ok() {}
    // Given up, the sink is usable.
    sink.deliver(&batch(&["one"])).await.unwrap();
}

#[tokio::test]
async fn each_record_is_a_datagram_to_a_named_address_and_one_too_long_is_an_error() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sink = at(&format!("udp://{}", socket.local_addr().unwrap()));
    let mut buffer = vec![0; 65536];
    let longest = "x".repeat(60_000);
    for intent in ["one", &longest] {
        sink.deliver(&batch(&[intent])).await.unwrap();
        let n = socket.recv(&mut buffer).await.unwrap();
        assert!(is_message(std::str::from_utf8(&buffer[..n]).unwrap(), intent), "{intent:.10}");
    }
    let too_long = "x".repeat(66_000);
    assert!(sink.deliver(&batch(&[&too_long])).await.is_err());
}

#[test]
fn a_section_names_an_address_and_a_facility() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().display().to_string();
    std::fs::write(home.path().join("plain"), "").unwrap();
    let _socket = std::os::unix::net::UnixDatagram::bind(home.path().join("log")).unwrap();
    let pairs = [
        ("".into(), "address = \"udp://10.1.2.3:514\"\n".to_string(), "`address`"),
        (format!("address = \"unix:{at}/plain\"\n"), format!("address = \"unix:{at}/log\"\n"), "no socket"),
        (format!("address = \"unix:{at}/../log\"\n"), format!("address = \"unix:{at}/absent\"\n"), "`address`"),
        ("address = \"unix:log\"\n".into(), format!("address = \"unix:{at}/log\"\n"), "absolute"),
        ("address = \"tcp://siem\"\n".into(), "address = \"tcp://siem:601\"\n".into(), "port"),
        (
            "address = \"tcp://siem:601\"\nfacility = \"kern\"\n".into(),
            "address = \"tcp://siem:601\"\nfacility = \"local3\"\n".into(),
            "`facility`",
        ),
        (
            "address = \"tcp://siem:601\"\ntls = true\n".into(),
            "address = \"tcp://siem:601\"\nformat = \"cef\"\n".into(),
            "`tls`",
        ),
    ];
    for (bad, good, names) in pairs {
        let Err(problems) = open(&bad) else { panic!("{bad}") };
        assert!(problems.iter().any(|p| p.what.contains(names)), "{names}: {problems:?}");
        assert!(open(&good).is_ok(), "{good}");
    }
}
