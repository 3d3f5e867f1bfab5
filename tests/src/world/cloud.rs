//! Strangers: SeaweedFS, which speaks AWS's STS and S3, and OpenBao, which verify our tokens by discovery. Each a process on
//! loopback that believes this world's authorities, and is killed with the test.

use super::{
    SOON, World,
    http::{Answer, plain},
    layout::Layout,
    python::venv,
};
use http_body_util::Full;
use hyper::{Request, http::request::Builder};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use testkit::{
    poll,
    ports::{free, free_pair},
};

/// The role that SeaweedFS has: everything in the bucket `proof`.
pub const DEPLOY: &str = "arn:aws:iam::111122223333:role/Deploy";

/// SeaweedFS in one process.
pub struct SeaweedFs {
    child: Child,
    port: u16,
    /// gRPC ports: each leaves a socket behind that is named after it.
    grpc: [u16; 5],
}

impl SeaweedFs {
    /// One that gives sessions of [`DEPLOY`] to `subject`, for tokens of this world's issuer and `audience`.
    pub async fn start(world: &World, audience: &str, subject: &str) -> Self {
        let layout = &world.layout;
        let config = layout.write("iam.json", &trust(layout, audience, subject).to_string());
        let data = layout.dir().join("seaweedfs");
        fs::create_dir(&data).expect("a directory");
        let (port, http, grpc) = (free(), [free(), free(), free(), free()], [free(), free(), free(), free(), free()]);
        let mut command = process(&venv("cloud").join("bin/weed"), layout, "seaweedfs.log");
        command.args(["-logtostderr", "mini", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"]);
        command.args(["-master.telemetry=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        for (n, name) in ["master", "volume", "filer", "admin"].into_iter().enumerate() {
            command.arg(format!("-{name}.port={}", http[n])).arg(format!("-{name}.port.grpc={}", grpc[n]));
        }
        command.arg(format!("-s3.port={port}")).arg(format!("-s3.port.grpc={}", grpc[4]));
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.iam.config={config}"));
        for name in ["filer", "s3"] {
            command.arg(format!("-{name}.localSocket={}", data.join(name).display()));
        }
        let seaweedfs = Self { child: command.spawn().expect("setpriv of util-linux runs"), port, grpc };
        let speaks_sts = async || seaweedfs.try_assume("x").await.is_some_and(|a| a.status.is_client_error());
        poll::until("SeaweedFS speaks STS", SOON, speaks_sts).await;
        seaweedfs
    }

    /// Where it speaks STS and S3.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Asks for a session with this token, as anybody could.
    pub async fn assume(&self, token: &str) -> Answer {
        self.try_assume(token).await.expect("SeaweedFS answers")
    }

    async fn try_assume(&self, token: &str) -> Option<Answer> {
        let form = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={DEPLOY}&RoleSessionName=stranger\
             &DurationSeconds=900&WebIdentityToken={token}"
        );
        let request = Request::post("/").header("host", format!("127.0.0.1:{}", self.port));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(Full::from(form));
        plain(self.port, request.expect("a request")).await.ok()
    }
}

impl Drop for SeaweedFs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (name, port) in ["master", "volume", "filer", "admin", "s3"].into_iter().zip(self.grpc) {
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{name}-grpc-{port}.sock"));
        }
    }
}

fn trust(layout: &Layout, audience: &str, subject: &str) -> Value {
    let issuer = layout.issuer();
    let provider = format!("arn:aws:iam::111122223333:oidc-provider/{}", issuer.trim_start_matches("https://"));
    json!({
        "sts": { "signingKey": "c2Vzc2lvbnMgb2YgdGhpcyB0ZXN0IG9ubHk=" },
        "providers": [{
            "name": provider, "type": "oidc",
            "config": { "issuer": issuer, "clientId": audience, "tlsCaCert": layout.ca_file() },
        }],
        "roles": [{
            "roleName": "Deploy", "roleArn": DEPLOY, "attachedPolicies": ["proof"],
            "trustPolicy": { "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow", "Principal": { "Federated": provider },
                "Action": ["sts:AssumeRoleWithWebIdentity"],
                "Condition": { "StringEquals": { "oidc:aud": audience, "oidc:sub": subject } },
            }] },
        }],
        "policies": [{ "name": "proof", "document": { "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::proof", "arn:aws:s3:::proof/*"],
        }] } }],
    })
}

/// OpenBao, unsealed and in memory.
pub struct OpenBao {
    child: Child,
    port: u16,
}

impl OpenBao {
    /// One with nothing in it, whose token for everything is `root`.
    pub async fn bare(layout: &Layout) -> Self {
        // It takes the next one for its cluster.
        let port = free_pair();
        let mut command = process(&venv("cloud").join("bin/bao"), layout, "openbao.log");
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]);
        command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        let bao = Self { child: command.spawn().expect("setpriv of util-linux runs"), port };
        let jwt = json!({ "type": "jwt" });
        let ready = async || bao.ask("sys/auth/jwt", &jwt).await.is_some_and(|a| a.status.is_success());
        poll::until("OpenBao is ready", SOON, ready).await;
        bao
    }

    /// One that logs `subject` in, with tokens of this world's issuer and `audience`.
    pub async fn start(world: &World, audience: &str, subject: &str) -> Self {
        let bao = Self::bare(&world.layout).await;
        let authority = fs::read_to_string(world.layout.ca_file()).expect("the authorities are there");
        bao.must(
            "auth/jwt/config",
            &json!({
                "oidc_discovery_url": world.layout.issuer(), "oidc_discovery_ca_pem": authority,
                "jwt_supported_algs": ["ES256"],
            }),
        )
        .await;
        bao.must(
            "auth/jwt/role/task",
            &json!({
                "role_type": "jwt", "user_claim": "sub", "bound_audiences": [audience], "bound_subject": subject,
            }),
        )
        .await;
        bao
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Logs in with this token.
    pub async fn log_in(&self, token: &str) -> Answer {
        self.ask("auth/jwt/login", &json!({ "role": "task", "jwt": token })).await.expect("OpenBao answers")
    }

    /// Writes what must succeed.
    pub async fn must(&self, path: &str, body: &Value) {
        Self::succeeded(path, self.ask(path, body).await);
    }

    /// Deletes what is there.
    pub async fn forget(&self, path: &str) {
        Self::succeeded(path, self.send(Request::delete(format!("/v1/{path}")), String::new()).await);
    }

    fn succeeded(path: &str, answer: Option<Answer>) {
        let answer = answer.expect("OpenBao answers");
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
    }

    async fn ask(&self, path: &str, body: &Value) -> Option<Answer> {
        self.send(Request::post(format!("/v1/{path}")), body.to_string()).await
    }

    async fn send(&self, request: Builder, body: String) -> Option<Answer> {
        let request = request.header("host", format!("127.0.0.1:{}", self.port));
        let request = request.header("x-vault-token", "root").body(Full::from(body));
        plain(self.port, request.expect("a request")).await.ok()
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program in clean surroundings whose log is `log`; the kernel kills it with this process.
fn process(program: &Path, layout: &Layout, log: &str) -> Command {
    let log: PathBuf = layout.dir().join(log);
    let out = File::create(&log).expect("the log opens");
    let err = out.try_clone().expect("the log opens twice");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("HOME", layout.dir().join("home")).current_dir(layout.dir());
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    command
}
