//! A real DNS server for one test: dnsmasq on a free port of 127.0.0.1, gone with the value.

use crate::{poll, ports};
use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::net::TcpStream;

const READY: Duration = Duration::from_secs(10);

/// A running DNS server that knows what it was told and nothing else.
pub struct DnsFixture {
    port: u16,
    process: Option<Child>,
}

impl DnsFixture {
    /// Starts one with these records, as dnsmasq writes them: `srv-host=_x._tcp.example.test,host,port,priority,weight`,
    /// `host-record=host,127.0.0.1`.
    pub async fn start(records: &[String]) -> Self {
        let mut fixture = Self { port: ports::free(), process: None };
        fixture.resume(records).await;
        fixture
    }

    pub fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts it again on the same port, with these records.
    pub async fn resume(&mut self, records: &[String]) {
        let mut command = Command::new("/usr/sbin/dnsmasq");
        let user =
            nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().expect("whoever runs this has a name");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--listen-address=127.0.0.1", "--pid-file=", "--log-facility=-"]);
        command.arg(format!("--port={}", self.port)).arg(format!("--user={}", user.name));
        command.args(records.iter().map(|record| format!("--{record}")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("dnsmasq runs; install it: apt-get install dnsmasq-base"));
        let at = self.addr();
        poll::until("dnsmasq answers", READY, || async move { TcpStream::connect(at).await.is_ok() }).await;
    }

    /// Ends it: nobody answers there.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // One that has ended already is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for DnsFixture {
    fn drop(&mut self) {
        self.stop();
    }
}
