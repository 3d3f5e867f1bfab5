//! `target check` of a host: is there an authority, and does something that speaks SSH answer. Whether the host lists our
//! authority is seen at a login only, and nobody logs in here.

use super::config::Config;
use proto_types::id::excerpt;
use server_core::ports::{KindContext, Missing};
use std::time::Duration;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// RFC 4253 section 4.2: an identification line has at most 255 bytes; servers may send others before it.
const MAX_GREETING: u64 = 8 * 1024;

pub(super) async fn check(config: &Config, context: &KindContext) -> Vec<Missing> {
    let mut missing = Vec::new();
    if context.ssh.public().is_none() {
        missing.push(Missing {
            severity: "error".into(),
            what: "there is no ssh signing key".into(),
            fix: Some("errand authority ssh prepare".into()),
        });
    }
    let place = format!("{}:{}", config.host, config.port);
    let answer = tokio::select! {
        answer = greeting(config) => answer,
        () = context.clock.sleep(TIMEOUT) => Err("no answer within 5s".to_string()),
    };
    if let Err(why) = answer {
        // Workloads may reach a host that the server does not.
        missing.push(Missing {
            severity: "warning".into(),
            what: format!("nothing that speaks SSH answers the server at {place}: {why}"),
            fix: None,
        });
    }
    missing
}

async fn greeting(config: &Config) -> Result<(), String> {
    let stream = TcpStream::connect((config.host.as_str(), config.port)).await.map_err(|e| e.to_string())?;
    let mut lines = BufReader::new(stream.take(MAX_GREETING));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).await.map_err(|e| e.to_string())?;
        if line.starts_with(b"SSH-2.0-") {
            return Ok(());
        }
        if read == 0 {
            return Err("it closed without an SSH-2.0 greeting".into());
        }
        if line.starts_with(b"SSH-") {
            return Err(format!("it speaks `{}`", excerpt(&String::from_utf8_lossy(&line))));
        }
    }
}
