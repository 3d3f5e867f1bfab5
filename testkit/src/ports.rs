//! Free ports of 127.0.0.1 that stay free until they are taken: outside the range from which the kernel picks ports for
//! outgoing connections, each handed out once in a process. A server that is started again finds its own port free.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

const FIRST: u32 = 20_000;
const COUNT: u32 = 10_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on.
pub fn free() -> u16 {
    run_of(1)
}

/// The first of two ports in a row that nobody listens on: some servers take the one behind theirs, too.
pub fn free_pair() -> u16 {
    run_of(2)
}

fn run_of(length: u16) -> u16 {
    // Test processes that run at the same time begin in different places.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let n = begin.wrapping_add(NEXT.fetch_add(length.into(), Ordering::Relaxed)) % COUNT;
        let Ok(first) = u16::try_from(FIRST + n) else { continue };
        if (first..first + length).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no free port from {FIRST} on");
}
