//! A server that dies at a named step, or is told to stop as `errand server run` is. For tests only: it seeds its own store
//! and has no other use.
//!
//! Prints one line of JSON ([`Hello`](tests_crash::world::Hello)) when it answers, and ends with its standard input.

use clap::Parser as _;
use cli::serve::{Signals, until_told};
use proto_types::{OsEntropy, SystemClock};
use server_daemon::{Decorators, Machine, Server, ServerConfig};
use std::{io::Read as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tests_crash::{
    point::{Bomb, Point},
    world::seed,
};

/// A server that dies at a named step
#[derive(clap::Parser)]
struct Arguments {
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where to die; without it, it lives
    #[arg(long, requires = "nth")]
    point: Option<Point>,
    /// Which passing of the point is the last
    #[arg(long)]
    nth: Option<u64>,
    /// Milliseconds into `during-create`
    #[arg(long, default_value_t = 0)]
    delay: u64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn").init();
    let config = match ServerConfig::load(&arguments.config) {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("{p}"));
            return 78.into();
        }
    };
    let signals = Signals::install().expect("signals can be caught");
    let machine = Machine { clock: Arc::new(SystemClock), entropy: Arc::new(OsEntropy) };
    let decorators = match (arguments.point, arguments.nth) {
        (Some(point), Some(nth)) => {
            Bomb::new(point, nth, Duration::from_millis(arguments.delay), machine.clock.clone()).decorators()
        }
        _ => Decorators::default(),
    };
    let running = match Server::start_with(config, machine, decorators).await {
        Ok(running) => running,
        Err(error) => {
            eprintln!("{error}");
            return 1.into();
        }
    };
    let hello = seed(&running.service, &running.addresses).await;
    println!("{}", serde_json::to_string(&hello).expect("plain data"));
    // Whoever started this has gone when its end of the pipe has.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    match until_told(running, &arguments.config, signals).await {
        Ok(code) => u8::try_from(code).unwrap_or(1).into(),
        Err(error) => {
            eprintln!("{error}");
            (error.exit() as u8).into()
        }
    }
}
