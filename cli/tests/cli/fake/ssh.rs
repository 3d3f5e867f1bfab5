//! An SSH authority that signs with OpenSSH's own tools, and an SSH server that trusts it.

use serde_json::{Value, json};
use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The server's program; not in everybody's PATH.
const SSHD: &str = "/usr/sbin/sshd";

/// An `ssh` credential as the server describes it, without its certificate.
pub fn bastion() -> Value {
    json!({
        "kind": "ssh", "revocability": "ttl_only", "principals": [user()], "host": "bastion.internal", "port": 22,
        "placement": [{ "type": "ssh_agent", "variable": "SSH_AUTH_SOCK" }],
    })
}

/// The user that this process is, whom the certificates name.
pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("the user has a name").name
}

/// Runs one of OpenSSH's programs to its end.
pub fn tool(program: &str, args: &[&str], dir: &Path) -> String {
    let mut command = Command::new(program);
    let output = command.args(args).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program} ({e}): apt-get install openssh-client openssh-server"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A certificate of the authority in `dir` for `key`, one line without its end.
pub fn certificate(dir: &Path, key: &str) -> String {
    let requests = tempfile::tempdir_in(dir).unwrap();
    std::fs::write(requests.path().join("key.pub"), format!("{key}\n")).unwrap();
    let authority = authority(dir);
    let args = ["-q", "-s", &authority, "-I", "task=1", "-n", &user(), "-V", "-1m:+5m", "key.pub"];
    tool("ssh-keygen", &args, requests.path());
    std::fs::read_to_string(requests.path().join("key-cert.pub")).unwrap().trim_end().to_string()
}

fn authority(dir: &Path) -> String {
    new_key(dir, "authority")
}

/// The path of an Ed25519 key in `dir`, made when there is none.
pub fn new_key(dir: &Path, name: &str) -> String {
    if !dir.join(name).exists() {
        tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", name], dir);
    }
    dir.join(name).display().to_string()
}

/// The first words of an `ssh` command line that reaches a server of this user's own, started for that one connection,
/// which trusts the authority in `dir`.
pub fn client(dir: &Path) -> String {
    assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server");
    if nix::unistd::geteuid().is_root() {
        // What Debian's unit makes before it starts one.
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    let config = format!(
        "HostKey {}\nTrustedUserCAKeys {}.pub\nAuthorizedKeysFile none\nAuthenticationMethods publickey\nPermitRootLogin yes\n\
         StrictModes no\nUsePAM no\nPidFile none\nAllowAgentForwarding yes\n",
        new_key(dir, "host"),
        authority(dir)
    );
    let path = dir.join("sshd_config");
    std::fs::write(&path, config).unwrap();
    format!(
        "ssh -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes \
         -o ProxyCommand='{SSHD} -i -f {}' {}@bastion",
        path.display(),
        user()
    )
}
