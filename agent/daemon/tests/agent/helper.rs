//! Another process: this test binary, run again for one role. Launchers to be killed and members of tasks must be real
//! processes, since the kernel is the witness.

use crate::world::{channel, headed, with_header};
use proto_types::launch::{LaunchReply, LaunchRequest};
use proto_wire::{
    errand::v1::{GetInfoRequest, StartRequest, agent_client::AgentClient, task_client::TaskClient},
    workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, recv, sendmsg, socket_with,
};
use std::{
    fs::File,
    io::{BufRead as _, BufReader, IoSlice, Write as _},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const ROLE: &str = "AGENT_TEST_ROLE";
const SOCKET: &str = "AGENT_TEST_SOCKET";

/// The launch socket, from the launcher's side. Blocking.
pub struct LaunchClient(OwnedFd);

impl LaunchClient {
    pub fn connect(path: &Path) -> Self {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }
    pub fn ask(&self, request: &LaunchRequest, file: Option<&File>) -> LaunchReply {
        let bytes = serde_json::to_vec(request).unwrap();
        self.ask_raw(&bytes, file)
    }
    pub fn ask_raw(&self, bytes: &[u8], file: Option<&File>) -> LaunchReply {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = file.map(|f| [f.as_fd()]);
        if let Some(fds) = &fds {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        let mut buffer = vec![0u8; 8192];
        let (n, _) = recv(&self.0, &mut buffer, rustix::net::RecvFlags::empty()).unwrap();
        serde_json::from_slice(&buffer[..n]).unwrap()
    }
    pub fn measure(&self, file: &Path) -> String {
        match self.ask(&LaunchRequest::Measure, Some(&File::open(file).unwrap())) {
            LaunchReply::Measured { launch_id } => launch_id,
            other => panic!("{other:?}"),
        }
    }
}

/// A program that runs until its input is closed: with whoever started it, however that ends.
pub fn patient() -> PathBuf {
    std::fs::canonicalize("/bin/cat").unwrap()
}

/// A child that waits, then becomes another program.
pub struct Waiting {
    pub child: Child,
    go: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Waiting {
    /// A child that executes `program` when it is told to.
    pub fn to_run(program: &Path, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read go; exec \"$0\" \"$@\""])
            .arg(program)
            .args(args)
            .envs(envs.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (go, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, go, said }
    }
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }
    pub fn go(&mut self) {
        self.go.write_all(b"\n").unwrap();
        // The program is there when the kernel says so.
        let exe = format!("/proc/{}/exe", self.child.id());
        while std::fs::read_link(&exe).is_ok_and(|p| is_shell(&p)) {
            std::thread::yield_now();
        }
    }
    /// The next line the program prints that is meant for the test.
    pub fn line(&mut self) -> String {
        said(&mut self.said)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn is_shell(path: &Path) -> bool {
    path == std::fs::canonicalize("/bin/sh").unwrap()
}

fn said(from: &mut impl std::io::BufRead) -> String {
    for line in from.by_ref().lines() {
        // The test harness prints around it.
        if let Some((_, rest)) = line.unwrap().split_once("SAYS ") {
            return rest.into();
        }
    }
    panic!("the helper said nothing");
}

/// How to run this binary in a role.
pub fn in_role(role: &'static str, socket: &Path) -> (PathBuf, Vec<&'static str>, Vec<(&'static str, String)>) {
    let args = vec!["--ignored", "--exact", "helper::act", "--nocapture", "--test-threads=1"];
    let envs = vec![(ROLE, role.to_string()), (SOCKET, socket.display().to_string())];
    (std::env::current_exe().unwrap(), args, envs)
}

/// A launcher in a process of its own, with a task whose root waits. Says the task's id.
pub struct Launcher {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Launcher {
    pub fn start(socket: &Path) -> Self {
        let (program, args, envs) = in_role("launcher", socket);
        let mut child =
            Command::new(program).args(args).envs(envs).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }
    pub fn line(&mut self) -> String {
        said(&mut self.said)
    }
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Not a test: what this binary does in a role. Ignored, so that it runs only when it is asked for.
#[test]
#[ignore = "a role that other tests start in a process of its own"]
fn act() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let socket = PathBuf::from(std::env::var(SOCKET).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match role.as_str() {
        "member" => runtime.block_on(member(&socket)),
        "starter" => runtime.block_on(starter(&socket)),
        "launcher" => runtime.block_on(launcher(&socket)),
        other => panic!("{other}"),
    }
}

fn say(text: &str) {
    println!("SAYS {text}");
}

/// Says what it is served, until the stream changes, and again.
async fn member(socket: &Path) {
    let info = AgentClient::new(headed(channel(socket))).get_info(GetInfoRequest {}).await.unwrap().into_inner();
    say(&format!("task {}", info.task_id));
    let mut client = SpiffeWorkloadApiClient::new(channel(socket));
    let mut stream = client.fetch_x509svid(with_header(X509svidRequest {})).await.unwrap().into_inner();
    loop {
        match stream.message().await {
            Ok(Some(answer)) => {
                let svids: Vec<_> = answer.svids.iter().map(|s| format!("{}#{}", s.spiffe_id, s.hint)).collect();
                say(&svids.join(" "));
            }
            Ok(None) => return say("end"),
            Err(status) => return say(&format!("{:?}", status.code())),
        }
    }
}

/// Starts a task from where it is, and says how each ends.
async fn starter(socket: &Path) {
    let mut client = TaskClient::new(headed(channel(socket)));
    let mut stream = client.start(StartRequest { ttl_seconds: 600, ..Default::default() }).await.unwrap().into_inner();
    while let Ok(Some(answer)) = stream.message().await {
        say(&format!("{}#{}", answer.task_id, answer.end_reason));
    }
}

async fn launcher(socket: &Path) {
    let info = AgentClient::new(headed(channel(socket))).get_info(GetInfoRequest {}).await.unwrap().into_inner();
    let launch = LaunchClient::connect(Path::new(&info.launch_socket));
    let launch_id = launch.measure(&patient());
    let request = StartRequest { launch_id, ttl_seconds: 3600, ..Default::default() };
    let mut stream = TaskClient::new(headed(channel(socket))).start(request).await.unwrap().into_inner();
    let task = stream.message().await.unwrap().unwrap();
    let mut root = Waiting::to_run(&patient(), &[], &[]);
    let task_id = task.task_id.parse().unwrap();
    assert_eq!(launch.ask(&LaunchRequest::Root { task_id, pid: root.pid() }, None), LaunchReply::Accepted);
    root.go();
    assert_eq!(launch.ask(&LaunchRequest::Executed, None), LaunchReply::Accepted);
    say(&task.task_id);
    // The agent may go and come back; this process lives on until it is killed.
    while let Ok(Some(_)) = stream.message().await {}
    std::future::pending::<()>().await;
}
