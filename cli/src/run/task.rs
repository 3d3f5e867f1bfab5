//! The task as its launcher sees it: started over a stream that carries its identity, renews it, and says how it ended.

use crate::agent_client::{AgentClient, ClientError, identity::Identity, within};
use proto_types::{Clock, TaskId, Timestamp};
use proto_wire::errand::v1::{EndRequest, StartRequest, StartResponse};
use std::time::Duration;
use tonic::Streaming;

/// Policy decides and the journal is written before the first message comes.
const START: Duration = Duration::from_secs(30);
/// The longest a stream is asked for the end of a task that cannot be ended any more.
const TOLD: Duration = Duration::from_secs(1);
/// How long an exit waits for the server to note the end.
const END: Duration = Duration::from_secs(5);

const STARTING: &str = "starting the task";

/// A live task.
#[derive(Debug)]
pub struct Task {
    pub id: TaskId,
    pub ends_at: Timestamp,
    pub identity: Identity,
    stream: Streaming<StartResponse>,
}

/// What the stream said next.
#[derive(Debug)]
pub enum News {
    /// [`Task::identity`] is new.
    Renewed,
    /// The task is over, for this reason.
    Ended(String),
    /// The stream broke; the task may live.
    Lost(String),
}

impl Task {
    pub async fn start(agent: &AgentClient, request: StartRequest, clock: &dyn Clock) -> Result<Self, ClientError> {
        let conversation = async {
            let mut stream = agent.tasks().start(request).await?.into_inner();
            let first = stream.message().await?;
            Ok(tonic::Response::new((first, stream)))
        };
        let (first, stream) = agent.answer(STARTING, within(clock, START, conversation).await)?;
        let unusable = |why: String| ClientError::Answer { doing: STARTING, why };
        let first = first.ok_or_else(|| unusable("the agent closed the stream without a word".into()))?;
        if !first.end_reason.is_empty() {
            return Err(unusable(format!("the task ended at once: {}", first.end_reason)));
        }
        let id = first.task_id.parse().map_err(|e: proto_types::IdError| unusable(e.to_string()))?;
        let ends_at = Timestamp::from_millis(first.ends_at);
        let identity = Identity::new(first.spiffe_id, &first.x509_svid, first.x509_svid_key, first.subject_token)?;
        Ok(Self { id, ends_at, identity, stream })
    }

    /// The next news. Safe to cancel.
    pub async fn news(&mut self) -> News {
        match self.stream.message().await {
            Ok(Some(message)) if !message.end_reason.is_empty() => News::Ended(message.end_reason),
            Ok(Some(message)) => {
                self.renew(message);
                News::Renewed
            }
            Ok(None) => News::Lost("the agent closed the task's stream".into()),
            Err(status) => News::Lost(format!("the task's stream broke: {}", status.message())),
        }
    }

    /// How it ended, when its stream says so soon.
    pub async fn ended(&mut self, clock: &dyn Clock) -> Option<String> {
        let last = async {
            loop {
                match self.news().await {
                    News::Renewed => {}
                    News::Ended(reason) => return Some(reason),
                    News::Lost(_) => return None,
                }
            }
        };
        tokio::select! {
            told = last => told,
            () = clock.sleep(TOLD) => None,
        }
    }

    /// What a message leaves out stays as it was.
    fn renew(&mut self, message: StartResponse) {
        let token = match message.subject_token {
            token if token.is_empty() => self.identity.subject_token.expose().clone(),
            token => token,
        };
        if message.x509_svid.is_empty() {
            self.identity.subject_token = token.into();
        } else if let Ok(identity) = Identity::new(message.spiffe_id, &message.x509_svid, message.x509_svid_key, token)
        {
            self.identity = identity;
        }
    }
}

/// How a task's end is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// CMD did its work.
    Completed,
    /// CMD never ran.
    Revoked,
}

/// Ends the task now, waiting a little for the answer.
pub async fn end(agent: &AgentClient, id: TaskId, how: End, clock: &dyn Clock) -> Result<(), ClientError> {
    let mut tasks = agent.tasks();
    let request = EndRequest { task_id: id.to_string() };
    let call = async {
        match how {
            End::Completed => tasks.complete(request).await,
            End::Revoked => tasks.revoke(request).await,
        }
    };
    agent.answer("ending the task", within(clock, END, call).await).map(drop)
}
