//! The server's configuration file: TOML, unknown keys are errors, all problems at once.
//!
//! Each section is parsed by the component that owns it: `[authority]` by the keys, `[[target]]` by the registry of
//! kinds, `[[node_attestor]]` by its method, `[[journal.sink]]` by the sinks. This file knows the house's own sections only.

use crate::reload;
use proto_types::{
    TargetDoc, TrustDomain,
    file::{FileError, read_text},
    format_duration,
    id::parse_trust_domain,
    time::duration_option,
};
use serde::Deserialize;
use server_authority::{AuthorityConfig, KekPlace};
use server_core::journal::Ending;
use server_sinks::SinkConfig;
use server_store::{Files, PostgresConfig, StorePlace};
use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Table, Value};

/// Largest configuration file, bytes.
const MAX_FILE: usize = 1024 * 1024;
/// How long an agent's certificate lives where nothing else is written, and at least.
const AGENT_TTL: Duration = Duration::from_secs(3600);
const MIN_AGENT_TTL: Duration = Duration::from_secs(10);
/// The shortest time that records are kept: as long as the name of a credential that is over is never used again.
const MIN_KEEP: Duration = Duration::from_secs(30 * 86_400);
/// Longest part of the TOML reader's words that is shown, characters.
const MAX_WORDS: usize = 256;

/// Something wrong in the file: where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    pub at: String,
    pub what: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

fn problem(at: impl Into<String>, what: impl Into<String>) -> ConfigProblem {
    ConfigProblem { at: at.into(), what: what.into() }
}

/// Where the server listens. Port 0 takes a free one.
#[derive(Clone, Debug)]
pub struct Listen {
    pub admin_socket: PathBuf,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub mtls: SocketAddr,
    pub public: SocketAddr,
    pub metrics: SocketAddr,
}

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub trust_domain: TrustDomain,
    pub data_dir: PathBuf,
    pub store: StorePlace,
    /// The store's stamp: `errand dev` and `errand server` never open each other's.
    pub dev: bool,
    /// Go on from a store that may lack commits, as a new epoch of it. Said on the command line only: it is one decision.
    pub accept_rollback: bool,
    /// What records that the store has lost had ended: ended again before anybody is answered.
    pub replay: Vec<Ending>,
    /// Take the clock for right as it stands. Said on the command line only, like the above.
    pub accept_clock: bool,
    pub listen: Listen,
    /// `None`: the URL of the public listener, under `localhost`.
    pub issuer: Option<String>,
    /// Names of the server in its own certificate, besides `localhost`.
    pub dns_names: Vec<String>,
    pub operators: HashMap<u32, String>,
    pub authority: AuthorityConfig,
    pub kek: KekPlace,
    pub agent_ttl: Duration,
    pub node_attestors: Vec<(String, Table)>,
    pub targets: Vec<TargetDoc>,
    /// Cedar documents applied at start: (name, file).
    pub policies: Vec<(String, PathBuf)>,
    /// Where applied targets may name files.
    pub secrets_dir: Option<PathBuf>,
    /// How long records are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// Where the journal goes besides the store.
    pub sinks: Vec<SinkConfig>,
    /// What of the file takes a restart to change, as it stands there.
    pub fixed: Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: ServerSection,
    #[serde(default)]
    store: StoreSection,
    #[serde(default)]
    admin: AdminSection,
    #[serde(default)]
    grpc: ListenSection,
    #[serde(default)]
    http: HttpSection,
    #[serde(default)]
    authority: AuthorityConfig,
    #[serde(default)]
    node_attestor: Vec<Table>,
    #[serde(default)]
    target: Vec<Value>,
    #[serde(default)]
    targets: TargetsSection,
    #[serde(default)]
    policy: PolicySection,
    #[serde(default)]
    telemetry: TelemetrySection,
    #[serde(default)]
    journal: JournalSection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerSection {
    trust_domain: String,
    data_dir: PathBuf,
    #[serde(default, with = "duration_option")]
    agent_ttl: Option<Duration>,
    #[serde(default)]
    dns_names: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct StoreSection {
    url: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    client_cert_file: Option<PathBuf>,
    client_key_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AdminSection {
    socket: Option<PathBuf>,
    #[serde(default)]
    operators: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ListenSection {
    listen: Option<SocketAddr>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct HttpSection {
    issuer: Option<String>,
    listen: Option<SocketAddr>,
    #[serde(default)]
    mtls: ListenSection,
    #[serde(default)]
    public: ListenSection,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TargetsSection {
    secrets_dir: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct PolicySection {
    #[serde(default)]
    files: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct TelemetrySection {
    metrics_listen: Option<SocketAddr>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct JournalSection {
    #[serde(default, with = "duration_option")]
    keep: Option<Duration>,
    #[serde(default)]
    sink: Vec<Table>,
}

impl ServerConfig {
    /// Reads a file. A directory, a FIFO or a device is refused before it is read.
    pub fn load(path: &Path) -> Result<Self, Vec<ConfigProblem>> {
        let fail = |e: FileError| vec![problem(path.display().to_string(), e.to_string())];
        Self::parse(&read_text(path, MAX_FILE).map_err(fail)?)
    }

    pub fn parse(text: &str) -> Result<Self, Vec<ConfigProblem>> {
        let file: File = toml::from_str(text).map_err(|e| vec![not_toml(text, &e)])?;
        let fixed = reload::fixed(toml::from_str(text).map_err(|e| vec![not_toml(text, &e)])?);
        let mut wrong = Vec::new();
        let trust_domain = parse_trust_domain(&file.server.trust_domain);
        if let Err(e) = &trust_domain {
            wrong.push(problem("[server] trust_domain", e.to_string()));
        }
        absolute(&mut wrong, "[server] data_dir", &file.server.data_dir);
        let store = store(&mut wrong, file.store, &file.server.data_dir);
        let operators = operators(&mut wrong, &file.admin.operators);
        wrong.extend(file.authority.check().into_iter().map(|p| problem("[authority]", p.to_string())));
        let agent_ttl = file.server.agent_ttl.unwrap_or(AGENT_TTL.min(file.authority.ca_ttl));
        if !(MIN_AGENT_TTL..=file.authority.ca_ttl).contains(&agent_ttl) {
            let (least, most) = (format_duration(MIN_AGENT_TTL), format_duration(file.authority.ca_ttl));
            wrong.push(problem("[server] agent_ttl", format!("write a duration from {least} to ca_ttl, {most}")));
        }
        let kek = file.authority.kek();
        if let Err(e) = &kek {
            wrong.push(problem("[authority]", e.to_string()));
        }
        let kek_file = file.authority.kek_file.as_ref();
        if kek_file.is_some_and(|k| k.starts_with(&file.server.data_dir)) {
            wrong.push(problem(
                "[authority] kek_file",
                "lies in data_dir: a backup would hold the key beside what it seals",
            ));
        }
        if let Some(issuer) = &file.http.issuer {
            check_issuer(&mut wrong, issuer);
        }
        let node_attestors = attestors(&mut wrong, file.node_attestor);
        let targets = server_targets::documents(declared(file.target), "config").unwrap_or_else(|problems| {
            wrong.extend(problems.into_iter().map(|p| problem(format!("[[target]] {}", p.target), p.problem)));
            Vec::new()
        });
        if file.journal.keep.is_some_and(|keep| keep < MIN_KEEP) {
            let least = format_duration(MIN_KEEP);
            wrong
                .push(problem("[journal] keep", format!("write a duration of at least {least}, or nothing: for ever")));
        }
        let policies = policies(&mut wrong, file.policy.files);
        let own = [Some(&file.server.data_dir), store.file(), kek_file];
        let sinks = sinks(&mut wrong, file.journal.sink, &own);
        let at = |given: Option<SocketAddr>, port: u16| given.unwrap_or(SocketAddr::from(([0, 0, 0, 0], port)));
        let listen = Listen {
            admin_socket: file.admin.socket.unwrap_or_else(|| "/run/errand/server.sock".into()),
            grpc: at(file.grpc.listen, 8081),
            http: at(file.http.listen, 8443),
            mtls: at(file.http.mtls.listen, 8444),
            public: at(file.http.public.listen, 8442),
            metrics: file.telemetry.metrics_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9464))),
        };
        distinct(&mut wrong, &listen);
        absolute(&mut wrong, "[admin] socket", &listen.admin_socket);
        match (trust_domain, kek, wrong.is_empty()) {
            (Ok(trust_domain), Ok(kek), true) => Ok(Self {
                trust_domain,
                data_dir: file.server.data_dir,
                store,
                dev: false,
                accept_rollback: false,
                replay: Vec::new(),
                accept_clock: false,
                listen,
                issuer: file.http.issuer,
                dns_names: file.server.dns_names,
                operators,
                kek,
                authority: file.authority,
                agent_ttl,
                node_attestors,
                targets,
                policies,
                secrets_dir: Some(file.targets.secrets_dir.unwrap_or_else(|| "/etc/errand/secrets".into())),
                keep: file.journal.keep,
                sinks,
                fixed,
            }),
            _ => Err(wrong),
        }
    }
}

/// Where and why, without the line itself: the reader's full text quotes it, and a line may hold a password.
fn not_toml(text: &str, e: &toml::de::Error) -> ConfigProblem {
    let line = e.span().map_or(1, |s| 1 + text.as_bytes().iter().take(s.start).filter(|b| **b == b'\n').count());
    let words = e.message().chars().map(|c| if c.is_control() { ' ' } else { c });
    problem(format!("line {line}"), words.take(MAX_WORDS).collect::<String>())
}

fn declared(tables: Vec<Value>) -> serde_json::Value {
    serde_json::to_value(tables).unwrap_or(serde_json::Value::Null)
}

/// A file of its own, unless a URL says otherwise.
fn store(wrong: &mut Vec<ConfigProblem>, section: StoreSection, data_dir: &Path) -> StorePlace {
    let own = StorePlace::Sqlite(data_dir.join("errand.db"));
    let files = Files {
        password: section.password_file,
        ca: section.ca_file,
        client_cert: section.client_cert_file,
        client_key: section.client_key_file,
    };
    for (key, path) in [
        ("password_file", &files.password),
        ("ca_file", &files.ca),
        ("client_cert_file", &files.client_cert),
        ("client_key_file", &files.client_key),
    ] {
        if let Some(path) = path {
            absolute(wrong, &format!("[store] {key}"), path);
        }
    }
    let url = section.url.unwrap_or_default();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        match PostgresConfig::parse(&url, files) {
            Ok(place) => return StorePlace::Postgres(place),
            Err(why) => wrong.push(problem("[store] url", why)),
        }
        return own;
    }
    if files != Files::default() {
        wrong.push(problem("[store]", "names files for a database; `url` is none of one"));
    }
    if url.is_empty() {
        return own;
    }
    match url.strip_prefix("sqlite://").filter(|path| path.starts_with('/')) {
        Some(path) => StorePlace::Sqlite(path.into()),
        None => {
            let what = "is no store of this version; write sqlite:///absolute/path or postgres://USER@HOST/DATABASE";
            wrong.push(problem("[store] url", what));
            own
        }
    }
}

fn absolute(wrong: &mut Vec<ConfigProblem>, at: &str, path: &Path) {
    if !path.is_absolute() {
        wrong.push(problem(at, format!("`{}` is not an absolute path", path.display())));
    }
}

fn operators(wrong: &mut Vec<ConfigProblem>, given: &HashMap<String, String>) -> HashMap<u32, String> {
    let mut out = HashMap::new();
    for (uid, name) in given {
        match uid.parse() {
            Ok(uid) if !name.is_empty() && name.len() <= 64 => drop(out.insert(uid, name.clone())),
            _ => wrong.push(problem("[admin] operators", format!("`{uid}` = `{name}`: write \"1000\" = \"kim\""))),
        }
    }
    out
}

/// OpenID Connect Discovery section 3: https, no query, no fragment.
fn check_issuer(wrong: &mut Vec<ConfigProblem>, issuer: &str) {
    let ok = url::Url::parse(issuer).is_ok_and(|u| {
        u.scheme() == "https"
            && u.has_host()
            && u.query().is_none()
            && u.fragment().is_none()
            && u.username().is_empty()
    });
    if !ok || issuer.ends_with('/') {
        wrong.push(problem("[http] issuer", "is an https URL without query, fragment or trailing slash"));
    }
}

fn attestors(wrong: &mut Vec<ConfigProblem>, tables: Vec<Table>) -> Vec<(String, Table)> {
    let mut out = Vec::new();
    for mut table in tables {
        let kind = match table.remove("kind") {
            Some(Value::String(kind)) => kind,
            _ => {
                wrong.push(problem("[[node_attestor]]", "needs a kind, such as kind = \"join_token\""));
                continue;
            }
        };
        if proto_attest::method(&kind).is_none() {
            let known: Vec<_> = proto_attest::METHODS.iter().map(|m| m.name).collect();
            wrong.push(problem(
                "[[node_attestor]] kind",
                format!("`{kind}` is not known; this version has: {}", known.join(", ")),
            ));
            continue;
        }
        out.push((kind, table));
    }
    if out.is_empty() && wrong.is_empty() {
        out.push(("join_token".into(), Table::new()));
    }
    out
}

fn policies(wrong: &mut Vec<ConfigProblem>, files: Vec<PathBuf>) -> Vec<(String, PathBuf)> {
    let mut out = Vec::new();
    for path in files {
        let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_string();
        if !path.is_absolute() || !proto_types::target::is_name(&name) {
            wrong.push(problem(
                "[policy] files",
                format!("`{}`: an absolute path to NAME.cedar, NAME of a-z, 0-9, - and _", path.display()),
            ));
        } else if !path.is_file() {
            wrong.push(problem("[policy] files", format!("`{}` does not exist", path.display())));
        } else {
            out.push((name, path));
        }
    }
    out
}

/// `own`: where the server keeps what nobody else may write to.
fn sinks(wrong: &mut Vec<ConfigProblem>, tables: Vec<Table>, own: &[Option<&PathBuf>]) -> Vec<SinkConfig> {
    let sinks = server_sinks::read(tables).unwrap_or_else(|problems| {
        wrong.extend(problems.into_iter().map(|p| problem(format!("[[journal.sink]] {}", p.at), p.what)));
        Vec::new()
    });
    for sink in &sinks {
        let inside = |path: &Path| own.iter().flatten().any(|own| !own.as_os_str().is_empty() && path.starts_with(own));
        if sink.place.file().is_some_and(inside) {
            let what = "`path` lies in data_dir, or is the store or the key-encryption key; write it elsewhere";
            wrong.push(problem(format!("[[journal.sink]] {}", sink.name), what));
        }
    }
    sinks
}

fn distinct(wrong: &mut Vec<ConfigProblem>, l: &Listen) {
    let all = [
        ("grpc", l.grpc),
        ("http", l.http),
        ("http.mtls", l.mtls),
        ("http.public", l.public),
        ("telemetry", l.metrics),
    ];
    for (i, (a, addr)) in all.iter().enumerate() {
        // Every address of the machine is one of its addresses too.
        let same = |other: &SocketAddr| {
            let ips = [addr.ip(), other.ip()];
            addr.port() == other.port() && (ips[0] == ips[1] || ips.iter().any(|ip| ip.is_unspecified()))
        };
        if let Some((b, _)) = all[..i].iter().find(|(_, other)| addr.port() != 0 && same(other)) {
            wrong.push(problem(format!("[{a}] listen"), format!("{addr} is taken by [{b}] already")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [server]
        trust_domain = "example.org"
        data_dir = "/var/lib/errand/server"
        [admin]
        operators = { "1000" = "kim" }
        [authority]
        kek_file = "/etc/errand/kek"
    "#;

    #[test]
    fn a_small_file_is_enough() {
        let config = ServerConfig::parse(GOOD).unwrap();
        assert_eq!(config.operators[&1000], "kim");
        assert_eq!(config.node_attestors[0].0, "join_token");
    }

    #[test]
    fn all_problems_come_at_once_and_each_says_where() {
        let bad = GOOD.replace("example.org", "Example.org").replace("/etc/errand/kek", "/var/lib/errand/server/kek")
            + "\n[http]\nissuer = \"http://x\"\n[[node_attestor]]\nkind = \"magic\"\n";
        let problems = ServerConfig::parse(&bad).unwrap_err();
        let places: Vec<_> = problems.iter().map(|p| p.at.as_str()).collect();
        for place in ["[server] trust_domain", "[authority] kek_file", "[http] issuer", "[[node_attestor]] kind"] {
            assert!(places.contains(&place), "{place} in {places:?}");
        }
    }

    #[test]
    fn a_sink_writes_elsewhere_than_into_the_servers_own_files() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().display().to_string();
        std::fs::create_dir(home.path().join("data")).unwrap();
        let good = GOOD.replace("/var/lib/errand/server", &format!("{at}/data")).replace("/etc/errand", &at);
        let with = |path: &str| {
            ServerConfig::parse(&format!("{good}\n[[journal.sink]]\nkind = \"file\"\npath = \"{at}/{path}\"\n"))
        };
        assert_eq!(with("journal.jsonl").unwrap().sinks.len(), 1);
        for bad in ["data/errand.db", "data/journal.jsonl", "kek", "absent/journal.jsonl"] {
            let problems = with(bad).unwrap_err();
            assert_eq!(problems[0].at, "[[journal.sink]] file", "{bad}: {problems:?}");
        }
        assert!(ServerConfig::parse(&format!("{GOOD}\n[journal]\nsinks = 1\n")).is_err());
    }
}
