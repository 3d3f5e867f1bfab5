//! One trust domain: a server, a node, an operator, and the databases that were declared.
//!
//! A world is made in one line and reads as sentences from there. Every command of the operator is the real `errand`
//! on the real admin socket.

mod binary;
mod cloud;
mod daemon;
mod database;
mod errand;
mod factory;
mod http;
mod layout;
mod node;
mod python;
mod server;
mod task;
mod token;
mod workload;

pub use binary::{cargo_build, errand_binary, target_dir};
pub use cloud::{DEPLOY, OpenBao, SeaweedFs};
pub use daemon::{Daemon, NO_WAY_OUT};
pub use database::Database;
pub use errand::{Command, Finished, Started, kill, runs, written};
pub use factory::Factory;
pub use http::{Answer, ClientIdentity, get, https, metrics};
pub use layout::{Layout, TRUST_DOMAIN};
pub use node::Node;
pub use python::{peers, venv};
pub use server::Server;
pub use task::HeldTask;
pub use token::Exchange;
pub use workload::{first_svids, jwt_svid, svid_stream, svids_of};

use proto_types::{Clock, Fut, SystemClock, Timestamp};
use serde_json::Value;
use std::{path::Path, sync::Arc, time::Duration};
use testkit::poll;

/// Where components run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the test's own process: quick, and a test may reach inside.
    Here,
    /// The same on a clock that is so far behind the machine's.
    Behind(Duration),
    /// As processes of the real binary: what is to be killed.
    Processes,
}

/// The machine's clock, set back.
struct Behind(Duration);

impl Clock for Behind {
    fn now(&self) -> Timestamp {
        SystemClock.now().minus(self.0)
    }
    fn sleep(&self, d: Duration) -> Fut<'static, ()> {
        SystemClock.sleep(d)
    }
}

/// The clock of components in this process.
fn clock(place: Where) -> Arc<dyn Clock> {
    match place {
        Where::Behind(by) => Arc::new(Behind(by)),
        Where::Here | Where::Processes => Arc::new(SystemClock),
    }
}

/// The longest anything may take that is not measured more sharply.
pub const SOON: Duration = Duration::from_secs(15);
/// What the house promises of a credential in a database once its task has ended (invariant 4 says 5 s).
pub const AT_ONCE: Duration = Duration::from_secs(1);

/// One server and one node.
pub struct World {
    pub layout: Layout,
    pub server: Server,
    pub node: Node,
}

impl World {
    /// A server and an attested node in this process, and this user as the workload `planner`, with no right to anything.
    pub async fn start() -> Self {
        Self::new(Where::Here).await
    }
    /// The same as processes, so that they can be killed.
    pub async fn of_processes() -> Self {
        Self::new(Where::Processes).await
    }

    /// Server and agent on a clock that is so far behind everybody else's.
    pub async fn behind(by: Duration) -> Self {
        Self::new(Where::Behind(by)).await
    }

    async fn new(place: Where) -> Self {
        let layout = Layout::new();
        let server = Server::start(&layout, place).await;
        let token = join_token(&layout).await;
        let node = Node::start(&layout, "node", &token, place).await;
        let world = Self { layout, server, node };
        world.register("planner", &world.this_user()).await;
        world.workload_is_served().await;
        world
    }

    /// The SPIFFE ID of `name` among the workloads.
    pub fn workload(&self, name: &str) -> String {
        format!("spiffe://{TRUST_DOMAIN}/agents/{name}")
    }
    /// The selector of whoever runs the test.
    pub fn this_user(&self) -> String {
        format!("unix:uid:{}", nix::unistd::geteuid())
    }

    /// An entry for `name` on the only node; answers its id.
    pub async fn register(&self, name: &str, selector: &str) -> String {
        let id = self.workload(name);
        let made = self.operator(["entry", "create", "--spiffe-id", &id, "--selector", selector]).await;
        made["id"].as_str().unwrap_or_else(|| panic!("an entry has an id: {made}")).to_string()
    }

    /// Permits the planner every role.
    pub async fn permits_everything(&self) {
        self.permits(&format!("permit (principal == Workload::\"{}\", action, resource);", self.workload("planner")))
            .await;
    }
    /// Puts this Cedar text in force, instead of what was before.
    pub async fn permits(&self, cedar: &str) {
        let file = self.layout.write("house.cedar", cedar);
        self.operator(["policy", "apply", "-f", &file]).await;
    }

    /// A command of the operator that must succeed; its JSON.
    pub async fn operator<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        operator(&self.layout, args).await
    }

    /// `errand` with these arguments, as this user, on this node.
    pub fn errand<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        Command::new(&self.layout, self.node.socket()).args(args)
    }
    /// `errand run` with what follows.
    pub fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        self.errand(["run"]).args(args)
    }

    /// Somebody else's program, as this user, on this node.
    pub fn program(&self, program: &Path) -> Command {
        Command::of(program, &self.layout, self.node.socket())
    }

    /// The journal's records of this kind, oldest first.
    pub async fn journal(&self, kind: &str) -> Vec<Value> {
        let found = self.operator(["journal", "search", "--all", "--kind", kind]).await;
        let mut records = found["records"].as_array().cloned().unwrap_or_default();
        records.reverse();
        records
    }
    /// Everything about the task.
    pub async fn task(&self, id: &str) -> Value {
        self.operator(["task", "show", id]).await
    }
    /// The only task whose intent is `intent`.
    pub async fn task_for(&self, intent: &str) -> Value {
        let found = self.operator(["task", "list", "--all"]).await;
        let mut tasks = found["tasks"].as_array().into_iter().flatten().filter(|t| t["intent"] == intent);
        let task = tasks.next().unwrap_or_else(|| panic!("no task for `{intent}` in {found}"));
        assert!(tasks.next().is_none(), "several tasks for `{intent}`");
        task.clone()
    }
    /// Waits until the task is over; answers it.
    pub async fn task_ends(&self, id: &str) -> Value {
        poll::until(&format!("task {id} has ended"), SOON, async || self.task(id).await["state"] == "ended").await;
        self.task(id).await
    }

    /// Waits until the agent serves this process an SVID.
    pub async fn workload_is_served(&self) {
        let served = async || self.node.svids().await.is_ok_and(|svids| !svids.is_empty());
        poll::until("the agent serves an SVID", SOON, served).await;
    }

    /// Nothing was changed behind the server's back, from the first record to the last.
    pub async fn journal_is_whole(&self) {
        self.errand(["journal", "verify"]).to_end().await.exited(0);
    }

    /// Stops everything, the journal checked before.
    pub async fn ends_well(self) {
        self.journal_is_whole().await;
        self.node.stop().await;
        self.server.stop().await;
    }
}

/// A join token for one agent.
pub async fn join_token(layout: &Layout) -> String {
    let made = operator(layout, ["node", "token"]).await;
    made["token"].as_str().unwrap_or_else(|| panic!("a token in {made}")).to_string()
}

async fn operator<'a>(layout: &Layout, args: impl IntoIterator<Item = &'a str>) -> Value {
    let command = Command::new(layout, Path::new("/nonexistent")).args(args).args(["--output", "json"]);
    command.to_end().await.exited(0).json()
}
