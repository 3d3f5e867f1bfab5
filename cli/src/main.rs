//! `errand`: the one binary. Holds what is process-wide and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The first to install wins; nothing else in the process installs one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let code = cli::main(std::env::args_os());
    // Exit statuses of commands that `errand run` passes on have eight bits.
    ExitCode::from(u8::try_from(code.rem_euclid(256)).unwrap_or(1))
}
