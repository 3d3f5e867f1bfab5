//! `errand run`: a task around one command.
//!
//! Decides the order: find and open CMD, have it measured, start the task, obtain every credential, put them in place,
//! show the agent the waiting child, let it execute, stay beside it and serve it, end the task. Decides nothing about who may have
//! what. Each step is a file of its own; `sys` is the only one with `unsafe` in it.

mod accompany;
mod args;
mod cgroup;
mod child;
mod command;
mod dir;
mod endpoints;
mod failure;
mod launch;
mod obtain;
mod placement;
mod prepare;
mod process;
mod renew;
mod signals;
mod surroundings;
mod sys;
mod task;
mod texts;
mod watchdog;

pub(crate) use args::ttl;
pub use args::{Place, RunArgs};
pub(crate) use failure::{Failure, note};
pub(crate) use placement::{password_url, relative};
pub(crate) use task::Task;
pub(crate) use texts::{DIR, ERRAND};

use crate::cores::CoreLimit;
use prepare::Underway;
use proto_types::{Clock, Entropy, OsEntropy, SystemClock};
use signals::Signals;

/// The two ports, as every step takes them.
#[derive(Clone, Copy)]
pub(crate) struct Ports<'a> {
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
}

/// `errand run`. Answers the exit status: CMD's, or of what kept it from running. `cores`: what holds for CMD.
pub(crate) async fn run(args: RunArgs, cores: Option<CoreLimit>) -> i32 {
    if args.watchdog {
        return watchdog::watch::watch();
    }
    let ports = Ports { clock: &SystemClock, entropy: &OsEntropy };
    match supervise(&args, cores, ports).await {
        Ok(status) => status,
        Err(failure) => failure.report(),
    }
}

/// Ends a task whose credential reached nobody.
pub(crate) async fn end_unused(
    agent: &crate::agent_client::AgentClient,
    id: proto_types::TaskId,
    clock: &dyn Clock,
) -> Result<(), crate::agent_client::ClientError> {
    task::end(agent, id, task::End::Revoked, clock).await
}

async fn supervise(args: &RunArgs, cores: Option<CoreLimit>, ports: Ports<'_>) -> Result<i32, Failure> {
    let mut signals = Signals::catch().map_err(|e| Failure::own(format!("cannot catch signals: {e}")))?;
    let mut underway = Underway::default();
    // Until CMD runs, a signal ends the preparations, wherever they are; what exists by then is undone.
    let prepared = tokio::select! {
        biased;
        signal = signals.fatal() => Err(Failure::interrupted(signal)),
        prepared = prepare::prepare(args, cores, &mut underway, ports) => prepared,
    };
    let started = match prepared {
        // From here a signal is CMD's: it waits in the pipe until CMD has executed.
        Ok(prepared) => prepared.start(ports).await,
        Err(failure) => Err(failure),
    };
    let ended = match started {
        Ok(running) => Ok(running.accompany(&mut underway, &mut signals, ports).await),
        Err(failure) => Err(failure),
    };
    underway.clean_up(ended.is_ok(), ports).await;
    ended
}
