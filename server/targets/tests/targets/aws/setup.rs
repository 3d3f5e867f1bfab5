//! The scripts for people, run by a shell whose `aws` only writes down what it is called with.

use super::document;
use crate::world::STORE;
use serde_json::{Value, json};
use server_targets::{Registry, parse_toml};
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

/// Runs `script`; the calls of `aws`, word by word.
fn run(script: &str) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().expect("a directory");
    let tool = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    let log = dir.path().join("log");
    // A role is not there yet: `get-role` fails.
    tool(
        "aws",
        &format!(
            "for word; do printf '%s\\0' \"$word\"; done >> {0}; printf '\\n' >> {0}; [ \"$2\" != get-role ]",
            log.display()
        ),
    );
    tool("errand", "[ \"$*\" = 'issuer show' ] && echo https://errand.example.org/td");
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    let ran = Command::new("sh").arg("-c").arg(script).env("PATH", path).output().expect("a shell runs");
    assert!(ran.status.success(), "{}\n{script}", String::from_utf8_lossy(&ran.stderr));
    let words = |line: &str| line.split_terminator('\0').map(String::from).collect();
    fs::read_to_string(log).expect("aws was called").lines().map(words).collect()
}

fn after<'a>(call: &'a [String], flag: &str) -> &'a str {
    let at = call.iter().position(|w| w == flag).unwrap_or_else(|| panic!("{flag} in {call:?}"));
    &call[at + 1]
}

#[test]
fn the_side_of_iam_admits_this_issuer_audience_and_subject_and_lets_sessions_be_named() {
    let second = "session_duration = \"2h\"\n[[target.role]]\nname = \"read\"\n\
                  role_arn = \"arn:aws:iam::444455556666:role/teams/Read\"";
    let doc = parse_toml(&document("https://sts.eu-west-1.amazonaws.com", "", second), "config").unwrap().remove(0);
    let calls = run(&Registry::builtin().setup(&doc).unwrap());
    assert_eq!(after(&calls[0], "--url"), "https://errand.example.org/td");
    assert_eq!(after(&calls[0], "--client-id-list"), "sts.amazonaws.com");
    let verbs: Vec<&str> = calls.iter().map(|c| c[1].as_str()).collect();
    let of_role = ["get-role", "create-role", "update-assume-role-policy"];
    assert_eq!(verbs[1..], [&of_role[..], &["update-role"], &of_role[..]].concat());
    let policy: Value = serde_json::from_str(after(&calls[3], "--policy-document")).unwrap();
    assert_eq!(
        policy["Statement"][0],
        json!({
            "Effect": "Allow",
            "Principal": { "Federated": "arn:aws:iam::111122223333:oidc-provider/errand.example.org/td" },
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": {
                "StringEquals": { "errand.example.org/td:aud": "sts.amazonaws.com" },
                "StringLike": { "errand.example.org/td:sub": "spiffe://*" },
            },
        })
    );
    assert_eq!((after(&calls[4], "--max-session-duration"), after(&calls[7], "--role-name")), ("7200", "Read"));

    let fixed = document("https://sts.eu-west-1.amazonaws.com", "subject = \"errand:{target}:{role}\"", "");
    let doc = parse_toml(&fixed, "config").unwrap().remove(0);
    let calls = run(&Registry::builtin().setup(&doc).unwrap());
    let policy: Value = serde_json::from_str(after(&calls[3], "--policy-document")).unwrap();
    let equals = &policy["Statement"][0]["Condition"]["StringEquals"];
    assert_eq!(equals["errand.example.org/td:sub"], "errand:lake:deploy");
}

#[test]
fn by_hand_every_right_is_taken_from_the_sessions_of_this_store_and_no_others() {
    let doc = parse_toml(&document("https://sts.eu-west-1.amazonaws.com", "", ""), "config").unwrap().remove(0);
    let calls = run(&Registry::builtin().by_hand(&doc, STORE).unwrap());
    assert_eq!(calls.len(), 1);
    assert_eq!((calls[0][1].as_str(), after(&calls[0], "--role-name")), ("put-role-policy", "Deploy"));
    let policy: Value = serde_json::from_str(after(&calls[0], "--policy-document")).unwrap();
    let statement = &policy["Statement"][0];
    assert_eq!((&statement["Effect"], &statement["Action"]), (&json!("Deny"), &json!("*")));
    assert_eq!(statement["Condition"]["StringLike"]["aws:userid"], "*:errand_k3m9x_*");
    let before = statement["Condition"]["DateLessThan"]["aws:TokenIssueTime"].as_str().unwrap();
    assert!(before.parse::<proto_types::Timestamp>().is_ok(), "{before}");
}

/// What a document could say to a shell it does not.
#[test]
fn a_document_that_is_not_one_of_ours_gives_no_script() {
    let text = document("https://sts.eu-west-1.amazonaws.com", "audience = \"'; rm -rf ~; '\"", "");
    let doc = parse_toml(&text, "config").unwrap().remove(0);
    assert_eq!(Registry::builtin().setup(&doc), None);
    let text = document("https://sts.eu-west-1.amazonaws.com", "", "").replace("role/Deploy", "role/$(id)");
    let doc = parse_toml(&text, "config").unwrap().remove(0);
    assert_eq!((Registry::builtin().setup(&doc), Registry::builtin().by_hand(&doc, STORE)), (None, None));
}
