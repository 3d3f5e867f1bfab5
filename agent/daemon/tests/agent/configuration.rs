//! The configuration: every problem at once, none of them a secret.

use agent_daemon::{AgentConfig, config::Bootstrap};
use serde::Deserialize;

const GOOD: &str = r#"
[agent]
trust_domain = "example.org"
server = ["errand.example.org:8081", "[2001:db8::1]:8081", "192.0.2.1:8081"]
trust_bundle = "/etc/errand/ca.pem"
[node_attestor]
kind = "join_token"
token = "hush"
"#;

fn problems(text: &str) -> Vec<String> {
    AgentConfig::parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn a_short_configuration_has_defaults_for_the_rest() {
    let config = AgentConfig::parse(GOOD).unwrap();
    assert_eq!(config.servers.places.len(), 3);
    assert_eq!(config.servers.places[1].to_string(), "[2001:db8::1]:8081");
    assert_eq!(config.socket.to_str(), Some("/run/errand/agent.sock"));
    assert_eq!(config.launch_socket.to_str(), Some("/run/errand/launch.sock"));
    assert_eq!(config.data_dir.to_str(), Some("/var/lib/errand/agent"));
    assert_eq!(config.bootstrap, Bootstrap::Bundle("/etc/errand/ca.pem".into()));
    assert_eq!(config.attestors.len(), 1, "`unix` when none is written");
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn all_problems_are_reported_at_once_and_where_they_are() {
    let found = problems(
        r#"
[agent]
trust_domain = "Not A Domain"
server = ["no-port", 7]
data_dir = "relative"
sokcet = "/x"
[node_attestor]
kind = "tea_leaves"
[[workload_attestor]]
kind = "unix"
discover_workload_paths = true
[[workload_attestor]]
kind = "unix"
[extra]
"#,
    );
    for expected in [
        "agent.trust_domain:",
        "agent.server: write a string, a table",
        "agent.server: `no-port`",
        "agent.data_dir:",
        "agent.sokcet: is not known",
        "agent.trust_bundle:",
        "node_attestor.kind: `tea_leaves`",
        "workload_attestor[0]:",
        "workload_attestor[1].kind: `unix` is configured twice",
        "extra: is not known",
    ] {
        assert!(found.iter().any(|p| p.starts_with(expected)), "{expected} in {found:#?}");
    }
}

#[test]
fn what_is_nearly_right_is_refused_with_what_to_write() {
    for (bad, says) in [
        (GOOD.replace("trust_bundle", "danger_insecure_bootstrap = true\ntrust_bundle"), "remove one"),
        (GOOD.replace("trust_bundle = \"/etc/errand/ca.pem\"", ""), "errand bundle show"),
        (GOOD.replace("/etc/errand", "etc/errand"), "absolute"),
        (GOOD.replace("server =", &format!("socket = \"/{}\"\nserver =", "x".repeat(107))), "107 bytes"),
        (GOOD.replace(":8081\", \"[", ":0\", \"["), "host:port"),
        (GOOD.replace("\"hush\"", "\"hush\"\ntoken = \"hush\""), "line 9"),
        (GOOD.replace("[agent]", "[agents]"), "[agent] is missing"),
        (String::new(), "[node_attestor] is missing"),
        ("x".repeat(2 << 20), "1 MiB"),
    ] {
        let found = problems(&bad);
        assert!(found.iter().any(|p| p.contains(says)), "{says} in {found:?}");
        assert!(!found.iter().any(|p| p.contains("hush")), "{found:?}");
    }
    let socket = format!("socket = \"/{}\"\nserver =", "x".repeat(106));
    assert!(problems(&GOOD.replace("server =", &socket)).iter().all(|p| !p.contains("agent.socket")));
}

/// Group J of the bad inputs (`tests/data/config.toml`).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    base: String,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    name: String,
    #[serde(default)]
    instead: String,
    refused: String,
    accepted: String,
    says: String,
}

impl Case {
    fn text(&self, base: &str, put: &str) -> String {
        if self.instead.is_empty() {
            return format!("{base}{put}");
        }
        assert!(base.contains(&self.instead), "{} {}: there is no `{}`", self.id, self.name, self.instead);
        base.replacen(&self.instead, put, 1)
    }
}

#[test]
fn each_bad_configuration_of_the_table_is_refused_where_it_is_wrong_and_its_twin_is_accepted() {
    let Table { base, case: cases } = toml::from_str(include_str!("../data/config.toml")).unwrap();
    for case in &cases {
        let found = problems(&case.text(&base, &case.refused));
        let what = format!("{} {}", case.id, case.name);
        assert!(found.iter().any(|p| p.starts_with(&case.says)), "{what}: {found:?}");
        assert!(!found.iter().any(|p| p.contains("hush") || p.len() > 512), "{what}: {found:?}");
        assert_eq!(problems(&case.text(&base, &case.accepted)), Vec::<String>::new(), "the twin of {what}");
    }
}
