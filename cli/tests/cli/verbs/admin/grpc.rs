//! The few calls of the SPIRE server API that the verbs make, by hand: one length-prefixed message each way.

use super::{Fake, Shared};
use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post},
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use proto_wire::spire::api::{
    server::{agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid},
    types,
};
use serde_json::json;
use std::{convert::Infallible, os::unix::fs::PermissionsExt, sync::Arc};
use tonic::Status;

/// A unary call (gRPC over HTTP/2, "Length-Prefixed-Message").
fn unary<Q, A>(answer: impl Fn(Q) -> Result<A, Status> + Clone + Send + Sync + 'static) -> MethodRouter
where
    Q: Message + Default,
    A: Message,
{
    post(move |body: Bytes| {
        let answered = answer(Q::decode(&body[5..]).unwrap());
        async move { answered.map_or_else(|status| status.into_http::<Body>(), |message| framed(&message)) }
    })
}

fn framed(message: &impl Message) -> Response {
    let bytes = message.encode_to_vec();
    let mut data = vec![0];
    data.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    data.extend(bytes);
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(Bytes::from(data)), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    ([("content-type", "application/grpc")], body).into_response()
}

pub fn services(shared: Arc<Shared>) -> Router {
    let (listed, created, agents) = (shared.clone(), shared.clone(), shared);
    Router::new()
        .route(
            "/spire.api.server.entry.v1.Entry/ListEntries",
            unary(move |q: entry::ListEntriesRequest| Ok(list(&listed, &q))),
        )
        .route("/spire.api.server.entry.v1.Entry/BatchCreateEntry", unary(move |q| Ok(create(&created, q))))
        .route(
            "/spire.api.server.entry.v1.Entry/GetEntry",
            unary(|_: entry::GetEntryRequest| -> Result<types::Entry, _> {
                Err(Status::not_found("there is no entry of that id"))
            }),
        )
        .route(
            "/spire.api.server.entry.v1.Entry/BatchDeleteEntry",
            unary(|q: entry::BatchDeleteEntryRequest| Ok(delete(q))),
        )
        .route(
            "/spire.api.server.agent.v1.Agent/ListAgents",
            unary(move |_: agent::ListAgentsRequest| {
                let agents = agents.agents.lock().unwrap().clone();
                Ok(agent::ListAgentsResponse { agents, next_page_token: String::new() })
            }),
        )
        .route(
            "/spire.api.server.agent.v1.Agent/CreateJoinToken",
            unary(|q: agent::CreateJoinTokenRequest| {
                Ok(types::JoinToken { value: "a-token".into(), expires_at: 1_795_000_000 + i64::from(q.ttl) })
            }),
        )
        .route(
            "/spire.api.server.agent.v1.Agent/BanAgent",
            unary(|_: agent::BanAgentRequest| -> Result<(), _> {
                Err(Status::permission_denied("this operator may not ban nodes"))
            }),
        )
        .route(
            "/spire.api.server.bundle.v1.Bundle/GetBundle",
            unary(|_: bundle::GetBundleRequest| {
                let x509_authorities = vec![types::X509Certificate { asn1: vec![1, 2, 3], tainted: false }];
                Ok(types::Bundle { trust_domain: "example.org".into(), x509_authorities, ..Default::default() })
            }),
        )
        .route(
            "/spire.api.server.svid.v1.SVID/MintX509SVID",
            unary(|q: svid::MintX509svidRequest| {
                let chain = vec![q.csr];
                Ok(svid::MintX509svidResponse {
                    svid: Some(types::X509svid {
                        cert_chain: chain,
                        id: id("/legacy"),
                        expires_at: 1_795_000_000,
                        ..Default::default()
                    }),
                })
            }),
        )
}

fn id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid { trust_domain: "example.org".into(), path: path.into() })
}

/// Pages of at most two.
fn list(shared: &Shared, q: &entry::ListEntriesRequest) -> entry::ListEntriesResponse {
    let all = shared.entries.lock().unwrap();
    let start = q.page_token.parse().unwrap_or(0);
    let end = all.len().min(start + usize::try_from(q.page_size).unwrap().min(2));
    let next_page_token = if end < all.len() { end.to_string() } else { String::new() };
    entry::ListEntriesResponse { entries: all[start..end].to_vec(), next_page_token }
}

fn create(shared: &Shared, q: entry::BatchCreateEntryRequest) -> entry::BatchCreateEntryResponse {
    let mut all = shared.entries.lock().unwrap();
    let one = |mut e: types::Entry| {
        if let Some(there) = all.iter().find(|a| a.spiffe_id == e.spiffe_id) {
            let status = Some(types::Status { code: 6, message: "similar entry already exists".into() });
            return entry::batch_create_entry_response::Result { status, entry: Some(there.clone()) };
        }
        if e.id.is_empty() {
            e.id = format!("e-{}", all.len());
        }
        all.push(e.clone());
        entry::batch_create_entry_response::Result { status: Some(types::Status::default()), entry: Some(e) }
    };
    entry::BatchCreateEntryResponse { results: q.entries.into_iter().map(one).collect() }
}

fn delete(q: entry::BatchDeleteEntryRequest) -> entry::BatchDeleteEntryResponse {
    let one = |id: String| {
        let code = if id == "missing" { 5 } else { 0 };
        let status = Some(types::Status { code, message: if code == 0 { "" } else { "no such entry" }.into() });
        entry::batch_delete_entry_response::Result { status, id }
    };
    entry::BatchDeleteEntryResponse { results: q.ids.into_iter().map(one).collect() }
}

fn with_agents(fake: &Fake, paths: &[&str]) {
    let agents = paths.iter().map(|p| types::Agent { id: id(p), ..Default::default() }).collect();
    *fake.shared.agents.lock().unwrap() = agents;
}

const CREATE: [&str; 6] = ["entry", "create", "--spiffe-id", "spiffe://example.org/a", "--selector", "unix:uid:1"];

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_a_parent_goes_under_the_only_agent_and_else_the_agents_are_listed() {
    let fake = Fake::start().await;
    let none = fake.run(&CREATE);
    assert_eq!(none.status, 1);
    assert!(none.stderr.contains("no agent is attested yet"), "{}", none.stderr);
    with_agents(&fake, &["/spire/agent/x", "/spire/agent/y"]);
    let several = fake.run(&CREATE);
    assert_eq!(several.status, 2);
    assert!(several.stderr.contains("spiffe://example.org/spire/agent/y"), "{}", several.stderr);
    with_agents(&fake, &["/spire/agent/x"]);
    let one = fake.run(&[&CREATE[..], &["--x509-svid-ttl", "90m", "--output", "json"]].concat()).ok().json();
    assert_eq!(one["parent_id"], "spiffe://example.org/spire/agent/x");
    assert_eq!((one["id"].clone(), one["x509_svid_ttl"].clone()), ("e-0".into(), "1h30m".into()));
    let again = fake.run(&CREATE);
    assert_eq!(again.status, 1);
    assert!(
        again.stderr.contains("already exists") && again.stderr.contains("errand entry show e-0"),
        "{}",
        again.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_many_entries_is_created_in_batches_and_what_fails_is_named() {
    let fake = Fake::start().await;
    let one = |n: usize| {
        json!({"spiffe_id": format!("spiffe://example.org/w{n}"), "selectors": [format!("unix:uid:{n}")],
        "parent_id": "spiffe://example.org/spire/agent/x"})
    };
    let all: Vec<_> = (0..450).map(one).collect();
    let path = fake.file("entries.json", &json!({ "entries": all }).to_string());
    let made = fake.run(&["entry", "create", "--data", &path, "--output", "json"]).ok().json();
    assert_eq!(made["entries"].as_array().unwrap().len(), 450);
    let listed = fake.run(&["entry", "list", "--all", "--output", "json"]).ok().json();
    assert_eq!(listed["entries"].as_array().unwrap().len(), 450);
    let path = fake.file("more.json", &format!("{}\n{}", one(7), one(450)));
    let ran = fake.run(&["entry", "create", "--data", &path]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("where: entry 1 of the file, spiffe://example.org/w7"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("created 1 entry of 2") && ran.stdout.contains("e-450"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_entry_exits_1_and_a_denied_call_77() {
    let fake = Fake::start().await;
    assert_eq!(fake.run(&["entry", "show", "x"]).status, 1);
    let ran = fake.run(&["entry", "delete", "a", "missing", "--entry-id", "b"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("deleted 2 entries") && ran.stderr.contains("no such entry"), "{}", ran.stderr);
    assert_eq!(fake.run(&["node", "ban", "spiffe://example.org/spire/agent/x"]).status, 77);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_the_only_thing_on_stdout_and_a_flag_wins_over_its_variable() {
    let fake = Fake::start().await;
    let ran = fake.run(&["node", "token"]).ok();
    assert_eq!(ran.stdout, "a-token\n");
    assert!(ran.stderr.contains("works once"), "{}", ran.stderr);
    let expires = |args: &[&str]| {
        let mut command = super::super::errand(fake.home());
        command.args(["node", "token", "--output", "json"]).args(args).env("ERRAND_SERVER_SOCKET", fake.socket());
        command.env("ERRAND_NODE_TOKEN_TTL", "1m");
        let ran: super::Ran = tokio::task::block_in_place(|| command.output()).unwrap().into();
        ran.ok().json()["expires_at"].clone()
    };
    assert_eq!(expires(&[]), "2026-11-18T11:07:40Z");
    assert_eq!(expires(&["--ttl", "2m"]), "2026-11-18T11:08:40Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_svid_is_written_whole_and_readable_by_its_owner_only() {
    let fake = Fake::start().await;
    let dir = fake.home().join("id");
    let to = dir.to_str().unwrap();
    let ran = fake.run(&["mint", "x509", "--spiffe-id", "spiffe://example.org/legacy", "--write", to]).ok();
    assert_eq!(ran.stdout, "", "nothing secret is printed");
    for (name, label) in [("svid.pem", "CERTIFICATE"), ("key.pem", "PRIVATE KEY"), ("bundle.pem", "CERTIFICATE")] {
        let path = dir.join(name);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(&format!("-----BEGIN {label}-----\n")), "{name}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 3, "nothing is left beside them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_pem() {
    let fake = Fake::start().await;
    let ran = fake.run(&["bundle", "show"]).ok();
    assert_eq!(ran.stdout, "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n");
    // A server without federation has its own bundle only.
    let listed = fake.run(&["bundle", "list", "--output", "json"]).ok().json();
    assert_eq!(listed["bundles"][0]["trust_domain"], "example.org");
}
