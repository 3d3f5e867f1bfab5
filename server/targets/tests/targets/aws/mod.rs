//! The kind `aws` against a stand-in that verifies what AWS documents. Real servers that speak STS stand in the
//! end-to-end tests.

mod check;
mod documents;
mod faults;
mod life;
mod limits;
mod setup;

use crate::world::{self, STORE};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_types::{Clock as _, Timestamp};
use serde_json::Value;
use server_core::ports::{IssueError, IssueRequest, Issued, KindContext, Target};
use server_targets::{Registry, parse_toml};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::{
    fakes::FakeClock,
    signers::TestSigners,
    sts::{RoleTrust, StandInSts, Trust},
    target_law::{Subject, durable},
};

const DEPLOY: &str = "arn:aws:iam::111122223333:role/Deploy";
const PLANNER: &str = "spiffe://example.org/agents/planner";

/// An STS that trusts this server, and a clock that stands.
struct Cloud {
    sts: StandInSts,
    signers: Arc<TestSigners>,
    clock: FakeClock,
}

impl Cloud {
    async fn new() -> Self {
        let (signers, clock) = (Arc::new(TestSigners::default()), FakeClock::at(Timestamp::from_secs(1_800_000_000)));
        Self { sts: StandInSts::start(trust(&signers, &clock)).await, signers, clock }
    }

    fn context(&self) -> KindContext {
        KindContext { clock: Arc::new(self.clock.clone()), tokens: self.signers.clone(), ..world::context() }
    }

    /// The target `lake` with the role `deploy`, and these lines besides.
    fn target(&self, target: &str, role: &str) -> Arc<dyn Target> {
        build(&document(&self.sts.url(), target, role), &self.context())
    }

    fn request(&self, target: &dyn Target, left: Duration) -> IssueRequest {
        let subject =
            Subject { target, name: "lake", kind: "aws", role: "deploy", store_id: STORE, now: self.clock.now() };
        IssueRequest { not_after: self.clock.now().plus(left), ..subject.request() }
    }

    /// A session of `deploy` for an hour at most.
    async fn issue(&self, target: &dyn Target) -> Result<Issued, IssueError> {
        self.issue_for(target, Duration::from_secs(3600)).await
    }
    async fn issue_for(&self, target: &dyn Target, left: Duration) -> Result<Issued, IssueError> {
        target.issue(&durable(), &self.request(target, left)).await
    }

    /// The claims of the token that was sent last.
    fn claims(&self) -> Value {
        let call = self.sts.calls().pop().expect("the STS was asked");
        let payload = call["WebIdentityToken"].split('.').nth(1).expect("a token").to_string();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
    }
}

fn trust(signers: &TestSigners, clock: &FakeClock) -> Trust {
    Trust {
        issuer: "https://errand.example.org".into(),
        audience: "sts.amazonaws.com".into(),
        keys: signers.keys(),
        roles: BTreeMap::from([(DEPLOY.into(), RoleTrust::for_subject(PLANNER))]),
        clock: Arc::new(clock.clone()),
        given: 0,
    }
}

fn document(sts: &str, target: &str, role: &str) -> String {
    format!(
        "[[target]]\nname = \"lake\"\nkind = \"aws\"\nregion = \"eu-west-1\"\nsts_endpoint = \"{sts}\"\n\
         danger_allow_http = true\n{target}\n[[target.role]]\nname = \"deploy\"\nrole_arn = \"{DEPLOY}\"\n{role}\n"
    )
}

fn build(toml: &str, context: &KindContext) -> Arc<dyn Target> {
    let docs = parse_toml(toml, "config").unwrap_or_else(|problems| panic!("{problems:#?}"));
    Registry::builtin().build(&docs[0], context).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// How it was refused, and in which words.
#[track_caller]
fn refusal(outcome: Result<Issued, IssueError>) -> (&'static str, String) {
    match outcome {
        Ok(_) => panic!("a session was given"),
        Err(IssueError::Refused { why }) => ("refused", why),
        Err(IssueError::Never { why }) => ("never", why),
        Err(IssueError::Unknown { why }) => ("unknown", why),
    }
}
