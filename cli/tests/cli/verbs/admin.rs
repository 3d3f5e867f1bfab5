//! Verbs against a fake admin server: a unix socket with the paths that the verbs ask, and the SPIRE entry, agent,
//! bundle and SVID services.

use super::{
    Ran,
    journal::{checkpoint, export},
};
use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

mod grpc;
mod issuer;

#[derive(Default)]
pub struct Shared {
    tampered: AtomicBool,
    /// What was asked, as `METHOD path?query`.
    asked: Mutex<Vec<String>>,
    pub entries: Mutex<Vec<proto_wire::spire::api::types::Entry>>,
    pub agents: Mutex<Vec<proto_wire::spire::api::types::Agent>>,
}

pub struct Fake {
    dir: tempfile::TempDir,
    pub shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared::default());
        let listener = tokio::net::UnixListener::bind(dir.path().join("server.sock")).unwrap();
        let app = http(shared.clone()).merge(grpc::services(shared.clone())).merge(issuer::documents());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { dir, shared, server }
    }
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("server.sock")
    }
    pub fn home(&self) -> &std::path::Path {
        self.dir.path()
    }
    pub fn tamper(&self) {
        self.shared.tampered.store(true, Ordering::Relaxed);
    }
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }
    pub fn run(&self, args: &[&str]) -> Ran {
        let mut command = super::errand(self.home());
        let command = command.args(args).env("ERRAND_SERVER_SOCKET", self.socket());
        tokio::task::block_in_place(|| command.output()).unwrap().into()
    }
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.home().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().into()
    }
}

fn http(shared: Arc<Shared>) -> Router {
    Router::new()
        .route(
            "/v1/server",
            get(|| async {
                Json(json!({"trust_domain": "example.org", "issuer": "https://errand.example.org", "version": "0.1.0"}))
            }),
        )
        .route("/v1/tasks", get(tasks))
        .route("/v1/tasks/{id}", get(task))
        .route("/v1/tasks/{id}/{verb}", post(end_task))
        .route("/v1/leases/{id}/revoke", post(|| async { Json(json!({"id": "l", "state": "revoking"})) }))
        .route("/v1/targets", post(apply_target).get(|| async { Json(json!({"targets": []})) }))
        .route("/v1/targets/{name}/check", post(check_target))
        .route(
            "/v1/targets/{name}/setup",
            get(|| async { Json(json!({"setup": "CREATE ROLE errand;", "by_hand": null})) }),
        )
        .route("/v1/policies/check", post(check_policy))
        .route("/v1/policies", get(|| async { Json(json!({"policies": [{"id": "orders", "text": "permit(x);\n"}]})) }))
        .route("/v1/journal/root", get(|| async { Json(json!({"size": 1, "root": "00"})) }))
        .route("/v1/journal/tail", get(tail))
        .route("/v1/journal/export", get(journal))
        .route("/v1/journal/checkpoint", get(newest))
        .route("/v1/journal/checkpoint/cosignatures", post(|body: Json<Value>| async { body }))
        .route("/v1/journal/checkpoints", get(checkpoints))
        .route("/v1/who/{name}", get(who))
        .route("/v1/authorities", get(authorities))
        .route("/v1/authorities/{id}/activate", post(|Path(id): Path<String>| async move { Json(json!({"id": id})) }))
        .merge(super::holds::routes())
        .layer(axum::middleware::from_fn_with_state(shared.clone(), note))
        .with_state(shared)
}

async fn note(State(shared): State<Arc<Shared>>, request: Request, next: axum::middleware::Next) -> Response {
    shared.asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri()));
    next.run(request).await
}

fn problem(status: u16, code: &str, title: &str) -> Response {
    let body = json!({"type": "about:blank", "title": title, "status": status, "code": code, "detail": "do otherwise"});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (StatusCode::from_u16(status).unwrap(), kind, body.to_string()).into_response()
}

/// Seven tasks in pages of at most three.
async fn tasks(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let start: usize = query.get("before").map_or(0, |b| b.parse().unwrap());
    let limit: usize = query["limit"].parse::<usize>().unwrap().min(3);
    let end = (start + limit).min(7);
    let rows: Vec<_> = (start..end).map(one_task).collect();
    Json(if end < 7 { json!({"tasks": rows, "next": end.to_string()}) } else { json!({"tasks": rows}) })
}

fn one_task(n: usize) -> Value {
    json!({"id": format!("t-{n}"), "state": "active", "workload": "spiffe://example.org/planner", "user": null,
        "intent": "totals \u{1b}[31m", "grants": [{"role": "orders-db/readonly"}], "started_at": "2026-11-21T08:00:00.25Z",
        "ends_at": "2026-11-21T08:15:00Z", "leases": []})
}

async fn task(Path(id): Path<String>) -> Response {
    match id.as_str() {
        "t-0" => Json(one_task(0)).into_response(),
        "secret" => problem(403, "denied", "this operator may not see it"),
        "busy" => problem(503, "not_ready", "the store is not ready"),
        _ => problem(404, "not_found", "no such task"),
    }
}

async fn end_task(Path((id, verb)): Path<(String, String)>) -> Response {
    let reason = if verb == "revoke" { "revoked" } else { "completed" };
    if id == "missing" {
        return problem(404, "not_found", "no such task");
    }
    Json(json!({"id": id, "state": "ended", "end_reason": reason})).into_response()
}

async fn apply_target(Json(body): Json<Value>) -> Response {
    if body["text"].as_str().unwrap().contains("kind") {
        return Json(json!({"applied": [{"name": "orders-db", "change": "created"}]})).into_response();
    }
    problem(400, "invalid_target", "target `orders-db`: it has no kind")
}

async fn check_target(Path(name): Path<String>) -> Json<Value> {
    let severity = if name == "broken" { "error" } else { "warning" };
    Json(
        json!({"findings": [{"severity": severity, "what": "the role may not create roles", "fix": "ALTER ROLE errand CREATEROLE;"}]}),
    )
}

async fn check_policy(Json(body): Json<Value>) -> Json<Value> {
    let wrong = body["text"].as_str().unwrap().contains("wrong");
    Json(if wrong {
        json!({"problems": [{"policy": "orders", "line": 3, "problem": "unknown action"}]})
    } else {
        json!({"problems": []})
    })
}

async fn tail(Query(query): Query<HashMap<String, String>>) -> String {
    let from: u64 = query["from"].parse().unwrap();
    let kinds = ["task.started", "lease.handed", "task.ended"];
    let line = |n: u64| json!({"position": n, "time": "2026-11-21T08:00:00Z", "kind": kinds[n as usize], "task_id": "t-0", "outcome": "ok"});
    (from..3).map(|n| format!("{}\n", line(n))).collect()
}

async fn journal(State(shared): State<Arc<Shared>>) -> String {
    let mut lines = export(3);
    if shared.tampered.load(Ordering::Relaxed) {
        lines[2] = lines[2].replace("work 1", "work 9");
    }
    lines.join("\n") + "\n"
}

async fn newest() -> Json<Value> {
    let key = testkit::signers::TestLog::journal().verifier().to_string();
    Json(json!({ "checkpoint": checkpoint(3).to_string(), "key": key }))
}

async fn checkpoints(Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let after: u64 = query["after"].parse().unwrap();
    let notes: Vec<_> = [2, 3].into_iter().filter(|n| *n > after).map(|n| checkpoint(n).to_string()).collect();
    Json(json!({ "checkpoints": notes }))
}

async fn who(Path(name): Path<String>) -> Response {
    if name != "errand_k3m9x_a/b" {
        return problem(404, "not_found", "nothing is known by that name");
    }
    Json(json!({"credential": "l-1", "task": one_task(0), "records": [{"position": 1}],
        "lease": {"role": "orders-db/readonly", "kind": "postgres", "state": "handed", "expires_at": "2026-11-21T08:15:00Z"}}))
    .into_response()
}

async fn authorities() -> Json<Value> {
    Json(json!({"authorities": [
        {"id": "a", "use": "x509", "state": "active", "public": "-----A-----"},
        {"id": "b", "use": "x509", "state": "prepared", "public": "-----B-----\n"}]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_follow_next_and_stop_at_the_limit() {
    let fake = Fake::start().await;
    let count = |ran: Ran| ran.json()["tasks"].as_array().unwrap().len();
    assert_eq!(count(fake.run(&["task", "list", "--all", "--output", "json"]).ok()), 7);
    let some = fake.run(&["task", "list", "--limit", "5", "--output", "json"]).ok();
    assert_eq!(some.json()["next"], "5");
    assert_eq!(count(some), 5);
    fake.asked();
    fake.run(&["task", "list", "--live", "--user", "a&b@example.org", "--limit", "2"]).ok();
    assert_eq!(fake.asked(), ["GET /v1/tasks?user=a%26b%40example.org&live=true&limit=2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_data_on_stdout_without_control_characters_and_remarks_are_on_stderr() {
    let fake = Fake::start().await;
    let ran = fake.run(&["task", "list", "--limit", "1"]).ok();
    assert!(ran.stdout.starts_with("ID "), "{}", ran.stdout);
    assert!(ran.stdout.contains("2026-11-21T08:00:00Z") && !ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
    assert_eq!(ran.stderr, "there is more: use --all, or a larger --limit\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_exits_77_an_unready_server_69_and_an_unknown_task_1() {
    let fake = Fake::start().await;
    for (id, status, said) in
        [("secret", 77, "may not see it"), ("busy", 69, "not ready"), ("other", 1, "no such task")]
    {
        let ran = fake.run(&["task", "show", id]);
        assert_eq!((ran.status, ran.stdout.as_str()), (status, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains(said) && ran.stderr.contains("next: do otherwise"), "{}", ran.stderr);
    }
    fake.run(&["task", "show", "t-0"]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_dev_of_the_same_user_is_found_through_its_dev_env() {
    let fake = Fake::start().await;
    let dir = fake.home().join("xdg/errand/dev");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("dev.env"), format!("export ERRAND_SERVER_SOCKET='{}'\n", fake.socket().display()))
        .unwrap();
    let mut command = super::errand(fake.home());
    command.args(["task", "show", "t-0", "--output", "json"]).env("XDG_DATA_HOME", fake.home().join("xdg"));
    let ran: Ran = tokio::task::block_in_place(|| command.output()).unwrap().into();
    assert_eq!(ran.ok().json()["id"], "t-0");
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_by_filter_asks_first_and_without_a_terminal_wants_yes() {
    let fake = Fake::start().await;
    let ran = fake.run(&["task", "revoke", "--target", "orders-db"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("add --yes"), "{}", ran.stderr);
    assert!(fake.asked().iter().all(|a| a.starts_with("GET")), "nothing was ended");
    let ran = fake.run(&["task", "revoke", "--target", "orders-db", "--yes", "--output", "json"]).ok();
    assert_eq!(ran.json()["tasks"].as_array().unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_that_cannot_be_ended_does_not_spare_the_others() {
    let fake = Fake::start().await;
    let ran = fake.run(&["task", "revoke", "t-1", "missing", "t-2"]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("t-2: ended (revoked)") && ran.stderr.contains("no such task"), "{}", ran.stderr);
    let ran = fake.run(&["task", "complete", "t-1", "--output", "json"]).ok();
    assert_eq!(ran.json()["end_reason"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_tells_what_happens_in_a_task_until_it_is_over() {
    let fake = Fake::start().await;
    // What happened before watching is not told again; what follows is, and the end of the task is the end of it.
    let ran = fake.run(&["task", "watch", "t-0"]).ok();
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("lease.handed") && ran.stdout.contains("task.ended"), "{}", ran.stdout);
    let ran = fake.run(&["journal", "tail", "--from-position", "1", "--output", "json"]).ok();
    let kinds: Vec<Value> =
        ran.stdout.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["kind"].clone()).collect();
    assert_eq!(kinds, ["lease.handed", "task.ended"]);
    let ran = fake.run(&["journal", "tail", "--kind", "task.started"]).ok();
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declaration_that_is_not_accepted_exits_78_and_an_accepted_one_says_what_changed() {
    let fake = Fake::start().await;
    let bad = fake.file("bad.toml", "[[target]]\nname = 'orders-db'\n");
    let ran = fake.run(&["target", "apply", "-f", &bad]);
    assert_eq!(ran.status, 78);
    assert!(ran.stderr.contains("it has no kind") && ran.stderr.contains("bad.toml"), "{}", ran.stderr);
    let good = fake.file("good.toml", "[[target]]\nname = 'orders-db'\nkind = 'postgres'\n");
    let ran = fake.run(&["target", "apply", "-f", &good, "--output", "json"]).ok();
    assert_eq!(ran.json()["applied"][0]["change"], "created");
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_exit_by_what_they_find() {
    let fake = Fake::start().await;
    let ran = fake.run(&["target", "check", "broken"]);
    assert_eq!(ran.status, 1);
    assert_eq!(ran.stdout, "error: the role may not create roles\n  fix: ALTER ROLE errand CREATEROLE;\n");
    fake.run(&["target", "check", "fine"]).ok();
    assert_eq!(fake.run(&["target", "show", "x", "--setup"]).ok().stdout, "CREATE ROLE errand;\n");
    assert_eq!(fake.run(&["target", "show", "x", "--by-hand"]).status, 1);
    let wrong = fake.file("orders.cedar", "wrong");
    let ran = fake.run(&["policy", "check", "-f", &wrong]);
    assert_eq!(ran.status, 78);
    assert!(ran.stdout.ends_with("orders.cedar:3: orders: unknown action\n"), "{}", ran.stdout);
    let right = fake.file("right.cedar", "permit(x);");
    fake.run(&["policy", "check", "-f", &right]).ok();
    assert_eq!(fake.run(&["policy", "show", "orders"]).ok().stdout, "permit(x);\n");
    assert_eq!(fake.run(&["policy", "show", "other"]).status, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_tells_the_story_of_a_name_and_quotes_it_in_the_path() {
    let fake = Fake::start().await;
    let ran = fake.run(&["who", "errand_k3m9x_a/b"]).ok();
    assert!(ran.stdout.contains("who       spiffe://example.org/planner\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("over      no, it works until 2026-11-21T08:15:00Z\n"), "{}", ran.stdout);
    assert_eq!(fake.run(&["who", "other"]).status, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_show_their_public_halves_and_the_only_prepared_one_is_activated() {
    let fake = Fake::start().await;
    let ran = fake.run(&["authority", "x509", "show", "--public"]).ok();
    assert_eq!(ran.stdout, "-----A-----\n-----B-----\n");
    fake.asked();
    fake.run(&["authority", "x509", "activate"]).ok();
    assert_eq!(fake.asked(), ["GET /v1/authorities?use=x509", "POST /v1/authorities/b/activate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_that_others_may_open_the_socket_and_that_the_server_answers() {
    use std::os::unix::fs::PermissionsExt;
    let fake = Fake::start().await;
    let with_mode = |mode| {
        std::fs::set_permissions(fake.socket(), std::fs::Permissions::from_mode(mode)).unwrap();
        fake.run(&["doctor"])
    };
    let loose = with_mode(0o666);
    assert_eq!(loose.status, 1, "{}", loose.stdout);
    assert!(loose.stdout.contains("has mode 0666"), "{}", loose.stdout);
    let tight = with_mode(0o600).ok();
    assert!(tight.stdout.contains("server: answers on") && tight.stdout.contains("example.org"), "{}", tight.stdout);
}
