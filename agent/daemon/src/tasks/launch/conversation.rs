//! One launcher's conversation: Measure, Root, Executed, in this order, on one connection.
//!
//! After Root the comparison happens in any case: when Executed arrives, when the connection closes without it, or when
//! half a minute has passed. A launcher cannot avoid it by saying nothing.

use super::{child, socket::Seqpacket};
use crate::{
    local::admit::{Gate, admit},
    shared::Shared,
    tasks::{LiveTask, live::pinned_doc},
};
use agent_workload::{Measured, PinnedCaller, measure};
use proto_types::{
    TaskId,
    id::excerpt,
    launch::{LaunchReply, LaunchRequest},
};
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

/// How long a launcher may take to execute a child it has shown.
const EXECUTED_WITHIN: Duration = Duration::from_secs(30);

/// Accepts launchers until the agent stops.
pub async fn serve(shared: Arc<Shared>, listener: Seqpacket, gate: Arc<Gate>) {
    loop {
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            Err(e) => {
                crate::local::admit::pause_after(&shared, "the launch socket", &e).await;
                continue;
            }
        };
        let (caller, permit) = match admit(&shared, &gate, &socket) {
            Ok(admitted) => admitted,
            Err(why) => {
                tracing::debug!(%why, "a launcher was refused");
                continue;
            }
        };
        let talk = Conversation { shared: shared.clone(), launcher: caller, stage: Stage::Empty };
        shared.spawn(async move {
            talk.run(socket).await;
            drop(permit);
        });
    }
}

/// How far the conversation is.
enum Stage {
    Empty,
    Measured(Arc<Measured>),
    Rooted { task: Arc<LiveTask>, measured: Arc<Measured>, child: PinnedCaller },
    Done,
}

struct Conversation {
    shared: Arc<Shared>,
    launcher: PinnedCaller,
    stage: Stage,
}

impl Conversation {
    async fn run(mut self, socket: Seqpacket) {
        while !matches!(self.stage, Stage::Done) {
            let limit = self.shared.ports.clock.sleep(EXECUTED_WITHIN);
            let is_rooted = matches!(self.stage, Stage::Rooted { .. });
            let received = tokio::select! {
                received = socket.receive() => received,
                () = limit, if is_rooted => break,
            };
            let reply = match received {
                Ok(Some((request, file))) => self.answer(request, file).await,
                Ok(None) => break,
                Err(why) => LaunchReply::Refused { why: excerpt(&why.to_string()) },
            };
            let ended = matches!(reply, LaunchReply::Refused { .. });
            if socket.send(&reply).await.is_err() || ended {
                break;
            }
        }
        if let Stage::Rooted { task, measured, child } = self.stage
            && !child::runs(&child, &measured)
        {
            tracing::warn!(task = %task.id, "the child never ran what was measured");
            self.shared.tasks.end_here(task.id, "revoked", true);
        }
    }

    async fn answer(&mut self, request: LaunchRequest, file: Option<OwnedFd>) -> LaunchReply {
        let refused = |why: String| LaunchReply::Refused { why };
        match (request, std::mem::replace(&mut self.stage, Stage::Done), file) {
            (LaunchRequest::Measure, Stage::Empty, Some(file)) => self.measure(file).await,
            (LaunchRequest::Measure, Stage::Empty, None) => {
                refused("Measure carries the descriptor of the command".into())
            }
            (LaunchRequest::Root { task_id, pid }, Stage::Measured(measured), None) => {
                self.root(task_id, pid, measured).await
            }
            (LaunchRequest::Executed, Stage::Rooted { task, measured, child }, None) => {
                if child::runs(&child, &measured) {
                    return LaunchReply::Accepted;
                }
                self.shared.tasks.end_here(task.id, "revoked", true);
                refused("the child runs another file than the one that was measured; the task is ended".into())
            }
            (_, stage, _) => {
                // A child that was shown is still compared.
                self.stage = stage;
                refused("out of order: Measure with a descriptor, then Root, then Executed, without".into())
            }
        }
    }

    async fn measure(&mut self, file: OwnedFd) -> LaunchReply {
        let measured = match measure(&self.shared.hasher, &file).await {
            Ok(measured) => Arc::new(measured),
            Err(e) => return LaunchReply::Refused { why: e.to_string() },
        };
        let (clock, entropy) = (&self.shared.ports.clock, &self.shared.ports.entropy);
        let launches = &self.shared.tasks.launches;
        match launches.add(self.launcher.key(), measured.clone(), clock.now(), &**entropy) {
            Some(launch_id) => {
                self.stage = Stage::Measured(measured);
                LaunchReply::Measured { launch_id }
            }
            None => LaunchReply::Refused { why: "too many measured commands wait to be started; try again".into() },
        }
    }

    /// The task must be one that this launcher started with what this connection measured.
    async fn root(&mut self, id: TaskId, pid: i32, measured: Arc<Measured>) -> LaunchReply {
        let of_this = |t: &Arc<LiveTask>| t.measured.as_ref().is_some_and(|m| Arc::ptr_eq(m, &measured));
        let Some(task) = self.shared.tasks.get(&id).filter(of_this) else {
            return LaunchReply::Refused { why: "there is no live task that was started with this command".into() };
        };
        let child = match child::take(&self.shared, &self.launcher, id, pid) {
            Ok(child) => child,
            Err(e) => {
                self.shared.tasks.end_here(id, "revoked", true);
                return LaunchReply::Refused { why: format!("{e}; the task is ended") };
            }
        };
        task.set_root(pinned_doc(&child));
        if let Err(e) = self.shared.tasks.save().await {
            self.shared.tasks.end_here(id, "revoked", true);
            return LaunchReply::Refused { why: format!("{e}; the task is ended") };
        }
        // It may have ended while it was written down; then its root was registered for nothing.
        if task.end_reason().is_some() {
            return LaunchReply::Refused { why: "the task is over".into() };
        }
        self.stage = Stage::Rooted { task, measured, child };
        LaunchReply::Accepted
    }
}
