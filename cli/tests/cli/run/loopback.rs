//! The endpoint on loopback that `errand run` serves: who shows everything gets the newest credential, and nobody else
//! gets anything.

use crate::fake::{Fake, SOON, Script, finish, spawn};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use testkit::poll::until;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A cloud's session as the server describes it.
fn session(target: &str, key: &str) -> Value {
    json!({
        "kind": "aws", "revocability": "ttl_only", "access_key_id": key, "secret_access_key": format!("secret of {key}"),
        "session_token": "token", "expiration": "2026-01-01T00:00:00Z",
        "placement": [
            { "type": "env", "name": "AWS_REGION", "value": format!("region-of-{target}") },
            { "type": "env", "name": "AWS_CONFIG_FILE", "value": "${DIR}/aws_config" },
            { "type": "file", "path": "aws_config", "append": true,
              "content": format!("[profile {target}]\ncredential_process = ${{ERRAND}} exchange {target}/deploy --as aws\n") },
            { "type": "loopback_http", "variable": "AWS_CONTAINER_CREDENTIALS_FULL_URI",
              "token_file_variable": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
              "body": { "AccessKeyId": "${access_key_id}", "SecretAccessKey": "${secret_access_key}",
                        "Token": "${session_token}", "Expiration": "${expiration}" } },
        ],
    })
}

fn script() -> Script {
    let mut script = Script::default();
    script.credentials.insert("lake/deploy".into(), session("lake", "AKIA1"));
    script
}

/// A task whose CMD waits for the fifo, and where its endpoint is.
struct Endpoint {
    errand: tokio::process::Child,
    port: u16,
    path: String,
    bearer: String,
    bearer_file: PathBuf,
}

impl Endpoint {
    async fn of(fake: &Fake) -> Self {
        nix::unistd::mkfifo(&fake.dir().join("fifo"), Mode::S_IRWXU).unwrap();
        let text =
            "echo $AWS_CONTAINER_CREDENTIALS_FULL_URI; echo $AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE; read line < fifo";
        let mut errand = spawn(fake.errand(&["run", "--grant", "lake/deploy", "--", "sh", "-c", text]));
        let mut lines = BufReader::new(errand.stdout.as_mut().unwrap()).lines();
        let url = lines.next_line().await.unwrap().unwrap();
        let bearer_file = PathBuf::from(lines.next_line().await.unwrap().unwrap());
        let (port, path) = url.strip_prefix("http://127.0.0.1:").unwrap().split_once('/').unwrap();
        let bearer = std::fs::read_to_string(&bearer_file).unwrap();
        Self { errand, port: port.parse().unwrap(), path: format!("/{path}"), bearer, bearer_file }
    }

    fn host(&self) -> String {
        format!("Host: 127.0.0.1:{}", self.port)
    }
    fn authorization(&self) -> String {
        format!("Authorization: {}", self.bearer)
    }

    /// The whole answer to a request with this first line and these headers.
    async fn ask(&self, line: &str, headers: &[&str]) -> String {
        let request = format!("{line} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// What the right request is answered.
    async fn fetch(&self) -> Value {
        let answer = self.ask(&format!("GET {}", self.path), &[&self.host(), &self.authorization()]).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/json"), "{head}");
        serde_json::from_str(body).unwrap()
    }

    async fn finish(mut self, fake: &Fake) {
        tokio::fs::write(fake.dir().join("fifo"), "go\n").await.unwrap();
        assert_eq!(self.errand.wait().await.unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn who_shows_everything_is_answered_from_the_credential() {
    let fake = Fake::start(script()).await;
    let endpoint = Endpoint::of(&fake).await;
    let expected = json!({ "AccessKeyId": "AKIA1", "SecretAccessKey": "secret of AKIA1", "Token": "token",
        "Expiration": "2026-01-01T00:00:00Z" });
    assert_eq!(endpoint.fetch().await, expected);
    assert_eq!(endpoint.bearer, endpoint.bearer.trim(), "sent as it is");
    endpoint.finish(&fake).await;
}

#[tokio::test]
async fn whoever_shows_less_is_refused_without_a_word() {
    let fake = Fake::start(script()).await;
    let endpoint = Endpoint::of(&fake).await;
    let (line, host, bearer) = (format!("GET {}", endpoint.path), endpoint.host(), endpoint.authorization());
    let other_port = format!("Host: 127.0.0.1:{}", endpoint.port - 1);
    let name = format!("Host: localhost:{}", endpoint.port);
    let (other_path, longer) = (format!("GET {}", endpoint.path.to_uppercase()), format!("{line}/"));
    let absolute = format!("GET http://127.0.0.1:{}{}", endpoint.port, endpoint.path);
    let (post, head) = (format!("POST {}", endpoint.path), format!("HEAD {}", endpoint.path));
    let prefixed = bearer.replacen(": ", ": Bearer ", 1);
    for (line, headers) in [
        (&line, &[&*host][..]),
        (&line, &[&host, "Authorization: "]),
        (&line, &[&host, &bearer[..bearer.len() - 1]]),
        (&line, &[&host, &prefixed]),
        (&line, &[&host, &bearer, &bearer]),
        (&line, &[&bearer]),
        (&line, &[&other_port, &bearer]),
        (&line, &[&name, &bearer]),
        (&"GET /".to_string(), &[&host, &bearer]),
        (&other_path, &[&host, &bearer]),
        (&longer, &[&host, &bearer]),
        (&absolute, &[&host, &bearer]),
        (&post, &[&host, &bearer, "Content-Length: 0"]),
        (&head, &[&host, &bearer]),
    ] {
        let answer = endpoint.ask(line, headers).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 403 ") && body.is_empty(), "{line} {headers:?}: {answer}");
    }
    for (length, is_read) in [(6 * 1024, true), (16 * 1024, false)] {
        let answer = endpoint.ask(&line, &[&host, &bearer, &format!("X: {}", "x".repeat(length))]).await;
        assert_eq!(answer.contains("AKIA1"), is_read, "{length}");
    }
    endpoint.finish(&fake).await;
}

#[tokio::test]
async fn another_user_is_refused_whatever_it_shows() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can be another user too; the decision is tested by itself");
        return;
    }
    let fake = Fake::start(script()).await;
    let endpoint = Endpoint::of(&fake).await;
    let request = format!(
        "GET {} HTTP/1.1\\r\\n{}\\r\\n{}\\r\\n\\r\\n",
        endpoint.path,
        endpoint.host(),
        endpoint.authorization()
    );
    let text = format!("exec 3<>/dev/tcp/127.0.0.1/{}; printf '{request}' >&3; cat <&3", endpoint.port);
    for (uid, is_answered) in [(0, true), (65_534, false)] {
        let output = tokio::process::Command::new("bash").args(["-c", &text]).uid(uid).output().await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).contains("AKIA1"), is_answered, "{uid}: {output:?}");
    }
    endpoint.finish(&fake).await;
}

#[tokio::test]
async fn a_session_that_expires_before_the_task_is_answered_renewed() {
    let fake = Fake::start(Script { credential_ttl: Some(Duration::from_secs(3)), ..script() }).await;
    let endpoint = Endpoint::of(&fake).await;
    assert_eq!(endpoint.fetch().await["AccessKeyId"], "AKIA1");
    fake.script().credentials.insert("lake/deploy".into(), session("lake", "AKIA2"));
    until("the renewed session is answered", SOON, || async { endpoint.fetch().await["AccessKeyId"] == "AKIA2" }).await;
    assert_eq!(std::fs::read_to_string(&endpoint.bearer_file).unwrap(), endpoint.bearer, "who holds it goes on");
    endpoint.finish(&fake).await;
}

#[tokio::test]
async fn the_endpoint_is_gone_with_the_task_while_the_command_lives() {
    let fake = Fake::start(script()).await;
    let endpoint = Endpoint::of(&fake).await;
    // A connection that was open before gets nothing either.
    let mut open = TcpStream::connect(("127.0.0.1", endpoint.port)).await.unwrap();
    endpoint.fetch().await;
    fake.end_task("revoked").await;
    until("nobody listens", SOON, || async { TcpStream::connect(("127.0.0.1", endpoint.port)).await.is_err() }).await;
    let mut rest = Vec::new();
    let read = open.read_to_end(&mut rest).await;
    assert!(rest.is_empty(), "{read:?} {rest:?}");
    assert!(!endpoint.bearer_file.exists());
    endpoint.finish(&fake).await;
}

#[tokio::test]
async fn of_two_sessions_each_is_reached_by_its_profile_and_none_by_a_variable() {
    let mut script = script();
    script.credentials.insert("pond/deploy".into(), session("pond", "AKIA3"));
    let fake = Fake::start(script).await;
    let args = ["run", "--grant", "lake/deploy", "--grant", "pond/deploy", "--", "sh", "-c"];
    let finished = finish(fake.errand(&[&args[..], &["env; cat $AWS_CONFIG_FILE"]].concat())).await;
    for absent in ["AWS_CONTAINER_CREDENTIALS_FULL_URI=", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=", "AWS_REGION="] {
        assert!(!finished.stdout.contains(absent), "{absent}");
    }
    let errand = env!("CARGO_BIN_EXE_errand");
    for target in ["lake", "pond"] {
        let profile = format!("[profile {target}]\ncredential_process = {errand} exchange {target}/deploy --as aws\n");
        assert!(finished.stdout.contains(&profile), "{}", finished.stdout);
    }
    assert!(finished.stderr.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI"), "said: {}", finished.stderr);
}

#[tokio::test]
async fn static_placement_opens_no_port_and_writes_the_fields() {
    let fake = Fake::start(script()).await;
    let show = "echo \"[$AWS_CONTAINER_CREDENTIALS_FULL_URI]\"; cat $ERRAND_CRED_LAKE_DEPLOY_FILE";
    let finished =
        finish(fake.errand(&["run", "--place", "static", "--grant", "lake/deploy", "--", "sh", "-c", show])).await;
    let (first, fields) = finished.stdout.split_once('\n').unwrap();
    assert_eq!(first, "[]");
    let fields: Value = serde_json::from_str(fields).unwrap();
    assert_eq!((&fields["access_key_id"], fields.get("placement")), (&json!("AKIA1"), Some(&json!([]))));
}

#[tokio::test]
async fn a_file_of_static_placement_is_renewed_too() {
    let fake = Fake::start(Script { credential_ttl: Some(Duration::from_secs(3)), ..script() }).await;
    let text = "first=$(cat $ERRAND_CRED_LAKE_DEPLOY_FILE); \
                while [ \"$(cat $ERRAND_CRED_LAKE_DEPLOY_FILE)\" = \"$first\" ]; do sleep 0.05; done";
    let args = ["run", "--place", "static", "--grant", "lake/deploy", "--", "sh", "-c", text];
    let finished = finish(fake.errand(&args)).await;
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn a_renewal_that_cannot_be_put_in_place_leaves_what_is_there() {
    let fake = Fake::start(Script { credential_ttl: Some(Duration::from_secs(6)), ..script() }).await;
    let endpoint = Endpoint::of(&fake).await;
    let mut broken = session("lake", "AKIA2");
    broken.as_object_mut().unwrap().remove("session_token");
    fake.script().credentials.insert("lake/deploy".into(), broken);
    until("it was renewed in vain", SOON, || async { fake.seen().exchanges.len() > 1 }).await;
    assert_eq!(endpoint.fetch().await["AccessKeyId"], "AKIA1");
    fake.script().credentials.insert("lake/deploy".into(), session("lake", "AKIA3"));
    until("it is tried again", SOON, || async { endpoint.fetch().await["AccessKeyId"] == "AKIA3" }).await;
    endpoint.finish(&fake).await;
}

#[tokio::test]
async fn as_aws_is_what_a_credential_process_prints_and_as_env_what_a_shell_evaluates() {
    let fake = Fake::start(script()).await;
    let finished = finish(fake.errand(&["exchange", "lake/deploy", "--as", "aws"])).await;
    let document: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((&document["Version"], &document["AccessKeyId"]), (&json!(1), &json!("AKIA1")));
    assert!(document["Expiration"].as_str().unwrap().ends_with('Z'));
    let finished = finish(fake.errand(&["exchange", "lake/deploy", "--as", "env"])).await;
    for line in ["export AWS_REGION='region-of-lake'", "export AWS_SECRET_ACCESS_KEY='secret of AKIA1'"] {
        assert!(finished.stdout.lines().any(|l| l == line), "{}", finished.stdout);
    }
    assert_eq!(finished.stderr, "", "nothing is missing");
}
