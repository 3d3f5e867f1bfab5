//! The law of the port `Target`: what every kind does, whatever it stands for. Run it on a real target.

use proto_types::{
    CredentialName, Entropy as _, Lease, LeaseId, LeaseState, OsEntropy, Revocability, RoleName, TaskId, Timestamp,
    id::parse_spiffe_id,
};
use serde_json::Value;
use server_core::ports::{Durable, IssueError, IssueRequest, Making, Revoked, Target};
use std::{future::Future, time::Duration};

/// The target under the law, and one of its roles.
pub struct Subject<'a> {
    pub target: &'a dyn Target,
    pub name: &'a str,
    pub kind: &'a str,
    pub role: &'a str,
    pub store_id: &'a str,
    pub now: Timestamp,
}

/// Evidence for tests that have no ledger.
pub fn durable() -> Durable {
    Durable::assertion(proto_types::Position(0), vec![[0; 32]])
}

impl Subject<'_> {
    /// A fresh request for this role, for ten minutes.
    pub fn request(&self) -> IssueRequest {
        IssueRequest {
            name: CredentialName::of(self.store_id, LeaseId::new(OsEntropy.uuid_v7(self.now))),
            role: self.role.into(),
            task: TaskId::new(OsEntropy.uuid_v7(self.now)),
            workload: parse_spiffe_id("spiffe://example.org/agents/planner").expect("a SPIFFE ID"),
            user: None,
            params: Value::Null,
            key: None,
            now: self.now,
            not_after: self.now.plus(Duration::from_secs(600)),
        }
    }

    /// The lease of `request`, as the store would hold it.
    pub fn lease(&self, request: &IssueRequest, handle: Value) -> Lease {
        Lease {
            id: LeaseId::new(OsEntropy.uuid_v7(self.now)),
            task_id: request.task,
            workload: request.workload.clone(),
            role: RoleName::new(self.name, self.role).expect("names"),
            kind: self.kind.into(),
            name: request.name.clone(),
            state: LeaseState::Revoking,
            revocability: self.target.role(self.role).map_or(Revocability::TtlOnly, |r| r.revocability),
            issued_at: self.now,
            expires_at: request.not_after,
            revoked_at: None,
            handle: handle.into(),
            due_at: self.now,
            tries: 0,
            last_error: None,
            attempt: None,
        }
    }

    async fn is_alive(&self, request: &IssueRequest) -> bool {
        let prefix = CredentialName::prefix(self.store_id);
        let names = self.target.scan(&prefix, None).await.expect("the target is scanned");
        names.iter().any(|n| n == request.name.as_str())
    }
}

/// Every clause. `occupy` makes something foreign in the target under the given name, and `vacate` takes it away.
pub async fn holds<O, OF, V, VF>(subject: &Subject<'_>, occupy: O, vacate: V)
where
    O: Fn(String) -> OF,
    OF: Future<Output = ()>,
    V: Fn(String) -> VF,
    VF: Future<Output = ()>,
{
    roles_are_the_declared_ones(subject);
    what_is_issued_is_found_and_what_is_revoked_is_gone(subject).await;
    revoking_needs_no_handle(subject).await;
    revoking_what_never_was_succeeds(subject).await;
    scanning_pages_and_matches_its_prefix_only(subject).await;
    a_role_that_is_not_declared_is_refused(subject).await;
    a_name_of_another_store_is_neither_issued_nor_revoked(subject).await;
    a_name_that_is_taken_is_refused_and_left_alone(subject, occupy, vacate).await;
}

/// Every clause for a kind of which nothing exists before release ([`Target::mint`]). `key` makes a caller's key.
pub async fn holds_for_minted(subject: &Subject<'_>, key: impl Fn() -> Option<String>) {
    roles_are_the_declared_ones(subject);
    let request = |key| IssueRequest { key, ..subject.request() };
    let limits = subject.target.role(subject.role).expect("the role is declared");
    assert_eq!(limits.making, Making::Minted);

    let good = request(key());
    let issued = subject.target.mint(&good).await.expect("minted");
    assert!(issued.not_after <= good.not_after && issued.not_after > good.now);
    assert!(!issued.handle.to_string().contains(issued.access_token.expose().as_str()), "a handle is never a secret");
    assert_eq!(issued.token_type, limits.token_type);

    let again = subject.target.mint(&good).await.expect("minted again");
    assert_ne!(again.access_token.expose(), issued.access_token.expose(), "no credential is made twice");

    let lease = subject.lease(&good, issued.handle);
    match subject.target.revoke(&lease).await.expect("an answer about its end") {
        Revoked::Gone => {}
        Revoked::Lingers { until } => assert_eq!(until, lease.expires_at),
    }
    refused(subject.target.issue(&durable(), &good).await.err());
    refused(subject.target.mint(&IssueRequest { role: "no-such-role".into(), ..request(key()) }).await.err());
    let name = CredentialName::of("zzzzz", LeaseId::new(OsEntropy.uuid_v7(subject.now)));
    let foreign = IssueRequest { name, ..request(key()) };
    refused(subject.target.mint(&foreign).await.err());
    assert!(subject.target.revoke(&subject.lease(&foreign, Value::Null)).await.is_err());
    if limits.key.is_some() {
        refused(subject.target.mint(&request(None)).await.err());
    }
}

/// Every clause for a kind whose credentials are created elsewhere, end by themselves and leave nothing to find. `life` is
/// long enough for one.
pub async fn holds_for_sessions(subject: &Subject<'_>, life: Duration) {
    roles_are_the_declared_ones(subject);
    let limits = subject.target.role(subject.role).expect("the role is declared");
    assert_eq!((limits.making, limits.revocability), (Making::Created, Revocability::TtlOnly));
    assert_eq!(limits.key, None);
    let request = || IssueRequest { not_after: subject.now.plus(life), ..subject.request() };

    let good = request();
    let issued = subject.target.issue(&durable(), &good).await.expect("issued");
    assert!(issued.not_after <= good.not_after && issued.not_after > good.now);
    assert!(!issued.handle.to_string().contains(issued.access_token.expose().as_str()), "a handle is never a secret");
    assert_eq!(issued.token_type, limits.token_type);
    let other = subject.target.issue(&durable(), &request()).await.expect("another is issued");
    assert_ne!(other.access_token.expose(), issued.access_token.expose(), "no credential is made twice");

    assert_eq!(subject.target.scan(&CredentialName::prefix(subject.store_id), None).await, Ok(Vec::new()));
    for handle in [issued.handle, Value::Null] {
        let lease = subject.lease(&good, handle);
        for _ in 0..2 {
            let until = lease.expires_at;
            assert_eq!(subject.target.revoke(&lease).await, Ok(Revoked::Lingers { until }), "true to its word");
        }
    }
    refused(subject.target.mint(&good).await.err());
    let elsewhere = IssueRequest { role: "no-such-role".into(), ..request() };
    refused(subject.target.issue(&durable(), &elsewhere).await.err());
    let name = CredentialName::of("zzzzz", LeaseId::new(OsEntropy.uuid_v7(subject.now)));
    let foreign = IssueRequest { name, ..request() };
    refused(subject.target.issue(&durable(), &foreign).await.err());
    assert!(subject.target.revoke(&subject.lease(&foreign, Value::Null)).await.is_err());
}

fn refused(error: Option<IssueError>) {
    assert!(matches!(error, Some(IssueError::Refused { .. })), "{error:?}");
}

fn roles_are_the_declared_ones(s: &Subject<'_>) {
    assert!(s.target.roles().iter().any(|r| r == s.role));
    assert!(s.target.roles().iter().all(|r| s.target.role(r).is_some()));
    assert!(s.target.role("no-such-role").is_none());
}

async fn what_is_issued_is_found_and_what_is_revoked_is_gone(s: &Subject<'_>) {
    let request = s.request();
    let issued = s.target.issue(&durable(), &request).await.expect("issued");
    assert!(issued.not_after <= request.not_after && issued.not_after > request.now);
    assert!(!issued.handle.to_string().contains(issued.access_token.expose().as_str()), "a handle is never a secret");
    assert!(s.is_alive(&request).await);
    let lease = s.lease(&request, issued.handle);
    s.target.revoke(&lease).await.expect("revoked");
    assert!(!s.is_alive(&request).await);
    s.target.revoke(&lease).await.expect("revoked again");
}

async fn revoking_needs_no_handle(s: &Subject<'_>) {
    let request = s.request();
    s.target.issue(&durable(), &request).await.expect("issued");
    s.target.revoke(&s.lease(&request, Value::Null)).await.expect("revoked by name");
    assert!(!s.is_alive(&request).await);
}

async fn revoking_what_never_was_succeeds(s: &Subject<'_>) {
    let request = s.request();
    s.target.revoke(&s.lease(&request, Value::Null)).await.expect("revoked");
}

async fn scanning_pages_and_matches_its_prefix_only(s: &Subject<'_>) {
    let (first, second) = (s.request(), s.request());
    for request in [&first, &second] {
        s.target.issue(&durable(), request).await.expect("issued");
    }
    let prefix = CredentialName::prefix(s.store_id);
    let all = s.target.scan(&prefix, None).await.expect("scanned");
    assert!(all.is_sorted() && all.len() >= 2);
    let rest = s.target.scan(&prefix, Some(all[0].clone())).await.expect("scanned");
    assert_eq!(rest, all[1..]);
    // `_` would match any character in a pattern.
    let lookalike = prefix.replace('_', "x");
    assert_eq!(s.target.scan(&lookalike, None).await.expect("scanned"), Vec::<String>::new());
    assert_eq!(s.target.scan("%", None).await.expect("scanned"), Vec::<String>::new());
    for request in [&first, &second] {
        s.target.revoke(&s.lease(request, Value::Null)).await.expect("revoked");
    }
}

async fn a_role_that_is_not_declared_is_refused(s: &Subject<'_>) {
    let request = IssueRequest { role: "no-such-role".into(), ..s.request() };
    let refused = s.target.issue(&durable(), &request).await.err();
    assert!(matches!(refused, Some(IssueError::Refused { .. })), "{refused:?}");
    assert!(!s.is_alive(&request).await);
}

async fn a_name_of_another_store_is_neither_issued_nor_revoked(s: &Subject<'_>) {
    let name = CredentialName::of("zzzzz", LeaseId::new(OsEntropy.uuid_v7(s.now)));
    let request = IssueRequest { name, ..s.request() };
    let refused = s.target.issue(&durable(), &request).await.err();
    assert!(matches!(refused, Some(IssueError::Refused { .. })), "{refused:?}");
    assert!(s.target.revoke(&s.lease(&request, Value::Null)).await.is_err());
}

async fn a_name_that_is_taken_is_refused_and_left_alone<O, OF, V, VF>(s: &Subject<'_>, occupy: O, vacate: V)
where
    O: Fn(String) -> OF,
    OF: Future<Output = ()>,
    V: Fn(String) -> VF,
    VF: Future<Output = ()>,
{
    let request = s.request();
    occupy(request.name.as_str().into()).await;
    let refused = s.target.issue(&durable(), &request).await.err();
    assert!(matches!(refused, Some(IssueError::Refused { .. })), "{refused:?}");
    assert!(s.target.revoke(&s.lease(&request, Value::Null)).await.is_err(), "what is not ours is not dropped");
    assert!(s.is_alive(&request).await);
    vacate(request.name.as_str().into()).await;
    s.target.issue(&durable(), &request).await.expect("issued once the name is free");
    s.target.revoke(&s.lease(&request, Value::Null)).await.expect("revoked");
}
