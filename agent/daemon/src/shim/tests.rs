//! The shim from outside: frames in any cut, a real HTTP/2 server behind it, and an independent HPACK decoder.

mod differential;
#[path = "../../../../fuzz/properties/shim.rs"]
mod property;

use super::{MAX_BLOCK, MAX_FRAMES, Rewriter, Shim, ShimError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `:method: POST`, `:scheme: http`, `:path: /a`, and the authority a C-core client sends.
fn block() -> Vec<u8> {
    [&[0x83, 0x86, 0x44, 2][..], b"/a", &[0x41, 12], b"tmp%2Fa.sock"].concat()
}

fn shortened() -> Vec<u8> {
    [&[0x83, 0x86, 0x44, 2][..], b"/a", &[0x41, 1], b"x"].concat()
}

fn run(frames: &[Vec<u8>]) -> Result<Vec<u8>, ShimError> {
    let mut out = Vec::new();
    Rewriter::default().feed(&[PREFACE, &frames.concat()].concat(), &mut out)?;
    Ok(out.split_off(PREFACE.len()))
}

#[test]
fn a_header_block_is_shortened_however_it_is_framed() {
    let (whole, expected) = (block(), frame(1, 0x5, 1, &shortened()));
    let padded = [&[3u8][..], &whole, &[0; 3]].concat();
    let (a, b) = whole.split_at(7);
    for frames in [
        vec![frame(1, 0x5, 1, &whole)],
        vec![frame(1, 0xd, 1, &padded)],
        vec![frame(1, 0x1, 1, a), frame(9, 0x4, 1, b)],
        vec![frame(1, 0x1, 1, &[]), frame(9, 0x0, 1, a), frame(9, 0, 1, &[]), frame(9, 0x4, 1, b)],
    ] {
        assert_eq!(run(&frames), Ok(expected.clone()));
    }
    let priority = [&[0, 0, 0, 3, 9][..], &whole].concat();
    let kept = [&[0, 0, 0, 3, 9][..], &shortened()].concat();
    assert_eq!(run(&[frame(1, 0x24, 1, &priority)]), Ok(frame(1, 0x24, 1, &kept)));
}

#[test]
fn everything_else_passes_byte_for_byte() {
    let plain = [&[0x83, 0x86, 0x84, 0x41, 0][..]].concat();
    let padded = [&[2u8][..], &plain, &[0; 2]].concat();
    let frames = [
        frame(4, 0, 0, &[0, 1, 0, 0, 16, 0]),
        frame(1, 0xd, 1, &padded),
        frame(0, 1, 1, b"tmp%2Fa.sock"),
        frame(5, 4, 1, &[&[0, 0, 0, 2][..], &block()].concat()),
        frame(0xfa, 0xff, u32::MAX, &[7; 70_000]),
        frame(6, 0, 0, &[0; 8]),
        frame(1, 0x1, 3, &plain[..2]),
        frame(9, 0x4, 3, &plain[2..]),
    ];
    assert_eq!(run(&frames), Ok(frames.concat()));
}

#[test]
fn a_large_block_is_cut_into_frames_every_server_takes() {
    let filler = [&[0x00, 1][..], b"a", &[0x7f, 0xa1, 0x9b, 0x01], &[b'v'; 20_000]].concat();
    let out = run(&[frame(1, 0x4, 1, &[filler.clone(), block()].concat())]).unwrap();
    let expected = [filler, shortened()].concat();
    let (a, b) = expected.split_at(16_384);
    assert_eq!(out, [frame(1, 0, 1, a), frame(9, 4, 1, b)].concat());
}

#[test]
fn what_would_have_to_be_held_without_bound_is_refused() {
    let literal = |n: usize| {
        let length = n - 127;
        let digits = [(length & 0x7f) as u8 | 0x80, (length >> 7 & 0x7f) as u8 | 0x80, (length >> 14) as u8];
        [&[0x41, 0x7f][..], &digits, &vec![b'%'; n]].concat()
    };
    assert!(run(&[frame(1, 4, 1, &literal(MAX_BLOCK - 5))]).is_ok());
    assert_eq!(run(&[frame(1, 4, 1, &literal(MAX_BLOCK - 4))]), Err(ShimError::TooLarge));
    assert_eq!(run(&[frame(1, 0, 1, &block()), frame(9, 4, 1, &literal(MAX_BLOCK - 9))]), Err(ShimError::TooLarge));
    let flood = |n: usize| -> Vec<Vec<u8>> {
        let empty = (2..n).map(|_| frame(9, 0, 1, &[]));
        [frame(1, 0, 1, &block())].into_iter().chain(empty).chain([frame(9, 4, 1, &[])]).collect()
    };
    assert_eq!(run(&flood(MAX_FRAMES)), Ok(frame(1, 4, 1, &shortened())));
    assert_eq!(run(&flood(MAX_FRAMES + 1)), Err(ShimError::TooLarge));
}

#[test]
fn frames_that_do_not_belong_together_are_refused() {
    let begun = frame(1, 0, 1, &block());
    let end = frame(9, 4, 1, &[]);
    assert!(run(&[begun.clone(), end.clone()]).is_ok());
    for between in [frame(0, 0, 1, b""), frame(9, 4, 3, &[]), frame(1, 4, 3, &block()), frame(0xfa, 0, 1, &[])] {
        assert_eq!(run(&[begun.clone(), between, end.clone()]), Err(ShimError::Interleaved));
    }
    assert_eq!(run(&[end]), Err(ShimError::Interleaved));
    for (flags, payload) in [(0xc, &[1u8][..]), (0xc, &[]), (0x24, &[0; 4]), (0x2c, &[1, 0, 0, 0, 0, 9])] {
        assert_eq!(run(&[frame(1, flags, 1, payload)]), Err(ShimError::Padding), "{payload:?}");
    }
    assert!(run(&[frame(1, 0x2c, 1, &[1, 0, 0, 0, 0, 9, 0])]).is_ok());
}

#[test]
fn the_committed_corpus_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/shim");
    let files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|f| f.unwrap().path()).collect();
    assert!(files.len() >= 4);
    files.iter().for_each(|f| property::holds(&std::fs::read(f).unwrap()));
}

/// The same cases each time.
fn seeded(cases: u32) -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, RngSeed};
    Config { cases, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..Config::default() }
}

proptest::proptest! {
    #![proptest_config(seeded(256))]
    #[test]
    fn any_bytes_keep_the_property(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        property::holds(&[PREFACE, &bytes].concat());
        property::holds(&[PREFACE, &frame(1, 4, 1, &bytes)].concat());
        property::holds(&[PREFACE, &frame(1, 0, 1, &block()), &frame(9, 4, 1, &bytes), &bytes].concat());
    }
}

/// What an HTTP/2 server reads of one request, behind the shim or not.
async fn served(with_shim: bool) -> Result<http::Uri, h2::Error> {
    let (mut client, server): (DuplexStream, DuplexStream) = tokio::io::duplex(64 * 1024);
    let request = [PREFACE, &frame(4, 0, 0, &[]), &frame(1, 0x5, 1, &block())].concat();
    client.write_all(&request).await.unwrap();
    let asked = if with_shim {
        h2::server::handshake(Shim::new(server)).await?.accept().await
    } else {
        // The refusal goes to the client only; the server sees the end of the connection.
        client.shutdown().await.unwrap();
        h2::server::handshake(server).await?.accept().await
    };
    match asked {
        Some(request) => Ok(request?.0.uri().clone()),
        None => Err(h2::Reason::PROTOCOL_ERROR.into()),
    }
}

#[tokio::test]
async fn a_real_server_takes_the_request_behind_the_shim_only() {
    assert!(served(false).await.is_err(), "if the server takes it itself, the shim has served its time");
    assert_eq!(served(true).await.unwrap().to_string(), "http://x/a");
}

#[tokio::test]
async fn a_reader_with_a_small_buffer_loses_nothing_and_an_error_stays() {
    let good = [PREFACE, &frame(1, 0x5, 1, &block()), &frame(0, 1, 1, &[9; 500])].concat();
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let mut shim = Shim::new(server);
    client.write_all(&good).await.unwrap();
    client.write_all(&frame(9, 4, 1, &[])).await.unwrap();
    let mut read = Vec::new();
    let mut small = [0u8; 7];
    let refused = loop {
        match shim.read(&mut small).await {
            Ok(n) => read.extend_from_slice(&small[..n]),
            Err(e) => break e,
        }
    };
    assert_eq!(refused.get_ref().unwrap().downcast_ref(), Some(&ShimError::Interleaved));
    assert_eq!(read, [PREFACE, &frame(1, 0x5, 1, &shortened()), &frame(0, 1, 1, &[9; 500])].concat());
    client.write_all(&frame(6, 0, 0, &[0; 8])).await.unwrap();
    assert!(shim.read(&mut small).await.is_err());
}
