//! `[[target]]` documents of kind `aws`: what is refused, and its neighbours that are read.

use super::{DEPLOY, document};
use crate::world::context;
use server_core::ports::TargetProblem;
use server_targets::{Registry, parse_toml};

fn problems(toml: &str) -> Vec<TargetProblem> {
    match parse_toml(toml, "config") {
        Ok(docs) => Registry::builtin().build_all(docs, &context()).err().unwrap_or_default(),
        Err(problems) => problems,
    }
}

const STS: &str = "https://sts.eu-west-1.amazonaws.com";

#[test]
fn each_mistake_is_named_and_the_document_without_it_is_read() {
    let good = document(STS, "", "");
    assert_eq!(problems(&good), []);
    let policy = |n: usize| format!("policy = '{{\"Statement\":[],\"Id\":\"{}\"}}'", "x".repeat(n));
    let arn = |n: usize| (0..n).map(|i| format!("\"arn:aws:iam::aws:policy/P{i}\"")).collect::<Vec<_>>().join(", ");
    for (target, role, words) in [
        ("colour = 1", String::new(), "unknown key `colour`"),
        ("", "colour = 1".into(), "role `deploy`: unknown key `colour`"),
        ("secret_access_key = \"x\"", String::new(), "never written inline"),
        ("", "session_duration = \"899s\"".into(), "`session_duration` is not between 15m and 12h"),
        ("", "session_duration = \"43201s\"".into(), "`session_duration` is not between 15m and 12h"),
        ("", "session_duration = \"900\"".into(), "`session_duration`"),
        ("audience = \"https://errand.example.org\"", String::new(), "own issuer"),
        ("audience = \"https://errand.example.org/\"", String::new(), "own issuer"),
        ("audience = \"a b\"", String::new(), "`audience`"),
        ("subject = \"{pod}\"", String::new(), "placeholder `{pod}`"),
        ("subject = \"{workload}{role}\"", String::new(), "placeholders that touch"),
        ("subject = \"\"", String::new(), "`subject` is empty"),
        ("ca_file = \"ca.pem\"", String::new(), "absolute path"),
        ("ca_file = \"/no/such/file\"", String::new(), "cannot be read"),
        ("ca_file = \"/etc/passwd\"", String::new(), "no certificate"),
        ("endpoint_url = \"s3.example.org\"", String::new(), "`endpoint_url` is not an https:// URL"),
        ("", policy(2025), "STS takes 2048"),
        ("", "policy = 'no'".into(), "`policy` is no JSON"),
        ("", "policy = '[]'".into(), "Statement"),
        ("", "policy = '{\"Statement\":[],\"Id\":\"ł\"}'".into(), "U+00FF"),
        ("", "policy = { Statement = [] }".into(), "not a string"),
        ("", format!("policy_arns = [{}]", arn(11)), "more than 10"),
        ("", "policy_arns = [\"arn:aws:iam::aws:policy/*\"]".into(), "is not the ARN of one policy"),
        ("", "policy_arns = [\"arn:aws-cn:iam::aws:policy/P\"]".into(), "another partition"),
        ("", format!("[[target.role]]\nname = \"deploy\"\nrole_arn = \"{DEPLOY}\""), "declared twice"),
        ("", "[[target.role]]\nname = \"x\"".into(), "`role_arn` is missing"),
        ("", format!("[[target.role]]\nname = \"Bad Name\"\nrole_arn = \"{DEPLOY}\""), "`name`"),
    ] {
        let found = problems(&document(STS, target, &role));
        assert!(found.len() == 1 && found[0].problem.contains(words), "{target}{role}: {found:#?}");
    }
    for (target, role) in [
        ("audience = \"https://errand.example.org/sts\"", String::new()),
        ("subject = \"{workload}|{role}\"", String::new()),
        ("endpoint_url = \"https://s3.example.org:8333\"", String::new()),
        ("", "session_duration = \"900s\"".into()),
        ("", "session_duration = \"12h\"".into()),
        ("", policy(2024)),
        ("", format!("policy = '''\n{{\n  \"Statement\": [],{}\n  \"Id\": \"ÿ\"\n}}'''", " ".repeat(3000))),
        ("", format!("policy_arns = [{}]", arn(10))),
        ("", format!("[[target.role]]\nname = \"read\"\nrole_arn = \"{DEPLOY}\"")),
    ] {
        assert_eq!(problems(&document(STS, target, &role)), [], "{target}{role}");
    }
}

/// K14, K18: one thing of a good document is another.
#[test]
fn region_endpoint_and_role_belong_together() {
    let good = document(STS, "", "");
    for (from, to, words) in [
        ("arn:aws:iam", "arn:aws-cn:iam", "another partition than the region's, which is aws"),
        ("role/Deploy", "role/../Deploy", "is not the ARN of one role"),
        ("role/Deploy", "role/*", "is not the ARN of one role"),
        ("111122223333", "1", "twelve digits"),
        ("region = \"eu-west-1\"", "region = \"us-east-1\"", "of the region eu-west-1"),
        ("region = \"eu-west-1\"", "region = \"Frankfurt\"", "not the name of a region"),
        ("region = \"eu-west-1\"\n", "", "`region` is missing"),
        ("https://sts", "https://sts.us-east-1.amazonaws.com/sts", "`sts_endpoint` is not"),
        ("danger_allow_http = true", "danger_allow_http = \"yes\"", "not true or false"),
    ] {
        let found = problems(&good.replace(from, to));
        assert!(found.len() == 1 && found[0].problem.contains(words), "{to}: {found:#?}");
    }
    let plain = document("http://127.0.0.1:8333", "", "");
    assert_eq!(problems(&plain), []);
    let found = problems(&plain.replace("danger_allow_http = true\n", ""));
    assert!(found.len() == 1 && found[0].problem.contains("danger_allow_http"), "{found:#?}");

    let own = |to: &str| good.replace(&format!("sts_endpoint = \"{STS}\"\n"), to);
    assert_eq!(problems(&own("")), [], "the regional endpoint is the default");
    assert_eq!(problems(&own("sts_endpoint = \"https://sts.amazonaws.com\"\n")), []);
    let china = own("").replace("eu-west-1", "cn-north-1").replace("arn:aws:", "arn:aws-cn:");
    assert_eq!(problems(&china), []);
}
