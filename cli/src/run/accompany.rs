//! Staying beside CMD: signals passed on, endpoints served, credentials renewed, the task's end noticed, CMD's exit status
//! answered.

use super::{
    Ports,
    endpoints::Endpoints,
    failure::{self, note},
    obtain::{self, Obtained},
    placement::{self, Held, Rules},
    prepare::{Accompanied, Underway},
    process::Child,
    signals::{Signals, pass_on},
    task::{News, Task},
    texts::Names,
};
use crate::agent_client::token::TokenError;
use proto_types::{Clock, Timestamp};
use std::{future::Future, mem, pin::Pin};

/// CMD, executed.
pub struct Running {
    /// Absent when it was over before anything could be done beside it.
    child: Option<Child>,
    status: i32,
    with: Accompanied,
}

/// One renewal on its way, and which grant it is for.
type Renewal<'a> = Pin<Box<dyn Future<Output = (usize, Result<Obtained, TokenError>)> + Send + 'a>>;

impl Running {
    pub fn new(child: Child, with: Accompanied) -> Self {
        Self { child: Some(child), status: 0, with }
    }
    pub fn over(status: i32, with: Accompanied) -> Self {
        Self { child: None, status, with }
    }

    /// Until CMD exits. Answers its status.
    pub async fn accompany(mut self, underway: &mut Underway, signals: &mut Signals, ports: Ports<'_>) -> i32 {
        let Some(mut child) = self.child.take() else { return self.status };
        let clock = ports.clock;
        let mut listening = true;
        let mut renewal: Option<Renewal<'_>> = None;
        loop {
            let now = clock.now();
            let due = self.with.renewals.next().filter(|_| renewal.is_none());
            let ends_in = underway.task.as_ref().filter(|_| !underway.task_ended).map(|t| t.ends_at.since(now));
            // The exit comes first: what else happens in the same moment is a consequence of it.
            tokio::select! {
                biased;
                exited = child.exited() => return exited.unwrap_or_else(|error| {
                    note(format!("CMD's end cannot be followed: {error}"));
                    failure::OWN
                }),
                caught = signals.next() => pass_on(caught, child.pid()),
                news = news(&mut underway.task), if listening => match news {
                    News::Renewed => {}
                    News::Ended(reason) => {
                        listening = false;
                        renewal = None;
                        self.task_is_over(&reason, underway);
                    }
                    News::Lost(why) => {
                        listening = false;
                        if self.with.renewals.next().is_some() {
                            note(format!("{why}: credentials are renewed as long as the task's identity lives"));
                        }
                    }
                },
                (grant, obtained) = underway_renewal(&mut renewal) => {
                    renewal = None;
                    self.renewed(grant, obtained, underway, ports);
                }
                () = serve(&mut underway.endpoints, clock) => {}
                () = clock.sleep(due.map(|(_, at)| at.since(now)).unwrap_or_default()), if due.is_some() => {
                    renewal = due.and_then(|(grant, _)| self.renew(grant, underway, ports));
                }
                () = clock.sleep(ends_in.unwrap_or_default()), if ends_in.is_some() => {
                    listening = false;
                    renewal = None;
                    self.task_is_over("deadline", underway);
                }
            }
        }
    }

    /// CMD lives, its credentials do not.
    fn task_is_over(&mut self, reason: &str, underway: &mut Underway) {
        underway.task_ended = true;
        underway.endpoints = None;
        underway.dir = None;
        self.with.renewals.stop();
        // With them their keys.
        self.with.held.clear();
        // The process that is gone is CMD itself: its exit status is about to be read.
        if reason != "process_gone" {
            note(format!("the task is over ({reason}): CMD goes on, its credentials do not"));
        }
    }

    fn renew<'a>(&mut self, grant: usize, underway: &Underway, ports: Ports<'a>) -> Option<Renewal<'a>> {
        let task = underway.task.as_ref()?;
        let held = self.with.held.get(grant)?;
        let (role, key) = (held.role.clone(), held.key.clone());
        // A new client each time: the task's identity may have been renewed since.
        let client = self.with.endpoint.client(&task.identity);
        Some(Box::pin(async move {
            match client {
                Ok(client) => (grant, obtain::one(&client, &role, key, ports).await),
                Err(error) => (grant, Err(error)),
            }
        }))
    }

    fn renewed(
        &mut self,
        grant: usize,
        obtained: Result<Obtained, TokenError>,
        underway: &mut Underway,
        ports: Ports<'_>,
    ) {
        let now = ports.clock.now();
        let Obtained { answer, key } = match obtained {
            Ok(obtained) => obtained,
            Err(error) => return self.not_renewed(grant, &error, now),
        };
        let held = &mut self.with.held[grant];
        let expires_at = answer.credential.expires_at;
        let before = (mem::replace(&mut held.credential, answer.credential), mem::replace(&mut held.key, key));
        match self.replace(underway) {
            Ok(()) => self.with.renewals.renewed(grant, expires_at, now),
            Err(error) => {
                note(format!("a renewed credential cannot be put in place: {error}"));
                // What is in place stays, and the other grants are not held up by this one.
                let held = &mut self.with.held[grant];
                (held.credential, held.key) = before;
                self.not_renewed(grant, &*error, now);
            }
        }
    }

    fn not_renewed(&mut self, grant: usize, why: &dyn std::error::Error, now: Timestamp) {
        let Held { role, credential, .. } = &self.with.held[grant];
        if self.with.renewals.failed(grant, credential.expires_at, now) {
            note(format!("the credential for {role} has expired and could not be renewed: {why}"));
        }
    }

    /// What is served and each file are replaced whole; what CMD read before stays valid until it expires.
    fn replace(&self, underway: &mut Underway) -> Result<(), Box<dyn std::error::Error>> {
        let Accompanied { held, place, password_in_url, errand, .. } = &self.with;
        let (Some(dir), Some(endpoints)) = (underway.dir.as_mut(), &underway.endpoints) else { return Ok(()) };
        let names = Names { dir: dir.path(), errand };
        let rules = Rules { names, place: *place, password_in_url: *password_in_url };
        let files = placement::plan(held, rules)?.files;
        endpoints.renew(held, rules)?;
        Ok(dir.write(&files)?)
    }
}

async fn news(task: &mut Option<Task>) -> News {
    match task {
        Some(task) => task.news().await,
        None => std::future::pending().await,
    }
}

async fn serve(endpoints: &mut Option<Endpoints>, clock: &dyn Clock) {
    match endpoints {
        Some(endpoints) => endpoints.serve(clock).await,
        None => std::future::pending().await,
    }
}

async fn underway_renewal(renewal: &mut Option<Renewal<'_>>) -> (usize, Result<Obtained, TokenError>) {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}
