//! Group J of the bad inputs (`tests/data/config.toml`): configurations that are refused, with the place that is named,
//! each beside one that is accepted; and what a configuration file may be at all.

use serde::Deserialize;
use server_daemon::{ConfigProblem, ServerConfig};
use std::{fs, path::Path};

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
    at: String,
    #[serde(default)]
    says: String,
}

impl Case {
    fn text(&self, base: &str, put: &str) -> String {
        let base = base.trim_start();
        if self.instead.is_empty() {
            return format!("{base}{put}");
        }
        assert!(base.contains(&self.instead), "{} {}: there is no `{}`", self.id, self.name, self.instead);
        base.replacen(&self.instead, put, 1)
    }
}

fn table() -> Table {
    toml::from_str(include_str!("../data/config.toml")).unwrap()
}

#[test]
fn each_bad_configuration_is_refused_where_it_is_wrong_and_its_twin_is_accepted() {
    let Table { base, case: cases } = table();
    for case in &cases {
        let what = format!("{} {}", case.id, case.name);
        let problems = ServerConfig::parse(&case.text(&base, &case.refused)).expect_err(&what);
        let fits = |p: &ConfigProblem| p.at == case.at && p.what.contains(&case.says);
        assert!(problems.iter().any(fits), "{what}: {problems:?}");
        assert!(problems.iter().all(|p| p.what.len() <= 1024), "{what}: an error does not echo its input");
        let twin = ServerConfig::parse(&case.text(&base, &case.accepted));
        assert!(twin.is_ok(), "the twin of {what}: {:?}", twin.err());
    }
}

#[test]
fn a_line_that_is_no_toml_is_named_and_not_quoted() {
    let base = table().base;
    let bad = format!("{base}[[target]]\nurl = \"postgres://errand:hush@db.example.org\"x\n");
    let problems = ServerConfig::parse(&bad).unwrap_err();
    let line = bad.lines().count();
    assert_eq!(problems[0].at, format!("line {line}"));
    assert!(!format!("{problems:?}").contains("hush"), "{problems:?}");
    assert!(ServerConfig::parse("").is_err(), "J01");
}

/// J09 and J12: what is no file, is endless or too large is refused, and nobody is waited for.
#[test]
fn only_a_regular_file_of_bounded_size_is_a_configuration() {
    let home = tempfile::tempdir().unwrap();
    let at = |name: &str| home.path().join(name);
    let base = table().base;
    fs::write(at("good"), &base).unwrap();
    fs::write(at("large"), format!("{base}#{}", "x".repeat(10 << 20))).unwrap();
    fs::write(at("long"), format!("{base}#{}", "x".repeat((1 << 20) - base.len() - 1))).unwrap();
    fs::write(at("bytes"), [base.as_bytes(), &[0xff]].concat()).unwrap();
    fs::write(at("deep"), format!("a = {}", "[".repeat(100_000))).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let refused = |path: &Path| ServerConfig::load(path).unwrap_err()[0].to_string();
    for (path, says) in [
        (at("large"), "more than 1048576 bytes"),
        (at("bytes"), "not text"),
        (at("fifo"), "not a regular file"),
        ("/dev/zero".into(), "not a regular file"),
        (home.path().into(), "not a regular file"),
        (at("absent"), "cannot be read"),
        (at("deep"), "line 1"),
    ] {
        assert!(refused(&path).contains(says), "{}: {}", path.display(), refused(&path));
    }
    assert!(ServerConfig::load(&at("good")).is_ok());
    assert!(ServerConfig::load(&at("long")).is_ok());
}
