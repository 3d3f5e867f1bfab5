//! Everything before CMD executes, in order, and the undoing of it.

use super::{
    Failure, Ports,
    accompany::Running,
    args::RunArgs,
    cgroup,
    child::{self, Waiting},
    command::{self, Found},
    dir::{self, PrivateDir},
    endpoints::{Endpoints, Members},
    failure::note,
    launch::{LaunchError, LaunchSocket},
    obtain,
    placement::{self, Held, Plan, Rules},
    renew::Renewals,
    surroundings::{self, Surroundings},
    task::{self, End, Task},
    texts::Names,
    watchdog::Watchdog,
};
use crate::{
    agent_client::{AgentClient, token::TokenEndpoint},
    cores::CoreLimit,
    error::CliError,
};
use proto_types::RoleName;
use proto_wire::errand::v1::{GetInfoResponse, StartRequest};
use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

/// What exists so far, for whoever has to undo it.
#[derive(Default)]
pub struct Underway {
    pub agent: Option<AgentClient>,
    pub task: Option<Task>,
    /// The task is over already; nobody needs to be told.
    pub task_ended: bool,
    pub dir: Option<PrivateDir>,
    pub endpoints: Option<Endpoints>,
    watchdog: Option<Watchdog>,
    cgroup: Option<std::path::PathBuf>,
}

/// CMD waits for its exec, and the agent has accepted it.
pub struct Prepared {
    child: Waiting,
    script: Script,
    name: String,
    launch: LaunchSocket,
    running: Accompanied,
}

/// What was opened and by which path: an interpreter reads a script by its path.
struct Script {
    file: OwnedFd,
    path: PathBuf,
}

/// What staying beside CMD needs.
pub struct Accompanied {
    pub endpoint: TokenEndpoint,
    pub held: Vec<Held>,
    pub renewals: Renewals,
    pub place: super::Place,
    pub password_in_url: bool,
    /// This program, for what calls it back.
    pub errand: PathBuf,
}

pub async fn prepare(
    args: &RunArgs,
    cores: Option<CoreLimit>,
    underway: &mut Underway,
    ports: Ports<'_>,
) -> Result<Prepared, Failure> {
    let Ports { clock, .. } = ports;
    let Some(name) = args.command.first() else { return Err(Failure::usage("there is no CMD after `--`")) };
    if let Some(bad) = args.keep_env.iter().find(|n| n.is_empty() || n.contains(['=', '\0'])) {
        return Err(Failure::usage(format!("--keep-env `{bad}` is not the name of a variable")));
    }
    let found = command::find(name, std::env::var_os("PATH"))?;
    let agent = AgentClient::find().await.map_err(CliError::from)?;
    let info = agent.info(clock).await.map_err(CliError::from)?;
    let agent = &*underway.agent.insert(agent);
    let endpoint = TokenEndpoint::new(&info).map_err(Failure::own)?;
    let masks = surroundings::masks(&info.masked_json)
        .map_err(|e| Failure::own(format!("the agent's list of what to mask cannot be read: {e}")))?;
    // Started now, needed later: it gets up while the server decides.
    let watchdog = &*underway.watchdog.insert(Watchdog::start().map_err(no_watchdog)?);

    let launch = launch_socket(&info)?;
    let launch_id = launch.measure(found.file.as_fd(), clock).await.map_err(refused)?;
    let mut named = BTreeSet::new();
    let roles: Vec<RoleName> = args.grants.iter().filter(|role| named.insert(*role)).cloned().collect();
    let request = StartRequest {
        intent: args.purpose(),
        grants: roles.iter().map(ToString::to_string).collect(),
        ttl_seconds: u32::try_from(args.ttl.as_secs()).unwrap_or(u32::MAX),
        launch_id,
        spiffe_id: String::new(),
    };
    let task = &*underway.task.insert(Task::start(agent, request, clock).await.map_err(CliError::from)?);
    let client = endpoint.client(&task.identity).map_err(Failure::own)?;
    let mut held = obtain::all(&client, &roles, ports).await?;

    watchdog.ready(clock).await.map_err(no_watchdog)?;
    let path = dir::choose(&|name| std::env::var_os(name), ports.entropy)
        .map_err(|e| Failure::own(e).hint("set XDG_RUNTIME_DIR to a tmpfs that you may write"))?;
    watchdog.directory(&path, clock).await.map_err(no_watchdog)?;
    let dir = underway.dir.insert(PrivateDir::make(path).map_err(Failure::own)?);
    let errand =
        std::env::current_exe().map_err(|e| Failure::own(format!("cannot find this program's own file: {e}")))?;
    let names = Names { dir: dir.path(), errand: &errand };
    let rules = Rules { names, place: args.place, password_in_url: args.password_in_url };
    let endpoints = Endpoints::open(&mut held, rules, ports.entropy).await.map_err(Failure::own)?;
    let endpoints = underway.endpoints.insert(endpoints);
    let plan = placement::plan(&held, rules).map_err(Failure::own)?;
    let environment = Surroundings {
        inherited: &std::env::vars_os().collect(),
        masks: &masks,
        placed: &plan.env,
        keep: &args.keep_env,
        names,
        task_id: &task.id.to_string(),
        endpoint_socket: agent.socket(),
    };
    let environment = environment.environment();
    dir.write(&plan.files).map_err(Failure::own)?;
    remark(&plan, args.password_in_url);

    let script = Script { file: found.file.try_clone().map_err(Failure::own)?, path: found.path.clone() };
    let image = child::image(found, &args.command, environment, cores)?;
    let child = Waiting::fork(image).map_err(|e| Failure::own(format!("cannot start a process: {e}")))?;
    underway.cgroup = cgroup::make(task.id, child.pid());
    watchdog.command(child.pid(), underway.cgroup.as_deref(), clock).await.map_err(no_watchdog)?;
    launch.root(task.id, child.pid(), clock).await.map_err(refused)?;
    if endpoints.has_members() {
        let members = Members::of(task.id, child.pid(), underway.cgroup.is_some());
        endpoints
            .admit(members.map_err(|e| Failure::own(format!("members of the task cannot be told from others: {e}")))?);
    }

    let renewals = Renewals::new(&held, task.ends_at, clock.now());
    let (place, password_in_url) = (args.place, args.password_in_url);
    let running = Accompanied { endpoint, held, renewals, place, password_in_url, errand };
    Ok(Prepared { child, script, name: name.to_string_lossy().into_owned(), launch, running })
}

impl Prepared {
    /// Lets CMD execute, and has the agent look at what it became.
    pub async fn start(self, ports: Ports<'_>) -> Result<Running, Failure> {
        let (mut child, held) = self.child.execute(&self.name).await?;
        child::let_go_of_stdio();
        if !Found::is_in_place(&self.script.file, &self.script.path) {
            child.kill();
            return Err(Failure::own(format!(
                "{} was replaced while it was being started",
                self.script.path.display()
            )));
        }
        let compared = self.launch.executed(ports.clock).await;
        drop(held);
        if let Err(error) = compared {
            // A command that is over before the agent looked has nothing left to show: what it answered stands.
            return match child.reap() {
                Ok(Some(status)) => Ok(Running::over(status, self.running)),
                _ => Err(refused(error)),
            };
        }
        Ok(Running::new(child, self.running))
    }
}

impl Underway {
    /// Ends the task and removes every trace. `ran`: CMD executed.
    pub async fn clean_up(mut self, ran: bool, ports: Ports<'_>) {
        drop(self.endpoints.take());
        drop(self.dir.take());
        let ending = async {
            let (Some(agent), Some(task), false) = (&self.agent, &mut self.task, self.task_ended) else { return };
            let how = if ran { End::Completed } else { End::Revoked };
            let Err(error) = task::end(agent, task.id, how, ports.clock).await else { return };
            // Somebody ended it in the same moment, and CMD with it: then its stream says who.
            match task.ended(ports.clock).await {
                // The agent saw CMD go before it was told.
                Some(reason) if reason == "process_gone" => {}
                Some(reason) => note(format!("the task has ended ({reason})")),
                None if error.means_gone() => {}
                None => note(format!("{error}; the task {} ends by itself", task.id)),
            }
        };
        ending.await;
        if let Some(group) = &self.cgroup {
            cgroup::remove(group);
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.done(ports.clock).await;
        }
    }
}

fn launch_socket(info: &GetInfoResponse) -> Result<LaunchSocket, Failure> {
    if info.launch_socket.is_empty() {
        return Err(Failure::own("this agent does not start commands: it names no launch socket"));
    }
    LaunchSocket::connect(Path::new(&info.launch_socket)).map_err(refused)
}

fn refused(error: LaunchError) -> Failure {
    match error {
        LaunchError::Unreachable(_) => CliError::unreachable(error).hint("look at the agent's log").into(),
        LaunchError::Garbled | LaunchError::Refused(_) => Failure::own(error),
    }
}

fn no_watchdog(error: io::Error) -> Failure {
    Failure::own(format!("the process that cleans up after a kill cannot be started: {error}"))
}

/// What a user would otherwise have to find out.
fn remark(plan: &Plan, password_in_url: bool) {
    if !plan.left_out.is_empty() {
        let names: Vec<_> = plan.left_out.iter().map(String::as_str).collect();
        note(format!("several grants differ in {}: left unset, name the target instead", names.join(", ")));
    }
    if password_in_url && plan.urls_with_password == 0 {
        note("--password-in-url: no grant gives a URL with a user and a password");
    }
}
