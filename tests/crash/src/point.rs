//! Where a server dies: decorators on its ports that end the process at one named step.
//!
//! The process is ended as a power cut of the process would end it: SIGKILL, no destructor runs, nothing is flushed.

use proto_types::{Clock, Fut, Lease};
use server_core::ports::{
    Commit, CommitError, Durable, Guard, IssueError, IssueRequest, Issued, Ledger, Missing, RevokeError, Revoked,
    RoleLimits, Target,
};
use server_daemon::Decorators;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A step of issuing or ending a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Point {
    /// The lease is about to be written.
    BeforeIntent,
    /// The lease is durable, the target not asked.
    Intent,
    /// The target is working on it.
    DuringCreate,
    /// The target has made it, nothing says so.
    Create,
    /// `handed` is durable, nobody has been answered.
    Handed,
    /// What is signed and not leased (an SVID, a token) is about to be recorded, or `handed` of what is minted.
    Signed,
    /// Its record is durable, nobody has been answered.
    Recorded,
    /// The answer is about to leave.
    Reply,
    /// The end of a task is durable, its leases are not touched.
    Ended,
    /// The target has ended it, nothing says so.
    Revoke,
}

/// Dies at `point` when it is passed for the `nth` time; [`Point::DuringCreate`] waits `delay` before.
pub struct Bomb {
    pub point: Point,
    pub nth: u64,
    pub delay: Duration,
    pub clock: Arc<dyn Clock>,
    passed: AtomicU64,
}

impl Bomb {
    pub fn new(point: Point, nth: u64, delay: Duration, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { point, nth, delay, clock, passed: AtomicU64::new(0) })
    }

    /// On every port that the step may be at.
    pub fn decorators(self: Arc<Self>) -> Decorators {
        let (ledger, target, reply) = (self.clone(), self.clone(), self);
        Decorators {
            ledger: Some(Box::new(move |inner| Arc::new(CrashLedger { inner, bomb: ledger }))),
            target: Some(Arc::new(move |inner| Arc::new(CrashTarget { inner, bomb: target.clone() }))),
            reply: Some(Arc::new(move || reply.at(Point::Reply))),
        }
    }

    fn is_now(&self, point: Point) -> bool {
        point == self.point && self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.nth
    }
    fn at(&self, point: Point) {
        if self.is_now(point) {
            die();
        }
    }
}

fn die() -> ! {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    loop {
        std::thread::park();
    }
}

/// Whether the unit holds a record of this kind.
pub fn says(unit: &Commit, kind: &str) -> bool {
    unit.records().iter().any(|r| r.kind == kind)
}

/// Records of what exists nowhere but in the answer.
const SIGNED: [&str; 3] = ["svid.minted", "jwt_svid.minted", "token.issued"];

/// Whether `handed` follows an intent; a minted lease begins with it.
fn was_intended(unit: &Commit) -> bool {
    unit.guards().iter().any(|g| matches!(g, Guard::LeaseIn(..)))
}

struct CrashLedger {
    inner: Arc<dyn Ledger>,
    bomb: Arc<Bomb>,
}

impl Ledger for CrashLedger {
    fn commit(&self, unit: Commit) -> Fut<'_, Result<Durable, CommitError>> {
        Box::pin(async move {
            let steps =
                [("lease.intended", Point::Intent), ("lease.handed", Point::Handed), ("task.ended", Point::Ended)];
            let after: Vec<Point> = steps.iter().filter(|(kind, _)| says(&unit, kind)).map(|(_, p)| *p).collect();
            if after.contains(&Point::Intent) {
                self.bomb.at(Point::BeforeIntent);
            }
            let signs =
                SIGNED.iter().any(|kind| says(&unit, kind)) || (says(&unit, "lease.handed") && !was_intended(&unit));
            if signs {
                self.bomb.at(Point::Signed);
            }
            let durable = self.inner.commit(unit).await?;
            if signs {
                self.bomb.at(Point::Recorded);
            }
            after.into_iter().for_each(|point| self.bomb.at(point));
            Ok(durable)
        })
    }
}

struct CrashTarget {
    inner: Arc<dyn Target>,
    bomb: Arc<Bomb>,
}

impl Target for CrashTarget {
    fn role(&self, role: &str) -> Option<RoleLimits> {
        self.inner.role(role)
    }
    fn roles(&self) -> Vec<String> {
        self.inner.roles()
    }
    fn issue<'a>(&'a self, intended: &'a Durable, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        Box::pin(async move {
            let issue = self.inner.issue(intended, request);
            if self.bomb.is_now(Point::DuringCreate) {
                // Whichever is first: after a target that was faster is as good a moment.
                tokio::select! {
                    _ = issue => {}
                    () = self.bomb.clock.sleep(self.bomb.delay) => {}
                }
                die();
            }
            let issued = issue.await?;
            self.bomb.at(Point::Create);
            Ok(issued)
        })
    }
    fn mint<'a>(&'a self, request: &'a IssueRequest) -> Fut<'a, Result<Issued, IssueError>> {
        self.inner.mint(request)
    }
    fn audiences(&self) -> Vec<String> {
        self.inner.audiences()
    }
    fn revoke<'a>(&'a self, lease: &'a Lease) -> Fut<'a, Result<Revoked, RevokeError>> {
        Box::pin(async move {
            let revoked = self.inner.revoke(lease).await?;
            self.bomb.at(Point::Revoke);
            Ok(revoked)
        })
    }
    fn scan<'a>(&'a self, prefix: &'a str, after: Option<String>) -> Fut<'a, Result<Vec<String>, RevokeError>> {
        self.inner.scan(prefix, after)
    }
    fn check(&self) -> Fut<'_, Vec<Missing>> {
        self.inner.check()
    }
}
