//! A real OpenSSH server for one test: its own host key and configuration, a free port of 127.0.0.1, gone with the value.
//!
//! Whoever runs the test is the one user who can log in: an unprivileged sshd cannot become another. It trusts the
//! authorities that the test writes down and no key.

use crate::{poll, ports};
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";
const READY: Duration = Duration::from_secs(20);

/// A running server.
pub struct SshdFixture {
    dir: TempDir,
    port: u16,
    process: Child,
}

impl SshdFixture {
    /// Starts a server that trusts `authorities`: lines of OpenSSH, each ended.
    pub async fn start(authorities: &str) -> Self {
        assert!(Path::new(SSHD).exists(), "{SSHD} is missing: apt-get install openssh-server openssh-client");
        let dir = tempfile::Builder::new().prefix("errand-sshd-").tempdir().expect("a temporary directory");
        if nix::unistd::geteuid().is_root() {
            // Where a privileged sshd separates its privileges; Debian makes it at boot.
            fs::create_dir_all("/run/sshd").expect("/run/sshd");
        }
        fs::write(dir.path().join("ca.pub"), authorities).expect("write");
        keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &dir.path().join("host").display().to_string()]);
        let port = ports::free();
        fs::write(dir.path().join("sshd_config"), configuration(dir.path(), port)).expect("write");
        let process = Command::new(SSHD)
            .args(["-D", "-f"])
            .arg(dir.path().join("sshd_config"))
            .arg("-E")
            .arg(dir.path().join("log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd starts");
        let fixture = Self { dir, port, process };
        let answers = || async { TcpStream::connect(("127.0.0.1", port)).is_ok() };
        if !poll::holds_within(READY, answers).await {
            panic!("sshd does not answer: {}", fixture.log());
        }
        fixture
    }

    pub fn port(&self) -> u16 {
        self.port
    }
    /// A folder that lives as long as the server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
    /// The one user who can log in.
    pub fn user() -> String {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        user.expect("this user has an entry in /etc/passwd").name
    }
    /// Everything sshd wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
    /// The options of `ssh` that leave this machine's own files and agents out.
    pub fn client_options(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.dir.path().join("known_hosts").display());
        let mut options = vec!["-F".into(), "none".into(), "-p".into(), self.port.to_string()];
        for option in ["BatchMode=yes", "StrictHostKeyChecking=accept-new", "LogLevel=ERROR", &known] {
            options.extend(["-o".into(), option.into()]);
        }
        options
    }
    /// Logs in with a private key and its certificate, and runs `command`.
    pub fn login(&self, key: &Path, certificate: &Path, command: &str) -> Output {
        Command::new("ssh")
            .args(self.client_options())
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i"])
            .arg(key)
            .arg("-o")
            .arg(format!("CertificateFile={}", certificate.display()))
            .arg(format!("{}@127.0.0.1", Self::user()))
            .arg(command)
            .stdin(Stdio::null())
            .output()
            .expect("ssh runs")
    }
}

impl Drop for SshdFixture {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes a key pair of `kind` (`ed25519`, `ecdsa`, `rsa`); answers the private file, beside which `.pub` lies.
pub fn key_pair(dir: &Path, name: &str, options: &[&str]) -> PathBuf {
    let file = dir.join(name);
    let shown = file.display().to_string();
    keygen(&[&["-q", "-N", "", "-C", "a comment", "-f", &shown], options].concat());
    file
}

fn keygen(arguments: &[&str]) {
    let made = Command::new("ssh-keygen").args(arguments).stdin(Stdio::null()).output();
    let made = made.expect("ssh-keygen is missing: apt-get install openssh-client");
    assert!(made.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&made.stderr));
}

fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host\nPidFile none\nTrustedUserCAKeys {dir}/ca.pub\n\
         AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
         PermitRootLogin yes\nLogLevel VERBOSE\n"
    )
}
