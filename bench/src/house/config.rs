//! The server's configuration: its ports, its policy, its file.

use super::{LOAD, PERSON, SSH_LOAD, TRUST_DOMAIN};
use anyhow::Result;
use std::{net::TcpListener, path::Path};

pub fn policy() -> String {
    let permit = |path: &str| {
        format!(
            "@id(\"bench{}\")\npermit (principal == Workload::\"spiffe://{TRUST_DOMAIN}{path}\", action, resource);\n",
            path.replace('/', "-")
        )
    };
    permit(PERSON) + &permit(LOAD) + &permit(SSH_LOAD)
}

pub struct Ports {
    pub grpc: u16,
    http: u16,
    pub mtls: u16,
    public: u16,
    pub metrics: u16,
}

impl Ports {
    pub fn free() -> Result<Self> {
        // All are held until all are known, so that no two are the same.
        let held = (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let ports = held.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
        let [grpc, http, mtls, public, metrics] = ports[..] else { anyhow::bail!("five ports") };
        Ok(Self { grpc, http, mtls, public, metrics })
    }

    pub fn server_config(&self, dir: &Path, targets: &str) -> String {
        let (dir, uid) = (dir.display(), nix::unistd::geteuid());
        let Self { grpc, http, mtls, public, metrics } = self;
        format!(
            "[server]\ntrust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{dir}/server\"\n\
             [admin]\nsocket = \"{dir}/server.sock\"\noperators = {{ \"{uid}\" = \"bench\" }}\n\
             [authority]\nkek_file = \"{dir}/kek\"\n[grpc]\nlisten = \"127.0.0.1:{grpc}\"\n\
             [http]\nlisten = \"127.0.0.1:{http}\"\n[http.mtls]\nlisten = \"127.0.0.1:{mtls}\"\n\
             [http.public]\nlisten = \"127.0.0.1:{public}\"\n[telemetry]\nmetrics_listen = \"127.0.0.1:{metrics}\"\n\
             [policy]\nfiles = [\"{dir}/bench.cedar\"]\n{targets}"
        )
    }
}
