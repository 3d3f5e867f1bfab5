//! An SSH authority that signs with OpenSSH's own tools, and an SSH server that trusts it.

use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use testkit::openssh::{SshdFixture, key_pair};

/// An `ssh` credential as the server describes it, without its certificate.
pub fn bastion() -> Value {
    json!({
        "kind": "ssh", "revocability": "ttl_only", "principals": [SshdFixture::user()], "host": "bastion.internal", "port": 22,
        "placement": [{ "type": "ssh_agent", "variable": "SSH_AUTH_SOCK" }],
    })
}

/// Runs one of OpenSSH's programs to its end.
pub fn tool(program: &str, args: &[&str], dir: &Path) -> String {
    let mut command = Command::new(program);
    let output = command.args(args).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program} ({e}): apt-get install openssh-client"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate of the authority in `dir` for `key`, one line without its end.
pub fn certificate(dir: &Path, key: &str) -> String {
    let requests = tempfile::tempdir_in(dir).unwrap();
    std::fs::write(requests.path().join("key.pub"), format!("{key}\n")).unwrap();
    let authority = authority(dir);
    let (authority, user) = (authority.display().to_string(), SshdFixture::user());
    let args = ["-q", "-s", &authority, "-I", "task=1", "-n", &user, "-V", "-1m:+5m", "key.pub"];
    tool("ssh-keygen", &args, requests.path());
    std::fs::read_to_string(requests.path().join("key-cert.pub")).unwrap().trim_end().to_string()
}

fn authority(dir: &Path) -> PathBuf {
    new_key(dir, "authority")
}

/// The path of an Ed25519 key in `dir`, made when there is none.
pub fn new_key(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    if path.exists() { path } else { key_pair(dir, name, &["-t", "ed25519"]) }
}

/// A server that trusts the authority in `dir`, and the words of a command line that reaches it, without `ssh` itself.
pub async fn server(dir: &Path) -> (SshdFixture, String) {
    let trusted = std::fs::read_to_string(authority(dir).with_extension("pub")).unwrap();
    let server = SshdFixture::start(&trusted).await;
    let words = format!("{} {}@127.0.0.1", server.client_options().join(" "), SshdFixture::user());
    (server, words)
}
