//! One guard for each live task: it ends the task with its launcher, its root or its deadline, whichever is first.
//!
//! The launcher's end is the task's at once. The root's end gives the launcher a second to say that the work is
//! complete; a launcher that was killed with it says nothing.

use super::LiveTask;
use crate::shared::Shared;
use agent_workload::PinnedCaller;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

/// What a launcher has to report that its command exited.
const GRACE: Duration = Duration::from_secs(1);

type Exit = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Completes when the process exits; at once when it cannot be watched.
pub fn exit_of(process: &PinnedCaller) -> Exit {
    match process.exited() {
        Ok(exited) => Box::pin(exited),
        Err(e) => {
            // Without descriptors nothing can be watched, and what is not watched must not be believed to live.
            tracing::error!(error = %e, "a process cannot be watched; it is taken for gone");
            Box::pin(std::future::ready(()))
        }
    }
}

/// Watches a task to its end.
pub async fn run(shared: Arc<Shared>, task: Arc<LiveTask>, launcher: Option<Exit>, root: Option<Exit>) {
    let tasks = &shared.tasks;
    let mut launcher = launcher.unwrap_or_else(|| Box::pin(std::future::pending()));
    let mut root = root;
    let reason = loop {
        tokio::select! {
            _ = task.ended() => break None,
            () = &mut launcher => break Some(("process_gone", true)),
            () = shared.ports.sleep_until(task.ends_at) => break Some(("deadline", false)),
            () = task.rooted.notified(), if root.is_none() => {
                root = task.root_key().map(|key| match shared.witness.pin_again(key) {
                    Ok(process) => exit_of(&process),
                    Err(_) => Box::pin(std::future::ready(())),
                });
            }
            () = wait(&mut root) => {
                tokio::select! {
                    _ = task.ended() => {}
                    () = &mut launcher => {}
                    () = shared.ports.clock.sleep(GRACE) => {}
                }
                root = None;
                tasks.forget_root(&task.id);
                break Some(("process_gone", true));
            }
        }
    };
    // The server keeps the deadline itself; it hears of the other ends from here.
    if let Some((reason, tell)) = reason {
        tasks.end_here(task.id, reason, tell);
    }
    // What still runs below the root is known to be in an ended task for as long as the root runs.
    if let Some(root) = root {
        root.await;
        tasks.forget_root(&task.id);
    }
}

async fn wait(exit: &mut Option<Exit>) {
    match exit {
        Some(exit) => exit.await,
        None => std::future::pending().await,
    }
}
